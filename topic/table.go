// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	shardBits = 8
	shardMany = 1 << shardBits
	groupMany = 8 // slots in a group

	tagEmpty   = 0    // no entry, and none was ever pushed past it
	tagDeleted = 1    // no entry
	tagUsed    = 0x80 // or'ed with seven bits of the hash

	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// An entry is one slot's content of a table and never changes: a change puts
// another in its place. It is an exact filter with its subscribers, or the edge
// of the trie from parent downwards; see trie.
type entry[S comparable] struct {
	hash   uint64
	parent *branch[S] // nil for an exact filter
	text   string     // the exact filter; or the level, and of a leaf all levels that follow too
	set    set[S]     // unless branch
	branch *branch[S] // where the edge leads to; nil for a leaf
}

// is reports whether e stands for key below parent.
func (e *entry[S]) is(hash uint64, parent *branch[S], key string) bool {
	if e.hash != hash || e.parent != parent || len(e.text) < len(key) || e.text[:len(key)] != key {
		return false
	}
	return len(e.text) == len(key) || parent != nil && e.text[len(key)] == '/'
}

// A shards is a hash table that is read without locks: open addressing in groups
// of eight slots, whose tags stand together in one word. Memory: 9 bytes per
// slot, of which 7/16 to 7/8 are used.
//
// A reader never misses an entry that stays: entries keep their slot until the
// whole table of the shard is built anew and published at once, and a group that
// was full once never shows an empty tag again.
type shards[S comparable] [shardMany]shard[S]

// A shard is a part of the table with a writers' lock of its own.
type shard[S comparable] struct {
	table atomic.Pointer[table[S]] // nil when empty
	mu    sync.Mutex               // guards the rest, and changes of table
	live  int                      // slots with an entry
	used  int                      // slots that are not tagEmpty
	_     [32]byte                 // one cache line per shard
}

type table[S comparable] []group[S] // a power of two

type group[S comparable] struct {
	tags  atomic.Uint64 // byte i is the tag of slot i
	slots [groupMany]atomic.Pointer[entry[S]]
}

func (t *shards[S]) shard(hash uint64) *shard[S] { return &t[hash>>(64-shardBits)] }

// lookup returns the entry of key below parent, or nil. It takes no lock.
func (t *shards[S]) lookup(hash uint64, parent *branch[S], key string) *entry[S] {
	if e := t.shard(hash).find(hash, parent, key); e != nil {
		return e.Load()
	}
	return nil
}

// find returns the slot of key below parent, or nil.
func (sh *shard[S]) find(hash uint64, parent *branch[S], key string) *atomic.Pointer[entry[S]] {
	p := sh.table.Load()
	if p == nil {
		return nil
	}
	t := *p
	for i := range t {
		g := t.group(hash, i)
		tags := g.tags.Load()
		for m := matchTag(tags, tagOf(hash)); m != 0; m &= m - 1 {
			slot := &g.slots[bits.TrailingZeros64(m)/8]
			if e := slot.Load(); e != nil && e.is(hash, parent, key) {
				return slot
			}
		}
		if matchTag(tags, tagEmpty) != 0 {
			return nil
		}
	}
	return nil
}

// insert adds e, which must not be there yet. The caller holds sh.mu.
func (sh *shard[S]) insert(e *entry[S]) {
	size := 0
	if t := sh.table.Load(); t != nil {
		size = len(*t) * groupMany
	}
	if sh.used+1 > size/8*7 {
		sh.rebuild(sh.live + 1)
	}
	if (*sh.table.Load()).put(e) == tagEmpty {
		sh.used++
	}
	sh.live++
}

// remove takes e out. The caller holds sh.mu.
func (sh *shard[S]) remove(e *entry[S]) {
	t := *sh.table.Load()
	tag := t.drop(e)
	sh.live--
	if tag == tagEmpty {
		sh.used--
	}
	if size := len(t) * groupMany; sh.live == 0 || size > groupMany && sh.live < size/8 {
		sh.rebuild(sh.live)
	}
}

// rebuild publishes a new table with room for n entries without the marks of
// deleted ones. The caller holds sh.mu.
func (sh *shard[S]) rebuild(n int) {
	old := sh.table.Load()
	if n == 0 {
		sh.table.Store(nil)
		sh.used = 0
		return
	}
	groups := 1
	for groups*groupMany/8*5 < n {
		groups *= 2
	}
	t := make(table[S], groups)
	if old != nil {
		for i := range *old {
			for j := range (*old)[i].slots {
				if e := (*old)[i].slots[j].Load(); e != nil {
					t.put(e)
				}
			}
		}
	}
	sh.used = sh.live
	sh.table.Store(&t)
}

// group returns the i-th group to look at for hash.
func (t table[S]) group(hash uint64, i int) *group[S] {
	return &t[(int(hash>>7)+i)&(len(t)-1)]
}

// put stores e in the first slot without entry and returns the tag it had.
func (t table[S]) put(e *entry[S]) (tag byte) {
	for i := 0; ; i++ {
		g := t.group(e.hash, i)
		tags := g.tags.Load()
		free := ^tags & highBits
		if free == 0 {
			continue
		}
		at := bits.TrailingZeros64(free) / 8
		tag = byte(tags >> (at * 8))
		g.slots[at].Store(e) // before its tag, so that no reader misses it
		g.setTag(at, tagOf(e.hash))
		return tag
	}
}

// drop takes e out and returns the tag its slot is left with.
func (t table[S]) drop(e *entry[S]) (tag byte) {
	for i := range t {
		g := t.group(e.hash, i)
		for j := range g.slots {
			if g.slots[j].Load() != e {
				continue
			}
			tag = tagDeleted
			if matchTag(g.tags.Load(), tagEmpty) != 0 {
				tag = tagEmpty // No search goes past this group.
			}
			g.setTag(j, tag)
			g.slots[j].Store(nil)
			return tag
		}
	}
	panic("topic: entry to be dropped is not in its table")
}

func (g *group[S]) setTag(i int, tag byte) {
	g.tags.Store(g.tags.Load()&^(0xff<<(i*8)) | uint64(tag)<<(i*8))
}

func tagOf(hash uint64) byte { return tagUsed | byte(hash&0x7f) }

// matchTag returns a word with the high bit set in each byte of tags that equals
// tag. Bytes above the first such may be set by mistake, so that the result is
// zero exactly if there is none.
func matchTag(tags uint64, tag byte) uint64 {
	x := tags ^ lowBits*uint64(tag)
	return (x - lowBits) &^ x & highBits
}
