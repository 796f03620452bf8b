// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"encoding/binary"
)

// Subscribe asks for one or more subscriptions.
type Subscribe struct {
	ID            uint16
	Properties    Properties
	Subscriptions []Subscription // reused by Decode
}

// Subscription is a topic filter with its options. All but the QoS exist in 5.0 only.
type Subscription struct {
	Filter            []byte
	QoS               QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0: send retained messages, 1: if the subscription is new, 2: never
}

// The subscription options.
const (
	optionQoS               = 0x03
	optionNoLocal           = 0x04
	optionRetainAsPublished = 0x08
	optionRetainHandling    = 0x30
	optionReserved3         = 0xFC // 3.1 and 3.1.1
	optionReserved5         = 0xC0
)

// maxKept is the number of filters or codes that a packet keeps room for from one Decode to the next; one huge packet
// shall not hold its memory for ever.
const maxKept = 1024

var sharePrefix = []byte("$share/")

// Decode reads the body of a SUBSCRIBE. Filters are text of at least one byte; whether their wildcards and share names
// are in place is for package topic to say, so that it can be answered filter by filter.
func (s *Subscribe) Decode(h Header, body []byte, v Version) error {
	*s = Subscribe{Subscriptions: reuse(s.Subscriptions)}
	r := reader{rest: body, packet: SUBSCRIBE}
	s.ID = r.packetID()
	if v >= V5 {
		s.Properties = r.properties(1 << SUBSCRIBE)
	}
	if len(r.rest) == 0 { // [MQTT-3.8.3-3] (3.1.1), [MQTT-3.8.3-2] (5.0)
		r.fail(ProtocolError, "no topic filter")
	}
	for len(r.rest) > 0 {
		filter := r.filter()
		s.Subscriptions = append(s.Subscriptions, r.subscription(filter, v))
	}
	return r.end()
}

// reuse empties a slice for the next packet, or drops it if it has grown too large.
func reuse[T any](s []T) []T {
	if cap(s) > maxKept {
		return nil
	}
	return s[:0]
}

// filter reads a topic filter [MQTT-3.8.3-1], [MQTT-3.10.3-1], [MQTT-4.7.3-1].
func (r *reader) filter() []byte {
	filter := r.text("topic filter")
	if len(filter) == 0 {
		r.fail(TopicFilterInvalid, "topic filter is empty")
	}
	return filter
}

// subscription reads the options of a filter. The reserved bits are 0 [MQTT-3.8.3-4] (3.1.1), [MQTT-3.8.3-5] (5.0).
func (r *reader) subscription(filter []byte, v Version) Subscription {
	options := r.byte("subscription options")
	s := Subscription{Filter: filter, QoS: QoS(options & optionQoS)}
	reserved := byte(optionReserved3)
	if v >= V5 {
		reserved = optionReserved5
		s.NoLocal = options&optionNoLocal != 0
		s.RetainAsPublished = options&optionRetainAsPublished != 0
		s.RetainHandling = options & optionRetainHandling >> 4
	}
	switch {
	case options&reserved != 0 && v != V31: // not used in 3.1
		r.fail(MalformedPacket, "reserved subscription options are set")
	case s.QoS > 2:
		r.fail(MalformedPacket, "QoS 3")
	case s.RetainHandling > 2:
		r.fail(ProtocolError, "Retain Handling 3")
	case s.NoLocal && bytes.HasPrefix(filter, sharePrefix): // [MQTT-3.8.3-4] (5.0)
		r.fail(ProtocolError, "No Local on a shared subscription")
	}
	return s
}

// options returns the byte that follows the filter.
func (s *Subscription) options(v Version) byte {
	options := byte(s.QoS)
	if v < V5 {
		return options
	}
	if s.NoLocal {
		options |= optionNoLocal
	}
	if s.RetainAsPublished {
		options |= optionRetainAsPublished
	}
	return options | s.RetainHandling<<4
}

// Append appends the packet.
func (s *Subscribe) Append(dst []byte, v Version) []byte {
	n := 2 + propertiesSize(len(s.Properties), v)
	for i := range s.Subscriptions {
		n += 2 + len(s.Subscriptions[i].Filter) + 1
	}
	dst = appendHeader(dst, SUBSCRIBE, flagReserved, n)
	dst = binary.BigEndian.AppendUint16(dst, s.ID)
	dst = appendProperties(dst, s.Properties, v)
	for i := range s.Subscriptions {
		dst = appendField(dst, s.Subscriptions[i].Filter)
		dst = append(dst, s.Subscriptions[i].options(v))
	}
	return dst
}

// String returns the packet for people.
func (s *Subscribe) String() string {
	d := startDump(SUBSCRIBE)
	d.number("id", int(s.ID))
	for i := range s.Subscriptions {
		sub := &s.Subscriptions[i]
		d.text("filter", sub.Filter)
		d.number("qos", int(sub.QoS))
		d.flag("nolocal", sub.NoLocal)
		d.flag("rap", sub.RetainAsPublished)
		if sub.RetainHandling > 0 {
			d.number("rh", int(sub.RetainHandling))
		}
	}
	d.properties(s.Properties)
	return d.String()
}
