// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package front

import (
	"github.com/noctule/noctule/internal/invariants"
	"github.com/noctule/noctule/transport"
)

// Sizes of input, in bytes.
const (
	// MaxRead is the most that is read at once.
	MaxRead = 64 << 10
	// room is the least that is worth reading.
	room = 16 << 10
)

// An Intake holds what a core has been offered and has not eaten.
type Intake struct {
	tail  []byte // nil if there is none
	need  int    // bytes that the core wants to see in all
	ended bool
}

// Tail is what waits.
func (in *Intake) Tail() []byte { return in.tail }

// Idle reports whether there is nothing to remember.
func (in *Intake) Idle() bool { return len(in.tail) == 0 && in.need == 0 && !in.ended }

// Large reports whether what is awaited does not fit behind a copy of the tail in a buffer of MaxRead bytes: then input is to be read
// into Grow.
func (in *Intake) Large() bool { return len(in.tail) > MaxRead/2 || in.need > MaxRead }

// Grow makes room behind the tail and returns both, old bytes of tail first. What was promised by the peer and has not arrived
// costs no memory but for a step: the larger of 64 KB and half of what is there, so that copying stays cheap.
func (in *Intake) Grow() (b []byte, old int) {
	have := len(in.tail)
	if cap(in.tail)-have < room {
		more := min(max(in.need-have, room), max(MaxRead, have/2))
		grown := make([]byte, have, have+more)
		copy(grown, in.tail)
		in.tail = grown
	}
	return in.tail[:cap(in.tail)], have
}

// Feed offers b, which begins with what waited, until the core wants more than there is, and keeps what it did not eat. Any
// verdict but GoOn is for the caller to obey.
func (in *Intake) Feed(core transport.Core, b []byte) (v transport.Verdict) {
	for !in.ended && len(b) > 0 && len(b) >= in.need && v == transport.GoOn {
		var eaten, need int
		eaten, need, v = core.Feed(b)
		invariants.Poison(b[:eaten]) // the loan has ended
		b, in.need = b[eaten:], need
		if v != transport.GoOn {
			in.need = 0
			break
		}
		if need == 0 {
			break
		}
		if eaten == 0 && len(b) >= need {
			panic("transport: the core wants what it has")
		}
	}
	if in.ended || v > transport.Pause {
		b, in.need = nil, 0
	}
	in.keep(b)
	return v
}

// keep stores what the core did not eat, in no more memory than it needs.
func (in *Intake) keep(b []byte) {
	switch {
	case len(b) == 0:
		in.tail = nil
	case len(in.tail) > 0 && &b[0] == &in.tail[0]: // nothing was eaten
		in.tail = b
	case cap(in.tail) >= len(b) && cap(in.tail) <= 2*len(b)+room && !invariants.Enabled:
		in.tail = append(in.tail[:0], b...) // overlapping is fine
	default:
		in.tail = append(make([]byte, 0, len(b)), b...)
		invariants.Poison(b) // what was lent with it and not eaten is elsewhere now
	}
}

// Hold keeps b, which begins with what waited, for later.
func (in *Intake) Hold(b []byte) {
	if !in.ended {
		in.keep(b)
	}
}

// End forgets everything, and whatever is offered from now on.
func (in *Intake) End() { *in = Intake{ended: true} }
