// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Bounds of a Rate. Beyond MaxRate a token would cost less than the clock of a Bucket can tell apart.
const (
	MaxRate  = 4_000_000_000
	MaxBurst = 4_000_000_000
)

// Rate is how many tokens a bucket gets a second, and how many it holds at most. The zero value is no limit.
type Rate struct {
	PerSecond int64 // 0 = no limit; at most MaxRate
	Burst     int64 // 0 = as many as come in a second; at most MaxBurst
}

// Limited says whether there is a limit at all.
func (r Rate) Limited() bool { return r.PerSecond > 0 }

// burst is how many tokens the bucket holds.
func (r Rate) burst() int64 {
	if r.Burst > 0 {
		return r.Burst
	}
	return r.PerSecond
}

// A Bucket holds tokens. In any time t it gives out Burst + t * PerSecond tokens at most, whoever takes them on whichever goroutine, and as many
// as that to whoever waits for them.
//
// One word says it all: the moment at which the bucket was empty, or will be once its debt is paid. The tokens in it are the time since
// then, at its rate; to take some moves the moment on. So one compare-and-swap takes tokens, the clocks of loops may differ, and nothing
// is lent to loops in portions that might lie unused on one while another one waits. It costs about 9 ns where the bucket is one connection's.
//
// Times are in 1/64 ns, and wrap around: only differences count. A bucket that nobody touches for two years is not full but empty.
type Bucket struct {
	empty atomic.Int64 // 1/64 ns
	seen  atomic.Int64 // unix ns: about the latest time that it was told
	rate  Rate
	token uint64 // the time in which a token comes, in 1/64 ns shifted by tokenFrac
	full  int64  // the time in which an empty bucket becomes full, in 1/64 ns
}

const (
	frac      = 6       // bits of a time that are below a nanosecond
	tokenFrac = 24      // bits of the time of a token that are below 1/64 ns
	longest   = 1 << 62 // of a time in 1/64 ns: two years
	seenStep  = int64(time.Second) / 4
	stepBack  = int64(time.Second) // a clock that goes back by more was set
)

// Init makes the bucket full. It must not be in use.
func (b *Bucket) Init(r Rate, now int64) {
	b.rate, b.full = r, 0
	if r.Limited() {
		b.token = uint64(time.Second) << (frac + tokenFrac) / uint64(r.PerSecond)
		b.full = b.cost(r.burst())
	}
	b.empty.Store(now<<frac - b.full)
	b.seen.Store(now)
}

// Limited says whether it has a limit at all; without one every Take succeeds.
func (b *Bucket) Limited() bool { return b.rate.Limited() }

// cost is the time in which n tokens come. It is rounded: of single tokens at MaxRate by 3 % at most, at a quarter of it by less than 1 %.
func (b *Bucket) cost(n int64) int64 {
	hi, lo := bits.Mul64(uint64(n), b.token)
	lo, carry := bits.Add64(lo, 1<<(tokenFrac-1), 0)
	if hi += carry; hi>>tokenFrac != 0 {
		return longest
	}
	return int64(min(hi<<(64-tokenFrac)|lo>>tokenFrac, longest))
}

// Take takes n tokens if they are there. More than the bucket holds are there when it is full, so that a message above the burst passes now and
// then, at the rate. The zero Bucket has no limit.
func (b *Bucket) Take(now, n int64) bool {
	if b.rate.PerSecond == 0 {
		return true
	}
	b.mind(now)
	t, cost := now<<frac, b.cost(n)
	for {
		was := b.empty.Load()
		from := was
		if t-from > b.full {
			from = t - b.full
		}
		if t-from < min(cost, b.full) {
			return false
		}
		if b.empty.CompareAndSwap(was, from+cost) {
			return true
		}
	}
}

// Reserve takes n tokens whether they are there or not, and says how long to wait until they are: 0 if they were. Who waits that long
// keeps to the rate, and those who wait are served in the order in which they asked.
func (b *Bucket) Reserve(now, n int64) time.Duration {
	if b.rate.PerSecond == 0 {
		return 0
	}
	b.mind(now)
	t, cost := now<<frac, b.cost(n)
	for {
		was := b.empty.Load()
		from := was
		if t-from > b.full {
			from = t - b.full
		}
		if from-t > longest/2 { // the debt of a year does not grow
			return longest / 2 >> frac
		}
		if b.empty.CompareAndSwap(was, from+cost) {
			// Above the burst a full bucket is enough, as in Take.
			return time.Duration(max(0, from+min(cost, b.full)-t+1<<frac-1) >> frac)
		}
	}
}

// Return gives tokens back that were taken for nothing; n may be negative: then more were needed than were taken.
func (b *Bucket) Return(n int64) {
	switch {
	case b.rate.PerSecond == 0 || n == 0:
	case n > 0:
		b.empty.Add(-b.cost(n))
	default:
		b.empty.Add(b.cost(-n))
	}
}

// Span is the time in which an empty bucket becomes full.
func (b *Bucket) Span() time.Duration { return time.Duration(b.full >> frac) }

// Full says whether nothing is missing, so that a new bucket would be the same.
func (b *Bucket) Full(now int64) bool {
	return b.rate.PerSecond == 0 || now<<frac-b.empty.Load() >= b.full
}

// Level is how many tokens there are; below zero: how many are owed.
func (b *Bucket) Level(now int64) int64 {
	if b.rate.PerSecond == 0 {
		return 0
	}
	have := min(now<<frac-b.empty.Load(), b.full)
	sign := int64(1)
	if have < 0 {
		sign, have = -1, -have
	}
	hi, lo := bits.Mul64(uint64(have), uint64(b.rate.PerSecond))
	q, _ := bits.Div64(hi, lo, uint64(time.Second)<<frac) // have < 2^63 and a second is 2^35.9 of them: hi is below it
	return sign * int64(q)
}

// mind notices a clock that was set back: what the bucket knows moves with it, or else it would be empty until the clock is where it was. A step
// that is not noticed, and the inaccuracy of seen, cost at most stepBack and seenStep of tokens, and never give any. Forward steps
// fill the bucket as waiting does, and not above its burst.
func (b *Bucket) mind(now int64) {
	seen := b.seen.Load()
	switch d := now - seen; {
	case d >= seenStep:
		b.seen.CompareAndSwap(seen, now)
	case d < -stepBack:
		if b.seen.CompareAndSwap(seen, now) {
			b.empty.Add(d << frac)
		}
	}
}
