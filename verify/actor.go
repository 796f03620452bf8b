// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"time"
)

// A life is one life of the broker, from when it lets clients in until it is killed.
type life struct {
	number int // from 1
	phase  phase
	ready  time.Duration // when it let the first client in
	// published is closed when no publisher has anything on its way any more, in a life that drains.
	published chan struct{}
}

// phase is what the actors do in a life.
type phase byte

const (
	working  phase = iota // publish, and all the rest
	draining              // finish what is on its way, and read what is left
	resting               // look whether anything comes that should not
)

func (p phase) String() string { return [...]string{"working", "draining", "resting"}[p] }

// rest is how long a client stays to see what comes too much.
const rest = 1500 * time.Millisecond

// An actor is one or more clients that play a part. It keeps their state from life to life.
type actor interface {
	// prepare connects, subscribes and leaves, before the first life's work. An error means that the broker cannot be tested.
	prepare(ctx context.Context) error
	// live plays in one life. It returns when its connections have ended, or the phase has nothing more for it to do; at the
	// latest shortly after ctx ends, which happens when the broker is dead.
	live(ctx context.Context, l *life)
}

// A pace allows so many events in a second.
type pace struct {
	perSecond float64
	credit    float64
	last      time.Duration
}

// tick is how often those who keep a pace look at it.
const tick = 5 * time.Millisecond

// allow returns how many events may happen now, at most burst.
func (p *pace) allow(now time.Duration, burst int) int {
	p.credit = min(p.credit+(now-p.last).Seconds()*p.perSecond, float64(burst))
	p.last = now
	n := int(p.credit)
	p.credit -= float64(n)
	return n
}
