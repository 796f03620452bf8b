// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkAppend appends batches of records to files. One operation is one record.
func BenchmarkAppend(b *testing.B) {
	for _, synced := range []bool{false, true} {
		for _, size := range []int{64, 256, 1024} {
			for _, batch := range []int{1, 64, 1024} {
				b.Run(fmt.Sprintf("sync=%v/size=%d/batch=%d", synced, size, batch), func(b *testing.B) {
					l, _, err := Open(b.TempDir(), Options{FS: vfs.Default}, 0, nil)
					if err != nil {
						b.Fatal(err)
					}
					defer l.Close()
					body := make([]byte, size)
					position := uint64(0)
					b.SetBytes(int64(size))
					b.ReportAllocs()
					for b.Loop() {
						position++
						l.End(append(l.Begin(position), body...))
						if position%uint64(batch) == 0 {
							commit(b, l, synced)
						}
						if position%(1<<18) == 0 {
							if err := l.Cut(position); err != nil {
								b.Fatal(err)
							}
						}
					}
				})
			}
		}
	}
}

func commit(b *testing.B, l *Log, synced bool) {
	err := l.Write()
	if err == nil && synced {
		err = l.Sync()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen replays a log of 100 000 records of 256 bytes. One operation is one record.
func BenchmarkOpen(b *testing.B) {
	const records = 100_000
	dir := b.TempDir()
	l, _, err := Open(dir, Options{FS: vfs.Default}, 0, nil)
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 256)
	for p := range uint64(records) {
		l.End(append(l.Begin(p+1), body...))
		if p%100 == 99 {
			commit(b, l, false)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(256)
	for n := 0; n < b.N; n += records {
		l, rec, err := Open(dir, Options{FS: vfs.Default}, 0, func(uint64, []byte) error { return nil })
		if err != nil || rec.Records != records {
			b.Fatal(err, rec.Records)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// Appending allocates nothing once the buffer has grown.
func TestAppendAllocatesNothing(t *testing.T) {
	l, _, err := Open(t.TempDir(), Options{FS: vfs.Default}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 300)
	position := uint64(0)
	allocations := testing.AllocsPerRun(200, func() {
		for range 50 {
			position++
			l.End(append(l.Begin(position), body...))
		}
		if l.Write() != nil || l.Sync() != nil {
			t.Fatal("it cannot be written")
		}
	})
	if allocations != 0 {
		t.Fatalf("%v allocations a batch", allocations)
	}
	closeLog(t, l)
}
