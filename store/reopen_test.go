// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/internal/testkit/faultfs"
)

// Whichever names of files a power cut keeps of those that an opening has made and not synced, nothing is damaged, and all is there.
func TestPowerCutAtAnyChangeOfAnOpening(t *testing.T) {
	disk := vfs.NewCrashableMem()
	k := newKept(t, openDisk(t, disk, Options{}))
	for range 10 {
		if err := k.publish(); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.s.Close(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	tries := 10
	if testing.Short() {
		tries = 2
	}
	for at, more := 1, true; more; at++ {
		more = false
		for range tries {
			mem := disk.CrashClone(vfs.CrashCloneCfg{})
			var mu sync.Mutex
			var after *vfs.MemFS
			fs, changes := faultfs.New(mem), 0
			fs.SetFail(func(op, _ string) error {
				mu.Lock()
				defer mu.Unlock()
				if op != "read" {
					if changes++; changes == at {
						after = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 60, RNG: rng})
					}
				}
				return nil
			})
			e := openDisk(t, fs, Options{})
			fs.SetFail(nil)
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if after != nil {
				more = true
				k.check(after, Options{})
			}
		}
		if t.Failed() {
			t.Fatalf("the power was cut at change %d", at)
		}
	}
}
