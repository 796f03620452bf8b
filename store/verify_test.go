// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lived makes a store in a folder of the operating system that has seen some hundred commands, and closes it.
func lived(t testing.TB, dir string, seed uint64, buffer int64) {
	t.Helper()
	s, err := Open(dir, Options{Groups: 4, WriteBuffer: buffer, Limits: testLimits(seed), Now: func() int64 { return 5e9 }})
	if err != nil {
		t.Fatal(err)
	}
	e := s.(*engine)
	exercise(e, seed, 400)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// exercise has an engine do what an inventor comes upon.
func exercise(e *engine, seed uint64, commands int) {
	v := newInventor(seed)
	for range commands {
		c := v.next()
		e.submit(c)
		wait(e)
		v.learn(c)
	}
}

// filesOf are the digests of all files of a folder, with their permissions.
func filesOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all[path] = info.Mode().String()
		if !d.IsDir() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[path] += fmt.Sprintf(" %x", sha256.Sum256(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func verify(t testing.TB, dir string, fs vfs.FS) VerifyReport {
	t.Helper()
	r, err := Verify(dir, VerifyOptions{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifyFindsNothingWhereNothingIs(t *testing.T) {
	for seed := range uint64(30) {
		for _, buffer := range []int64{4 << 10, 1 << 20} {
			fs := vfs.NewCrashableMem()
			o := Options{Groups: 4, WriteBuffer: buffer, Limits: testLimits(seed)}
			e := openDisk(t, fs, o)
			exercise(e, seed, 300)
			cut := fs.CrashClone(vfs.CrashCloneCfg{})
			want := look(e, (*machine).contents)
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			r := verify(t, "data", fs)
			if !r.Sound || len(r.Findings) > 0 {
				t.Fatalf("seed %d, closed: %+v", seed, r.Findings)
			}
			if r.Contents != want {
				t.Fatalf("seed %d: there is %+v, want %+v", seed, r.Contents, want)
			}
			if r = verify(t, "data", cut); !r.Sound {
				t.Fatalf("seed %d, cut off: %+v", seed, r.Findings)
			}
		}
	}
}

func TestVerifyChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	lived(t, dir, 1, 4<<10)
	before := filesOf(t, dir)
	r := verify(t, dir, nil)
	if r.Contents == (Contents{}) || r.Read == 0 || r.Rows == 0 {
		t.Fatalf("%+v", r)
	}
	if after := filesOf(t, dir); !maps.Equal(before, after) {
		t.Fatalf("the folder was\n%v\nand is\n%v", before, after)
	}
}

func TestVerifyLeavesAFolderInUseAlone(t *testing.T) {
	fs := vfs.NewMem()
	e := openDisk(t, fs, Options{})
	defer e.Close()
	_, err := Verify("data", VerifyOptions{FS: fs})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Fatal(err)
	}
}

func TestVerifyNeedsAStore(t *testing.T) {
	if _, err := Verify(t.TempDir(), VerifyOptions{}); !errors.Is(err, ErrNoStore) {
		t.Fatal(err)
	}
	if _, err := Verify(filepath.Join(t.TempDir(), "none"), VerifyOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// Every flipped bit in a block, a record or a list is either found or of no consequence: what is read is the same then.
func TestVerifyFindsFlippedBits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	lived(t, dir, 3, 64<<10)
	sound := verify(t, dir, nil)
	tried, found := 0, 0
	for path := range filesOf(t, dir) {
		info, err := os.Stat(path)
		if err != nil || info.IsDir() || info.Size() == 0 || strings.HasSuffix(path, "BALLAST") || strings.HasSuffix(path, ".spare") {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, len(b) / 3, len(b) / 2, len(b) - 1} {
			b[at] ^= 4
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			before := filesOf(t, dir)
			r, err := Verify(dir, VerifyOptions{})
			if err == nil && len(r.Findings) == 0 && r.Contents != sound.Contents {
				t.Errorf("%s at %d: nothing is found, and there is %+v", path, at, r.Contents)
			}
			tried++
			if err != nil || len(r.Findings) > 0 {
				found++
			}
			if !maps.Equal(before, filesOf(t, dir)) {
				t.Fatalf("%s at %d: verifying has changed the folder", path, at)
			}
			b[at] ^= 4
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found < tried/2 {
		t.Errorf("%d of %d found", found, tried)
	}
}

func TestVerifyKnowsATornTailFromDamage(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := openDisk(t, fs, Options{})
	o := claim(t, e, "c").Owner
	subscribe(t, e, o, "a")
	for i := range 10 {
		publish(e, &Publish{Message: message("a", fmt.Sprint(i), false)})
	}
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := cut.List("data/log")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".log") })
	f, err := cut.OpenReadWrite("data/log/"+names[0], vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("NWf1 what a power cut left"), info.Size()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	r := verify(t, "data", cut)
	if !r.Sound || len(r.Findings) != 1 || r.Findings[0].Severity != SeverityTorn || r.Contents.Messages != 10 {
		t.Fatalf("%+v", r)
	}
}

func TestVerifyMeetsOrphansAndMissingMessages(t *testing.T) {
	fs := vfs.NewMem()
	e := openDisk(t, fs, Options{})
	o := claim(t, e, "c").Owner
	subscribe(t, e, o, "a")
	first := publish(e, &Publish{Message: message("a", "gone", false)})
	wait(e)
	group := uint16(e.GroupOf("a"))
	var k keys
	at := uint64(look(e, appliedBy))
	if err := e.Close(); err != nil || first.Err != nil {
		t.Fatal(err, first.Err)
	}
	d := &disk{fs: fs, dir: "data", o: Options{Notice: func(Notice) {}}.withDefaults(), measures: &measures{}}
	d.notice = d.o.Notice
	d.room = newRoom(fs, "data", 1, d.notice)
	if err := d.loadState(false); err != nil {
		t.Fatal(err)
	}
	d.over.Delete(k.number(group, kindBody, at))
	d.over.Set(k.number(group, kindBody, at+2), appendBody(nil, message("a", "orphan", false)))
	if err := d.checkpointNow(); err != nil {
		t.Fatal(err)
	}
	if err := d.closeAll(); err != nil {
		t.Fatal(err)
	}
	r := verify(t, "data", fs)
	if r.Sound || len(r.Findings) != 2 || r.Findings[0].Severity != SeverityOrphan ||
		!strings.Contains(r.Findings[1].Text, fmt.Sprintf("message %d of group %d is missing", at, group)) {
		t.Fatalf("%+v", r.Findings)
	}
}
