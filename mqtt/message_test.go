// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"testing"
	"time"
)

func TestPublishMessage(t *testing.T) {
	var props, kept Properties
	both := func(f func(Properties) Properties) { props, kept = f(props), f(kept) }
	both(func(p Properties) Properties { return AppendPropByte(p, PropPayloadFormatIndicator, 1) })
	props = AppendPropUint16(props, PropTopicAlias, 3)
	both(func(p Properties) Properties { return AppendPropUint32(p, PropMessageExpiryInterval, 60) })
	both(func(p Properties) Properties { return AppendPropUser(p, "k", "v") })
	props = AppendPropVarInt(props, PropSubscriptionIdentifier, 9)
	both(func(p Properties) Properties { return AppendPropString(p, PropResponseTopic, "r") })

	buf := (&Publish{QoS: 2, ID: 7, Retain: true, Topic: []byte("a/b"), Properties: props, Payload: []byte("hello")}).Append(nil, V5)
	decoded, err := decodeWhole(buf, V5)
	if err != nil {
		t.Fatal(err)
	}
	const now = 1_800_000_000_000_000_000
	m := decoded.(*Publish).Message(now)
	for i := range buf { // the read buffer is used again
		buf[i] = 0xEE
	}
	if m.Topic != "a/b" || string(m.Payload) != "hello" || m.QoS != 2 || !m.Retain || m.Received != now {
		t.Errorf("message %+v", m)
	}
	if !bytes.Equal(m.Properties, kept) {
		t.Errorf("properties % X, want % X", m.Properties, kept)
	}
	if want := now + 60*int64(time.Second); m.Expiry != want {
		t.Errorf("expiry %d, want %d", m.Expiry, want)
	}
	if got, want := m.Size(), len("a/bhello")+len(kept); got != want {
		t.Errorf("size %d, want %d", got, want)
	}
	_ = append(m.Payload, 'X') // who appends to a part leaves the others alone
	_ = append(m.Properties, 'X')
	if !bytes.Equal(m.Properties, kept) {
		t.Errorf("properties were written over: % X", m.Properties)
	}
}

func TestMessageExpiry(t *testing.T) {
	const now, second = int64(1_800_000_000_000_000_000), int64(time.Second)
	message := func(interval uint32) *Message {
		props := AppendPropUser(nil, "k", "v")
		props = AppendPropUint32(props, PropMessageExpiryInterval, interval)
		return (&Publish{Topic: []byte("a"), Properties: props}).Message(now)
	}
	for _, test := range []struct {
		interval uint32
		waited   int64
		left     uint32
		expired  bool
	}{
		{10, 0, 10, false}, {10, 1, 10, false}, {10, 3 * second, 7, false}, {10, 3*second + 1, 7, false},
		{10, 10 * second, 0, false}, {10, 10*second + 1, 0, true}, {10, -second, 11, false},
		{0, 0, 0, false}, {0, 1, 0, true}, {0xFFFFFFFF, second, 0xFFFFFFFE, false},
	} {
		m := message(test.interval)
		if got := m.Expired(now + test.waited); got != test.expired {
			t.Errorf("%d s after %d ns: expired %v", test.interval, test.waited, got)
		}
		p := m.AppendProperties(Properties("dst"), now+test.waited)[3:]
		if left, ok := p.Uint32(PropMessageExpiryInterval); !ok || left != test.left { // [MQTT-3.3.2-6]
			t.Errorf("%d s after %d ns: %d s left, want %d", test.interval, test.waited, left, test.left)
		}
		if p.CountUser() != 1 || len(p) != len(m.Properties) {
			t.Errorf("properties % X", p)
		}
	}
	if m := (&Publish{Topic: []byte("a")}).Message(now); m.Expiry != 0 || m.Expired(1<<62) || len(m.AppendProperties(nil, now)) != 0 {
		t.Errorf("a message without interval expires: %+v", m)
	}
}

func TestWillMessage(t *testing.T) {
	props := AppendPropUint32(nil, PropWillDelayInterval, 5)
	props = AppendPropUint32(props, PropMessageExpiryInterval, 60)
	w := Will{Topic: []byte("w"), Payload: []byte("gone"), QoS: 1, Retain: true, Properties: props}
	m := w.Message(1)
	if m.Topic != "w" || string(m.Payload) != "gone" || m.QoS != 1 || !m.Retain || m.Properties.Has(PropWillDelayInterval) {
		t.Errorf("message %+v", m)
	}
	m.Stamp(2 * int64(time.Second)) // the interval begins when the will is published
	if m.Received != 2*int64(time.Second) || m.Expiry != 62*int64(time.Second) {
		t.Errorf("received %d, expiry %d", m.Received, m.Expiry)
	}
}

func TestEmptyMessage(t *testing.T) {
	m := (&Publish{}).Message(0)
	if m.Topic != "" || len(m.Payload) != 0 || m.Size() != 0 {
		t.Errorf("message %+v", m)
	}
}

// A message that is cloned is whole, whatever its size, and a small one is one allocation.
func TestMessageOfAnySize(t *testing.T) {
	for n := range 1200 {
		topic, props := []byte("a/b"), AppendPropString(nil, PropContentType, "x")
		payload := bytes.Repeat([]byte{byte(n)}, n)
		p := Publish{Topic: topic, Payload: payload, Properties: props, QoS: 1, Retain: true}
		m := p.Message(5)
		clear(topic) // what is cloned does not change with it
		clear(payload)
		if m.Topic != "a/b" || !bytes.Equal(m.Payload, bytes.Repeat([]byte{byte(n)}, n)) || len(m.Properties) != 4 || m.QoS != 1 || !m.Retain ||
			m.Received != 5 {
			t.Fatalf("%d bytes: %+v", n, m)
		}
		if cap(m.Payload) != n || cap(m.Properties) != len(m.Properties) {
			t.Fatalf("%d bytes: what is appended to the payload would change the message", n)
		}
	}
	for n, want := range map[int]float64{0: 1, 64: 1, 500: 1, 2000: 2} {
		p := Publish{Topic: []byte("a/b"), Payload: make([]byte, n)}
		if got := testing.AllocsPerRun(100, func() { sink = p.Message(5) }); got != want {
			t.Errorf("%d bytes: %v allocations, want %v", n, got, want)
		}
	}
}

var sink *Message
