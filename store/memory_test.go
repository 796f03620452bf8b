// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openMemory(_ testing.TB, o store.Options) store.Store { return store.NewMemory(o) }

func TestMemory(t *testing.T) { storetest.Run(t, openMemory) }

// openDisk opens a store on a file system in memory, with so little room for changes that they are written out all the time.
func openDisk(t testing.TB, o store.Options) store.Store {
	o.WriteBuffer, o.FS = 1, vfs.NewMem()
	s, err := store.Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDisk(t *testing.T) { storetest.Run(t, openDisk) }
