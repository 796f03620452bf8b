// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"
)

// hasher hashes subscribers.
type hasher[S comparable] func(S) uint64

// An Index finds the subscribers whose filters match a name. S is what the
// caller knows a subscriber by, a pointer as a rule; each belongs to an owner, a
// small number (the loop that serves it), and is handed out apart for each.
//
// All methods may be called from any goroutine. Readers take no lock and see
// every subscription that is there during the whole call, and none that was
// removed before it began.
//
// Filters without wildcards stand in a hash table (see shards), the others in a
// trie. At 1 million subscriptions to filters of their own both cost about 85
// bytes each, without the filter's string.
type Index[S comparable] struct {
	owners  int
	hash    hasher[S]
	seed    maphash.Seed
	exact   shards[S]
	trie    trie[S]
	version atomic.Uint64 // grows with each change, before Add or Remove returns
	subs    atomic.Int64
	filters atomic.Int64
	spare   sync.Pool // of *Matches[S], for Any
}

// NewIndex returns an empty index for subscribers of owners 0 to owners-1.
// Subscribers that share a filter are handed out in an order that differs from
// process to process; where that must not be, use NewIndexHash.
func NewIndex[S comparable](owners int) *Index[S] {
	seed := maphash.MakeSeed()
	return NewIndexHash(owners, func(s S) uint64 { return maphash.Comparable(seed, s) })
}

// NewIndexHash is NewIndex with a hash function for subscribers, the same for
// equal ones and spread evenly in its low bits. The order in which subscribers are handed
// out then depends on it and the calls of Add and Remove alone.
func NewIndexHash[S comparable](owners int, hash func(S) uint64) *Index[S] {
	ix := &Index[S]{owners: owners, hash: hash, seed: maphash.MakeSeed()}
	ix.trie.seed = ix.seed
	ix.spare.New = func() any { return new(Matches[S]) }
	return ix
}

// Add subscribes s of owner to filter. It reports false if it was already. The
// string is kept.
func (ix *Index[S]) Add(filter string, owner int, s S) bool {
	return ix.change(filter, owner, s, false)
}

// Remove ends the subscription of s of owner to filter. It reports false if
// there was none.
func (ix *Index[S]) Remove(filter string, owner int, s S) bool {
	return ix.change(filter, owner, s, true)
}

// Len returns the number of subscriptions.
func (ix *Index[S]) Len() int { return int(ix.subs.Load()) }

// Filters returns the number of different filters.
func (ix *Index[S]) Filters() int { return int(ix.filters.Load()) }

// Match adds the subscribers of all filters that match name to m, which the
// caller has Reset. name is valid and not kept. It does not allocate once m has
// grown to its task.
func (ix *Index[S]) Match(name []byte, m *Matches[S]) {
	// A view, not a copy: nothing below keeps the string.
	ix.MatchString(unsafe.String(unsafe.SliceData(name), len(name)), m)
}

// MatchString is Match with a string.
func (ix *Index[S]) MatchString(name string, m *Matches[S]) {
	ix.match(maphash.String(ix.seed, name), name, m)
}

// match is MatchString with the hash of name.
func (ix *Index[S]) match(hash uint64, name string, m *Matches[S]) {
	if name == "" {
		return
	}
	if e := ix.exact.lookup(hash, nil, name); e != nil {
		m.add(&e.set)
	}
	ix.trie.match(name, m)
}

// Any reports whether Match would find anything.
func (ix *Index[S]) Any(name []byte) bool {
	key := unsafe.String(unsafe.SliceData(name), len(name)) // a view, see Match
	if ix.exact.lookup(maphash.String(ix.seed, key), nil, key) != nil {
		return true
	}
	if key == "" || ix.trie.root.empty() {
		return false
	}
	m := ix.spare.Get().(*Matches[S])
	ix.trie.match(key, m)
	found := !m.Empty()
	m.Reset()
	ix.spare.Put(m)
	return found
}

// A change adds a subscriber to a set, or removes it.
type change[S comparable] struct {
	ix     *Index[S]
	owner  int
	sub    S
	remove bool
}

func (ix *Index[S]) change(filter string, owner int, s S, remove bool) bool {
	if uint(owner) >= uint(ix.owners) {
		panic("topic: owner out of range")
	}
	defer ix.version.Add(1)
	ch := change[S]{ix: ix, owner: owner, sub: s, remove: remove}
	if hasWildcard(filter) {
		return ix.trie.change(&ch, filter)
	}
	return ix.changeExact(&ch, filter)
}

func (ix *Index[S]) changeExact(ch *change[S], filter string) bool {
	hash := maphash.String(ix.seed, filter)
	sh := ix.exact.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	slot := sh.find(hash, nil, filter)
	if slot == nil {
		next, did := ch.apply(nil)
		if next != nil {
			sh.insert(&entry[S]{hash: hash, text: filter, set: *next})
		}
		return did
	}
	e := slot.Load()
	next, did := ch.apply(&e.set)
	switch {
	case next == nil:
		sh.remove(e)
	case !next.same(&e.set):
		slot.Store(&entry[S]{hash: hash, text: e.text, set: *next})
	}
	return did
}

// apply returns what becomes of a filter's subscribers old, nil standing for
// none, and whether there was anything to do. It counts.
func (ch *change[S]) apply(old *set[S]) (next *set[S], did bool) {
	ix := ch.ix
	switch {
	case !ch.remove && old == nil:
		ix.filters.Add(1)
		ix.subs.Add(1)
		return &set[S]{one: [1]S{ch.sub}, owner: uint32(ch.owner)}, true
	case !ch.remove:
		s, ok := old.with(ix.hash, ix.owners, ch.owner, ch.sub)
		if ok {
			ix.subs.Add(1)
		}
		return &s, ok
	case old == nil:
		return nil, false
	case old.only(ch.owner, ch.sub):
		ix.filters.Add(-1)
		ix.subs.Add(-1)
		return nil, true
	}
	s, ok := old.without(ix.hash, ch.owner, ch.sub)
	if ok {
		ix.subs.Add(-1)
	}
	return &s, ok
}

// same reports whether s is what old was before, so that nothing needs replacing.
func (s *set[S]) same(old *set[S]) bool { return old != nil && *s == *old }
