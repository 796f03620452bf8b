// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"hash/maphash"
	"unsafe"
)

const (
	cacheSlots = 4096 // a power of two; 64 KiB once it is used
	cacheName  = 256  // bytes; longer names are not remembered
	cacheLists = 8    // filters; names that match more are not remembered
)

// A Cache is an Index as one goroutine sees it, which remembers what was found for
// the names that it looks up again and again. What it answers is what the index
// would answer: an entry counts only as long as nothing changed in the index.
//
// Its memory is bounded: 4 096 names at most, of 256 bytes. A name is remembered
// when it is looked up twice between two changes, so that an index that changes
// all the time costs a look at a number.
type Cache[S comparable] struct {
	ix    *Index[S]
	slots []cacheSlot[S]
	found Matches[S] // of what is not remembered
	last  *cached[S] // of the last Match; nil if it is not remembered
}

// A cacheSlot is the place of all names whose hashes end alike.
type cacheSlot[S comparable] struct {
	seen  uint64 // of the name that was looked up last: its hash, mixed with the version
	entry *cached[S]
}

// cached is what was found for a name.
type cached[S comparable] struct {
	version uint64
	name    string
	good    bool // the caller vouched for it
	found   Matches[S]
}

// NewCache returns an empty cache of ix.
func NewCache[S comparable](ix *Index[S]) *Cache[S] { return &Cache[S]{ix: ix} }

// Match returns the subscribers of all filters that match name, which is valid and
// not kept. The result is lent until the next call of any method.
func (c *Cache[S]) Match(name []byte) *Matches[S] {
	key := unsafe.String(unsafe.SliceData(name), len(name)) // a view, see Index.Match
	version := c.ix.version.Load()                          // before the match: what changes meanwhile makes another
	hash := maphash.String(c.ix.seed, key)
	var s *cacheSlot[S]
	if c.slots != nil {
		s = &c.slots[hash&(cacheSlots-1)]
		if e := s.entry; e != nil && e.version == version && e.name == key {
			c.last = e
			return &e.found
		}
	}
	c.found.Reset()
	c.ix.match(hash, key, &c.found)
	c.last = c.remember(s, hash, version, key)
	return &c.found
}

// Vouch says that the name of the last Match is in order, by whatever rules the caller has.
func (c *Cache[S]) Vouch() {
	if c.last != nil {
		c.last.good = true
	}
}

// Known is Match for a name that may be anything: it gives what is remembered of one that Vouch was called for, and else
// nil. The result is lent as that of Match.
func (c *Cache[S]) Known(name []byte) *Matches[S] {
	if c.slots == nil {
		return nil
	}
	key := unsafe.String(unsafe.SliceData(name), len(name))
	e := c.slots[maphash.String(c.ix.seed, key)&(cacheSlots-1)].entry
	if e == nil || !e.good || e.name != key || e.version != c.ix.version.Load() {
		return nil
	}
	return &e.found
}

// Forget forgets everything.
func (c *Cache[S]) Forget() {
	c.found.Reset()
	c.slots, c.last = nil, nil
}

// remember keeps what was found, if the name was looked up before.
func (c *Cache[S]) remember(s *cacheSlot[S], hash, version uint64, key string) *cached[S] {
	if len(key) > cacheName || len(c.found.sets) > cacheLists {
		return nil
	}
	if s == nil {
		c.slots = make([]cacheSlot[S], cacheSlots)
		s = &c.slots[hash&(cacheSlots-1)]
	}
	mark := hash ^ version*0x9e3779b97f4a7c15
	if s.seen != mark {
		s.seen = mark
		return nil
	}
	e := &cached[S]{version: version, name: string(append([]byte(nil), key...))}
	e.found.sets = append(make([]*set[S], 0, len(c.found.sets)), c.found.sets...)
	s.entry = e
	return e
}

// Sweep forgets what counts no more, and with it subscribers that are gone. To be called now and then.
func (c *Cache[S]) Sweep() {
	c.found.Reset()
	c.last = nil
	version := c.ix.version.Load()
	left := false
	for i := range c.slots {
		s := &c.slots[i]
		if s.entry != nil && s.entry.version != version {
			s.entry = nil
		}
		left = left || s.entry != nil
	}
	if !left {
		c.slots = nil
	}
}

// Holds reports whether anything is remembered, and Sweep is of use.
func (c *Cache[S]) Holds() bool { return c.slots != nil }
