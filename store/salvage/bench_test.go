// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/salvage"
)

// large makes a folder of about n bytes with the options of the engine, in the file system of the machine.
func large(t testing.TB, n int) {
	o := salvage.Options(vfs.Default, func(err error) { t.Errorf("pebble: %v", err) })
	o.DisableWAL = true
	o.MemTableSize = 32 << 20
	db, err := pebble.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 256)
	for written := 0; written < n; {
		b := db.NewBatch()
		for range 64 << 10 {
			key := binary.BigEndian.AppendUint64([]byte{0, byte(r.IntN(16)), 'Q'}, r.Uint64N(uint64(n/256/16)))
			for i := range value[:128] { // the rest can be compressed
				value[i] = byte(r.Uint32())
			}
			if err := b.Set(key, value, nil); err != nil {
				t.Fatal(err)
			}
			written += len(key) + len(value)
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkRead(b *testing.B) {
	b.Chdir(b.TempDir())
	large(b, 256<<20)
	read := func(f func() (salvage.Report, error)) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := f()
				if err != nil || len(r.Damage) > 0 {
					b.Fatalf("%+v, %v", r, err)
				}
				if r.Rows > 0 {
					b.SetBytes(r.Bytes)
				}
				b.ReportMetric(float64(r.Rows), "rows/op")
			}
		}
	}
	b.Run("read", read(func() (salvage.Report, error) {
		return salvage.Read(vfs.Default, dir, func(_, _ []byte) error { return nil })
	}))
	b.Run("check", read(func() (salvage.Report, error) { return salvage.Check(vfs.Default, dir) }))
	b.Run("manifest", read(func() (salvage.Report, error) { return salvage.CheckManifest(vfs.Default, dir) }))
}
