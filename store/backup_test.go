// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/klauspost/compress/zstd"
	"github.com/noctule/noctule/internal/testkit/faultfs"
)

// backup makes a backup of a store that works.
func backup(t testing.TB, s Store) ([]byte, BackupInfo) {
	t.Helper()
	var b bytes.Buffer
	info, err := s.(Backuper).Backup(context.Background(), &b, BackupOptions{Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), info
}

// restored makes a folder of a backup, and gives the machine of what is in it.
func restored(t testing.TB, b []byte) (*folder, RestoreReport) {
	t.Helper()
	fs := vfs.NewMem()
	r, err := Restore(bytes.NewReader(b), "again", RestoreOptions{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	f, err := openFolder(fs, "again", nil)
	if err == nil {
		err = f.sound()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f, r
}

func TestBackupOfAStoreThatIsIdle(t *testing.T) {
	for seed := range uint64(20) {
		fs := vfs.NewMem()
		e := openDisk(t, fs, Options{Groups: 4, WriteBuffer: 4 << 10 << (seed % 8), Limits: testLimits(seed)})
		exercise(e, seed, 300)
		b, info := backup(t, e)
		if info.Position != look(e, appliedBy) || info.Groups != 4 || info.Program != "test" {
			t.Fatalf("%+v, want position %d", info, look(e, appliedBy))
		}
		f, r := restored(t, b)
		if f.machine.hash() != look(e, (*machine).hash) {
			t.Fatalf("seed %d: another state", seed)
		}
		if r.Contents != look(e, (*machine).contents) || r.Backup != info {
			t.Fatalf("seed %d: %+v, and %+v", seed, r, info)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		var closed bytes.Buffer
		offline, err := BackupFolder(context.Background(), "data", &closed, BackupOptions{FS: fs})
		if err != nil || offline.Position != info.Position || offline.Rows != info.Rows || offline.Bytes != info.Bytes {
			t.Fatalf("seed %d: of the folder %+v, of the store %+v, %v", seed, offline, info, err)
		}
	}
}

// Of a folder that was cut off, the log behind the checkpoint is in the backup, too.
func TestBackupOfAFolderWithALog(t *testing.T) {
	for seed := range uint64(10) {
		fs := vfs.NewCrashableMem()
		e := openDisk(t, fs, Options{Groups: 4, Limits: testLimits(seed), WriteBuffer: 16 << 10})
		exercise(e, seed, 300)
		want := look(e, (*machine).hash)
		cut := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(seed, 1))})
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := BackupFolder(context.Background(), "data", &b, BackupOptions{FS: cut}); err != nil {
			t.Fatal(err)
		}
		f, _ := restored(t, b.Bytes())
		if f.machine.applied == look(e, appliedBy) && f.machine.hash() != want {
			t.Fatalf("seed %d: another state", seed)
		}
		if f.machine.applied+8 < look(e, appliedBy) {
			t.Fatalf("seed %d: the backup is of position %d of %d", seed, f.machine.applied, look(e, appliedBy))
		}
	}
}

// A backup that is made while commands come is what they had made at its position, which is not before the call.
func TestBackupWhileTheStoreWorks(t *testing.T) {
	fs := vfs.NewMem()
	limits := testLimits(7)
	e := openDisk(t, fs, Options{Groups: 4, WriteBuffer: 16 << 10, Limits: limits})
	defer e.Close()
	first := e.last
	h := follow(t, e)
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		v := newInventor(7)
		for {
			select {
			case <-stop:
				return
			default:
				c := v.next()
				e.submit(c)
				wait(e)
				v.learn(c)
			}
		}
	})
	for range 15 {
		before := look(e, appliedBy)
		b, info := backup(t, e)
		if info.Position < before {
			t.Fatalf("the backup is of position %d, and %d was done before", info.Position, before)
		}
		f, _ := restored(t, b)
		if f.machine.hash() != h.machineAt(limits, 4, first, 5e9, info.Position).hash() {
			t.Fatalf("the backup is not what the commands up to %d make", info.Position)
		}
	}
	close(stop)
	ended.Wait()
}

// gate is a writer that waits.
type gate struct {
	entered, open chan struct{}
	once          sync.Once
}

func newGate() *gate { return &gate{entered: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) Write(b []byte) (int, error) {
	g.once.Do(func() { close(g.entered) })
	<-g.open
	return len(b), nil
}

func TestABackupDoesNotHoldUpTheStore(t *testing.T) {
	e := openDisk(t, vfs.NewMem(), Options{})
	o := claim(t, e, "c").Owner
	subscribe(t, e, o, "a")
	publish(e, &Publish{Message: message("a", strings.Repeat("x", 100), false)})
	g, result := newGate(), make(chan error)
	go func() {
		_, err := e.Backup(context.Background(), g, BackupOptions{})
		result <- err
	}()
	<-g.entered
	if p := publish(e, &Publish{Message: message("a", "meanwhile", false)}); p.Err != nil {
		t.Fatal(p.Err)
	}
	if _, err := e.Backup(context.Background(), io.Discard, BackupOptions{}); !errors.Is(err, ErrBackupRuns) {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := e.Backup(context.Background(), io.Discard, BackupOptions{}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestBackupCanBeCalledOff(t *testing.T) {
	e := openDisk(t, vfs.NewMem(), Options{})
	defer e.Close()
	claim(t, e, "c")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Backup(ctx, io.Discard, BackupOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestNoBackupOfMemory(t *testing.T) {
	s := NewMemory(Options{})
	defer s.Close()
	if _, err := s.(Backuper).Backup(context.Background(), io.Discard, BackupOptions{}); !errors.Is(err, ErrNoBackup) {
		t.Fatal(err)
	}
}

// small is a backup with a few rows.
func small(t testing.TB) []byte {
	e := openDisk(t, vfs.NewMem(), Options{})
	defer e.Close()
	subscribe(t, e, claim(t, e, "c").Owner, "a/#")
	for i := range 20 {
		publish(e, &Publish{Message: message(fmt.Sprint("a/", i), fmt.Sprint("payload ", i), i%2 == 0)})
	}
	b, _ := backup(t, e)
	return b
}

func TestBackupsThatAreNotWhole(t *testing.T) {
	b := small(t)
	whole, _ := restored(t, b)
	fs := vfs.NewMem()
	refused := func(b []byte) {
		t.Helper()
		if _, err := CheckBackup(bytes.NewReader(b), nil); !errors.Is(err, ErrBackup) {
			t.Fatalf("checked: %v", err)
		}
		if _, err := Restore(bytes.NewReader(b), "x/again", RestoreOptions{FS: fs}); !errors.Is(err, ErrBackup) {
			t.Fatalf("restored: %v", err)
		}
		if _, err := fs.Stat("x/again"); !errors.Is(err, os.ErrNotExist) {
			t.Fatal("the folder is there")
		}
	}
	for n := 0; n < len(b); n += 1 + len(b)/150 {
		refused(b[:n])
	}
	refused(b[:len(b)-1])
	refused(append(bytes.Clone(b), b...))
	for i := 0; i < len(b); i += 1 + len(b)/150 {
		flipped := bytes.Clone(b)
		flipped[i] ^= 0x04
		if _, err := CheckBackup(bytes.NewReader(flipped), nil); err != nil {
			refused(flipped)
		} else if f, _ := restored(t, flipped); f.machine.hash() != whole.machine.hash() {
			t.Fatalf("byte %d changed, and it is taken for whole", i) // there are bits that mean nothing to zstd
		}
	}
}

// A backup that was changed by somebody who can count checksums is still refused if its rows do not agree.
func TestBackupsThatContradictThemselves(t *testing.T) {
	var b bytes.Buffer
	info := BackupInfo{Format: formatVersion, Groups: 16, Position: 4}
	w, err := newBackupWriter(&b, &info)
	if err != nil {
		t.Fatal(err)
	}
	var k keys
	if err := w.row(k.number(3, kindBody, 4), appendBody(nil, message("a", "x", false))); err != nil {
		t.Fatal(err)
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckBackup(bytes.NewReader(b.Bytes()), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(&b, "again", RestoreOptions{FS: vfs.NewMem()}); !errors.Is(err, ErrBackup) {
		t.Fatal(err)
	}
}

func TestZstdReadsABackup(t *testing.T) {
	z, err := zstd.NewReader(bytes.NewReader(small(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if n, err := io.Copy(io.Discard, z); err != nil || n == 0 {
		t.Fatal(n, err)
	}
}

func FuzzReadBackup(f *testing.F) {
	f.Add(small(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows := uint64(0)
		info, err := readBackup(bytes.NewReader(b), func(BackupInfo) error { return nil }, func(_, _ []byte) error { rows++; return nil })
		if err == nil && rows != info.Rows {
			t.Fatalf("%d rows were given, and %d are told", rows, info.Rows)
		}
	})
}

func TestRestoreKeepsWhatWasThere(t *testing.T) {
	b := small(t)
	dir := filepath.Join(t.TempDir(), "data")
	lived(t, dir, 2, 64<<10)
	before := filesOf(t, dir)
	if _, err := Restore(bytes.NewReader(b), dir, RestoreOptions{}); !errors.Is(err, ErrNotEmpty) {
		t.Fatal(err)
	}
	if after := filesOf(t, dir); !maps.Equal(before, after) {
		t.Fatalf("the folder was\n%v\nand is\n%v", before, after)
	}
	r, err := Restore(bytes.NewReader(b), dir, RestoreOptions{Force: true})
	if err != nil || r.Moved == "" || r.Contents.Sessions != 1 || r.Contents.Retained != 10 {
		t.Fatal(r, err)
	}
	moved := filesOf(t, filepath.Join(dir, r.Moved))
	for path, was := range before {
		name, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		if name != "LOCK" && moved[filepath.Join(dir, r.Moved, name)] != was {
			t.Errorf("%s is not kept", name)
		}
	}
	if err := os.Rename(filepath.Join(dir, r.Moved), filepath.Join(t.TempDir(), "old")); err != nil {
		t.Fatal(err)
	}
	for path, is := range filesOf(t, dir) {
		if !strings.HasPrefix(is, "-rw-------") && !strings.HasPrefix(is, "drwx------") {
			t.Errorf("%s: %s", path, is)
		}
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if c := claim(t, s, "c"); !c.Present || len(readAll(t, s, c.Owner)) != 20 {
		t.Fatalf("%+v", c)
	}
	if _, err := Restore(bytes.NewReader(b), dir, RestoreOptions{Force: true}); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir, nil); len(r.Findings) > 0 {
		t.Fatalf("%+v", r)
	}
}

// Whenever the power goes, the folder is as it was, or whole, or refuses to be opened and can be restored again.
func TestPowerCutsDuringRestore(t *testing.T) {
	b := small(t)
	want, _ := restored(t, b)
	seen := map[string]int{}
	for left := 1; ; left++ {
		mem := vfs.NewCrashableMem()
		rng := rand.New(rand.NewPCG(uint64(left), 5))
		e := openDisk(t, mem, Options{})
		claim(t, e, "old")
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		fs := &cutter{FS: mem, mem: mem, percent: rng.IntN(101), rng: rng, acked: func() Position { return 0 }, left: left}
		if _, err := Restore(bytes.NewReader(b), "data", RestoreOptions{FS: fs, Force: true}); err != nil {
			t.Fatal(err)
		}
		if fs.after == nil {
			break // it has fewer syncs
		}
		f, err := openFolder(fs.after, "data", nil)
		switch {
		case errors.Is(err, errRestoring):
			seen["refused"]++
			if _, err := Open("data", Options{FS: fs.after}); !errors.Is(err, errRestoring) {
				t.Fatalf("cut at sync %d: %v", left, err)
			}
			if _, err := Restore(bytes.NewReader(b), "data", RestoreOptions{FS: fs.after, Force: true}); err != nil {
				t.Fatalf("cut at sync %d, and again: %v", left, err)
			}
			if f, err = openFolder(fs.after, "data", nil); err != nil {
				t.Fatal(err)
			}
			fallthrough
		case err == nil:
			if err := f.sound(); err != nil {
				t.Fatalf("cut at sync %d: %v", left, err)
			}
			switch {
			case f.machine.byClient["old"] != nil:
				seen["old"]++
			case f.machine.hash() == want.machine.hash():
				seen["new"]++
			default:
				t.Fatalf("cut at sync %d: neither old nor new", left)
			}
			f.close()
		default:
			t.Fatalf("cut at sync %d: %v", left, err)
		}
	}
	if seen["old"] == 0 || seen["new"] == 0 || seen["refused"] == 0 {
		t.Fatalf("not all of it was seen: %v", seen)
	}
}

// Where the disk is full, or fails, a restore ends with its error, and leaves nothing.
func TestRestoreToADiskThatFails(t *testing.T) {
	b := small(t)
	restore := func(fs *faultfs.FS) error {
		_, err := Restore(bytes.NewReader(b), "data", RestoreOptions{FS: fs})
		return err
	}
	leftNothing := func(fs *faultfs.FS, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
		fs.SetRoom(-1)
		fs.SetFail(nil)
		if err := restore(fs); err != nil {
			t.Fatalf("and again: %v", err)
		}
	}
	failed := 0
	for room := int64(0); ; room += 300 {
		fs := faultfs.New(vfs.NewMem())
		fs.SetRoom(room)
		err := restore(fs)
		if err == nil {
			break
		}
		leftNothing(fs, err, syscall.ENOSPC)
		failed++
	}
	if failed < 5 {
		t.Fatalf("only %d sizes are too small", failed)
	}
	for _, c := range [][2]string{{"sync", ".sst"}, {"create", "MANIFEST"}, {"sync", "MANIFEST"}, {"write", "log/"}, {"rename", "FORMAT"}} {
		fs := faultfs.New(vfs.NewMem())
		fs.FailOn(c[0], c[1], syscall.EIO)
		leftNothing(fs, restore(fs), syscall.EIO)
	}
}
