// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/internal/testkit/faultfs"
)

// within fails a test unless f returns in time. It is not for synctest: what hangs here tries again and again, and never rests.
func within(t *testing.T, most time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(most):
		t.Fatal("it hangs")
	}
}

// noise is a payload that cannot be compressed.
func noise(r *rand.ChaCha8, n int) string {
	b := make([]byte, n)
	_, _ = r.Read(b)
	return string(b)
}

// A store whose last checkpoint finds no room is closed all the same, also if the checkpoint is larger than what Pebble takes before it
// holds writers up.
func TestCloseWhileALargeCheckpointHasNoRoom(t *testing.T) {
	mem := vfs.NewMem()
	fs := faultfs.New(mem)
	var told notices
	o := Options{WriteBuffer: 24 << 20, Notice: told.add}
	e := openDisk(t, fs, o)
	owner := claim(t, e, "c").Owner
	subscribe(t, e, owner, "#")
	fs.SetFail(func(op, path string) error {
		if (op == "create" || op == "write") && strings.Contains(path, stateDir+"/") {
			return syscall.ENOSPC
		}
		return nil
	})
	r := rand.NewChaCha8([32]byte{1})
	kept := 0
	for i := 0; len(told.of(DiskFull)) == 0; i++ {
		if p := publish(e, &Publish{Message: message("a", noise(r, 100<<10), false)}); p.Err == nil {
			kept++
		}
		if i > 2000 {
			t.Fatal("it does not become full")
		}
	}
	within(t, 20*time.Second, func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	e = openDisk(t, mem, Options{WriteBuffer: 24 << 20})
	if n := len(readAll(t, e, claim(t, e, "c").Owner)); n < kept {
		t.Errorf("%d messages of %d", n, kept)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// A restore of more than Pebble keeps in memory says that there is no room for it, and leaves nothing.
func TestRestoreToAFullDisk(t *testing.T) {
	e := openDisk(t, vfs.NewMem(), Options{})
	subscribe(t, e, claim(t, e, "c").Owner, "#")
	r := rand.NewChaCha8([32]byte{2})
	for range 300 {
		if p := publish(e, &Publish{Message: message("a", noise(r, 100<<10), false)}); p.Err != nil {
			t.Fatal(p.Err)
		}
	}
	b, _ := backup(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	mem := vfs.NewMem()
	fs := faultfs.New(mem)
	fs.SetRoom(6 << 20)
	within(t, 20*time.Second, func() {
		if _, err := Restore(bytes.NewReader(b), "data", RestoreOptions{FS: fs}); !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
	})
	if _, err := mem.Stat("data"); err == nil {
		names, _ := mem.List("data")
		t.Error("it left ", names)
	}
}
