// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"math/bits"
	"slices"
	"sync/atomic"
)

const (
	shortMost = 64 // subscribers in a short list; it is copied for each change
	longLeast = 32 // with fewer a long list becomes short again
	chunkMean = 96 // mean subscribers of a chunk above which a long list gets a further one
	chunkLow  = 32 // mean below which it gives one back
)

// A set is the subscribers of one filter, at least one. It never changes: with
// and without return another, but for long lists, which change in place.
//
// One subscriber stands in the set itself, a few in a short list that is copied
// for each change, many in a long list.
type set[S comparable] struct {
	one   [1]S     // the subscriber, if many is nil
	owner uint32   // its owner
	many  *many[S] // nil for one subscriber
}

// many is a short list, or a long one.
type many[S comparable] struct {
	subs []S      // short: all subscribers, by owner
	runs []ownRun // short: where each owner's end in subs
	long *long[S]
}

// An ownRun says that the subscribers of owner go up to end.
type ownRun struct{ owner, end uint32 }

// appendOwner appends the subscribers of owner to dst, as slices that never change.
func (s *set[S]) appendOwner(dst [][]S, owner int) [][]S {
	switch {
	case s.many == nil:
		if s.owner == uint32(owner) {
			dst = append(dst, s.one[:])
		}
	case s.many.long == nil:
		if from, to := s.many.span(uint32(owner)); from < to {
			dst = append(dst, s.many.subs[from:to:to])
		}
	default:
		dst = s.many.long.owners[owner].appendTo(dst)
	}
	return dst
}

// count returns how many subscribers owner has.
func (s *set[S]) count(owner int) int {
	switch {
	case s.many == nil:
		if s.owner == uint32(owner) {
			return 1
		}
		return 0
	case s.many.long == nil:
		from, to := s.many.span(uint32(owner))
		return to - from
	}
	return int(s.many.long.owners[owner].n.Load())
}

// with returns the set with v of owner added; false if it was there already.
func (s set[S]) with(h hasher[S], owners, owner int, v S) (set[S], bool) {
	switch {
	case s.many == nil:
		if s.owner == uint32(owner) && s.one[0] == v {
			return s, false
		}
		m := &many[S]{subs: []S{s.one[0]}, runs: []ownRun{{s.owner, 1}}}
		return set[S]{many: m.with(uint32(owner), v)}, true
	case s.many.long != nil:
		return s, s.many.long.add(h, owner, v)
	}
	if from, to := s.many.span(uint32(owner)); slices.Contains(s.many.subs[from:to], v) {
		return s, false
	}
	if len(s.many.subs) < shortMost {
		return set[S]{many: s.many.with(uint32(owner), v)}, true
	}
	l := newLong(h, owners, s.many)
	l.add(h, owner, v)
	return set[S]{many: &many[S]{long: l}}, true
}

// without returns the set with v of owner removed; false if it was not there.
// The last subscriber cannot be removed: see only.
func (s set[S]) without(h hasher[S], owner int, v S) (set[S], bool) {
	if s.many == nil {
		return s, false
	}
	if l := s.many.long; l != nil {
		if !l.remove(h, owner, v) {
			return s, false
		}
		if l.n < longLeast {
			return set[S]{many: l.short()}, true
		}
		return s, true
	}
	from, to := s.many.span(uint32(owner))
	i := slices.Index(s.many.subs[from:to], v)
	if i < 0 {
		return s, false
	}
	m := s.many.without(uint32(owner), from+i)
	if len(m.subs) == 1 {
		return set[S]{one: [1]S{m.subs[0]}, owner: m.runs[0].owner}, true
	}
	return set[S]{many: m}, true
}

// only reports whether v of owner is the only subscriber.
func (s *set[S]) only(owner int, v S) bool {
	return s.many == nil && s.owner == uint32(owner) && s.one[0] == v
}

// span returns where the subscribers of owner stand in a short list.
func (m *many[S]) span(owner uint32) (from, to int) {
	for _, r := range m.runs {
		if r.owner == owner {
			return from, int(r.end)
		}
		from = int(r.end)
	}
	return 0, 0
}

// with returns a copy of the short list with v added behind those of owner.
func (m *many[S]) with(owner uint32, v S) *many[S] {
	i, from := 0, 0
	for i < len(m.runs) && m.runs[i].owner < owner {
		from = int(m.runs[i].end)
		i++
	}
	runs := make([]ownRun, 0, len(m.runs)+1)
	runs = append(runs, m.runs...)
	if i == len(runs) || runs[i].owner != owner {
		runs = slices.Insert(runs, i, ownRun{owner, uint32(from)})
	}
	at := int(runs[i].end)
	for ; i < len(runs); i++ {
		runs[i].end++
	}
	subs := make([]S, 0, len(m.subs)+1)
	subs = append(append(append(subs, m.subs[:at]...), v), m.subs[at:]...)
	return &many[S]{subs: subs, runs: runs}
}

// without returns a copy of the short list without the subscriber at, of owner.
func (m *many[S]) without(owner uint32, at int) *many[S] {
	subs := make([]S, 0, len(m.subs)-1)
	subs = append(append(subs, m.subs[:at]...), m.subs[at+1:]...)
	runs := make([]ownRun, 0, len(m.runs))
	from := uint32(0)
	for _, r := range m.runs {
		end := r.end
		if r.owner >= owner {
			end--
		}
		if end > from {
			runs = append(runs, ownRun{r.owner, end})
		}
		from = end
	}
	return &many[S]{subs: subs, runs: runs}
}

// A long list has the subscribers of each owner in chunks. Writers hold the lock
// of the filter's shard or trie.
type long[S comparable] struct {
	n      int // writers only
	owners []chunks[S]
}

// chunks are the subscribers of one owner, spread over slices by linear hashing:
// so a subscriber is found without a search through all, no table of positions is
// needed, and a change replaces one slice whatever the length of the list.
// Readers see each subscriber that stays in exactly one slice: adding or removing
// swaps one slice, splitting or joining two of them publishes a new directory.
type chunks[S comparable] struct {
	n   atomic.Int64
	dir atomic.Pointer[directory[S]] // nil when empty
}

// A directory points to the slices; nil when empty. What a slice shows never
// changes, but its array may have room into which the next subscriber is put.
type directory[S comparable] []atomic.Pointer[[]S]

func newLong[S comparable](h hasher[S], owners int, m *many[S]) *long[S] {
	l := &long[S]{owners: make([]chunks[S], owners)}
	from := 0
	for _, r := range m.runs {
		for _, v := range m.subs[from:r.end] {
			l.add(h, int(r.owner), v)
		}
		from = int(r.end)
	}
	return l
}

// short returns the same subscribers as a short list.
func (l *long[S]) short() *many[S] {
	m := &many[S]{subs: make([]S, 0, l.n)}
	for owner := range l.owners {
		for _, part := range l.owners[owner].appendTo(nil) {
			m.subs = append(m.subs, part...)
		}
		if n := len(m.subs); l.owners[owner].n.Load() > 0 {
			m.runs = append(m.runs, ownRun{uint32(owner), uint32(n)})
		}
	}
	return m
}

func (l *long[S]) add(h hasher[S], owner int, v S) bool {
	if !l.owners[owner].add(h, v) {
		return false
	}
	l.n++
	return true
}

func (l *long[S]) remove(h hasher[S], owner int, v S) bool {
	if !l.owners[owner].remove(h, v) {
		return false
	}
	l.n--
	return true
}

// appendTo appends all slices with subscribers to dst.
func (c *chunks[S]) appendTo(dst [][]S) [][]S {
	p := c.dir.Load()
	if p == nil {
		return dst
	}
	d := *p
	for i := range d {
		if part := d[i].Load(); part != nil {
			dst = append(dst, slices.Clip(*part))
		}
	}
	return dst
}

func (c *chunks[S]) add(h hasher[S], v S) bool {
	if c.dir.Load() == nil {
		d := make(directory[S], 1)
		c.dir.Store(&d)
	}
	d := *c.dir.Load()
	i := d.place(h(v))
	old := d.part(i)
	if slices.Contains(old, v) {
		return false
	}
	d.set(i, append(old, v)) // in old's array if there is room: behind what readers see
	if n := c.n.Add(1); n > int64(len(d))*chunkMean {
		c.grow(h, d)
	}
	return true
}

func (c *chunks[S]) remove(h hasher[S], v S) bool {
	p := c.dir.Load()
	if p == nil {
		return false
	}
	d := *p
	i := d.place(h(v))
	old := d.part(i)
	at := slices.Index(old, v)
	if at < 0 {
		return false
	}
	part := make([]S, 0, len(old)-1)
	d.set(i, append(append(part, old[:at]...), old[at+1:]...))
	switch n := c.n.Add(-1); {
	case n == 0:
		c.dir.Store(nil)
	case len(d) > 1 && n < int64(len(d))*chunkLow:
		c.shrink(d)
	}
	return true
}

// grow publishes a directory with one slice more. Its subscribers come from the
// one slice whose places differ from its own by the highest bit.
func (c *chunks[S]) grow(h hasher[S], d directory[S]) {
	last := len(d)
	from := last - highest(last)
	next := d.resized(last + 1)
	var stay, move []S
	for _, v := range d.part(from) {
		if next.place(h(v)) == last {
			move = append(move, v)
		} else {
			stay = append(stay, v)
		}
	}
	next.set(from, stay)
	next.set(last, move)
	c.dir.Store(&next)
}

// shrink publishes a directory with one slice less; grow backwards.
func (c *chunks[S]) shrink(d directory[S]) {
	last := len(d) - 1
	to := last - highest(last)
	next := d.resized(last)
	next.set(to, append(d.part(to), d.part(last)...))
	c.dir.Store(&next)
}

// place returns the slice for a subscriber with the given hash.
func (d directory[S]) place(hash uint64) int {
	top := highest(len(d))
	i := int(hash & uint64(2*top-1))
	if i >= len(d) {
		i -= top
	}
	return i
}

func (d directory[S]) part(i int) []S {
	if p := d[i].Load(); p != nil {
		return *p
	}
	return nil
}

func (d directory[S]) set(i int, part []S) {
	if len(part) == 0 {
		d[i].Store(nil)
		return
	}
	d[i].Store(&part)
}

// resized returns a copy with n places, of which those in d are filled.
func (d directory[S]) resized(n int) directory[S] {
	next := make(directory[S], n)
	for i := range min(n, len(d)) {
		next[i].Store(d[i].Load())
	}
	return next
}

// highest returns the highest bit that is set in n, which is positive.
func highest(n int) int { return 1 << (bits.Len(uint(n)) - 1) }
