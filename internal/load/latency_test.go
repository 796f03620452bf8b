// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"testing"
	"time"
)

func TestLatencyBucketsAreTightAndInOrder(t *testing.T) {
	last := -1
	for ns := uint64(0); ns < 1<<40; ns += 1 + ns/5 {
		i := latencyBucket(ns)
		below := uint64(latencyBelow(i))
		if i < last || i >= latencyBuckets {
			t.Fatalf("%d ns go to bucket %d after %d", ns, i, last)
		}
		if below <= ns || below > ns+ns/latencyParts+1 {
			t.Fatalf("the bucket of %d ns ends at %d", ns, below)
		}
		last = i
	}
}

func TestQuantile(t *testing.T) {
	var l latencies
	if got := l.quantile(0.5); got != 0 {
		t.Errorf("median of nothing is %v", got)
	}
	l.add(-time.Second)
	for range 98 {
		l.add(time.Millisecond)
	}
	l.add(time.Second)
	for _, c := range []struct {
		q           float64
		least, most time.Duration
	}{{0, 0, 1}, {0.5, time.Millisecond, 1070 * time.Microsecond}, {0.99, time.Second, 1070 * time.Millisecond}} {
		if got := l.quantile(c.q); got < c.least || got > c.most {
			t.Errorf("quantile %v is %v, want %v to %v", c.q, got, c.least, c.most)
		}
	}
}
