// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import "testing"

// Of a segment that is missing at the end nothing else in the log can tell.
func TestTheNewestSegmentIsMissed(t *testing.T) {
	for _, closed := range []bool{true, false} {
		whole, want := written(t, small, true, closed)
		segments := whole.segments()
		last := ""
		for _, name := range segments {
			if _, ok := numberOf(name, endSegment); ok {
				last = name
			}
		}
		d := whole.clone()
		delete(d, last)
		o := small
		o.FS = d.mem(t)
		l, rec, got := open(t, o, 0)
		if len(rec.Damage) != 1 || rec.Damage[0].File != last || !covered(rec.Damage, want[len(want)-1].position) || len(got) == len(want) {
			t.Fatalf("%d of %d records, %+v", len(got), len(want), rec.Damage)
		}
		closeLog(t, l)
		_, rec, _ = open(t, o, 0)
		wantClean(t, rec)

		for _, spoil := range []func(disk){
			func(d disk) { delete(d, newestFile) },
			func(d disk) { d[newestFile][3] ^= 1 },
			func(d disk) { d[newestFile] = d[newestFile][:5] },
		} {
			d := whole.clone()
			if d[newestFile] == nil {
				t.Fatal("nothing says which segment is the newest")
			}
			spoil(d)
			o.FS = d.mem(t)
			_, rec, got := open(t, o, 0)
			if len(rec.Damage) > 0 || len(got) != len(want) {
				t.Fatalf("%d of %d records, %+v", len(got), len(want), rec.Damage)
			}
		}
	}
}
