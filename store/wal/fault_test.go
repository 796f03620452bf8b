// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// faulty is a file system that has room for so many bytes, and whose syncs may fail.
type faulty struct {
	vfs.FS
	room   int64 // new bytes that files can grow by
	full   error // what a write that finds no room gives
	all    bool  // writes that fail have written everything
	sync   error // what the next sync gives
	writes int
}

type faultyFile struct {
	vfs.File
	fs *faulty
}

func (f *faulty) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, err
	}
	return faultyFile{file, f}, nil
}

func (f faultyFile) WriteAt(b []byte, offset int64) (int, error) {
	f.fs.writes++
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	grow := offset + int64(len(b)) - info.Size()
	if grow <= f.fs.room {
		f.fs.room -= max(grow, 0)
		return f.File.WriteAt(b, offset)
	}
	n := int64(len(b)) - grow + f.fs.room
	if f.fs.all {
		n = int64(len(b))
	}
	f.fs.room = 0
	if n > 0 {
		if _, err := f.File.WriteAt(b[:n], offset); err != nil {
			return 0, err
		}
	}
	return int(max(n, 0)), f.fs.full
}

func (f faultyFile) SyncData() error {
	if err := f.fs.sync; err != nil {
		f.fs.sync = nil
		return err
	}
	return f.File.SyncData()
}

func TestDiskFullAtEveryByte(t *testing.T) {
	for all, step := range map[bool]int64{false: 1, true: 5} {
		refused := 0
		for room := int64(0); room < 3200; room += step {
			f := &faulty{FS: vfs.NewMem(), room: 1 << 40, full: syscall.ENOSPC, all: all}
			o := Options{FS: f, SegmentBytes: 1500}
			l, _, _ := open(t, o, 0)
			f.room = room
			var want []entry
			for i := range 30 {
				es := entries(l.last, 3, 60)
				add(l, es...)
				size := l.Size()
				err := l.Write()
				if err == nil {
					want = append(want, es...)
					if l.Size() != 0 {
						t.Fatal("a written batch is still in hand")
					}
					continue
				}
				refused++
				if !NoSpace(err) || l.Size() != size {
					t.Fatalf("%v; %d bytes in hand of %d", err, l.Size(), size)
				}
				if i%2 == 0 {
					l.Discard()
				}
				// Who looks now finds what was written before, and nothing of this batch.
				if room%7 == 0 {
					files := load(t, f, folder).mem(t)
					_, rec, got := open(t, Options{FS: files}, 0)
					wantEntries(t, got, want)
					for _, d := range rec.Damage {
						if !d.Torn {
							t.Fatalf("%+v", d)
						}
					}
				}
				f.room = 1 << 40 // somebody has tidied up
				if i%2 != 0 {
					if err := l.Write(); err != nil {
						t.Fatal(err)
					}
					want = append(want, es...)
				}
			}
			closeLog(t, l)
			_, rec, got := open(t, o, 0)
			wantEntries(t, got, want)
			if !rec.Clean {
				t.Fatalf("%+v", rec.Damage)
			}
		}
		if int64(refused) < 3000/step {
			t.Fatalf("only %d writes failed", refused)
		}
	}
}

// A node must come up with a full disk: only then can it tidy up.
func TestOpenOnAFullDisk(t *testing.T) {
	f := &faulty{FS: vfs.NewMem(), room: 1 << 40, full: syscall.ENOSPC}
	o := Options{FS: f}
	l, _, _ := open(t, o, 0)
	write(t, l, entry{1, "one"})
	f.room = 200
	add(l, entry{2, strings.Repeat("two", 100)})
	if err := l.Write(); !NoSpace(err) {
		t.Fatal(err)
	}
	for range 2 {
		f.room = 10
		var got []entry
		l, _, got = open(t, o, 0)
		wantEntries(t, got, []entry{{1, "one"}})
	}
	add(l, entry{2, strings.Repeat("two", 100)})
	if err := l.Write(); !NoSpace(err) {
		t.Fatal(err)
	}
	f.room = 1 << 40
	if err := l.Write(); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	_, rec, got := open(t, o, 0)
	wantEntries(t, got, []entry{{1, "one"}, {2, strings.Repeat("two", 100)}})
	if !rec.Clean {
		t.Fatalf("%+v", rec.Damage)
	}
}

// What is replayed is synced, even if the mark of the opening finds no room.
func TestOpenSyncsOnAFullDisk(t *testing.T) {
	crashable := vfs.NewCrashableMem()
	f := &faulty{FS: crashable, room: 1 << 40, full: syscall.ENOSPC}
	l, _, _ := open(t, Options{FS: f}, 0)
	write(t, l, entry{1, "one"})
	f.room = 0
	l, _, _ = open(t, Options{FS: f}, 0)
	if l.Synced() != 1 {
		t.Fatalf("synced %d", l.Synced())
	}
	_, _, got := open(t, Options{FS: crashable.CrashClone(vfs.CrashCloneCfg{})}, 0)
	wantEntries(t, got, []entry{{1, "one"}})
}

func TestFailedSyncIsFinal(t *testing.T) {
	broken := errors.New("broken")
	for _, rotate := range []bool{false, true} {
		t.Run(fmt.Sprintf("rotate=%v", rotate), func(t *testing.T) {
			f := &faulty{FS: vfs.NewMem(), room: 1 << 40}
			l, _, _ := open(t, Options{FS: f, SegmentBytes: 100}, 0)
			write(t, l, entry{1, "one"})
			f.sync = broken
			add(l, entry{2, "two"})
			if rotate {
				if err := l.Write(); !errors.Is(err, broken) {
					t.Fatal(err)
				}
			} else if err := l.Sync(); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			before := f.writes
			for range 2 {
				if err := l.Sync(); !errors.Is(err, broken) {
					t.Fatalf("Sync: %v", err)
				}
				if err := l.Write(); !errors.Is(err, broken) {
					t.Fatalf("Write: %v", err)
				}
			}
			if l.Synced() != 0 || f.writes != before {
				t.Fatalf("synced %d, %d writes since", l.Synced(), f.writes-before)
			}
			if err := l.Close(); !errors.Is(err, broken) || f.writes != before {
				t.Fatal("Close: ", err)
			}
		})
	}
}

func TestClosed(t *testing.T) {
	l, _, _ := open(t, Options{FS: vfs.NewMem()}, 0)
	closeLog(t, l)
	add(l, entry{1, "late"})
	if l.Write() != ErrClosed || l.Sync() != ErrClosed || l.Close() != ErrClosed {
		t.Fatal("a closed log works")
	}
}

// A batch is one write.
func TestOneWritePerBatch(t *testing.T) {
	f := &faulty{FS: vfs.NewMem(), room: 1 << 40}
	l, _, _ := open(t, Options{FS: f}, 0)
	before := f.writes
	write(t, l, entries(0, 1000, 100)...)
	if f.writes != before+1 {
		t.Fatalf("%d writes", f.writes-before)
	}
}

// A head that a power cut has kept from being written, on a spare that was taken, is no damage.
func TestSpareTakenAndNotBegun(t *testing.T) {
	d, want := written(t, small, true, false)
	for name, b := range d {
		if strings.HasSuffix(name, endSpare) {
			d[fileName(100, endSegment)] = b
		}
	}
	mem := d.mem(t)
	o := Options{FS: mem}
	_, rec, got := open(t, o, 0)
	wantClean(t, rec)
	wantEntries(t, got, want)
	if _, err := mem.Stat(path.Join(folder, fileName(100, endSegment))); err == nil {
		t.Fatal("it is still there")
	}
}
