// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package attempt slows down who guesses passwords.
//
// A Limiter stands in front of all authenticators. It counts failures in a row by user, by address, and by the two together (a
// pair); beyond those that are free each one costs a wait that doubles. While one waits, attempts are refused without asking and
// count for nothing.
//
// Nobody shall lock others out by failing in their name or at their address, so a pair that has logged in is judged by its own failures
// alone, and a pair adds no more than Free failures to its address: a device with a wrong password does not end the others behind the
// same router.
//
// All counts are in memory, bounded, and forgotten after a time. A Limiter may be used from any goroutine; it has none.
package attempt

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Policy is how patient a Limiter is.
type Policy struct {
	Free  int           // failures of a user, or of a pair, that cost nothing; 0 or less turns the limiter off
	Delay time.Duration // the first wait; it doubles with each failure
	Most  time.Duration // the longest wait
}

// Fixed bounds.
const (
	addressFree = 10                 // times Free: what an address has
	forget      = time.Hour          // after the last failure, or twice the longest wait if that is more
	keepGood    = 7 * 24 * time.Hour // that a pair has logged in
	maxEntries  = 100_000            // of each kind
	looked      = 16                 // entries that are looked at to make room for one
)

// Limiter counts. Make one with New.
type Limiter struct {
	seed maphash.Seed

	mu        sync.Mutex
	users     map[uint64]*entry
	addresses map[uint64]*entry
	pairs     map[uint64]*entry
}

// entry is a row of failures.
type entry struct {
	failures int
	until    time.Time // the end of the wait
	last     time.Time // the last failure
	good     time.Time // of pairs: the last login
}

// New makes a limiter that has seen nothing.
func New() *Limiter {
	return &Limiter{seed: maphash.MakeSeed(), users: map[uint64]*entry{}, addresses: map[uint64]*entry{}, pairs: map[uint64]*entry{}}
}

// Network is what counts as one address: an IPv4 address, the /64 of an IPv6 address. The zero Addr stands for all that have none.
func Network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil { // it is an address of 128 bits
		return a
	}
	return p.Addr()
}

func (l *Limiter) keys(address netip.Addr, user string) (u, a, p uint64) {
	raw := Network(address).As16()
	u = maphash.String(l.seed, user)
	a = maphash.Bytes(l.seed, raw[:])
	return u, a, maphash.String(l.seed, string(raw[:])+user)
}

// Wait is how long an attempt has to wait; 0 lets it through.
func (l *Limiter) Wait(p Policy, address netip.Addr, user string, now time.Time) time.Duration {
	if p.Free <= 0 {
		return 0
	}
	uk, ak, pk := l.keys(address, user)
	l.mu.Lock()
	defer l.mu.Unlock()
	pair := l.pairs[pk]
	wait := pair.wait(now)
	if pair == nil || pair.good.IsZero() || now.Sub(pair.good) > keepGood {
		wait = max(wait, l.users[uk].wait(now), l.addresses[ak].wait(now))
	}
	return wait
}

func (e *entry) wait(now time.Time) time.Duration {
	if e == nil {
		return 0
	}
	return max(0, e.until.Sub(now))
}

// Failed counts a refused login.
func (l *Limiter) Failed(p Policy, address netip.Addr, user string, now time.Time) {
	if p.Free <= 0 {
		return
	}
	uk, ak, pk := l.keys(address, user)
	l.mu.Lock()
	defer l.mu.Unlock()
	pair := fail(l.pairs, pk, p, p.Free, now)
	fail(l.users, uk, p, p.Free, now)
	if pair.failures <= p.Free {
		fail(l.addresses, ak, p, addressFree*p.Free, now)
	}
}

// Succeeded ends the row of the user and of the pair. That of the address stays: whoever has one login is not to try many others.
func (l *Limiter) Succeeded(p Policy, address netip.Addr, user string, now time.Time) {
	if p.Free <= 0 {
		return
	}
	uk, _, pk := l.keys(address, user)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.users, uk)
	e := l.pairs[pk]
	if e == nil {
		makeRoom(l.pairs, now)
		e = &entry{}
		l.pairs[pk] = e
	}
	*e = entry{good: now}
}

// fail adds one to a row, which begins anew after a long rest.
func fail(m map[uint64]*entry, k uint64, p Policy, free int, now time.Time) *entry {
	e := m[k]
	if e == nil {
		makeRoom(m, now)
		e = &entry{}
		m[k] = e
	}
	if now.Sub(e.last) > max(forget, 2*p.Most) {
		e.failures = 0
	}
	e.failures++
	e.last = now
	if over := e.failures - free; over > 0 {
		wait := p.Most
		if over <= 30 {
			wait = min(p.Most, p.Delay<<(over-1))
		}
		e.until = now.Add(max(0, wait))
	}
	return e
}

// makeRoom drops one entry where there are too many: of a few, picked as the map likes, the one that rested longest. Those that wait go
// last, as an attacker with many addresses is not to buy freedom by them.
func makeRoom(m map[uint64]*entry, now time.Time) {
	if len(m) < maxEntries {
		return
	}
	var worst uint64
	var rested time.Duration = -1
	n := 0
	for k, e := range m {
		at := e.last
		if e.good.After(at) {
			at = e.good
		}
		rest := max(0, now.Sub(at))
		if e.until.After(now) {
			rest = 0
		}
		if rest > rested {
			worst, rested = k, rest
		}
		if n++; n == looked {
			break
		}
	}
	delete(m, worst)
}
