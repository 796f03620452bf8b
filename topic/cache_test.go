// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// listed are the subscribers of all owners in a result, sorted.
func listed(m *Matches[int], owners int) []int {
	var all []int
	for owner := range owners {
		for _, part := range m.AppendOwner(nil, owner) {
			all = append(all, part...)
		}
	}
	slices.Sort(all)
	return all
}

// A cache answers what the index does, whatever changes in between.
func TestCacheIsTheIndex(t *testing.T) {
	const owners = 3
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ix := NewIndex[int](owners)
		c := NewCache(ix)
		level := func() string { return []string{"a", "b", "c", "", "ä"}[rng.IntN(5)] }
		name := func() string {
			n := level()
			for range rng.IntN(3) {
				n += "/" + level()
			}
			if rng.IntN(20) == 0 {
				n += strings.Repeat("x", cacheName)
			}
			if n == "" {
				n = "/"
			}
			return n
		}
		filter := func() string {
			parts := strings.Split(name(), "/")
			for i := range parts {
				if rng.IntN(4) == 0 {
					parts[i] = "+"
				}
			}
			if rng.IntN(4) == 0 {
				parts[len(parts)-1] = "#"
			}
			return strings.Join(parts, "/")
		}
		type sub struct {
			filter string
			s      int
		}
		subs := map[sub]bool{}
		hits := 0
		for i := range 4000 {
			switch n := rng.IntN(40); {
			case n == 0:
				x := sub{filter(), rng.IntN(200)}
				ix.Add(x.filter, x.s%owners, x.s)
				subs[x] = true
			case n == 1:
				for x := range subs {
					ix.Remove(x.filter, x.s%owners, x.s)
					delete(subs, x)
					break
				}
			case n == 2 && i%7 == 0:
				c.Sweep()
			}
			x := []byte(name())
			var want Matches[int]
			ix.Match(x, &want)
			if k := c.Known(x); k != nil {
				hits++
				if got := listed(k, owners); !slices.Equal(got, listed(&want, owners)) {
					t.Fatalf("seed %d: Known(%q) gives %v, the index %v", seed, x, got, listed(&want, owners))
				}
			}
			if got := listed(c.Match(x), owners); !slices.Equal(got, listed(&want, owners)) {
				t.Fatalf("seed %d: Match(%q) gives %v, the index %v", seed, x, got, listed(&want, owners))
			}
			if rng.IntN(2) == 0 {
				c.Vouch()
			}
			for j := range x { // a view is not to be kept
				x[j] = '!'
			}
		}
		if hits == 0 {
			t.Errorf("seed %d: nothing was ever remembered", seed)
		}
	}
}

// A name that was not vouched for stays unknown, also in the place of one that was.
func TestCacheKnowsOnlyWhatWasVouchedFor(t *testing.T) {
	ix := NewIndex[int](1)
	c := NewCache(ix)
	c.Match([]byte("a"))
	c.Vouch() // nothing is remembered so far
	c.Match([]byte("a"))
	if c.Known([]byte("a")) != nil {
		t.Error("known without a word for it")
	}
	c.Vouch()
	if c.Known([]byte("a")) == nil {
		t.Error("not known")
	}
	c.Forget()
	if c.Known([]byte("a")) != nil || c.Holds() {
		t.Error("known after Forget")
	}
}

// What was removed before a look is not found in it, and what was there all the time is, while others change the index.
func TestCacheUnderChange(t *testing.T) {
	ix := NewIndex[int](1)
	ix.Add("a/+", 0, -1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f := fmt.Sprintf("a/%d", i%10)
					ix.Add(f, 0, g)
					ix.Remove(f, 0, g)
				}
			}
		})
	}
	c := NewCache(ix)
	for i := range 50_000 {
		name := fmt.Sprintf("a/%d", i%10)
		if got := listed(c.Match([]byte(name)), 1); len(got) == 0 || got[0] != -1 {
			t.Fatalf("a subscription that stays was not found: %v", got)
		}
		if i%100 == 0 { // one of our own, which nobody else touches
			ix.Add(name, 0, 7)
			if got := listed(c.Match([]byte(name)), 1); !slices.Contains(got, 7) {
				t.Fatalf("a new subscription was not found: %v", got)
			}
			ix.Remove(name, 0, 7)
			if got := listed(c.Match([]byte(name)), 1); slices.Contains(got, 7) {
				t.Fatalf("a subscription that is gone was found: %v", got)
			}
		}
	}
	close(stop)
	wg.Wait()
}

func BenchmarkCacheMatch(b *testing.B) {
	ix := NewIndex[int](2)
	for i := range 1000 {
		ix.Add(fmt.Sprintf("plant/%d/+", i), i%2, i)
	}
	c := NewCache(ix)
	var names [][]byte
	for i := range 1000 {
		names = append(names, fmt.Appendf(nil, "plant/%d/state", i))
	}
	b.ReportAllocs()
	for i := range b.N {
		c.Match(names[i%len(names)])
	}
}
