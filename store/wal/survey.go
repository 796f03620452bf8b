// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"crypto/rand"
	"fmt"
	"slices"
)

// found is a segment as recovery finds it, and what is to become of it.
type found struct {
	number uint64
	name   string
	size   int64
	err    error // why it cannot be opened
	head   segment
	good   bool // the head is this segment's
	stale  bool // the head is another segment's: a spare that was taken and not begun

	before  uint64  // last position in front of it
	lead    uint64  // positions from before to here are missing in front of it; 0 if none
	keep    []piece // what is good in it
	fill    uint64  // positions up to here were lost at its end; 0 if none
	last    uint64  // last position in it, or in front of it
	started uint64  // opening of the last frame in front of it
	opening uint64  // of its last frame
	end     int64   // behind its last good frame
	extent  uint64  // bytes behind the end and in front of this are stale
	rewrite bool    // it holds damage
	trim    []byte  // new head for its last frame, of which only the first records are good
	trimAt  int64
	drop    bool // nothing in it counts
	cut     bool // what is behind the end goes
}

// piece is a part of a segment that is good: bytes of the file, with another head in front if there is one.
type piece struct {
	head           []byte
	offset, length int64
}

func (f *found) add(p piece) {
	if n := len(f.keep); n > 0 && p.head == nil && f.keep[n-1].offset+f.keep[n-1].length == p.offset {
		f.keep[n-1].length += p.length
		return
	}
	f.keep = append(f.keep, p)
}

// survey lists the folder and looks at the heads of the segments.
func (r *recovery) survey() error {
	names, err := r.o.FS.List(r.dir)
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	slices.Sort(names)
	var spares []*found
	for _, name := range names {
		if n, ok := numberOf(name, endSegment); ok {
			r.files = append(r.files, &found{number: n, name: name})
		} else if n, ok := numberOf(name, endSpare); ok {
			r.spares = append(r.spares, name)
			spares = append(spares, &found{number: n, name: name})
		} else if _, ok := numberOf(name, endMaking); ok {
			r.making = append(r.making, name)
		}
	}
	for _, f := range slices.Concat(r.files, spares) {
		if err := r.look(f); err != nil {
			return err
		}
	}
	r.identify(spares)
	for _, f := range slices.Concat(r.files, spares) {
		f.good = f.good && f.head.log == r.id
		f.stale = f.stale && f.head.log == r.id
		if f.good || f.stale {
			r.newest = max(r.newest, f.head.opening)
		}
	}
	return nil
}

// look reads the head of a segment.
func (r *recovery) look(f *found) error {
	rd, err := openReader(r.o.FS, r.path(f.name))
	if err != nil {
		f.err = err
		return nil
	}
	defer rd.close()
	f.size = rd.size
	ok, err := f.head.take(rd.bytes(0, segmentHead))
	if err != nil {
		return fmt.Errorf("wal: segment %s: %w", f.name, err)
	}
	f.good, f.stale = ok && f.head.number == f.number, ok && f.head.number != f.number
	return nil
}

// identify finds the number of the log: in the head of a segment, or else of a spare, or else in the first frame there is. A new log draws one.
func (r *recovery) identify(spares []*found) {
	for _, f := range slices.Concat(r.files, spares) {
		if f.good {
			r.id = f.head.log
			return
		}
	}
	for _, f := range r.files {
		rd, err := openReader(r.o.FS, r.path(f.name))
		if err != nil {
			continue
		}
		defer rd.close()
		var h frame
		for at := rd.find(0, frameMagic); at >= 0; at = rd.find(at+1, frameMagic) {
			if h.take(rd.bytes(at, frameHead)) && h.segment == f.number {
				r.id = h.log
				return
			}
		}
	}
	r.id = newID()
}

// newID draws the number of a log; tests with golden files draw their own.
var newID = func() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return le.Uint64(b[:])
}
