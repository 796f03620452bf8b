// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// digest is an HMAC under a key that never leaves the process.
type digest [sha256.Size]byte

// cache remembers answers until a time, and no more than max of them.
type cache struct {
	key []byte
	max int

	mu      sync.Mutex
	entries map[digest]cached
}

type cached struct {
	Answer
	until time.Time
}

func newCache(size int) *cache {
	c := &cache{key: make([]byte, sha256.Size), max: size, entries: map[digest]cached{}}
	rand.Read(c.key) // never fails
	return c
}

// digest is of all parts; their lengths are in it, so that no two lists have the same.
func (c *cache) digest(parts [][]byte) (d digest) {
	m := hmac.New(sha256.New, c.key)
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		m.Write(n[:])
		m.Write(p)
	}
	m.Sum(d[:0])
	return d
}

func (c *cache) get(d digest, now time.Time) (Answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[d]
	if ok && !now.Before(e.until) {
		delete(c.entries, d)
		ok = false
	}
	return e.Answer, ok
}

func (c *cache) put(d digest, a Answer, now, until time.Time) {
	if c.max <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[d]; !ok && len(c.entries) >= c.max {
		c.makeRoom(now)
	}
	c.entries[d] = cached{a, until}
}

// looked is how many entries are looked at to make room for one.
const looked = 16

// makeRoom drops what has run out of a few entries, picked as the map likes, or the one of them that ends first.
func (c *cache) makeRoom(now time.Time) {
	var first digest
	var ends time.Time
	n, dropped := 0, false
	for d, e := range c.entries {
		if !now.Before(e.until) {
			delete(c.entries, d)
			dropped = true
		} else if ends.IsZero() || e.until.Before(ends) {
			first, ends = d, e.until
		}
		if n++; n == looked {
			break
		}
	}
	if !dropped {
		delete(c.entries, first)
	}
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
}
