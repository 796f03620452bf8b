// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"
)

// names decodes a run.
func (r run) names() (names []string) {
	var name []byte
	for at := 0; at < len(r); {
		shared, rest, next := r.entry(at)
		name, at = append(name[:shared], rest...), next
		names = append(names, string(name))
	}
	return names
}

// runOf writes a run at once.
func runOf(names []string) (r run) {
	last := ""
	for _, name := range names {
		n := common([]byte(last), []byte(name))
		r = append(appendHead(r, n, len(name)-n), name[n:]...)
		last = name
	}
	return r
}

// Runs are changed in place; what results is what writing the names at once gives.
func TestRunAgainstSlice(t *testing.T) {
	before := func(a, b string) bool { return compare([]byte(a), []byte(b)) < 0 }
	rapid.Check(t, func(t *rapid.T) {
		var r run
		var want []string
		name := func(t *rapid.T) string {
			if rapid.IntRange(0, 9).Draw(t, "long") == 0 { // so that lengths need more than a byte
				return genName(t) + string(bytes.Repeat([]byte{'l'}, rapid.IntRange(100, 300).Draw(t, "length"))) + genName(t)
			}
			return genName(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				name := name(t)
				if at := r.seek(place{}, []byte(name)); !at.found {
					r = r.insert(at, []byte(name))
					want = append(want, name)
					sort.Slice(want, func(i, j int) bool { return before(want[i], want[j]) })
				}
			},
			"remove": func(t *rapid.T) {
				if len(want) > 0 {
					i := rapid.IntRange(0, len(want)-1).Draw(t, "i")
					r = r.remove(r.seek(place{}, []byte(want[i])).at)
					want = slices.Delete(want, i, i+1)
				}
			},
			"seek": func(t *rapid.T) {
				name := name(t)
				at := r.seek(place{}, []byte(name))
				i, found := slices.BinarySearchFunc(want, name, func(a, b string) int { return compare([]byte(a), []byte(b)) })
				if at.index != i || at.found != found || at.at != len(runOf(want[:i])) {
					t.Fatalf("%q is at %+v in %q, want %d, %v", name, at, want, i, found)
				}
			},
			"split and join": func(t *rapid.T) {
				if len(want) > 1 {
					n, a, b := r.split()
					if !slices.Equal(a.names(), want[:n]) || !slices.Equal(b.names(), want[n:]) || n == 0 || n == len(want) {
						t.Fatalf("%q is split to %q and %q", want, a.names(), b.names())
					}
					r = a.join(b)
				}
			},
			"": func(t *rapid.T) {
				if !bytes.Equal(r, runOf(want)) {
					t.Fatalf("%q, want %q", r.names(), want)
				}
				if len(want) > 0 && string(r.first()) != want[0] {
					t.Fatalf("first is %q, want %q", r.first(), want[0])
				}
			},
		})
	})
}
