// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"runtime"
	"testing"
)

// wantAllocs runs f many times and counts allocations.
func wantAllocs(t *testing.T, name string, want float64, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(100, f); got != want {
		t.Errorf("%s: %v allocations, want %v", name, got, want)
	}
}

// Packets that decode do so without allocating, once the receiver has grown to their number of filters.
func TestDecodeAllocatesNothing(t *testing.T) {
	for _, g := range goldens {
		b := raw(t, g.wire)
		p := newPacket(PacketType(b[0] >> 4))
		dst := make([]byte, 0, 256)
		wantAllocs(t, g.name, 0, func() {
			h, n, err := DecodeHeader(b, g.v)
			if err == nil {
				err = p.Decode(h, b[n:], g.v)
			}
			if err != nil {
				t.Fatal(err)
			}
			dst = p.Append(dst[:0], g.v)
		})
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 256)
	payload := make([]byte, 100)
	var p Publish
	for _, v := range []Version{V311, V5} {
		wire := (&Publish{QoS: 1, ID: 1, Topic: []byte("home/lamp/1"), Payload: payload}).Append(nil, v)
		wantAllocs(t, "PUBLISH", 0, func() {
			h, n, _ := DecodeHeader(wire, v)
			if p.Decode(h, wire[n:], v) != nil || p.CheckClient() != nil {
				t.Fatal("does not decode")
			}
			dst = AppendPublishHeader(dst[:0], PublishFlags(false, p.QoS, false), p.Topic, 7, v, p.Properties, len(p.Payload))
			dst = append(dst, p.Payload...)
			dst = AppendAck(dst, PUBACK, p.ID, NoMatchingSubscribers, v)
		})
		topic := string(p.Topic)
		wantAllocs(t, "PUBLISH of a string", 0, func() {
			dst = AppendPublishHeader(dst[:0], 0, topic, 0, v, nil, 0)
		})
		wantAllocs(t, "Message", 1, func() { p.Message(1) })
	}
}

func TestPropertiesAllocateNothing(t *testing.T) {
	p := AppendPropUser(nil, "k", "v")
	p = AppendPropVarInt(p, PropSubscriptionIdentifier, 300)
	p = AppendPropString(p, PropContentType, "text")
	dst := make(Properties, 0, 256)
	wantAllocs(t, "accessors", 0, func() {
		for id := range p.VarInts(PropSubscriptionIdentifier) {
			dst = AppendPropVarInt(dst[:0], PropSubscriptionIdentifier, id)
		}
		for key, value := range p.User() {
			dst = AppendPropUser(dst, key, value)
		}
		content, _ := p.Bytes(PropContentType)
		dst = AppendPropBytes(dst, PropContentType, content)
		dst = p.Without(dst, PropContentType)
		if p.CountUser() != 1 || p.Has(PropTopicAlias) || !bytes.Contains(dst, content) {
			t.Fatal("wrong")
		}
	})
}

// A length that is claimed costs nothing; lists cost a small multiple of what has arrived, and are let go afterwards.
func TestDecodeIsBounded(t *testing.T) {
	wantAllocs(t, "claimed length", 0, func() {
		if h, n, err := DecodeHeader([]byte{0x82, 0xFF, 0xFF, 0xFF, 0x7F}, V5); n != 5 || h.Remaining != MaxRemaining || err != nil {
			t.Fatal(n, err)
		}
	})
	body := append([]byte{0, 1}, bytes.Repeat([]byte{0, 1, 'a', 0}, 100_000)...)
	var s Subscribe
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.Decode(Header{Type: SUBSCRIBE, Flags: 2}, body, V311); err != nil || len(s.Subscriptions) != 100_000 {
		t.Fatal(len(s.Subscriptions), err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > uint64(60*len(body)) {
		t.Errorf("%d bytes for a body of %d", got, len(body))
	}
	if err := s.Decode(Header{Type: SUBSCRIBE, Flags: 2}, body[:6], V311); err != nil || cap(s.Subscriptions) > maxKept {
		t.Errorf("room for %d filters is kept, %v", cap(s.Subscriptions), err)
	}
}
