// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzDecode feeds streams to the decoders of all versions. They never panic, tell faults as *Error, take no memory
// beyond a small multiple of what arrived, and what they accept survives encoding and decoding unchanged.
func FuzzDecode(f *testing.F) {
	for _, g := range goldens {
		f.Add(byte(g.v), raw(f, g.wire))
	}
	for _, m := range malformed {
		f.Add(byte(m.v), raw(f, m.wire))
	}
	f.Fuzz(func(t *testing.T, version byte, stream []byte) {
		v := []Version{0, V31, V311, V5}[version%4]
		if version == byte(V31) || version == byte(V311) || version == byte(V5) {
			v = Version(version)
		}
		for len(stream) > 0 {
			h, n, err := DecodeHeader(stream, v)
			wantError(t, err)
			if err != nil || n == 0 || len(stream) < n+h.Remaining {
				return
			}
			fuzzBody(t, h, stream[n:n+h.Remaining], v)
			stream = stream[n+h.Remaining:]
		}
	})
}

// FuzzBody goes past the fixed header, whose remaining length is hard to guess.
func FuzzBody(f *testing.F) {
	for _, g := range goldens {
		b := raw(f, g.wire)
		if _, n, _ := DecodeHeader(b, g.v); n > 0 {
			f.Add(byte(g.v), b[0], b[n:])
		}
	}
	f.Fuzz(func(t *testing.T, version, first byte, body []byte) {
		v := []Version{V31, V311, V5}[version%3]
		h, n, err := DecodeHeader(withBody(first, body), v)
		wantError(t, err)
		if err == nil && n > 0 {
			fuzzBody(t, h, body, v)
		}
	})
}

func fuzzBody(t *testing.T, h Header, body []byte, v Version) {
	p := newPacket(h.Type)
	if p == nil {
		return
	}
	before := bytes.Clone(body)
	err := p.Decode(h, body, v)
	wantError(t, err)
	if !bytes.Equal(body, before) {
		t.Fatalf("%v: Decode has changed the buffer", h.Type)
	}
	checkBound(t, p, len(body))
	Dump(h, body, v)
	if err != nil {
		return
	}
	encoded := p.Append(nil, v)
	if len(encoded) > len(body)+5 {
		t.Fatalf("%v: % X grows to % X", h.Type, body, encoded)
	}
	again, err := decodeWhole(encoded, v)
	if err != nil {
		t.Fatalf("%v: % X is encoded as % X, which does not decode: %v", p, body, encoded, err)
	}
	if got, want := fields(again), fields(p); got != want {
		t.Fatalf("fields change\nfrom %s\n  to %s", want, got)
	}
	if twice := again.Append(nil, v); !bytes.Equal(twice, encoded) {
		t.Fatalf("bytes change\nfrom % X\n  to % X", encoded, twice)
	}
	if pub, ok := p.(*Publish); ok {
		if m := pub.Message(0); m.Size() > len(body) || cap(m.Payload) != len(m.Payload) {
			t.Fatalf("message of %d bytes from a body of %d", m.Size(), len(body))
		}
	}
}

func wantError(t *testing.T, err error) {
	t.Helper()
	if e := (*Error)(nil); err != nil && (!errors.As(err, &e) || !e.Code.IsError()) {
		t.Fatalf("%v is not an *Error with a failure's code", err)
	}
}

// checkBound holds the lists of a packet against its size: append at most doubles, and an entry takes two bytes or more.
func checkBound(t *testing.T, p packet, size int) {
	t.Helper()
	entries := 0
	switch p := p.(type) {
	case *Subscribe:
		entries = cap(p.Subscriptions)
	case *Unsubscribe:
		entries = cap(p.Filters)
	case *Suback:
		entries = cap(p.Codes)
	case *Unsuback:
		entries = cap(p.Codes)
	}
	if entries > 2*size+64 {
		t.Fatalf("%T has room for %d entries after a body of %d bytes", p, entries, size)
	}
}
