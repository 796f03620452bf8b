// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// v2 makes a header of version 2.
func v2(command, family byte, body []byte) []byte {
	b := append(bytes.Clone(proxyproto.SIGV2), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

var (
	tcp4 = []byte{192, 0, 2, 7, 192, 0, 2, 8, 0x13, 0x88, 0x07, 0x5b}
	tcp6 = append(append(append(net.ParseIP("2001:db8::7"), net.ParseIP("2001:db8::8")...), 0x13, 0x88), 0x07, 0x5b)
)

func TestParse(t *testing.T) {
	unix := make([]byte, 216)
	copy(unix, "/run/a")
	copy(unix[108:], "/run/b")
	for _, c := range []struct {
		name                string
		in                  []byte
		forwarded           bool
		source, destination string
	}{
		{"v1 TCP4", []byte("PROXY TCP4 192.0.2.7 192.0.2.8 5000 1883\r\n"), true, "192.0.2.7:5000", "192.0.2.8:1883"},
		{"v1 TCP6", []byte("PROXY TCP6 2001:db8::7 2001:db8::8 5000 1883\r\n"), true, "[2001:db8::7]:5000", "[2001:db8::8]:1883"},
		{"v1 UNKNOWN", []byte("PROXY UNKNOWN\r\n"), false, "", ""},
		{"v1 UNKNOWN with addresses", []byte("PROXY UNKNOWN ff::1 ff::2 1 2\r\n"), false, "", ""},
		{"v2 TCP4", v2(0x21, 0x11, tcp4), true, "192.0.2.7:5000", "192.0.2.8:1883"},
		{"v2 TCP6", v2(0x21, 0x21, tcp6), true, "[2001:db8::7]:5000", "[2001:db8::8]:1883"},
		{"v2 Unix", v2(0x21, 0x31, unix), true, "/run/a", "/run/b"},
		{"v2 LOCAL", v2(0x20, 0x00, nil), false, "", ""},
		{"v2 LOCAL with addresses", v2(0x20, 0x11, tcp4), false, "", ""},
		{"v2 with TLVs", v2(0x21, 0x11, append(bytes.Clone(tcp4), 0x02, 0, 3, 'a', '.', 'b')), true, "192.0.2.7:5000", "192.0.2.8:1883"},
		{"v2 with large TLVs", v2(0x21, 0x11, append(bytes.Clone(tcp4), make([]byte, 4000)...)), true, "192.0.2.7:5000", "192.0.2.8:1883"},
	} {
		for i := range c.in {
			if _, _, err := Parse(c.in[:i]); !errors.Is(err, ErrShort) {
				t.Fatalf("%s: %d bytes: %v", c.name, i, err)
			}
		}
		h, size, err := Parse(append(bytes.Clone(c.in), "\x10\x0c\x00\x04MQTT"...))
		if err != nil || size != len(c.in) || h.Forwarded != c.forwarded {
			t.Errorf("%s: %+v, %d bytes, %v", c.name, h, size, err)
			continue
		}
		if c.forwarded && (h.Source.String() != c.source || h.Destination.String() != c.destination) {
			t.Errorf("%s: from %v to %v", c.name, h.Source, h.Destination)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, in := range map[string][]byte{
		"MQTT":                   []byte("\x10\x0c\x00\x04MQTT"),
		"another word":           []byte("POST / HTTP/1.1\r\n"),
		"v1 without end":         []byte("PROXY TCP4 " + strings.Repeat("1", 100)),
		"v1 bare line feed":      []byte("PROXY TCP4 192.0.2.7 192.0.2.8 5000 1883\n"),
		"v1 bad address":         []byte("PROXY TCP4 192.0.2.777 192.0.2.8 5000 1883\r\n"),
		"v1 bad port":            []byte("PROXY TCP4 192.0.2.7 192.0.2.8 5000 99999\r\n"),
		"v1 too few words":       []byte("PROXY TCP4 192.0.2.7\r\n"),
		"v1 wrong family":        []byte("PROXY TCP4 2001:db8::7 2001:db8::8 5000 1883\r\n"),
		"v2 wrong signature":     []byte("\r\n\r\n\x00\r\nQUIT\r"),
		"v2 version 3":           v2(0x31, 0x11, tcp4),
		"v2 command 2":           v2(0x22, 0x11, tcp4),
		"v2 family 4":            v2(0x21, 0x41, tcp4),
		"v2 UDP":                 v2(0x21, 0x12, tcp4),
		"v2 without addresses":   v2(0x21, 0x00, nil),
		"v2 too short addresses": v2(0x21, 0x11, tcp4[:11]),
		"v2 too large":           append(bytes.Clone(proxyproto.SIGV2), 0x21, 0x11, 0xff, 0xff),
	} {
		if h, _, err := Parse(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

// FuzzParse: a header is complete, malformed or short, and whoever waits for more of it gets to an end.
func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.8 5000 1883\r\n"))
	f.Add(v2(0x21, 0x11, tcp4))
	f.Add(v2(0x20, 0x00, nil))
	f.Add(v2(0x21, 0x21, tcp6))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, size, err := Parse(b)
		switch {
		case errors.Is(err, ErrShort):
			if len(b) >= MaxHeader {
				t.Fatalf("%d bytes, and it waits for more", len(b))
			}
		case errors.Is(err, ErrMalformed):
		case err != nil:
			t.Fatalf("error of its own: %v", err)
		default:
			if size < 1 || size > len(b) || size > MaxHeader {
				t.Fatalf("%d of %d bytes", size, len(b))
			}
			if h.Forwarded && (h.Source.String() == "" && h.Source.Network() != "unix" || h.Destination == nil) {
				t.Fatalf("%+v", h)
			}
			again, n, err := Parse(b[:size])
			if err != nil || n != size || again.Forwarded != h.Forwarded {
				t.Fatalf("what comes after changes it: %+v, %+v, %v", h, again, err)
			}
		}
	})
}
