// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// How long, and how many, successes are remembered. A minute covers a storm of reconnects and little more.
const (
	recentFor = time.Minute
	maxRecent = 10_000
)

// digest is an HMAC of user name and password under a key that never leaves the process.
type digest [sha256.Size]byte

// recent remembers logins that succeeded, for a minute, so that clients that all come back at once are not hashed
// once more each. It holds digests only. Safe for use by several goroutines.
type recent struct {
	key []byte

	mu    sync.Mutex
	until map[digest]time.Time
}

func newRecent() *recent {
	r := &recent{key: make([]byte, sha256.Size), until: map[digest]time.Time{}}
	rand.Read(r.key) // never fails
	return r
}

func (r *recent) digest(name string, password []byte) (d digest) {
	m := hmac.New(sha256.New, r.key)
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(name))))
	m.Write([]byte(name))
	m.Write(password)
	m.Sum(d[:0])
	return d
}

// has reports whether the login succeeded within the last minute.
func (r *recent) has(d digest, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.until[d]
	if ok && !now.Before(until) {
		delete(r.until, d)
		return false
	}
	return ok
}

// add remembers a login from now on. When there is no room, those that have run out go, or else any one.
func (r *recent) add(d digest, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.until) >= maxRecent {
		r.makeRoom(now)
	}
	r.until[d] = now.Add(recentFor)
}

func (r *recent) makeRoom(now time.Time) {
	for d, until := range r.until {
		if !now.Before(until) {
			delete(r.until, d)
		}
	}
	for d := range r.until {
		if len(r.until) < maxRecent {
			return
		}
		delete(r.until, d)
	}
}
