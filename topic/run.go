// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// A run is some names in their order, each written as what tells it from the
// one before:
//
//	uvarint shared | uvarint length | the bytes behind the shared ones
//
// Neighbours share all but their last levels mostly, so a name of 40 bytes takes
// about 15, and there is no pointer for the garbage collector to follow.
type run []byte

// A place is where a key is in a run, or where it belongs.
type place struct {
	index  int // how many names are before the key
	at     int // where the name behind those begins: the first that is not before the key
	before int // bytes the key shares with the last name before it
	behind int // and with the name at the place
	found  bool
}

// entry decodes the entry that begins at a place: how many bytes its name shares
// with the one before, those that follow, and where the next one begins.
func (r run) entry(at int) (shared int, rest []byte, next int) {
	if b := r[at:]; len(b) > 1 && b[0]|b[1] < 0x80 {
		next = at + 2 + int(b[1])
		return int(b[0]), r[at+2 : next], next
	}
	s, n := binary.Uvarint(r[at:])
	at += n
	l, n := binary.Uvarint(r[at:])
	at += n
	next = at + int(l)
	return int(s), r[at:next], next
}

// appendHead appends what an entry begins with.
func appendHead(dst []byte, shared, length int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, uint64(shared)), uint64(length))
}

// headLen is the length of what appendHead appends.
func headLen(shared, length int) int { return uvarintLen(shared) + uvarintLen(length) }

func uvarintLen(n int) int { return (bits.Len(uint(n)|1) + 6) / 7 }

// seek finds key at or behind a place whose name is not before the one that the
// place is for: before must be what key shares with the name before the place.
func (r run) seek(p place, key []byte) place {
	for p.at < len(r) {
		shared, rest, next := r.entry(p.at)
		if shared < p.before { // it leaves the name before it where that still agrees with key
			p.behind = shared
			return p
		}
		if shared == p.before {
			n := shared + common(rest, key[shared:])
			end := shared + len(rest)
			if n == len(key) || n < end && precedes(key[n], rest[n-shared]) {
				p.behind, p.found = n, n == len(key) && n == end
				return p
			}
			p.before = n
		}
		p.at = next
		p.index++
	}
	p.behind = 0
	return p
}

// first is the first name. It is lent until the run changes.
func (r run) first() []byte {
	_, rest, _ := r.entry(0)
	return rest
}

// insert puts key, which is not there, in its place.
func (r run) insert(p place, key []byte) run {
	shared, old, tail := 0, 0, 0 // of the name behind: it shares more with key than with the one before, or as much
	if p.at < len(r) {
		s, rest, next := r.entry(p.at)
		shared, tail = p.behind, s+len(rest)-p.behind
		old = next - tail - p.at
	}
	size := headLen(p.before, len(key)-p.before) + len(key) - p.before
	if p.at < len(r) {
		size += headLen(shared, tail)
	}
	r = r.move(p.at+old, p.at+size)
	gap := appendHead(r[p.at:p.at:p.at+size], p.before, len(key)-p.before)
	gap = append(gap, key[p.before:]...)
	if len(gap) < size {
		appendHead(gap, shared, tail)
	}
	return r
}

// move has what begins at from begin at to.
func (r run) move(from, to int) run {
	n := len(r) - from + to
	r = grow(r, max(n-len(r), 0))
	copy(r[:n][to:], r[from:])
	return r[:n]
}

// remove takes the name at a place out.
func (r run) remove(at int) run {
	shared, rest, next := r.entry(at)
	if next == len(r) {
		return trim(r[:at])
	}
	s, tail, end := r.entry(next)
	if s <= shared {
		return trim(slices.Delete(r, at, next))
	}
	// The name behind shared more with this one than it shares with the one before.
	var space [64]byte
	need := append(space[:0], rest[:s-shared]...)
	end -= len(tail)
	head := append(appendHead(r[at:at:end], shared, len(need)+len(tail)), need...)
	return trim(slices.Delete(r, at+len(head), end))
}

// split cuts a run of two or more names in two, about in the middle of its bytes.
// n is how many names are in the first.
func (r run) split() (n int, a, b run) {
	var name []byte
	for at := 0; ; n++ {
		shared, rest, next := r.entry(at)
		name = append(name[:shared], rest...)
		if n > 0 && (at >= len(r)/2 || next == len(r)) {
			b = grow(b, headLen(0, len(name))+len(name)+len(r)-next)
			b = append(append(appendHead(b, 0, len(name)), name...), r[next:]...)
			return n, append(run(nil), r[:at]...), b
		}
		at = next
	}
}

// join returns the names of r followed by those of s.
func (r run) join(s run) run {
	var last []byte
	for at := 0; at < len(r); {
		shared, rest, next := r.entry(at)
		last, at = append(last[:shared], rest...), next
	}
	_, first, next := s.entry(0)
	n := common(last, first)
	both := append(grow(run(nil), len(r)+len(s)), r...)
	both = append(appendHead(both, n, len(first)-n), first[n:]...)
	return append(both, s[next:]...)
}

// grow returns s with room for n more elements, and not much more: the pages of a
// tree are small, and many.
func grow[S ~[]E, E any](s S, n int) S {
	if cap(s)-len(s) >= n {
		return s
	}
	return append(slices.Grow(S(nil), len(s)+n+len(s)/16), s...)
}

// trim returns s without the room it will not need soon.
func trim[S ~[]E, E any](s S) S {
	if cap(s) <= 2*len(s)+16 {
		return s
	}
	return append(S(nil), s...)
}

// common is how many bytes a and b have in common at their beginning.
func common(a, b []byte) (n int) {
	most := min(len(a), len(b))
	for ; n+8 <= most; n += 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
	}
	for n < most && a[n] == b[n] {
		n++
	}
	return n
}

// precedes reports whether byte a comes before another one, b, in names: / comes
// before all others, so that what is below a name follows it at once.
func precedes(a, b byte) bool { return a == '/' || b != '/' && a < b }

// compare orders names: by their bytes, but with / first.
func compare(a, b []byte) int {
	n := common(a, b)
	switch {
	case n == len(a) || n == len(b):
		return len(a) - len(b)
	case precedes(a[n], b[n]):
		return -1
	}
	return 1
}
