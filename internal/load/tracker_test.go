// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import "testing"

func TestTracker(t *testing.T) {
	for _, c := range []struct {
		name                        string
		seen                        []uint64
		sent                        uint64
		lost, duplicated, reordered uint64
	}{
		{"in order", []uint64{0, 1, 2, 3}, 4, 0, 0, 0},
		{"lost at the end", []uint64{0, 1}, 4, 2, 0, 0},
		{"lost in between", []uint64{0, 3}, 4, 2, 0, 0},
		{"nothing came", nil, 4, 4, 0, 0},
		{"reordered", []uint64{0, 2, 1, 3}, 4, 0, 0, 1},
		{"duplicated", []uint64{0, 1, 1, 0, 2}, 3, 0, 2, 0},
		{"late, then again", []uint64{1, 0, 0}, 2, 0, 1, 1},
	} {
		var tr Tracker
		for _, s := range c.seen {
			tr.See(s)
		}
		if lost := tr.Lost(c.sent); lost != c.lost || tr.Duplicated != c.duplicated || tr.Reordered != c.reordered {
			t.Errorf("%s: lost %d, duplicated %d, reordered %d, want %d, %d, %d",
				c.name, lost, tr.Duplicated, tr.Reordered, c.lost, c.duplicated, c.reordered)
		}
	}
}

func TestTrackerRemembersABoundedGapAndCountsAll(t *testing.T) {
	var tr Tracker
	const gap = missingMax + 1000
	tr.See(gap)
	if len(tr.missing) != missingMax || tr.Lost(gap+1) != gap {
		t.Errorf("a gap of %d: remembers %d, lost %d", gap, len(tr.missing), tr.Lost(gap+1))
	}
}
