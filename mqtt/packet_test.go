// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// packet is what all packets but CONNECT have in common; connectPacket makes it fit.
type packet interface {
	fmt.Stringer
	Decode(h Header, body []byte, v Version) error
	Append(dst []byte, v Version) []byte
}

type connectPacket struct{ Connect }

func (c *connectPacket) Decode(h Header, body []byte, _ Version) error {
	return c.Connect.Decode(h, body)
}
func (c *connectPacket) Append(dst []byte, _ Version) []byte { return c.Connect.Append(dst) }

// newPacket returns an empty packet of type t, nil for those without a body.
func newPacket(t PacketType) packet {
	switch t {
	case CONNECT:
		return new(connectPacket)
	case CONNACK:
		return new(Connack)
	case PUBLISH:
		return new(Publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return new(Ack)
	case SUBSCRIBE:
		return new(Subscribe)
	case SUBACK:
		return new(Suback)
	case UNSUBSCRIBE:
		return new(Unsubscribe)
	case UNSUBACK:
		return new(Unsuback)
	case DISCONNECT:
		return new(Disconnect)
	case AUTH:
		return new(Auth)
	}
	return nil
}

// decodeWhole decodes raw, which is to be one whole packet.
func decodeWhole(raw []byte, v Version) (packet, error) {
	h, n, err := DecodeHeader(raw, v)
	if err != nil {
		return nil, err
	}
	if n == 0 || n+h.Remaining != len(raw) {
		return nil, fmt.Errorf("%d bytes are not one packet with a header of %d and a body of %d", len(raw), n, h.Remaining)
	}
	p := newPacket(h.Type)
	if p == nil {
		return nil, nil
	}
	return p, p.Decode(h, raw[n:], v)
}

// fields prints what a packet holds; it tells nil and empty slices alike.
func fields(p packet) string {
	return fmt.Sprintf("%+v", reflect.ValueOf(p).Elem().Interface())
}

// raw turns hexadecimal digits and 'text' into bytes: "10 0C 0004'MQTT'".
func raw(t testing.TB, s string) []byte {
	t.Helper()
	var out []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			out = append(out, part...)
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		out = append(out, b...)
	}
	return out
}

// withBody puts a fixed header before a body.
func withBody(first byte, body []byte) []byte {
	return append(appendVarInt([]byte{first}, len(body)), body...)
}
