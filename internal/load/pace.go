// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// hasten has the waits of this thread end when they should, instead of up to 50 microseconds later, and returns what undoes that. It does not
// take the processor from the broker: one that shares a core with a thread that may go first is measured for that.
func hasten() (undo func()) {
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return func() {} // Outcome.SentLate tells
	}
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return func() { unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0) }
}

// pace lets messages of flows fall due at a constant rate, one flow after the other, whatever the broker does. So a broker that
// stalls cannot hide it: what fell due meanwhile counts from then.
type pace struct {
	flows []*flow
	step  float64 // nanoseconds between two messages of all
	begun time.Time
	due   uint64 // messages that fell due so far
}

// newPace paces flows at rate messages a second of all together. It begins at a moment.
func newPace(flows []*flow, rate float64, begun time.Time) *pace {
	p := &pace{flows: flows, step: float64(time.Second) / rate, begun: begun}
	for i, f := range flows {
		f.pace, f.place = p, uint64(i)
	}
	return p
}

// at is when the n-th message of all falls due.
func (p *pace) at(n uint64) time.Time { return p.begun.Add(time.Duration(float64(n) * p.step)) }

// fall lets fall due what is due now, and returns when the next message is.
func (p *pace) fall(now time.Time) time.Time {
	for {
		at := p.at(p.due)
		if at.After(now) {
			return at
		}
		p.flows[p.due%uint64(len(p.flows))].owed++
		p.due++
	}
}

// touch touches the flows that are owed something and can send.
func (p *pace) touch(e *engine) {
	for _, f := range p.flows {
		if f.owed > 0 && f.roomy() && f.under() < f.window {
			e.touch(f)
		}
	}
}

// dueAt is when the message of that sequence number fell due.
func (f *flow) dueAt(seq uint64) time.Time { return f.pace.at(f.place + seq*uint64(len(f.pace.flows))) }
