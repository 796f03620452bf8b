// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

// missingMax bounds what a tracker remembers of gaps.
const missingMax = 1 << 16

// tracker checks the sequence numbers that one receiver gets from one flow. They begin with 0.
type tracker struct {
	next       uint64 // the number expected
	missing    map[uint64]struct{}
	forgotten  uint64 // missing ones beyond missingMax
	duplicated uint64
	reordered  uint64
}

// see takes the next number in.
func (t *tracker) see(seq uint64) {
	if seq == t.next {
		t.next++
		return
	}
	if seq < t.next {
		if _, ok := t.missing[seq]; ok {
			delete(t.missing, seq)
			t.reordered++
		} else {
			t.duplicated++
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

// lost is how many of the first sent numbers never came.
func (t *tracker) lost(sent uint64) uint64 {
	lost := uint64(len(t.missing)) + t.forgotten
	if t.next < sent {
		lost += sent - t.next
	}
	return lost
}
