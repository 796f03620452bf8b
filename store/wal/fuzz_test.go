// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzOpen opens logs of arbitrary bytes. Checksums protect the rest, so that what the fuzzer changes is best changed in a log that is good.
func FuzzOpen(f *testing.F) {
	newID = func() uint64 { return 0x0123456789abcdef } // the same for all processes that take part
	plain, want := written(f, small, false, true)
	segments := plain.segments()
	for _, name := range segments[:2] {
		f.Add(plain[name], plain[segments[1]], uint64(0))
	}
	f.Add([]byte{}, []byte(segmentMagic), uint64(7))
	f.Add([]byte(strings.Repeat(frameMagic, 50)), plain[segments[0]], uint64(3))
	known := map[entry]bool{}
	for _, e := range want {
		known[e] = true
	}
	f.Fuzz(func(t *testing.T, one, two []byte, from uint64) {
		d := disk{segments[0]: one, segments[1]: two, segments[2]: plain[segments[2]]}
		o := small
		o.FS = d.mem(t)
		l, rec, got, err := tryOpen(o, from)
		if err != nil {
			return
		}
		last := uint64(0)
		for _, e := range got {
			if !known[e] || e.position <= last || e.position < from {
				t.Fatalf("position %d, after %d, was never written", e.position, last)
			}
			last = e.position
		}
		more := []entry{}
		if max(rec.Last, from) < 1<<60 {
			more = entries(max(rec.Last, from), 3, 50)
			write(t, l, more...)
		}
		closeLog(t, l)
		l, again, all := open(t, o, from)
		wantEntries(t, all, append(got, more...))
		wantClean(t, again)
		closeLog(t, l)
	})
}

// The same as FuzzOpen, and more wildly: parts of a good log are overwritten, moved, cut and exchanged.
func TestMangled(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 3))
		d, want := written(t, small, seed%2 == 0, seed%3 == 0)
		known := map[entry]bool{}
		for _, e := range want {
			known[e] = true
		}
		names := d.segments()
		for range 1 + r.IntN(5) {
			mangle(r, d, names[r.IntN(len(names))], names[r.IntN(len(names))])
		}
		o := small
		o.FS = d.mem(t)
		l, rec, got := open(t, o, 0)
		last := uint64(0)
		for _, e := range got {
			if e.position <= last || !known[e] {
				t.Fatalf("seed %d: position %d, after %d, was never written", seed, e.position, last)
			}
			last = e.position
		}
		more := entries(rec.Last, 3, 50)
		write(t, l, more...)
		closeLog(t, l)
		_, again, all := open(t, o, 0)
		wantEntries(t, all, append(slices.Clone(got), more...))
		if len(again.Damage) > 0 {
			t.Fatalf("seed %d: after %+v again %+v", seed, rec.Damage, again.Damage)
		}
	}
}

func mangle(r *rand.Rand, d disk, name, other string) {
	b := d[name]
	if len(b) == 0 {
		return
	}
	at := r.IntN(len(b))
	end := at + r.IntN(len(b)-at)
	switch r.IntN(7) {
	case 0:
		clear(b[at:end])
	case 1:
		copy(b[at:end], b[r.IntN(len(b)):])
	case 2:
		copy(b[at:end], d[other])
	case 3:
		d[name] = b[:at]
	case 4:
		d[name] = slices.Delete(b, at, end)
	case 5:
		d[name], d[other] = d[other], b
	case 6:
		delete(d, name)
	}
}

// A length that is nonsense costs no memory.
func TestHugeLength(t *testing.T) {
	mem := vfs.NewMem()
	l, _, _ := open(t, Options{FS: mem}, 0)
	from := l.off
	write(t, l, entry{1, "one"})
	d := load(t, mem, folder)
	b := d[fileName(1, endSegment)]
	var h frame
	h.take(b[from:])
	for _, length := range []uint64{1 << 40, 1<<63 - 1, 1 << 63, ^uint64(0)} {
		h.length = length
		h.put(b[from:])
		o := Options{FS: d.mem(t)}
		_, rec, got := open(t, o, 0)
		wantEntries(t, got, []entry{{1, "one"}})
		if len(rec.Damage) != 1 || !rec.Damage[0].Torn {
			t.Fatalf("%+v", rec.Damage)
		}
		_, rec, got = open(t, o, 0)
		wantEntries(t, got, []entry{{1, "one"}})
		wantClean(t, rec)
	}
}
