// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSortedRowsAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, spread := range []int{10, 1000, 100_000} {
		rows, want := &sortedRows{}, map[string]string{}
		key := func() string {
			k := r.IntN(spread)
			return fmt.Sprintf("%c%06d", 'a'+k%3, k)
		}
		for i := range 20_000 {
			k := key()
			switch n := r.IntN(10); {
			case n < 6:
				v := fmt.Sprint(i)[r.IntN(2):]
				rows.Set([]byte(k), []byte(v))
				want[k] = v
			case n < 9:
				rows.Delete([]byte(k))
				delete(want, k)
			default:
				v, ok := rows.Get([]byte(k))
				if w, has := want[k]; ok != has || string(v) != w {
					t.Fatalf("Get(%s) = %s %v, want %s %v", k, v, ok, w, has)
				}
			}
			if i%500 == 0 {
				compareRows(t, rows, want, key(), key())
			}
		}
		compareRows(t, rows, want, "", "z")
	}
}

func compareRows(t *testing.T, rows *sortedRows, want map[string]string, from, to string) {
	t.Helper()
	var in, got []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if from <= k && k < to {
			in = append(in, k+"="+want[k])
		}
	}
	rows.Scan([]byte(from), []byte(to), func(k, v []byte) bool {
		got = append(got, string(k)+"="+string(v))
		return true
	})
	if !slices.Equal(got, in) {
		t.Fatalf("Scan(%s, %s) = %v, want %v", from, to, got, in)
	}
	if from >= to {
		return
	}
	k, v, ok := rows.Last([]byte(from), []byte(to))
	if ok != (len(in) > 0) || ok && string(k)+"="+string(v) != in[len(in)-1] {
		t.Fatalf("Last(%s, %s) = %s=%s %v, want the last of %v", from, to, k, v, ok, in)
	}
}

func BenchmarkSortedRows(b *testing.B) {
	for _, how := range []string{"append", "random"} {
		b.Run(how, func(b *testing.B) {
			rows := &sortedRows{}
			r := rand.New(rand.NewPCG(1, 2))
			var k keys
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				n := uint64(i)
				if how == "random" {
					n = r.Uint64N(1_000_000)
				}
				rows.Set(k.numbers(1, kindQueue, 5, n), []byte("12345678"))
			}
		})
	}
}
