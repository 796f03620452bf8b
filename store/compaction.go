// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/cockroachdb/pebble/v2"

// compactions lets one compaction run at a time, and none any more once something is found damaged: one that meets damage would be
// tried again for ever. Zero for the most that may run, in Pebble's options, does not say so: Pebble divides by it.
//
// The scheduler below grants nothing by the clock. It need not: what has to wait is granted when the one that runs is done.
type compactions struct {
	pebble.CompactionScheduler
	suspect *suspect
}

func newCompactions(s *suspect) compactions {
	return compactions{pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest(), s}
}

func (c compactions) Register(goroutines int, db pebble.DBForCompaction) {
	c.CompactionScheduler.Register(goroutines, compacted{db, c.suspect})
}

// compacted is the state as its scheduler sees it.
type compacted struct {
	pebble.DBForCompaction
	suspect *suspect
}

func (c compacted) GetAllowedWithoutPermission() int {
	if c.suspect.any() {
		return 0
	}
	return c.DBForCompaction.GetAllowedWithoutPermission()
}
