// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"

	"github.com/noctule/noctule/mqtt"
)

// Inflow is the receiving half: the packet identifiers of QoS 2 messages whose PUBREL is due, and the quota that the
// peer has to keep to.
//
//	        Begin            Accepted(ok)           Release
//	free ----------> taking --------------> held ------------> free
//	                   |                      ^ a repeated PUBLISH is answered
//	                   | Accepted(refused)    | with PUBREC again
//	                   v
//	                 free
type Inflow struct {
	two    *twos // made on first use
	ones   int32 // QoS 1 messages whose acceptance is pending
	max    uint16
	strict bool // 5.0: beyond max is a violation; before 5.0 no peer knows a maximum
}

// twos are the identifiers of QoS 2. Read, it may be nil.
type twos struct {
	held   idSet
	old    idSet // of held: taken on an earlier connection, so they do not count against the quota of this one
	taking idSet // PUBLISH came, our acceptance is pending
}

func (f *Inflow) init(max uint16, strict bool) { f.max, f.strict = max, strict }

// ofTwo makes the sets of QoS 2, if they are not there.
func (f *Inflow) ofTwo() *twos {
	if f.two == nil {
		f.two = new(twos)
	}
	return f.two
}

// Resume gives back the identifiers that the stored session holds.
func (f *Inflow) Resume(held []uint16) {
	for _, id := range held {
		f.ofTwo().held.add(id)
		f.two.old.add(id)
	}
}

// Arrival says what to do with an inbound PUBLISH of QoS 1 or 2.
type Arrival byte

const (
	Take   Arrival = iota // a new message: route it, then call Accepted
	Repeat                // QoS 2, seen before and accepted: PUBREC again, no delivery [MQTT-4.3.3-10]
	Wait                  // QoS 2, seen before, still being accepted: PUBREC will come
)

// Begin counts an inbound PUBLISH of QoS 1 or 2 in.
func (f *Inflow) Begin(q mqtt.QoS, id uint16) (Arrival, *mqtt.Error) {
	if q == 2 && f.two != nil {
		if f.two.held.has(id) {
			f.two.old.remove(id) // sent again on this connection
			return Repeat, nil
		}
		if f.two.taking.has(id) {
			return Wait, nil
		}
	}
	if f.strict && f.Len() >= int(f.max) {
		return Take, &mqtt.Error{Code: mqtt.ReceiveMaximumExceeded, Op: "PUBLISH",
			Err: errors.New("more unacknowledged messages than Receive Maximum")}
	}
	if q == 2 {
		f.ofTwo().taking.add(id)
	} else {
		f.ones++
	}
	return Take, nil
}

// Len is the number of messages that count against Receive Maximum.
func (f *Inflow) Len() int {
	if f.two == nil {
		return int(f.ones)
	}
	return f.two.held.n - f.two.old.n + f.Pending()
}

// Pending is the number of messages whose acceptance is pending.
func (f *Inflow) Pending() int {
	if f.two == nil {
		return int(f.ones)
	}
	return f.two.taking.n + int(f.ones)
}

// Held lists the identifiers whose PUBREL is due.
func (f *Inflow) Held() []uint16 {
	if f.two == nil {
		return nil
	}
	return f.two.held.all()
}

// Accepted ends the acceptance of a message that Begin took and appends its PUBACK or PUBREC. A code of 0x80 or above
// frees the identifier [MQTT-4.3.3-9].
func (f *Inflow) Accepted(q mqtt.QoS, id uint16, code mqtt.ReasonCode, v mqtt.Version, w Sink) {
	t := mqtt.PUBACK
	if q == 2 {
		t = mqtt.PUBREC
		f.ofTwo().taking.remove(id)
		if !code.IsError() {
			f.two.held.add(id)
		}
	} else {
		f.ones--
	}
	w.Set(mqtt.AppendAck(w.Buf(), t, id, code, v))
}

// Abandon ends the acceptance of a message that is not to be answered: the peer may send it again.
func (f *Inflow) Abandon(q mqtt.QoS, id uint16) {
	if q == 2 {
		f.ofTwo().taking.remove(id)
	} else {
		f.ones--
	}
}

// Release forgets a held identifier upon PUBREL; the caller answers with PUBCOMP, after a persistent session's store has
// forgotten it too.
func (f *Inflow) Release(id uint16) bool {
	if f.two == nil {
		return false
	}
	f.two.old.remove(id)
	return f.two.held.remove(id)
}

// idSet is a set of packet identifiers: a few in a slice, many in a bitmap of 8 KiB. Identifiers come and go in
// about the same order, so removal looks from the front.
type idSet struct {
	few  []uint16
	many *[1024]uint64
	n    int
}

// idFew is how many identifiers the slice holds; 64 of them are searched in about 20 ns.
const idFew = 64

func (s *idSet) has(id uint16) bool {
	if s.many != nil {
		return s.many[id>>6]&(1<<(id&63)) != 0
	}
	for _, x := range s.few {
		if x == id {
			return true
		}
	}
	return false
}

func (s *idSet) add(id uint16) {
	if s.has(id) {
		return
	}
	s.n++
	if s.many == nil && len(s.few) == idFew {
		s.many = new([1024]uint64)
		for _, x := range s.few {
			s.many[x>>6] |= 1 << (x & 63)
		}
		s.few = nil
	}
	if s.many != nil {
		s.many[id>>6] |= 1 << (id & 63)
		return
	}
	s.few = append(s.few, id)
}

func (s *idSet) remove(id uint16) bool {
	if !s.has(id) {
		return false
	}
	s.n--
	if s.many != nil {
		s.many[id>>6] &^= 1 << (id & 63)
		if s.n == 0 {
			s.many = nil
		}
		return true
	}
	for i, x := range s.few {
		if x == id {
			s.few = append(s.few[:i], s.few[i+1:]...)
			break
		}
	}
	return true
}

func (s *idSet) all() []uint16 {
	if s.many == nil {
		return append([]uint16(nil), s.few...)
	}
	ids := make([]uint16, 0, s.n)
	for id := 1; id <= 0xFFFF; id++ {
		if s.has(uint16(id)) {
			ids = append(ids, uint16(id))
		}
	}
	return ids
}
