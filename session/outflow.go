// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"github.com/noctule/noctule/mqtt"
)

// Delivery is one message on its way to the peer.
type Delivery[T any] struct {
	Message     *mqtt.Message // shared, never changed
	QoS         mqtt.QoS
	Retain      bool     // the flag as it is sent
	Identifiers []uint32 // subscription identifiers, shared, never changed
	Tag         T
}

// State of an outbound delivery of QoS 1 or 2.
//
//	      Add            Open            PUBREC (QoS 2)       PUBREC kept: Release
//	free -----> reserved -----> sent ------------------> received --------> released --PUBCOMP--> free
//	                             | PUBACK, PUBREC >= 0x80
//	                             v
//	                            free
//
// Upon a reconnect Sent entries beyond the peer's Receive Maximum are Unsent until there is room.
type State byte

const (
	free     State = iota
	Reserved       // has its identifier; may not be sent before Open
	Sent           // PUBLISH is out; PUBACK or PUBREC is due
	Received       // PUBREC came; PUBREL is not sent yet
	Released       // PUBREL is out; PUBCOMP is due
	Unsent         // sent on an earlier connection; waits for room to be sent again
)

// Inflight is an entry of the outbound window.
type Inflight[T any] struct {
	Delivery[T]
	ID    uint16
	State State
}

// Outflow is the sending half: the window of QoS 1 and 2 messages that are not fully acknowledged. Identifiers are
// given in ascending order, so the window is a ring by identifier; it is made on first use.
type Outflow[T any] struct {
	ring []Inflight[T] // length a power of two
	base uint16        // identifier of the oldest entry
	next uint16        // identifier that the next entry gets
	max  uint16        // the peer's Receive Maximum
	span int32         // identifiers from base up to next
	n    int32         // entries in use
	late int32         // entries that are Unsent
}

func (o *Outflow[T]) init(max uint16) { o.max, o.base, o.next = max, 1, 1 }

// spanFactor bounds the ring where a peer never acknowledges its oldest message: the window may reach over
// this many times its size of identifiers (at least spanLeast), then it waits.
const (
	spanFactor = 4
	spanLeast  = 1024
)

// Len is the number of messages in the window.
func (o *Outflow[T]) Len() int { return int(o.n) }

// Free is how many more messages the peer takes now [MQTT-4.9.0-2].
func (o *Outflow[T]) Free() int {
	most := int(o.max)
	room := max(spanFactor*most, spanLeast) - int(o.span)
	return max(0, min(most-int(o.n), room, 0xFFFF-int(o.span)))
}

// NextID is the hint that a resumed session continues with.
func (o *Outflow[T]) NextID() uint16 { return o.next }

func after(id uint16) uint16 {
	if id == 0xFFFF {
		return 1
	}
	return id + 1
}

// distance counts identifiers from a up to b, around the gap at 0.
func distance(a, b uint16) int32 {
	if b >= a {
		return int32(b - a)
	}
	return int32(b) + 0xFFFF - int32(a)
}

func (o *Outflow[T]) at(id uint16) *Inflight[T] {
	return &o.ring[int(id)&(len(o.ring)-1)]
}

// Add puts a delivery into the window and returns its packet identifier. The caller has seen Free() > 0. The entry is
// Reserved until Open sends it.
func (o *Outflow[T]) Add(d Delivery[T]) uint16 {
	if o.n == 0 {
		o.base, o.span = o.next, 0
	}
	o.reserve(int(o.span) + 2) // one more for the gap at identifier 0
	id := o.next
	e := o.at(id)
	*e = Inflight[T]{Delivery: d, ID: id, State: Reserved}
	o.next = after(id)
	o.span++
	o.n++
	return id
}

// reserve grows the ring to hold n identifiers in a row.
func (o *Outflow[T]) reserve(n int) {
	if n <= len(o.ring) {
		return
	}
	size := max(8, len(o.ring))
	for size < n {
		size *= 2
	}
	old := o.ring
	o.ring = make([]Inflight[T], size)
	for i := range old {
		if old[i].State != free {
			*o.at(old[i].ID) = old[i]
		}
	}
}

// Find gives the entry of an identifier, nil if there is none. It stands until the next call of another method.
func (o *Outflow[T]) Find(id uint16) *Inflight[T] {
	if o.n == 0 || id == 0 || distance(o.base, id) >= o.span {
		return nil
	}
	if e := o.at(id); e.State != free && e.ID == id {
		return e
	}
	return nil
}

// Remove takes an entry out: acknowledged to the end, or given up.
func (o *Outflow[T]) Remove(id uint16) (Inflight[T], bool) {
	e := o.Find(id)
	if e == nil {
		return Inflight[T]{}, false
	}
	gone := *e
	if gone.State == Unsent {
		o.late--
	}
	*e = Inflight[T]{}
	o.n--
	for o.span > 0 {
		if first := o.at(o.base); first.State != free && first.ID == o.base {
			break
		}
		o.base = after(o.base)
		o.span--
	}
	return gone, true
}

// Window yields the entries in the order in which they were added.
func (o *Outflow[T]) Window(yield func(*Inflight[T]) bool) {
	id := o.base
	for range o.span {
		if e := o.at(id); e.State != free && e.ID == id && !yield(e) {
			return
		}
		id = after(id)
	}
}

// Resume fills an empty window with the entries of a stored session, in the order in which they were added. next is the stored hint.
func (o *Outflow[T]) Resume(entries []Inflight[T], next uint16) {
	if next == 0 {
		next = 1
	}
	o.base, o.next, o.span, o.n = next, next, 0, 0
	if len(entries) == 0 {
		return
	}
	o.base = entries[0].ID
	last := entries[0].ID
	for _, e := range entries {
		if distance(o.base, e.ID) > distance(o.base, last) {
			last = e.ID
		}
	}
	if d := distance(o.base, next); d <= distance(o.base, last) || d > 0x7FFF { // not a sensible hint
		o.next = after(last)
	}
	o.span = distance(o.base, o.next)
	o.reserve(int(o.span) + 2)
	for _, e := range entries {
		*o.at(e.ID) = e
		o.n++
	}
}

// AckResult says what an acknowledgement of the peer means to the owner.
type AckResult byte

const (
	Ignored   AckResult = iota // no such delivery, or not in that state
	Done                       // the delivery is over; the entry was removed
	Refused                    // over too, by a reason code of 0x80 or above [MQTT-4.4.0-2]
	ToRelease                  // QoS 2: PUBREL is due once the state is kept
)

// Acknowledge takes a PUBACK, PUBREC or PUBCOMP.
func (o *Outflow[T]) Acknowledge(t mqtt.PacketType, id uint16, code mqtt.ReasonCode) (AckResult, Inflight[T]) {
	e := o.Find(id)
	if e == nil {
		return Ignored, Inflight[T]{}
	}
	switch {
	case t == mqtt.PUBACK && e.QoS == 1 && e.State == Sent,
		t == mqtt.PUBCOMP && e.State == Released,
		t == mqtt.PUBREC && e.QoS == 2 && e.State == Sent && code.IsError():
		gone, _ := o.Remove(id)
		if code.IsError() && t != mqtt.PUBCOMP {
			return Refused, gone
		}
		return Done, gone
	case t == mqtt.PUBREC && e.QoS == 2 && (e.State == Sent || e.State == Received || e.State == Released):
		if e.State == Sent {
			e.State = Received
			e.Message = nil
		}
		return ToRelease, *e
	}
	return Ignored, *e
}
