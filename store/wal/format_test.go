// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// resum repairs the checksum of a segment's head.
func resum(b []byte) { le.PutUint32(b[8:], crc32.Checksum(b[12:segmentHead], castagnoli)) }

// The format does not change by accident: a change needs a new version, and a way from this one.
func TestGolden(t *testing.T) {
	defer func(old func() uint64) { newID = old }(newID)
	newID = func() uint64 { return 0x0123456789abcdef }
	golden := filepath.Join("testdata", "format1")
	mem := vfs.NewMem()
	o := Options{FS: mem, SegmentBytes: 300}
	l, _, _ := open(t, o, 0)
	want := []entry{{1, "one"}, {2, ""}, {300, "three hundred"}, {301, "in a frame of its own"}, {1 << 40, "far away"}, {1<<40 + 1, "the end"}}
	write(t, l, want[:3]...)
	sync(t, l)
	write(t, l, want[3])
	write(t, l, want[4:]...)
	closeLog(t, l)
	made := load(t, mem, folder)
	if *update {
		for name, b := range made {
			if err := os.WriteFile(filepath.Join(golden, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept := disk{}
	files, err := os.ReadDir(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if kept[f.Name()], err = os.ReadFile(filepath.Join(golden, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if len(kept) != len(made) || len(kept) < 2 {
		t.Fatalf("%v, want %v", made.segments(), kept.segments())
	}
	for name, b := range kept {
		if string(b) != string(made[name]) {
			t.Errorf("%s is\n%x, want\n%x", name, made[name], b)
		}
	}
	_, rec, got := open(t, Options{FS: kept.mem(t)}, 0)
	wantEntries(t, got, want)
	if !rec.Clean {
		t.Fatalf("%+v", rec)
	}
}
