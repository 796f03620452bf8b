// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/noctule/noctule/broker"
)

// A plan is what a seed decides of a simulation, but for the choices of the clients.
type plan struct {
	Options
	rounds      int
	rate        int // numbered messages in a second
	loops       int
	writeBuffer int64
	limits      broker.Limits
	policy      broker.Policy
}

func newPlan(o Options) *plan {
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	p := &plan{
		Options: o, rounds: 3 + rng.IntN(4), rate: 60 + rng.IntN(340), loops: 1 + rng.IntN(3),
		writeBuffer: 8 << 10 << rng.IntN(8), limits: broker.DefaultLimits(),
	}
	p.policy.WhenFull, p.policy.SharedRedeliver = broker.WhenFull(rng.IntN(2)), rng.IntN(2) == 0
	l := &p.limits
	l.ReceiveMaximum, l.MaxInflight, l.MaxOutBytes = uint16(4<<rng.IntN(7)), uint16(2<<rng.IntN(10)), 64<<10<<rng.IntN(5)
	l.MaxQueueBytes = 64 << 20
	return p
}

// end is how a life of the broker ends.
type end byte

const (
	killed     end = iota // what was written is kept, synced or not
	powerCut              // a part of what was not synced is kept
	failedSync            // a sync fails; the power is cut some time later
	stopped               // in order
	ends
)

func (e end) String() string { return [...]string{"killed", "power cut", "failed sync", "stopped"}[e] }

// A fault lasts from one time to another, from the start of a life on.
type fault struct{ from, to time.Duration }

// now says whether it lasts.
func (f fault) now(at time.Duration) bool { return f.from <= at && at < f.to }

// A fate is what is planned for one life of the broker, from when the clients begin to work.
type fate struct {
	number  int
	opens   []int         // at which changes the power is cut while the store is opened, before it is opened for good
	syncing time.Duration // what a sync takes at most
	slow    fault
	crawl   time.Duration // what it takes while the disk is slow
	full    fault
	room    int64         // bytes, when it begins to be full
	breaks  time.Duration // between two connections that break; 0 is never
	end     end
	change  int  // at which it ends; 0 is when the run says so. Of a failed sync: which one fails
	keep    int  // percent of what was not synced
	lies    bool // syncs of the same part after the failed one succeed, and do nothing; else all of them fail
	reset   bool // connections are reset at the end, so that what was on its way is lost, too
	rng     *rand.Rand
}

// fate plans a life.
func (p *plan) fate(number int) *fate {
	r := rand.New(rand.NewPCG(p.Seed, 100+uint64(number)))
	upTo := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
	one := func(of int) bool { return r.IntN(of) == 0 }
	span := func() (f fault) {
		f.from = upTo(2 * time.Second)
		f.to = f.from + upTo(1500*time.Millisecond)
		return f
	}
	f := &fate{number: number, rng: r, syncing: 20*time.Microsecond + upTo(4*time.Millisecond)}
	for number > 1 && len(f.opens) < 3 && one(4) {
		f.opens = append(f.opens, 1+r.IntN(60))
	}
	if one(4) {
		f.slow, f.crawl = span(), 50*time.Millisecond+upTo(1500*time.Millisecond)
	}
	if one(3) {
		f.full, f.room = span(), int64(r.IntN(64<<10))
	}
	if one(3) {
		f.breaks = 10*time.Millisecond + upTo(300*time.Millisecond)
	}
	f.end, f.reset, f.lies = end(r.IntN(int(ends))), one(2), one(2)
	if one(2) || f.end == failedSync {
		f.change = 1 + r.IntN(50<<r.IntN(6))
	}
	switch f.end {
	case killed:
		f.keep = 100
	case powerCut, failedSync:
		if one(2) {
			f.keep = r.IntN(101)
		}
	case stopped:
		f.change = 0
	}
	if p.Forgetful && f.end != killed {
		f.keep = 0
	}
	return f
}

func (f *fate) String() string {
	return fmt.Sprintf("life %d: opens cut at %v, sync %v, slow %v..%v %v, full %v..%v after %d bytes, breaks %v, %v at %d, keeps %d%%, lies %t, resets %t",
		f.number, f.opens, f.syncing, f.slow.from, f.slow.to, f.crawl, f.full.from, f.full.to, f.room, f.breaks, f.end, f.change, f.keep, f.lies, f.reset)
}
