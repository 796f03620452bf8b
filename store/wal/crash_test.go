// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crasher is a file system whose power is cut in front of one of the steps that change it: cut is called there, and what goes on
// afterwards does not matter.
type crasher struct {
	vfs.FS
	left int // steps until then
	cut  func()
}

type crashFile struct {
	vfs.File
	c *crasher
}

func (c *crasher) step() {
	if c.left--; c.left == 0 {
		c.cut()
	}
}

func (c *crasher) OpenReadWrite(name string, w vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	c.step()
	f, err := c.FS.OpenReadWrite(name, w, opts...)
	return crashFile{f, c}, err
}

func (c *crasher) OpenDir(name string) (vfs.File, error) {
	f, err := c.FS.OpenDir(name)
	return crashFile{f, c}, err
}

func (c *crasher) Rename(from, to string) error {
	c.step()
	return c.FS.Rename(from, to)
}

func (c *crasher) Remove(name string) error {
	c.step()
	return c.FS.Remove(name)
}

func (f crashFile) WriteAt(b []byte, offset int64) (int, error) {
	f.c.step()
	return f.File.WriteAt(b, offset)
}

func (f crashFile) Sync() error {
	f.c.step()
	return f.File.Sync()
}

func (f crashFile) SyncData() error {
	f.c.step()
	return f.File.SyncData()
}

// life writes, syncs, cuts and closes at random until the power goes, several times over; between the cuts everything that
// was synced must be there, and everything that is there must have been written, without holes.
type life struct {
	t      *testing.T
	r      *rand.Rand
	sync   bool
	fs     *vfs.MemFS
	o      Options
	want   []entry // written and not cut; what is in flight at the end
	synced uint64
	below  uint64
	lost   int // records that were written and are gone
	torn   int // power cuts that left a torn tail
}

// crash is what the disk looks like after a power cut.
func (f *life) crash() *vfs.MemFS {
	return f.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: f.r.IntN(101), RNG: f.r})
}

// run lives until step n.
func (f *life) run(n int) {
	var after *vfs.MemFS
	var want []entry
	var synced uint64
	c := &crasher{FS: f.fs, left: n}
	c.cut = func() { after, want, synced = f.crash(), slices.Clone(f.want), f.synced }
	f.o.FS = c
	l := f.open()
	for after == nil {
		position := l.last
		switch k := f.r.IntN(20); {
		case k < 12:
			es := entries(position, 1+f.r.IntN(12), 1+f.r.IntN(800))
			f.want = append(f.want, es...)
			write(f.t, l, es...)
		case k < 18:
			if f.sync {
				sync(f.t, l)
				f.synced = l.Synced()
			}
		case k < 19:
			f.below = max(f.below, f.synced-min(f.synced, f.r.Uint64N(60)))
			if err := l.Cut(f.below); err != nil {
				f.t.Fatal(err)
			}
		default:
			if f.sync {
				closeLog(f.t, l)
				f.synced = max(f.synced, l.last)
				l = f.open()
			}
		}
	}
	f.fs, f.want, f.synced = after, want, synced
}

// open opens the log and compares it with what was written.
func (f *life) open() *Log {
	f.t.Helper()
	l, rec, got := open(f.t, f.o, f.below)
	for _, d := range rec.Damage {
		if !d.Torn {
			f.t.Fatalf("a power cut was taken for damage: %+v", d)
		}
	}
	f.torn += len(rec.Damage)
	want := f.want
	for len(want) > 0 && want[0].position < f.below {
		want = want[1:]
	}
	if len(got) > len(want) {
		f.t.Fatalf("%d records, of %d written", len(got), len(want))
	}
	wantEntries(f.t, got, want[:len(got)])
	if len(got) < len(want) && want[len(got)].position <= f.synced {
		f.t.Fatalf("position %d is lost, %d was synced", want[len(got)].position, f.synced)
	}
	f.lost += len(want) - len(got)
	f.want = slices.Clone(got)
	f.synced = max(f.synced, l.Synced())
	return l
}

func TestPowerCuts(t *testing.T) {
	for _, synced := range []bool{true, false} {
		t.Run(fmt.Sprintf("sync=%v", synced), func(t *testing.T) {
			lost, torn := 0, 0
			for seed := range uint64(300) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					f := &life{t: t, r: rand.New(rand.NewPCG(seed, 1)), sync: synced, fs: vfs.NewCrashableMem()}
					f.o.SegmentBytes = 2000 + f.r.Int64N(60000)
					for range 4 {
						f.run(1 + f.r.IntN(120))
					}
					f.o.FS = f.fs
					f.open()
					lost += f.lost
					torn += f.torn
				})
			}
			t.Logf("%d records were lost, %d tails were torn", lost, torn)
			if lost == 0 || torn == 0 {
				t.Fatal("nothing unsynced was ever lost: the power was not cut")
			}
		})
	}
}

// Without Sync a log of one segment must lose what was acknowledged too early: the test of the power cuts can fail.
func TestPowerCutWithoutSyncLosesRecords(t *testing.T) {
	fs := vfs.NewCrashableMem()
	l, _, _ := open(t, Options{FS: fs}, 0)
	write(t, l, entries(0, 100, 100)...)
	_, rec, got := open(t, Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})}, 0)
	if len(got) != 0 || rec.Last != 0 {
		t.Fatalf("%d records survived", len(got))
	}
	sync(t, l)
	_, _, got = open(t, Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})}, 0)
	wantEntries(t, got, entries(0, 100, 100))
}

// Repair may be interrupted at every step, by a kill or a power cut, and loses nothing that was good.
func TestPowerCutDuringRepair(t *testing.T) {
	whole, _ := written(t, small, true, true)
	segments := slices.DeleteFunc(whole.segments(), func(n string) bool { return strings.HasSuffix(n, endSpare) })
	r := rand.New(rand.NewPCG(1, 2))
	for name, spoil := range map[string]func(disk){
		"record":  func(d disk) { d[segments[1]][segmentHead+frameHead+20] ^= 1 },
		"frame":   func(d disk) { d[segments[1]][segmentHead+frameHead/2] ^= 1 },
		"head":    func(d disk) { d[segments[1]][20] ^= 1 },
		"missing": func(d disk) { delete(d, segments[1]) },
		"two":     func(d disk) { clear(d[segments[1]]); clear(d[segments[2]]) },
		"torn":    func(d disk) { b := d[segments[len(segments)-1]]; b[segmentHead+frameHead+100] ^= 1; clearTail(b) },
	} {
		t.Run(name, func(t *testing.T) {
			d := whole.clone()
			spoil(d)
			o := small
			o.FS = d.mem(t)
			_, rec, want := open(t, o, 0)
			if len(rec.Damage) == 0 {
				t.Fatal("there is no damage")
			}
			steps := 0
			for n := 1; ; n++ {
				fs := d.crashable(t)
				f := &life{fs: fs, r: r}
				var after *vfs.MemFS
				o := small
				o.FS = &crasher{FS: fs, left: n, cut: func() { after = f.crash() }}
				open(t, o, 0)
				if after == nil {
					break
				}
				steps++
				o.FS = after
				l, _, got := open(t, o, 0)
				wantEntries(t, got, want)
				closeLog(t, l)
				_, rec, _ := open(t, o, 0)
				wantClean(t, rec)
			}
			if steps < 4 {
				t.Fatalf("repair took %d steps", steps)
			}
			// What is written after a repair is as safe as ever.
			fs := d.crashable(t)
			o.FS, o.SegmentBytes = fs, 1<<20 // no new segment, with which names would be synced
			l, rec, _ := open(t, o, 0)
			more := entries(rec.Last, 3, 50)
			write(t, l, more...)
			sync(t, l)
			o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
			_, rec, got := open(t, o, 0)
			wantEntries(t, got, append(want, more...))
			wantClean(t, rec)
		})
	}
}

// clearTail removes the proof that anything but the first frame of a segment was synced.
func clearTail(b []byte) {
	var h frame
	h.take(b[segmentHead:])
	clear(b[segmentHead+frameHead+int(h.length):])
}

// crashable is like mem, with power that can be cut.
func (d disk) crashable(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range d {
		f, err := fs.Create(path.Join(folder, name), category)
		if err == nil {
			_, err = f.Write(slices.Clone(b))
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{folder, "/"} {
		if err := syncDir(fs, dir); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}
