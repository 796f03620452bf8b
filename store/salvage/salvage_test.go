// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/salvage"
)

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

// harm damages one file: a flipped bit, a cut, garbage in it or behind it, or its removal.
func harm(r *rand.Rand, all map[string][]byte, name string) string {
	b := bytes.Clone(all[name])
	kind := r.IntN(6)
	if len(b) == 0 {
		kind = 5
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
	case 4:
		n := 1 + r.IntN(200)
		for range n {
			b = append(b, byte(r.Uint32()))
		}
		all[name] = b
		return fmt.Sprintf("%s: %d bytes of garbage behind it", name, n)
	default:
		delete(all, name)
		return name + ": removed"
	}
}

func TestDamageNeverMakesWrongRows(t *testing.T) {
	rounds := 24
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

// A flipped bit in a data block costs the rows of this block.
func TestFlippedBitCostsOneBlock(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 400).fill(false)
	f.must(f.db.Compact(t.Context(), []byte{0}, []byte{9}, false))
	f.close()
	whole := files(t, f.fs)
	r, lost := rand.New(rand.NewPCG(4, 4)), 0
	for name, b := range whole {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		for range 10 {
			at := r.IntN(len(b) / 2) // indexes and the like are at the end
			all := maps.Clone(whole)
			all[name] = bytes.Clone(b)
			all[name][at] ^= 1
			about := fmt.Sprintf("%s, byte %d of %d", name, at, len(b))
			missing, _ := judge(t, put(t, all), f.rows, about)
			if lost += missing; missing > 60 {
				t.Fatalf("%s: %d of %d rows are missing", about, missing, len(f.rows))
			}
		}
	}
	if lost == 0 {
		t.Error("nothing was ever lost")
	}
}

func TestEveryByteOfATableIsChecked(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 500)
	f.checkpoint(150)
	f.held = append(f.held, f.db.NewSnapshot()) // for older versions, and thereby value blocks
	f.checkpoint(150)
	f.must(f.db.Compact(t.Context(), []byte{0}, []byte{9}, false))
	f.close()
	whole := files(t, f.fs)
	flips := 0
	for name, b := range whole {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		for at := range b {
			b[at] ^= 1 << (at % 8)
			r, err := salvage.Check(put(t, whole), dir)
			if err != nil || r.Sound() {
				t.Fatalf("a flipped bit in byte %d of %d of %s is not noticed: %v", at, len(b), name, err)
			}
			b[at] ^= 1 << (at % 8)
			flips++
		}
	}
	if flips < 5000 {
		t.Fatalf("only %d bytes", flips)
	}
}

// A sector that cannot be read costs no more than the blocks in it, though more is read at once.
func TestUnreadableSectors(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 600).fill(false)
	f.must(f.db.Compact(t.Context(), []byte{0}, []byte{9}, false))
	f.close()
	for name, b := range files(t, f.fs) {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		bad := broken{FS: f.fs, name: name, from: int64(len(b) / 3), to: int64(len(b)/3 + 100)}
		missing, r := judge(t, bad, f.rows, name)
		if missing == 0 || missing > 60 || r.Sound() || !strings.Contains(r.Damage[0].Why, "sector") {
			t.Fatalf("%s: %d rows are missing: %+v", name, missing, r.Damage)
		}
	}
}

// broken is a disk with bad sectors in one file.
type broken struct {
	vfs.FS
	name     string
	from, to int64
}

func (b broken) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := b.FS.Open(name, o...)
	if err != nil || b.PathBase(name) != b.name {
		return f, err
	}
	return badSectors{f, b}, nil
}

type badSectors struct {
	vfs.File
	broken
}

func (b badSectors) ReadAt(p []byte, at int64) (int, error) {
	if at < b.to && at+int64(len(p)) > b.from {
		return 0, errors.New("bad sector")
	}
	return b.File.ReadAt(p, at)
}

func TestOnTheFileSystemOfTheMachine(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFolder(t, vfs.Default, 700).fill(false)
	f.close()
	if missing, r := judge(t, vfs.Default, f.rows, "sound"); missing > 0 || !r.Sound() {
		t.Fatalf("%d rows are missing: %+v", missing, r)
	}
	r := rand.New(rand.NewPCG(7, 7))
	lost := 0
	for name, b := range files(t, vfs.Default) {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		path := dir + "/" + name
		for _, harmed := range [][]byte{b[:r.IntN(len(b))], append(bytes.Clone(b[:len(b)/2]), make([]byte, len(b)-len(b)/2)...)} {
			f.must(os.WriteFile(path, harmed, 0o600))
			missing, report := judge(t, vfs.Default, f.rows, name)
			if lost += missing; report.Sound() {
				t.Errorf("%s: Check says nothing", name)
			}
		}
		f.must(os.Remove(path))
		missing, _ := judge(t, vfs.Default, f.rows, name+" removed")
		lost += missing
		if m, err := salvage.CheckManifest(vfs.Default, dir); err != nil || m.Sound() {
			t.Errorf("%s removed: CheckManifest says nothing: %v", name, err)
		}
		f.must(os.WriteFile(path, b, 0o600))
	}
	if lost == 0 {
		t.Error("nothing was ever lost")
	}
}

func TestRowsOfUnknownKindsAreLeftOut(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 800)
	f.checkpoint(200)
	key := []byte{0, 1, 'M'}
	f.must(f.db.Set(key, []byte("a"), pebble.NoSync)) // without it, the merge becomes a set
	f.must(f.db.Flush())
	f.must(f.db.Merge(key, []byte("b"), pebble.NoSync))
	f.must(f.db.Flush())
	f.close()
	f.rows[string(key)] = "ab"
	missing, r := judge(t, f.fs, f.rows, "merge")
	if missing != 1 || len(r.Damage) != 1 || !bytes.Equal(r.Damage[0].From, key) {
		t.Fatalf("%d rows are missing: %+v", missing, r.Damage)
	}
}
