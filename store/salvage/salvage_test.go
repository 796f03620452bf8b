// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/salvage"
)

const dir = "state"

// A folder is what has been written to a Pebble, kept beside it.
type folder struct {
	t    testing.TB
	fs   vfs.FS
	r    *rand.Rand
	db   *pebble.DB
	rows map[string]string
	held []*pebble.Snapshot
}

// small are options with which a few hundred kilobytes make several levels, tables with indexes of two levels, and many blocks.
func small(t testing.TB, fs vfs.FS) *pebble.Options {
	o := salvage.Options(fs, func(err error) { t.Errorf("pebble: %v", err) })
	o.DisableWAL = true
	o.MemTableSize = 64 << 10
	o.L0CompactionThreshold = 3
	o.LBaseMaxBytes = 64 << 10
	o.FlushSplitBytes = 32 << 10
	o.MaxManifestFileSize = 16 << 10
	for i := range o.Levels {
		o.TargetFileSizes[i] = 24 << 10
		o.Levels[i].BlockSize = 512
		o.Levels[i].IndexBlockSize = 256
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

func newFolder(t testing.TB, fs vfs.FS, seed uint64) *folder {
	f := &folder{t: t, fs: fs, r: rand.New(rand.NewPCG(seed, 1)), rows: map[string]string{}}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.open()
	return f
}

func (f *folder) open() {
	db, err := pebble.Open(dir, small(f.t, f.fs))
	if err != nil {
		f.t.Fatal(err)
	}
	f.db = db
}

func (f *folder) close() {
	f.release()
	if err := f.db.Close(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) release() {
	for _, s := range f.held {
		if err := s.Close(); err != nil {
			f.t.Fatal(err)
		}
	}
	f.held = nil
}

func (f *folder) key() []byte {
	key := []byte{0, byte(f.r.IntN(4)), "BQRS"[f.r.IntN(4)]}
	return binary.BigEndian.AppendUint64(key, f.r.Uint64N(400))
}

// checkpoint writes n changes in one batch and flushes it.
func (f *folder) checkpoint(n int) {
	b := f.db.NewBatch()
	for range n {
		key := f.key()
		switch f.r.IntN(20) {
		case 0, 1, 2, 3:
			f.must(b.Delete(key, nil))
			delete(f.rows, string(key))
		case 4:
			end := binary.BigEndian.AppendUint64(bytes.Clone(key[:3]), binary.BigEndian.Uint64(key[3:])+f.r.Uint64N(30))
			f.must(b.DeleteRange(key, end, nil))
			maps.DeleteFunc(f.rows, func(k, _ string) bool { return k >= string(key) && k < string(end) })
		default:
			value := make([]byte, f.r.IntN(120))
			for i := range value {
				value[i] = byte(f.r.IntN(16)) // can be compressed
			}
			f.must(b.Set(key, value, nil))
			f.rows[string(key)] = string(value)
		}
	}
	f.must(b.Commit(pebble.NoSync))
	f.must(f.db.Flush())
}

func (f *folder) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// fill makes a folder with several levels. Snapshots keep older versions and range deletions alive.
func (f *folder) fill(snapshots bool) *folder {
	for i := range 30 {
		f.checkpoint(20 + f.r.IntN(300))
		if snapshots && i%7 == 3 {
			f.held = append(f.held, f.db.NewSnapshot())
		}
		if i == 15 {
			f.release()
			f.close()
			f.open()
		}
		if i == 20 {
			f.must(f.db.Compact(f.t.Context(), []byte{0}, []byte{9}, false))
		}
	}
	return f
}

// files are the contents of a folder.
func files(t testing.TB, fs vfs.FS) map[string][]byte {
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		if name == "LOCK" {
			continue
		}
		file, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if all[name], err = io.ReadAll(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	return all
}

// put makes a folder in memory.
func put(t testing.TB, all map[string][]byte) vfs.FS {
	fs := vfs.NewMem()
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range all {
		file, err := fs.Create(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 {
			if _, err := file.Write(bytes.Clone(b)); err != nil {
				t.Fatal(err)
			}
		}
		file.Close()
	}
	return fs
}

// judge reads a folder and holds it against what was written. It returns how many rows are missing.
func judge(t testing.TB, fs vfs.FS, rows map[string]string, about string) (missing int, r salvage.Report) {
	t.Helper()
	got := map[string]string{}
	last := ""
	r, err := salvage.Read(fs, dir, func(key, value []byte) error {
		if string(key) <= last {
			t.Fatalf("%s: %x after %x", about, key, last)
		}
		last = string(key)
		got[last] = string(value)
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", about, err)
	}
	if r.Rows != len(got) {
		t.Errorf("%s: %d rows reported, %d given", about, r.Rows, len(got))
	}
	for key, value := range got {
		if want, ok := rows[key]; !ok {
			t.Errorf("%s: deleted row %x has come back", about, key)
		} else if want != value {
			t.Errorf("%s: row %x has a wrong value", about, key)
		}
	}
	for key := range rows {
		if _, ok := got[key]; !ok {
			missing++
			if !r.MayLack([]byte(key)) {
				t.Errorf("%s: row %x is missing, and not reported: %+v", about, key, r.Damage)
			}
		}
	}
	c, err := salvage.Check(fs, dir)
	if err != nil {
		t.Fatalf("%s: %v", about, err)
	}
	if missing > 0 && c.Sound() {
		t.Errorf("%s: %d rows are missing, and Check says nothing", about, missing)
	}
	if c.Rows != r.Rows {
		t.Errorf("%s: Check counts %d rows, Read %d", about, c.Rows, r.Rows)
	}
	return missing, c
}

func TestSoundFolderIsReadWhole(t *testing.T) {
	for seed := range uint64(6) {
		f := newFolder(t, vfs.NewMem(), seed).fill(seed%2 == 1)
		f.close()
		missing, r := judge(t, f.fs, f.rows, fmt.Sprintf("seed %d", seed))
		if missing > 0 || len(r.Damage) > 0 || !r.Manifest {
			t.Fatalf("seed %d: %d of %d rows missing: %+v", seed, missing, len(f.rows), r)
		}
	}
}

// A power cut between checkpoints, in the midst of compactions, loses nothing and is not damage that keeps the folder from being opened.
func TestPowerCutIsNoDamage(t *testing.T) {
	for seed := range uint64(40) {
		fs := vfs.NewCrashableMem()
		f := newFolder(t, fs, 300+seed)
		for range 5 + f.r.IntN(25) {
			f.checkpoint(20 + f.r.IntN(300))
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: f.r.IntN(101), RNG: f.r})
		about := fmt.Sprintf("seed %d", seed)
		missing, r := judge(t, after, f.rows, about)
		if m, err := salvage.CheckManifest(after, dir); missing > 0 || !r.Sound() || !m.Sound() || err != nil {
			t.Fatalf("%s: %d of %d rows missing: %+v, %+v, %v", about, missing, len(f.rows), r, m, err)
		}
		f.close()
	}
}

func TestYieldEndsTheReading(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 1).fill(false)
	f.close()
	stop, n := errors.New("stop"), 0
	if _, err := salvage.Read(f.fs, dir, func(_, _ []byte) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	}); err != stop || n != 3 {
		t.Fatalf("%v after %d rows", err, n)
	}
}

// harm damages one file: a flipped bit, a cut, garbage, or its removal.
func harm(r *rand.Rand, all map[string][]byte, name string) string {
	b := bytes.Clone(all[name])
	kind := r.IntN(5)
	if len(b) == 0 {
		kind = 4
	}
	switch kind {
	case 0, 1:
		at := r.IntN(len(b))
		b[at] ^= 1 << r.IntN(8)
		all[name] = b
		return fmt.Sprintf("%s: bit flipped in byte %d of %d", name, at, len(b))
	case 2:
		at := r.IntN(len(b))
		all[name] = b[:at]
		return fmt.Sprintf("%s: cut to %d of %d bytes", name, at, len(b))
	case 3:
		at := r.IntN(len(b))
		n := min(1+r.IntN(3000), len(b)-at)
		for i := range n {
			b[at+i] = byte(r.Uint32())
		}
		all[name] = b
		return fmt.Sprintf("%s: %d bytes of garbage from byte %d of %d", name, n, at, len(b))
	default:
		delete(all, name)
		return name + ": removed"
	}
}

func TestDamageNeverMakesWrongRows(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 8
	}
	for seed := range uint64(4) {
		f := newFolder(t, vfs.NewMem(), 100+seed).fill(seed%2 == 1)
		f.close()
		whole := files(t, f.fs)
		names := slices.Sorted(maps.Keys(whole))
		r := rand.New(rand.NewPCG(seed, 2))
		lost, trials := 0, 0
		for round := range rounds {
			for _, name := range names {
				if round > 3 && !strings.HasSuffix(name, ".sst") && !strings.HasPrefix(name, "MANIFEST") {
					continue
				}
				all := maps.Clone(whole)
				about := fmt.Sprintf("seed %d, round %d, %s", seed, round, harm(r, all, name))
				missing, report := judge(t, put(t, all), f.rows, about)
				lost += missing
				trials++
				if strings.HasSuffix(name, ".sst") && report.Sound() {
					t.Errorf("%s: Check says nothing", about)
				}
				if strings.HasPrefix(name, "MANIFEST") && missing > 0 {
					t.Errorf("%s: %d rows missing, though there is a copy", about, missing)
				}
			}
			if t.Failed() {
				return
			}
		}
		if lost == 0 {
			t.Fatal("nothing was ever lost: the damage does not reach the tables")
		}
		t.Logf("seed %d: %d rows, %d files, %d trials, %.2f%% of rows lost in the mean", seed, len(f.rows), len(names), trials,
			100*float64(lost)/float64(trials)/float64(len(f.rows)))
	}
}

// Two or three files are damaged at once.
func TestDamageInSeveralFiles(t *testing.T) {
	rounds := 600
	if testing.Short() {
		rounds = 60
	}
	f := newFolder(t, vfs.NewMem(), 200).fill(true)
	f.close()
	whole := files(t, f.fs)
	var names []string
	for name := range whole {
		if strings.HasSuffix(name, ".sst") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = append(names, "marker.manifest")
	for i := range rounds {
		seed := uint64(i)
		r := rand.New(rand.NewPCG(seed, 3))
		all := maps.Clone(whole)
		about := fmt.Sprintf("seed %d", seed)
		for range 2 + r.IntN(4) {
			name := names[r.IntN(len(names))]
			if name == "marker.manifest" {
				maps.DeleteFunc(all, func(n string, _ []byte) bool { return strings.HasPrefix(n, name) })
			} else if all[name] != nil {
				about += ", " + harm(r, all, name)
			}
		}
		judge(t, put(t, all), f.rows, about)
		if t.Failed() {
			return
		}
	}
}
