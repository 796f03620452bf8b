// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// A trie holds the filters with wildcards. Its branches are the parts of
// filters that several have in common; from there on each filter is a leaf with
// the rest of its levels in one string:
//
//	root --"a"--> branch --"b"--> leaf "b/+/c"      a/b/+/c
//	      |              `-"+"--> leaf "+/d"        a/+/d
//	      `-"+"--> leaf "+/x"                       +/x
//
// So a filter that shares nothing costs one entry however deep it is. Edges are
// entries of one hash table for the whole trie, keyed by parent and level, but
// for + and #, which hang on their branch.
//
// Readers take no lock. Writers hold mu. A leaf becomes a branch, with the leaf
// one level down, by replacing one pointer; so a filter that stays is always
// found. Branches go when nothing is below them.
type trie[S comparable] struct {
	mu    sync.Mutex
	seed  maphash.Seed
	root  branch[S]
	edges shards[S]
}

// A branch is where the levels from the root to it lead.
type branch[S comparable] struct {
	parent *branch[S] // nil for the root
	level  string     // of the edge from parent to here
	hash   uint64     // of all levels

	own  atomic.Pointer[set[S]]   // subscribers whose filter ends here
	rest atomic.Pointer[set[S]]   // subscribers whose filter ends here with /#
	plus atomic.Pointer[entry[S]] // edge +
	kids atomic.Int64             // other edges
}

// empty reports whether nothing is at b or below.
func (b *branch[S]) empty() bool {
	return b.kids.Load() == 0 && b.plus.Load() == nil && b.rest.Load() == nil && b.own.Load() == nil
}

// edgeHash returns the hash of the edge from b whose level has the hash level.
func (b *branch[S]) edgeHash(level uint64) uint64 {
	h := (b.hash ^ level) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

// edge returns the edge from b with the given level, or nil.
func (t *trie[S]) edge(b *branch[S], level string) *entry[S] {
	if level == "+" {
		return b.plus.Load()
	}
	return t.edges.lookup(b.edgeHash(maphash.String(t.seed, level)), b, level)
}

// setEdge makes e the edge from b with the given level, which has been old (nil
// if there was none). A nil e removes it. The caller holds t.mu.
func (t *trie[S]) setEdge(b *branch[S], level string, old, e *entry[S]) {
	if level == "+" {
		b.plus.Store(e)
		return
	}
	hash := b.edgeHash(maphash.String(t.seed, level))
	if e != nil {
		e.hash, e.parent = hash, b
	}
	sh := t.edges.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case old == nil:
		sh.insert(e)
		b.kids.Add(1)
	case e == nil:
		b.kids.Add(-1)
		sh.remove(old)
	default:
		sh.find(hash, b, level).Store(e)
	}
}

// change does what ch says to the subscribers of filter.
func (t *trie[S]) change(ch *change[S], filter string) (did bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, rest := &t.root, filter
	for {
		if rest == "#" {
			return t.changeAt(ch, b, &b.rest)
		}
		level, below, more := strings.Cut(rest, "/")
		e := t.edge(b, level)
		switch {
		case e == nil || e.branch == nil && e.text == rest:
			return t.changeLeaf(ch, b, level, rest, e)
		case e.branch == nil && ch.remove:
			return false
		case e.branch == nil:
			e = t.split(b, level, e)
		}
		b = e.branch
		if !more {
			return t.changeAt(ch, b, &b.own)
		}
		rest = below
	}
}

// changeLeaf changes the leaf e below b, which stands for rest; nil if there is
// none yet.
func (t *trie[S]) changeLeaf(ch *change[S], b *branch[S], level, rest string, e *entry[S]) bool {
	var old *set[S]
	if e != nil {
		old = &e.set
	}
	next, did := ch.apply(old)
	switch {
	case next == nil && old != nil:
		t.setEdge(b, level, e, nil)
		t.prune(b)
	case next != nil && !next.same(old):
		t.setEdge(b, level, e, &entry[S]{text: rest, set: *next})
	}
	return did
}

// changeAt changes the subscribers at, which belong to b.
func (t *trie[S]) changeAt(ch *change[S], b *branch[S], at *atomic.Pointer[set[S]]) bool {
	old := at.Load()
	next, did := ch.apply(old)
	if next == nil || !next.same(old) {
		at.Store(next)
		t.prune(b)
	}
	return did
}

// split makes a branch of the leaf e below b, and of the levels that follow a
// leaf below that, and returns the new edge.
func (t *trie[S]) split(b *branch[S], level string, e *entry[S]) *entry[S] {
	level = strings.Clone(level) // The branch may outlive the filter that made it.
	nb := &branch[S]{parent: b, level: level, hash: b.edgeHash(maphash.String(t.seed, level))}
	switch _, below, more := strings.Cut(e.text, "/"); {
	case !more:
		nb.own.Store(&e.set)
	case below == "#":
		nb.rest.Store(&e.set)
	default:
		first, _, _ := strings.Cut(below, "/")
		t.setEdge(nb, first, nil, &entry[S]{text: below, set: e.set})
	}
	edge := &entry[S]{text: level, branch: nb}
	t.setEdge(b, level, e, edge)
	return edge
}

// prune removes b if it is empty, and what that leaves empty above.
func (t *trie[S]) prune(b *branch[S]) {
	for b.parent != nil && b.empty() {
		t.setEdge(b.parent, b.level, t.edge(b.parent, b.level), nil)
		b = b.parent
	}
}

// match appends the sets of all filters that match name to m. It goes down level
// by level with all branches that the levels so far lead to: at most as many as
// there are, never a tree of choices.
func (t *trie[S]) match(name string, m *Matches[S]) {
	if t.root.empty() {
		return
	}
	hide := name[0] == '$' // from filters that begin with a wildcard [MQTT-4.7.2-1]
	if !hide {
		m.add(t.root.rest.Load())
	}
	m.at = append(m.at[:0], &t.root)
	for more := true; more && len(m.at) > 0; {
		here := name
		var level string
		level, name, more = strings.Cut(name, "/")
		hash := maphash.String(t.seed, level)
		m.next = m.next[:0]
		for _, b := range m.at {
			if b.kids.Load() > 0 {
				m.follow(t.edges.lookup(b.edgeHash(hash), b, level), here, more)
			}
			if !hide {
				m.follow(b.plus.Load(), here, more)
			}
		}
		hide = false
		m.at, m.next = m.next, m.at
	}
}
