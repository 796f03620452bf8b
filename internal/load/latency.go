// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math/bits"
	"time"
)

const (
	// latencyParts is how many buckets there are for each doubling, so a quantile is at most one in sixteen too high.
	latencyParts   = 16
	latencyBuckets = 64 * latencyParts
)

// latencies is a histogram of times.
type latencies struct {
	counts [latencyBuckets]uint64
	total  uint64
}

// add counts one time. Negative ones count as none.
func (l *latencies) add(d time.Duration) {
	l.counts[latencyBucket(uint64(max(d, 0)))]++
	l.total++
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
