// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// subscription is what the reference, a plain set, is made of.
type subscription struct {
	filter string
	owner  int
	sub    int
}

// check compares the whole index with the reference for one name.
func check(t fataler, ix *Index[int], ref map[subscription]bool, name string, owners int) {
	var m Matches[int]
	ix.Match([]byte(name), &m)
	filters := map[string]bool{}
	for owner := range owners {
		want, ownerFilters := []int{}, map[string]bool{}
		for s := range ref {
			if s.owner == owner && Match(s.filter, name) {
				want = append(want, s.sub)
				ownerFilters[s.filter] = true
				filters[s.filter] = true
			}
		}
		got := []int{}
		for _, part := range m.AppendOwner(nil, owner) {
			if len(part) == 0 {
				t.Fatalf("empty slice for %q", name)
			}
			got = append(got, part...)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%q, owner %d: got %v, want %v", name, owner, got, want)
		}
		if m.Count(owner) != len(want) || m.OwnerFilters(owner) != len(ownerFilters) {
			t.Fatalf("%q, owner %d: Count %d, OwnerFilters %d, want %d, %d", name, owner,
				m.Count(owner), m.OwnerFilters(owner), len(want), len(ownerFilters))
		}
	}
	if m.Lists() != len(filters) || m.Empty() != (len(filters) == 0) || ix.Any([]byte(name)) == m.Empty() {
		t.Fatalf("%q: Lists %d, Empty %v, Any %v, want %d filters", name, m.Lists(), m.Empty(),
			ix.Any([]byte(name)), len(filters))
	}
}

func checkSize(t fataler, ix *Index[int], ref map[subscription]bool) {
	filters := map[string]bool{}
	for s := range ref {
		filters[s.filter] = true
	}
	if ix.Len() != len(ref) || ix.Filters() != len(filters) {
		t.Fatalf("Len %d, Filters %d, want %d, %d", ix.Len(), ix.Filters(), len(ref), len(filters))
	}
}

// checkEmpty looks for anything left behind.
func checkEmpty(t fataler, ix *Index[int]) {
	if ix.Len() != 0 || ix.Filters() != 0 || !ix.trie.root.empty() {
		t.Fatalf("Len %d, Filters %d, trie empty %v", ix.Len(), ix.Filters(), ix.trie.root.empty())
	}
	for i := range ix.exact {
		if ix.exact[i].table.Load() != nil || ix.trie.edges[i].table.Load() != nil {
			t.Fatalf("a table is left in shard %d", i)
		}
	}
}

func TestIndexAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners := rapid.IntRange(1, 3).Draw(t, "owners")
		ix, ref := NewIndex[int](owners), map[subscription]bool{}
		draw := func(t *rapid.T) subscription {
			return subscription{genFilter(t), rapid.IntRange(0, owners-1).Draw(t, "owner"), rapid.IntRange(0, 3).Draw(t, "sub")}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				s := draw(t)
				if got := ix.Add(s.filter, s.owner, s.sub); got == ref[s] {
					t.Fatalf("Add(%v) = %v", s, got)
				}
				ref[s] = true
			},
			"remove": func(t *rapid.T) {
				s := draw(t)
				if got := ix.Remove(s.filter, s.owner, s.sub); got != ref[s] {
					t.Fatalf("Remove(%v) = %v", s, got)
				}
				delete(ref, s)
			},
			"match": func(t *rapid.T) { check(t, ix, ref, genName(t), owners) },
			"":      func(t *rapid.T) { checkSize(t, ix, ref) },
		})
		for s := range ref {
			if !ix.Remove(s.filter, s.owner, s.sub) {
				t.Fatalf("Remove(%v) = false", s)
			}
		}
		checkEmpty(t, ix)
	})
}

// Lists that grow from one subscriber to thousands, and back.
func TestIndexLongLists(t *testing.T) {
	const owners, subs = 3, 4000
	for _, filter := range []string{"a/b", "a/+", "a/#", "+/b", "#"} {
		ix, ref := NewIndex[int](owners), map[subscription]bool{}
		r := rand.New(rand.NewPCG(1, 2))
		order := r.Perm(subs)
		for i, n := range order {
			s := subscription{filter, n % owners, n}
			if !ix.Add(filter, s.owner, s.sub) || ix.Add(filter, s.owner, s.sub) {
				t.Fatalf("Add(%v) is wrong", s)
			}
			ref[s] = true
			if i < 200 || i%500 == 0 {
				check(t, ix, ref, "a/b", owners)
			}
		}
		checkSize(t, ix, ref)
		for i, n := range r.Perm(subs) {
			s := subscription{filter, n % owners, n}
			if !ix.Remove(filter, s.owner, s.sub) || ix.Remove(filter, s.owner, s.sub) {
				t.Fatalf("Remove(%v) is wrong", s)
			}
			delete(ref, s)
			if i > subs-200 || i%500 == 0 {
				check(t, ix, ref, "a/b", owners)
			}
		}
		checkEmpty(t, ix)
	}
}

// With a hash of the caller's the order depends on the calls alone.
func TestIndexHashOrder(t *testing.T) {
	list := func() [][]int {
		ix := NewIndexHash(1, func(n int) uint64 { return uint64(n) * 0x9e3779b97f4a7c15 >> 20 })
		for n := range 5000 {
			ix.Add("a/#", 0, n)
		}
		for n := range 4000 {
			ix.Remove("a/#", 0, n)
		}
		var m Matches[int]
		ix.MatchString("a", &m)
		return m.AppendOwner(nil, 0)
	}
	if a, b := list(), list(); !slices.EqualFunc(a, b, slices.Equal[[]int]) {
		t.Error("two runs differ")
	}
}

// What AppendOwner gave stays as it was, whatever happens to the index.
func TestMatchesAreKept(t *testing.T) {
	for _, n := range []int{1, 2, 50, 1000} {
		ix := NewIndex[int](1)
		for i := range n {
			ix.Add("a", 0, i)
		}
		var m Matches[int]
		ix.MatchString("a", &m)
		kept := m.AppendOwner(nil, 0)
		var copied [][]int
		for _, part := range kept {
			if cap(part) != len(part) {
				t.Fatalf("%d subscribers: a slice has room that is not the caller's", n)
			}
			copied = append(copied, slices.Clone(part))
		}
		for i := range n {
			ix.Add("a", 0, n+i)
			ix.Remove("a", 0, i)
		}
		if !slices.EqualFunc(kept, copied, slices.Equal[[]int]) {
			t.Errorf("%d subscribers: slices have changed", n)
		}
	}
}

// Many branches lead to many branches; the work must not multiply.
func TestIndexDeepFilters(t *testing.T) {
	const levels = 30_000
	ix := NewIndex[int](1)
	for i := range 200 { // as in a known attack: 200 filters of 30 000 levels
		ix.Add(strings.Repeat("+/", levels)+fmt.Sprint(i), 0, i)
	}
	var m Matches[int]
	ix.MatchString(strings.Repeat("a/", levels)+"7", &m)
	if m.Lists() != 1 {
		t.Errorf("%d filters match, want 1", m.Lists())
	}
	for i := range 200 {
		ix.Remove(strings.Repeat("+/", levels)+fmt.Sprint(i), 0, i)
	}
	checkEmpty(t, ix)

	// All filters of + and a: 2^12 branches in the last level, not more.
	for i := range 1 << 12 {
		var f strings.Builder
		for bit := range 12 {
			f.WriteString([]string{"+/", "a/"}[i>>bit&1])
		}
		ix.Add(f.String()+"+", 0, i)
	}
	m.Reset()
	ix.MatchString(strings.Repeat("a/", 12)+"x", &m)
	if m.Lists() != 1<<12 || cap(m.at) > 1<<13 {
		t.Errorf("%d filters match, %d branches were held", m.Lists(), cap(m.at))
	}
}

// While writers change everything around it, what stays is found exactly once,
// and what was never there or is gone is not found.
func TestIndexConcurrent(t *testing.T) {
	const owners, names = 2, 40
	name := func(i int) string { return fmt.Sprintf("a/%d/x", i) }
	filters := func(i int) []string {
		return []string{name(i), fmt.Sprintf("a/%d/+", i), fmt.Sprintf("a/%d/#", i), fmt.Sprintf("+/%d/x", i), "a/+/x", "#"}
	}
	ix := NewIndex[int](owners)
	const stay = 1 // subscriber of every filter of even names, never touched
	for i := 0; i < names; i += 2 {
		for _, f := range filters(i) {
			ix.Add(f, 0, stay)
		}
	}
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	var writers, readers sync.WaitGroup
	var done atomic.Bool
	for w := range 2 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 0))
			for range rounds {
				base := 1000 * (w + 1) // each writer has subscribers of its own
				i := r.IntN(names)
				n := 1 + r.IntN(150)
				fs := filters(i)
				for s := range n {
					for _, f := range fs {
						ix.Add(f, w, base+s)
					}
				}
				if !found(ix, name(i), w, base) {
					t.Errorf("subscriber of %s is not found after Add", name(i))
				}
				for s := range n {
					for _, f := range fs {
						ix.Remove(f, w, base+s)
					}
				}
				if found(ix, name(i), w, base) {
					t.Errorf("subscriber of %s is found after Remove", name(i))
				}
			}
		})
	}
	for r := range 2 {
		readers.Go(func() {
			var m Matches[int]
			var parts [][]int
			for i := r; !done.Load(); i = (i + 1) % names {
				m.Reset()
				ix.Match([]byte(name(i)), &m)
				parts = m.AppendOwner(parts[:0], 0)
				count := 0
				for _, part := range parts {
					for _, s := range part {
						if s == stay {
							count++
						}
					}
				}
				want := 2 // "a/+/x" and "#" match every name
				if i%2 == 0 {
					want = 6
				}
				if count != want {
					t.Errorf("%s: the subscriber that stays is found %d times, want %d", name(i), count, want)
					return
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	for i := 0; i < names; i += 2 {
		for _, f := range filters(i) {
			ix.Remove(f, 0, stay)
		}
	}
	checkEmpty(t, ix)
}

func found(ix *Index[int], name string, owner, sub int) bool {
	var m Matches[int]
	ix.MatchString(name, &m)
	for _, part := range m.AppendOwner(nil, owner) {
		if slices.Contains(part, sub) {
			return true
		}
	}
	return false
}

func TestMatchDoesNotAllocate(t *testing.T) {
	ix := NewIndex[int](2)
	for i := range 1000 {
		ix.Add("a/b/c", i%2, i)
		ix.Add("a/+/c", i%2, i)
		ix.Add(fmt.Sprintf("a/b/%d", i), 0, i)
		ix.Add(fmt.Sprintf("+/%d/#", i), 0, i)
	}
	ix.Add("#", 1, 5)
	name := []byte("a/b/c")
	var m Matches[int]
	var parts [][]int
	allocs := testing.AllocsPerRun(100, func() {
		m.Reset()
		ix.Match(name, &m)
		parts = m.AppendOwner(parts[:0], 1)
		if m.Lists() != 3 || m.OwnerFilters(1) != 3 || !ix.Any(name) {
			t.Fatal("wrong match")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per match", allocs)
	}
}

// A million subscriptions of each kind cost at most 100 bytes each, and nothing
// once they are removed. The filters' strings are the caller's.
func TestIndexMemory(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	for _, kind := range []string{"exact", "mixed", "wild"} {
		filters := benchFilters(kind, n)
		subs := make([]int, n/20)
		before := heap()
		ix := NewIndex[*int](2)
		for i, f := range filters {
			if !ix.Add(f, i%2, &subs[i/20]) {
				t.Fatalf("%s: %q is there already", kind, f)
			}
		}
		per := float64(heap()-before) / float64(n)
		t.Logf("%s: %.1f bytes per subscription", kind, per)
		if per > 100 {
			t.Errorf("%s: %.1f bytes per subscription", kind, per)
		}
		for i, f := range filters {
			ix.Remove(f, i%2, &subs[i/20])
		}
		if left := heap() - before; left > 200_000 {
			t.Errorf("%s: %d bytes left", kind, left)
		}
		runtime.KeepAlive(ix)
		runtime.KeepAlive(filters)
		runtime.KeepAlive(subs)
	}
}

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
