// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"errors"
	"testing"
)

func TestLoginInEveryVersion(t *testing.T) {
	for _, c := range []struct {
		name  string
		login Login
		want  string
	}{
		{"3.1", Login{ClientID: "ab", Version: 3, KeepAlive: 60, Clean: true}, "\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02ab"},
		{"3.1.1", Login{ClientID: "ab", Version: 4, Username: "u", Password: []byte("pw")}, "\x10\x15\x00\x04MQTT\x04\xc0\x00\x00\x00\x02ab\x00\x01u\x00\x02pw"},
		{"5.0", Login{ClientID: "ab", Version: 5, Clean: true}, "\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02ab"},
		{"5.0, kept", Login{ClientID: "ab", Version: 5}, "\x10\x14\x00\x04MQTT\x05\x00\x00\x00\x05\x11\xff\xff\xff\xff\x00\x02ab"},
	} {
		if got := c.login.append(nil); string(got) != c.want {
			t.Errorf("%s: % x, want % x", c.name, got, c.want)
		}
	}
}

func TestGrantFindsTheQuota(t *testing.T) {
	var l Login
	properties := "\x11\x00\x00\x00\x09" + "\x26\x00\x01a\x00\x02bc" + "\x12\x00\x03xyz" + "\x24\x01" + "\x21\x01\x02" + "\x13\x00\x3c"
	b := append([]byte{byte(len(properties))}, properties...)
	if err := l.grant(b); err != nil || l.Quota != 0x102 {
		t.Errorf("quota %d, %v", l.Quota, err)
	}
	for end := range b {
		if err := new(Login).grant(b[:end]); err == nil {
			t.Errorf("%d of %d bytes are taken", end, len(b))
		}
	}
	if err := new(Login).grant([]byte{2, 99, 0}); err == nil {
		t.Error("an unknown property is taken")
	}
}

func TestPublishSkipsProperties(t *testing.T) {
	p, size, err := cut([]byte("\x32\x0e\x00\x01t\x00\x07\x05\x02\x00\x00\x00\x3cabc"))
	if err != nil || size != 16 {
		t.Fatal(size, err)
	}
	name, id, payload, err := p.publish(true)
	if string(name) != "t" || id != 7 || string(payload) != "abc" || err != nil {
		t.Errorf("%q, %d, %q, %v", name, id, payload, err)
	}
	if _, _, _, err := (packet{first: 0x30, body: []byte("\x00\x01t\x09a")}).publish(true); !errors.Is(err, errTruncated) {
		t.Errorf("properties beyond the end: %v", err)
	}
}

func TestPingsOfAWebSocketAreAnswered(t *testing.T) {
	var f frames
	stream := append(server(framePing, []byte("hi")), server(framePing, nil)...)
	for i := range stream {
		if out, err := f.decode(stream[i : i+1]); err != nil || len(out) > 0 {
			t.Fatal(out, err)
		}
	}
	if got, want := f.appendPongs(nil), []byte("\x8a\x82\x00\x00\x00\x00hi\x8a\x80\x00\x00\x00\x00"); !bytes.Equal(got, want) {
		t.Errorf("answers % x, want % x", got, want)
	}
	if got := f.appendPongs(nil); len(got) > 0 {
		t.Errorf("answered twice: % x", got)
	}
	if _, err := f.decode(server(framePing, make([]byte, 126))); !errors.Is(err, errFrameControl) {
		t.Errorf("a ping that is too long: %v", err)
	}
}

// Nothing that a broker sends may end the generator.
func FuzzWhatABrokerSends(f *testing.F) {
	f.Add([]byte("\x32\x0e\x00\x01t\x00\x07\x05\x02\x00\x00\x00\x3cabc"))
	f.Add([]byte("\x20\x06\x00\x00\x03\x21\x01\x02"))
	f.Add([]byte("\x40\x03\x00\x01\x10"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			p, size, err := cut(b)
			if err != nil || size == 0 {
				return
			}
			for _, v5 := range []bool{false, true} {
				if name, _, payload, err := p.publish(v5); err == nil && len(name)+len(payload) > size {
					t.Fatalf("% x: more than there is", b[:size])
				}
			}
			new(Login).grant(p.body)
			p.id()
			p.reason()
			b = b[size:]
		}
	})
}
