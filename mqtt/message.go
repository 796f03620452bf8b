// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"slices"
	"time"
	"unsafe"
)

// Message is an application message, kept beyond the packet that brought it. It owns its bytes, and is shared without
// locks by all who deliver it: once published, nobody changes it.
type Message struct {
	Topic      string
	Payload    []byte
	QoS        QoS
	Retain     bool
	Properties Properties // those that travel on: 0x01, 0x02, 0x03, 0x08, 0x09 and 0x26, as they came
	Received   int64      // unix time in nanoseconds
	Expiry     int64      // unix time in nanoseconds; 0 is never
	ClientID   string     // who published it
	Username   string     // in whose name; empty if the client has none
}

// Message clones the application message, received now (unix time in nanoseconds), and drops what belongs to the
// connection: topic alias and subscription identifiers. A topic alias has been resolved before, into Topic. ClientID
// and Username are left to the caller.
//
// Topic, payload and properties share one allocation. Who keeps the topic alone clones it (strings.Clone).
func (p *Publish) Message(now int64) *Message {
	return newMessage(p.Topic, p.Payload, p.Properties, p.QoS, p.Retain, now)
}

// Message clones the will message, as Publish.Message does; the will delay interval is dropped. When it is published,
// Stamp gives it the time.
func (w *Will) Message(now int64) *Message {
	return newMessage(w.Topic, w.Payload, w.Properties, w.QoS, w.Retain, now)
}

func newMessage(topic, payload []byte, props Properties, qos QoS, retain bool, now int64) *Message {
	m, buf := allocate(len(topic) + len(payload) + len(props))
	buf = append(append(buf, topic...), payload...)
	t, p := len(topic), len(topic)+len(payload)
	m.Topic = unsafe.String(unsafe.SliceData(buf), t) // nobody writes to buf after this function
	m.Payload = buf[t:p:p]
	m.QoS, m.Retain = qos, retain
	if len(props) > 0 {
		kept := props.Without(buf[p:p], PropTopicAlias, PropSubscriptionIdentifier, PropWillDelayInterval)
		m.Properties = slices.Clip(kept)
	}
	m.Stamp(now)
	return m
}

// Messages with room for what they carry, so that a small one is one allocation. Each fills a size class of the allocator, which
// puts 8 bytes before an object of more than 512 that has pointers.
type (
	message192 struct {
		Message
		room [192 - messageSize]byte
	}
	message256 struct {
		Message
		room [256 - messageSize]byte
	}
	message384 struct {
		Message
		room [384 - messageSize]byte
	}
	message512 struct {
		Message
		room [512 - messageSize]byte
	}
	message1016 struct {
		Message
		room [1016 - messageSize]byte
	}
)

const messageSize = int(unsafe.Sizeof(Message{}))

// allocate makes a message, and room for n bytes. Above a kilobyte the two are apart: then rounding up would waste more than it saves.
func allocate(n int) (*Message, []byte) {
	switch {
	case n <= 192-messageSize:
		m := new(message192)
		return &m.Message, m.room[:0]
	case n <= 256-messageSize:
		m := new(message256)
		return &m.Message, m.room[:0]
	case n <= 384-messageSize:
		m := new(message384)
		return &m.Message, m.room[:0]
	case n <= 512-messageSize:
		m := new(message512)
		return &m.Message, m.room[:0]
	case n <= 1016-messageSize:
		m := new(message1016)
		return &m.Message, m.room[:0]
	}
	return new(Message), make([]byte, 0, n)
}

// Size returns the bytes of topic, payload and properties.
func (m *Message) Size() int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// Stamp sets the time of receipt (unix time in nanoseconds), and from it the time of expiry. It is for messages that
// nobody else holds yet.
func (m *Message) Stamp(now int64) {
	m.Received, m.Expiry = now, 0
	if len(m.Properties) == 0 {
		return
	}
	if interval, ok := m.Properties.Uint32(PropMessageExpiryInterval); ok {
		m.Expiry = now + int64(interval)*int64(time.Second)
	}
}

// Expired reports whether the message expiry interval has passed at now (unix time in nanoseconds) [MQTT-3.3.2-5]. An
// interval of 0 lets through what is delivered at once.
func (m *Message) Expired(now int64) bool { return m.Expiry != 0 && now > m.Expiry }

// AppendProperties appends the properties to send with the message at now (unix time in nanoseconds): unchanged and in
// their order, but for the message expiry interval, which is what is left of it [MQTT-3.3.2-6].
func (m *Message) AppendProperties(dst Properties, now int64) Properties {
	if m.Expiry == 0 {
		return m.Properties.Without(dst, PropMessageExpiryInterval)
	}
	left := max(m.Expiry-now, 0)
	seconds := (left + int64(time.Second) - 1) / int64(time.Second)
	dst = AppendPropUint32(dst, PropMessageExpiryInterval, uint32(seconds))
	return m.Properties.Without(dst, PropMessageExpiryInterval)
}
