// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
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
