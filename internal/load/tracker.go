// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

// missingMax bounds what a Tracker remembers of gaps.
const missingMax = 1 << 16

// Tracker checks the sequence numbers that one receiver gets from one flow. They begin with 0, or where Begin says.
type Tracker struct {
	first      uint64
	next       uint64 // the number expected
	missing    map[uint64]struct{}
	forgotten  uint64 // missing ones beyond missingMax
	Duplicated uint64
	Reordered  uint64
}

// Begin has the tracker begin with seq, for a receiver that came later than the flow.
func (t *Tracker) Begin(seq uint64) { t.first, t.next = seq, seq }

// See takes the next number in.
func (t *Tracker) See(seq uint64) {
	if seq == t.next {
		t.next++
		return
	}
	if seq < t.first { // from before Begin, and too late
		t.Reordered++
		return
	}
	if seq < t.next {
		if _, ok := t.missing[seq]; ok {
			delete(t.missing, seq)
			t.Reordered++
		} else {
			t.Duplicated++
		}
		return
	}
	if t.missing == nil {
		t.missing = make(map[uint64]struct{})
	}
	for ; t.next < seq; t.next++ {
		if len(t.missing) == missingMax {
			t.forgotten += seq - t.next
			break
		}
		t.missing[t.next] = struct{}{}
	}
	t.next = seq + 1
}

// Lost is how many of the first sent numbers never came.
func (t *Tracker) Lost(sent uint64) uint64 {
	lost := uint64(len(t.missing)) + t.forgotten
	if t.next < sent {
		lost += sent - t.next
	}
	return lost
}
