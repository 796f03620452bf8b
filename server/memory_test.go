// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"
)

func TestMemoryIsGivenBackOnceAfterABurst(t *testing.T) {
	const mib = 1 << 20
	now := time.Unix(1000, 0)
	g := giver{}
	for i, step := range []struct {
		u    usage
		want bool
	}{
		{usage{allocated: 100 * mib, live: 20 * mib, resident: 60 * mib}, false}, // it has just allocated much
		{usage{allocated: 100 * mib, live: 20 * mib, resident: 60 * mib}, true},
		{usage{allocated: 100 * mib, live: 20 * mib, resident: 60 * mib}, false}, // nothing more comes of it
		{usage{allocated: 200 * mib, live: 20 * mib, resident: 60 * mib}, false},
		{usage{allocated: 200 * mib, live: 20 * mib, resident: 60 * mib}, false}, // too soon
		{usage{allocated: 200 * mib, live: 20 * mib, resident: 22 * mib}, false},
	} {
		if got := g.due(step.u, now); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
		now = now.Add(memoryLook)
	}
	now = now.Add(pause(20 * mib))
	if g.due(usage{allocated: 200 * mib, live: 20 * mib, resident: 22 * mib}, now) {
		t.Error("a collection for nothing")
	}
	if !g.due(usage{allocated: 200 * mib, live: 20 * mib, resident: 60 * mib}, now) {
		t.Error("memory was kept for ever")
	}
}

func TestUsageIsRead(t *testing.T) {
	if u := readUsage(); u.allocated == 0 || u.resident == 0 {
		t.Errorf("%+v", u)
	}
}

func TestSmallHeapsAreCollectedLessOften(t *testing.T) {
	for live, want := range map[uint64]int{0: 800, 1 << 20: 800, 8 << 20: 400, 16 << 20: 200, 32 << 20: 100, 1 << 30: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("GOGC is %d for a live heap of %d bytes, want %d", got, live, want)
		}
	}
}
