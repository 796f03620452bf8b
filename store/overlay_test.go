// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// An overlay gives what rows in memory give, whichever layer a row is in.
func TestOverlayIsRows(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), DisableWAL: true, Logger: quiet{}})
		if err != nil {
			t.Fatal(err)
		}
		o := newOverlay(db, func(err error) { t.Error(err) })
		want := &sortedRows{}
		key := func() []byte { return fmt.Appendf(nil, "\x00\x01R%02d", r.IntN(60)) }
		for step := range 2000 {
			k, value := key(), fmt.Appendf(nil, "v%d", step)
			switch n := r.IntN(20); {
			case n < 7:
				o.Set(k, value)
				want.Set(k, value)
			case n < 10:
				if _, ok := want.Get(k); !ok {
					o.Insert(k, value)
					want.Set(k, value)
				}
			case n < 15:
				if _, ok := want.Get(k); ok {
					o.Delete(k)
					want.Delete(k)
				}
			case n == 15 && step%4 == 0:
				shift(t, o, db)
			case n == 16:
				got, ok := o.Get(k)
				value, there := want.Get(k)
				if ok != there || !bytes.Equal(got, value) {
					t.Fatalf("seed %d: Get gives %q, %v, want %q, %v", seed, got, ok, value, there)
				}
			default:
				sameRows(t, o, want, k, key())
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// shift freezes the active layer, or writes the frozen one.
func shift(t *testing.T, o *overlay, db *pebble.DB) {
	if o.frozen == nil {
		o.freeze(0)
		return
	}
	b := db.NewBatch()
	if err := o.frozen.writeTo(b, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	o.thaw()
}

func sameRows(t *testing.T, o *overlay, want rows, from, to []byte) {
	list := func(r rows) (all []string) {
		r.Scan(from, to, func(k, v []byte) bool { all = append(all, fmt.Sprintf("%q=%q", k, v)); return true })
		return all
	}
	if got, want := list(o), list(want); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("from %q to %q: %v, want %v", from, to, got, want)
	}
	k, v, ok := o.Last(from, to)
	wk, wv, there := want.Last(from, to)
	if ok != there || ok && (!bytes.Equal(k, wk) || !bytes.Equal(v, wv)) {
		t.Fatalf("Last from %q to %q: %q=%q, %v, want %q=%q, %v", from, to, k, v, ok, wk, wv, there)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}
