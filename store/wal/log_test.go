// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// entry is a record as a test wrote or read it.
type entry struct {
	position uint64
	body     string
}

const folder = "/log"

// open opens the log in folder and collects what is replayed.
func open(t testing.TB, o Options, from uint64) (*Log, Recovery, []entry) {
	t.Helper()
	l, rec, got, err := tryOpen(o, from)
	if err != nil {
		t.Fatal(err)
	}
	return l, rec, got
}

func tryOpen(o Options, from uint64) (*Log, Recovery, []entry, error) {
	var got []entry
	l, rec, err := Open(folder, o, from, func(p uint64, b []byte) error {
		got = append(got, entry{p, string(b)})
		return nil
	})
	return l, rec, got, err
}

func add(l *Log, es ...entry) {
	for _, e := range es {
		l.End(append(l.Begin(e.position), e.body...))
	}
}

// write writes a batch.
func write(t testing.TB, l *Log, es ...entry) {
	t.Helper()
	add(l, es...)
	if err := l.Write(); err != nil {
		t.Fatal(err)
	}
}

func sync(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// entries makes n records behind a position, of sizes around size.
func entries(after uint64, n, size int) []entry {
	r := rand.New(rand.NewPCG(after, uint64(n)))
	es := make([]entry, n)
	for i := range es {
		after += 1 + r.Uint64N(3)
		es[i] = entry{after, strings.Repeat(string(rune('a'+after%26)), r.IntN(2*size+1))}
	}
	return es
}

func wantEntries(t testing.TB, got, want []entry) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%d records replayed, want %d; first difference at %d", len(got), len(want), difference(got, want))
	}
}

func difference(a, b []entry) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func wantClean(t testing.TB, rec Recovery) {
	t.Helper()
	if len(rec.Damage) != 0 {
		t.Fatalf("damage: %+v", rec.Damage)
	}
}

func TestRoundTrip(t *testing.T) {
	mem := vfs.NewMem()
	o := Options{FS: mem}
	l, rec, _ := open(t, o, 0)
	if rec.Last != 0 || rec.Records != 0 || rec.Clean {
		t.Fatalf("a new log: %+v", rec)
	}
	want := entries(0, 300, 200)
	for batch := range slices.Chunk(want, 7) {
		write(t, l, batch...)
		if l.Synced() >= batch[0].position {
			t.Fatal("synced before Sync")
		}
		sync(t, l)
		if l.Synced() != batch[len(batch)-1].position {
			t.Fatalf("synced %d", l.Synced())
		}
	}
	closeLog(t, l)
	l, rec, got := open(t, o, 0)
	wantEntries(t, got, want)
	bytes := int64(0)
	for _, e := range want {
		bytes += int64(len(e.body))
	}
	if !rec.Clean || rec.Last != want[299].position || rec.Records != 300 || rec.Bytes != bytes || len(rec.Damage) != 0 || l.Synced() != rec.Last {
		t.Fatalf("%+v", rec)
	}
	more := entries(rec.Last, 10, 20)
	write(t, l, more...)
	closeLog(t, l)
	_, rec, got = open(t, o, want[100].position)
	wantEntries(t, got, append(slices.Clone(want[100:]), more...))
	wantClean(t, rec)
}

func TestProcessEndsWithoutClose(t *testing.T) {
	o := Options{FS: vfs.NewMem()}
	l, _, _ := open(t, o, 0)
	want := entries(0, 20, 20)
	write(t, l, want[:10]...)
	write(t, l, want[10:]...)
	_, rec, got := open(t, o, 0)
	wantEntries(t, got, want)
	wantClean(t, rec)
	if rec.Clean {
		t.Fatal("it was not closed")
	}
}

func TestDiscard(t *testing.T) {
	o := Options{FS: vfs.NewMem()}
	l, _, _ := open(t, o, 0)
	add(l, entry{1, "no"}, entry{2, "no"})
	if l.Size() == 0 {
		t.Fatal("an empty batch")
	}
	l.Discard()
	if l.Size() != 0 {
		t.Fatal("it is still there")
	}
	write(t, l, entry{1, "yes"})
	l.Begin(2) // and never ended
	write(t, l, entry{2, "two"})
	closeLog(t, l)
	_, _, got := open(t, o, 0)
	wantEntries(t, got, []entry{{1, "yes"}, {2, "two"}})
}

func TestPositionsMustGrow(t *testing.T) {
	l, _, _ := open(t, Options{FS: vfs.NewMem()}, 0)
	write(t, l, entry{5, ""})
	defer func() {
		if recover() == nil {
			t.Fatal("position 5 was taken twice")
		}
	}()
	l.Begin(5)
}

func TestLargeRecord(t *testing.T) {
	dir := t.TempDir()
	o := Options{FS: vfs.Default}
	none := func(uint64, []byte) error { return nil }
	l, _, err := Open(dir, o, 0, none)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 16<<20)
	l.End(append(l.Begin(1), body...))
	if err := l.Write(); err != nil {
		t.Fatal(err)
	}
	if cap(l.batch) > keepBuffer {
		t.Fatalf("a buffer of %d bytes is kept", cap(l.batch))
	}
	write(t, l, entry{2, "small"}) // in a new segment
	closeLog(t, l)
	equal, small := false, false
	_, rec, err := Open(dir, o, 0, func(p uint64, b []byte) error {
		equal = equal || p == 1 && bytes.Equal(b, body)
		small = small || p == 2 && string(b) == "small"
		return nil
	})
	if err != nil || !equal || !small || !rec.Clean {
		t.Fatal(err, equal, small, rec.Damage)
	}
}

func TestFilesAreForTheOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, _, err := Open(dir, Options{FS: vfs.Default}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
			t.Errorf("%s is %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// names lists the segments and spares in folder, sorted.
func names(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	ns, err := fs.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ns)
	return slices.DeleteFunc(ns, func(n string) bool { return n == newestFile })
}

func TestRotateCutRecycle(t *testing.T) {
	mem := vfs.NewMem()
	o := Options{FS: mem, SegmentBytes: 1000, Spare: 2}
	l, _, _ := open(t, o, 0)
	var want []entry
	position, below := uint64(0), uint64(0)
	recycled := 0
	for round := range 60 {
		es := entries(position, 10, 40)
		position = es[9].position
		spares := len(l.spares)
		write(t, l, es...)
		if len(l.spares) < spares {
			recycled++
		}
		want = append(want, es...)
		if round%5 == 4 {
			below = max(position, 101) - 100
			if err := l.Cut(below); err != nil {
				t.Fatal(err)
			}
			for _, s := range l.segments[:len(l.segments)-1] {
				if s.last < below {
					t.Fatalf("segment %d was not cut", s.number)
				}
			}
			if len(l.spares) > o.Spare {
				t.Fatalf("%d spares", len(l.spares))
			}
		}
		if round%7 == 6 {
			if round%2 == 0 {
				closeLog(t, l)
			}
			var rec Recovery
			var got []entry
			l, rec, got = open(t, o, below)
			wantClean(t, rec)
			i := slices.IndexFunc(want, func(e entry) bool { return e.position >= below })
			wantEntries(t, got, want[i:])
		}
	}
	if recycled < 5 {
		t.Fatalf("only %d segments were recycled", recycled)
	}
	if err := l.Cut(^uint64(0)); err != nil {
		t.Fatal(err)
	}
	if len(l.segments) != 1 || len(names(t, mem)) != 3 {
		t.Fatalf("after cutting all: %v", names(t, mem))
	}
	if l.Bytes() != l.off {
		t.Fatalf("%d bytes, want %d", l.Bytes(), l.off)
	}
	// A log without its records begins where it is.
	closeLog(t, l)
	_, rec, _ := open(t, o, position+1)
	wantClean(t, rec)
	if rec.Last != position {
		t.Fatalf("last %d, want %d", rec.Last, position)
	}
}

func TestNoSpace(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, fmt.Errorf("x: %w", &fs.PathError{Err: syscall.ENOSPC})} {
		if !NoSpace(err) {
			t.Errorf("%v", err)
		}
	}
	if NoSpace(nil) || NoSpace(syscall.EIO) || NoSpace(errors.New("full")) {
		t.Error("not everything is a full disk")
	}
}
