// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package session is the behaviour of one MQTT session while it has a connection: windows and quotas in both
// directions, packet identifiers, QoS 1 and 2, topic aliases, and what a CONNECT is granted. Broker and client use the
// same code.
//
// It is pure: it opens no socket, starts no goroutine, reads no clock and logs nothing. Packets go in; bytes to write
// are appended to a Sink, and what else has to happen comes back as values. What waits for the world (a store, another
// node) is a state here and a second call: an inbound publish is answered by Accepted, an outbound one that must be
// kept before it is sent by Open.
//
// A value belongs to one goroutine. Views handed in (packets) die with the call.
package session

import (
	"errors"

	"github.com/noctule/noctule/mqtt"
)

// Sink takes the bytes to write; transport.Out is one.
type Sink interface {
	Buf() []byte  // the tail to append to
	Set(b []byte) // what Buf gave, with more appended
	Ref(b []byte) // bytes by reference; they must never change
}

// RefSize is the payload size, in bytes, from which a payload is referenced instead of copied, so that receivers who are slow share it. In
// processor time the two are the same from 1 KB to 4 KB, and above that a reference is cheaper (BenchmarkWire of package broker).
const RefSize = 2 << 10

// Limits are what one side of a connection demands of the other.
type Limits struct {
	Version        mqtt.Version
	ReceiveMaximum uint16 // the peer's: QoS 1 and 2 messages that it takes at once; at least 1
	OwnMaximum     uint16 // ours, as announced; at least 1
	MaxPacket      uint32 // the peer's Maximum Packet Size in bytes; 0 = none
	AliasesOut     uint16 // the peer's Topic Alias Maximum
	AliasesIn      uint16 // ours, as announced
}

// Session is one side of a connected session. T is what the owner wants to find again with an outbound delivery. Most sessions
// are idle: what only some need is made on first use, so that one takes about 100 bytes.
type Session[T any] struct {
	limits Limits
	Out    Outflow[T]
	In     Inflow
	five   *five
}

// five is what a session needs of 5.0 only: topic aliases, and properties that differ from those of the message.
type five struct {
	toPeer aliasesOut
	ofPeer aliasesIn
	props  []byte // scratch for the properties of one PUBLISH
}

// ofFive makes it, if it is not there.
func (s *Session[T]) ofFive() *five {
	if s.five == nil {
		s.five = new(five)
	}
	return s.five
}

// New makes the state of a connection whose CONNECT was granted.
func New[T any](l Limits) *Session[T] {
	s := &Session[T]{limits: l}
	s.Out.init(l.ReceiveMaximum)
	s.In.init(l.OwnMaximum, l.Version == mqtt.V5)
	return s
}

// Limits are those that New was given.
func (s *Session[T]) Limits() *Limits { return &s.limits }

var errAlias = errors.New("topic alias above the maximum")

// ResolveAlias puts the topic of an inbound PUBLISH right where it came by alias, and learns new aliases
// [MQTT-3.3.2-7, MQTT-3.3.2-12]. It leaves p.Topic empty never.
func (s *Session[T]) ResolveAlias(p *mqtt.Publish) *mqtt.Error {
	if s.limits.Version != mqtt.V5 || len(p.Properties) == 0 {
		return nil
	}
	alias, ok := p.Properties.Uint16(mqtt.PropTopicAlias)
	if !ok {
		return nil
	}
	if alias == 0 || alias > s.limits.AliasesIn {
		return &mqtt.Error{Code: mqtt.TopicAliasInvalid, Op: "PUBLISH", Err: errAlias}
	}
	return s.ofFive().ofPeer.resolve(alias, p)
}
