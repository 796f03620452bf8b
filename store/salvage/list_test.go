// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/salvage"
)

// manifest is the name of the MANIFEST that is in use.
func manifest(t *testing.T, all map[string][]byte) string {
	for name := range all {
		if _, rest, ok := strings.Cut(name, "MANIFEST-"); ok && strings.HasPrefix(name, "marker.") {
			return "MANIFEST-" + rest
		}
	}
	t.Fatal("there is no marker")
	return ""
}

func TestManifestIsKeptTwice(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 1000)
	for range 200 {
		f.checkpoint(5)
	}
	f.close()
	whole := files(t, f.fs)
	copies := 0
	for name, b := range whole {
		of, ok := strings.CutSuffix(name, ".copy")
		if !ok {
			continue
		}
		if copies++; whole[of] != nil && !bytes.Equal(b, whole[of]) {
			t.Errorf("%s is not %s: %d and %d bytes", name, of, len(b), len(whole[of]))
		}
	}
	if copies == 0 || copies > 3 { // Pebble keeps the one before
		t.Errorf("%d copies: %v", copies, maps.Keys(whole))
	}
	if whole[manifest(t, whole)+".copy"] == nil {
		t.Error("that in use has none")
	}
}

// The copy holds nothing that the MANIFEST might not: it is written behind the sync.
func TestCopyFollowsTheSync(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	disk := &failing{FS: mem}
	name := dir + "/MANIFEST-000007"
	f, err := salvage.Mirror(disk).Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"one", "one"} {
		disk.fail = i == 1
		if _, err := f.Write([]byte([]string{"one", "two"}[i])); err != nil {
			t.Fatal(err)
		}
		if err := f.SyncData(); (err != nil) != disk.fail {
			t.Fatal(err)
		}
		if got := files(t, mem)["MANIFEST-000007.copy"]; string(got) != want {
			t.Errorf("the copy is %q instead of %q", got, want)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// failing is a disk whose syncs fail.
type failing struct {
	vfs.FS
	fail bool
}

func (d *failing) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	return failingFile{f, d}, err
}

type failingFile struct {
	vfs.File
	disk *failing
}

func (f failingFile) Sync() error {
	if f.disk.fail {
		return errors.New("sync")
	}
	return f.File.Sync()
}

// A copy that was left behind goes when the next is made.
func TestCopiesAreSwept(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 1001)
	f.close()
	all := files(t, f.fs)
	all["MANIFEST-000000.copy"] = []byte("x")
	f.fs = put(t, all)
	f.open()
	f.checkpoint(5)
	f.close()
	if all = files(t, f.fs); all["MANIFEST-000000.copy"] != nil || all[manifest(t, all)+".copy"] == nil {
		t.Errorf("%v", maps.Keys(all))
	}
}

// Any flipped bit in the MANIFEST is noticed before Pebble opens the folder, and costs no row.
func TestFlippedManifest(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 1002)
	for range 10 {
		f.checkpoint(30)
	}
	f.close()
	whole := files(t, f.fs)
	name := manifest(t, whole)
	older := 0
	for at := range whole[name] {
		all := maps.Clone(whole)
		all[name] = bytes.Clone(all[name])
		all[name][at] ^= 1 << (at % 8)
		fs := put(t, all)
		about := fmt.Sprintf("byte %d", at)
		if r, err := salvage.CheckManifest(fs, dir); err != nil || r.Sound() {
			t.Fatalf("%s: not noticed: %v", about, err)
		}
		if at%16 != 0 {
			continue
		}
		if missing, _ := judge(t, fs, f.rows, about); missing > 0 {
			t.Fatalf("%s: %d rows are missing", about, missing)
		}
		if opensOlder(fs, f.rows) {
			older++
		}
	}
	if older == 0 {
		t.Error("Pebble refuses all of them by itself: CheckManifest is not needed any more")
	}
}

// opensOlder says whether Pebble opens a folder with other rows than those that were written.
func opensOlder(fs vfs.FS, rows map[string]string) bool {
	o := salvage.Options(fs, func(error) {})
	o.ReadOnly = true
	db, err := pebble.Open(dir, o)
	if err != nil {
		return false
	}
	defer db.Close()
	for key, want := range rows {
		value, closer, err := db.Get([]byte(key))
		if err != nil || string(value) != want {
			return true
		}
		closer.Close()
	}
	return false
}

func TestBothManifestsDamaged(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 1003).fill(false)
	f.close()
	whole := files(t, f.fs)
	name := manifest(t, whole)
	r := rand.New(rand.NewPCG(3, 3))
	apart, together := 0, 0
	for range 200 {
		all := maps.Clone(whole)
		same := r.IntN(2) == 0
		one := r.IntN(len(whole[name]) / 2) // that behind it is whole
		for _, suffix := range []string{"", ".copy"} {
			b := bytes.Clone(whole[name+suffix])
			b[one] ^= 4
			if !same {
				one = len(b) - 1 - r.IntN(100)
			}
			all[name+suffix] = b
		}
		fs := put(t, all)
		missing, report := judge(t, fs, f.rows, fmt.Sprintf("byte %d, same %v", one, same))
		switch {
		case same && (report.Manifest || missing != len(f.rows) || !report.MayLack(nil)):
			t.Fatalf("%d rows are missing: %+v", missing, report)
		case same:
			together++
		case missing > 0 || !report.Manifest:
			t.Fatalf("%d rows are missing: %+v", missing, report)
		default:
			apart++
		}
	}
	if apart == 0 || together == 0 {
		t.Fatalf("%d apart, %d together", apart, together)
	}
}

// Tables that a compaction has replaced may lie about. They would bring back what was deleted.
func TestObsoleteTablesAreNotBelieved(t *testing.T) {
	kept := map[string][]byte{}
	mem := vfs.NewMem()
	f := newFolder(t, hoarder{mem, kept}, 1004).fill(false)
	f.close()
	all := files(t, mem)
	live := len(all)
	for name, b := range kept {
		if all[name] == nil {
			all[name] = b
		}
	}
	if len(all) < live+20 {
		t.Fatalf("only %d obsolete tables", len(all)-live)
	}
	if missing, r := judge(t, put(t, all), f.rows, "with obsolete tables"); missing > 0 || !r.Sound() {
		t.Fatalf("%d rows are missing: %+v", missing, r)
	}
	maps.DeleteFunc(all, func(name string, _ []byte) bool { return strings.HasPrefix(name, "MANIFEST") })
	missing, r := judge(t, put(t, all), f.rows, "without a MANIFEST")
	if missing != len(f.rows) || r.Manifest || r.Sound() {
		t.Fatalf("%d of %d rows are missing: %+v", missing, len(f.rows), r)
	}
}

// hoarder keeps what tables were before they are removed.
type hoarder struct {
	vfs.FS
	kept map[string][]byte
}

func (h hoarder) Remove(name string) error {
	if strings.HasSuffix(name, ".sst") {
		f, err := h.FS.Open(name)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		b := make([]byte, info.Size())
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
		f.Close()
		h.kept[h.PathBase(name)] = b
	}
	return h.FS.Remove(name)
}

// What stands in the copy was synced before Pebble went on, so that it does for a MANIFEST that a power cut has cost.
func TestCopyOutlastsAPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		fs := vfs.NewCrashableMem()
		f := newFolder(t, fs, 1100+seed)
		for range 3 + f.r.IntN(10) {
			f.checkpoint(50)
		}
		left := fs.CrashClone(vfs.CrashCloneCfg{})
		f.must(left.Remove(dir + "/" + manifest(t, files(t, left))))
		if missing, r := judge(t, left, f.rows, fmt.Sprintf("seed %d", seed)); missing > 0 || !r.Manifest || r.Sound() {
			t.Fatalf("seed %d: %d of %d rows are missing: %+v", seed, missing, len(f.rows), r)
		}
		f.close()
	}
}

func TestMissingMarkers(t *testing.T) {
	f := newFolder(t, vfs.NewMem(), 1005).fill(false)
	f.close()
	whole := files(t, f.fs)
	for _, prefix := range []string{"marker.manifest.", "marker.format-version."} {
		all := maps.Clone(whole)
		maps.DeleteFunc(all, func(name string, _ []byte) bool { return strings.HasPrefix(name, prefix) })
		if len(all) == len(whole) {
			t.Fatalf("there is no %s", prefix)
		}
		fs := put(t, all)
		if r, err := salvage.CheckManifest(fs, dir); err != nil || r.Sound() {
			t.Errorf("%s: CheckManifest says nothing: %v", prefix, err)
		}
		if missing, r := judge(t, fs, f.rows, prefix); missing > 0 || r.Sound() {
			t.Errorf("%s: %d rows are missing: %+v", prefix, missing, r)
		}
	}
}

func TestNoFolder(t *testing.T) {
	fs := vfs.NewMem()
	if _, err := salvage.Read(fs, dir, nil); err == nil {
		t.Error("a folder that is not there is read")
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if r, err := salvage.Check(fs, dir); err != nil || r.Manifest || r.Sound() || !r.MayLack([]byte("k")) {
		t.Errorf("an empty folder: %+v, %v", r, err)
	}
}

func TestFatalPanics(t *testing.T) {
	var told error
	o := salvage.Options(vfs.NewMem(), func(err error) { told = err })
	defer func() {
		f, ok := recover().(*salvage.Fatal)
		if !ok || f.Text != "sync: 7" || !errors.Is(told, f) {
			t.Errorf("%v, %v", f, told)
		}
	}()
	o.Logger.Fatalf("sync: %d", 7)
}
