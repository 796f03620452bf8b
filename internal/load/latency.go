// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math/bits"
	"time"
)

const (
	// latencyParts is how many buckets there are for each doubling, so a quantile is at most one in 128 too high.
	latencyParts   = 128
	latencyBuckets = 64 * latencyParts
)

// latencies is a histogram of times.
type latencies struct {
	counts [latencyBuckets]uint64
	total  uint64
	most   time.Duration
}

// Times are quantiles of a histogram; all 0 if nothing was counted.
type Times struct {
	Count                uint64
	P50, P99, P999, Most time.Duration
}

// times sums up.
func (l *latencies) times() Times {
	return Times{Count: l.total, P50: l.quantile(0.5), P99: l.quantile(0.99), P999: l.quantile(0.999), Most: l.most}
}

// dueLatencies counts the times of messages that fell due from one moment on, and before another.
type dueLatencies struct {
	latencies
	from, until time.Time
}

// add counts the time from due until now, if it is in.
func (l *dueLatencies) add(due, now time.Time) {
	if !due.Before(l.from) && due.Before(l.until) {
		l.latencies.add(now.Sub(due))
	}
}

// add counts one time. Negative ones count as none.
func (l *latencies) add(d time.Duration) {
	l.counts[latencyBucket(uint64(max(d, 0)))]++
	l.total++
	l.most = max(l.most, d)
}

// quantile is the time that a share q of all stay below, or 0 if there are none.
func (l *latencies) quantile(q float64) time.Duration {
	rank := uint64(q * float64(l.total))
	for i, n := range l.counts {
		if rank < n {
			return latencyBelow(i)
		}
		rank -= n
	}
	return 0
}

// latencyBucket is the bucket of ns nanoseconds: exact below latencyParts, then latencyParts for each doubling.
func latencyBucket(ns uint64) int {
	if ns < latencyParts {
		return int(ns)
	}
	shift := bits.Len64(ns) - bits.Len(latencyParts)
	return shift*latencyParts + int(ns>>shift)
}

// latencyBelow is the first time above bucket i.
func latencyBelow(i int) time.Duration {
	if i < 2*latencyParts {
		return time.Duration(i + 1)
	}
	shift := i/latencyParts - 1
	return time.Duration((i%latencyParts + latencyParts + 1) << shift)
}
