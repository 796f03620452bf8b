// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
)

// place is a row of sortedRows, or the end behind or before all.
type place struct {
	r    *sortedRows
	b, i int
}

// seek returns the place of the first row that is not before key.
func (r *sortedRows) seek(key []byte) place {
	b, i, _ := r.find(key)
	p := place{r, max(b, 0), i}
	p.settle()
	return p
}

// settle moves a place behind the end of a block to the next one.
func (p *place) settle() {
	if p.b < len(p.r.blocks) && p.i == len(p.r.blocks[p.b]) {
		p.b, p.i = p.b+1, 0
	}
}

func (p *place) valid() bool { return p.r != nil && p.b >= 0 && p.b < len(p.r.blocks) }

func (p *place) row() row { return p.r.blocks[p.b][p.i] }

func (p *place) next() {
	p.i++
	p.settle()
}

func (p *place) prev() {
	if p.i--; p.i < 0 {
		if p.b--; p.b >= 0 {
			p.i = len(p.r.blocks[p.b]) - 1
		}
	}
}

// merging goes through the layers and the disk as one, forwards or backwards.
type merging struct {
	upper, lower place // active and frozen
	disk         *pebble.Iterator
	lent         bool // the disk's row in hand was given, and is to be stepped over
	down         bool
	from, to     []byte
}

// walk begins a walk through the rows with from <= key < to. The caller closes it.
func (o *overlay) walk(g *merging, from, to []byte, down bool) {
	*g = merging{down: down, from: from, to: to}
	g.upper = g.begin(&o.active.rows)
	if o.newerThan(from, o.frozenUpTo()) { // from is the row of a message: those behind it in its queue came later
		return
	}
	if o.frozen != nil {
		g.lower = g.begin(&o.frozen.rows)
	}
	if o.newerThan(from, o.flushed) {
		return
	}
	disk, err := o.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		o.fault(err)
		return
	}
	g.disk = disk
	if down {
		disk.Last()
	} else {
		disk.First()
	}
}

func (g *merging) begin(r *sortedRows) place {
	if !g.down {
		return r.seek(g.from)
	}
	p := r.seek(g.to)
	p.prev()
	return p
}

// inside says whether a layer's place is in the range.
func (g *merging) inside(p *place) bool {
	if !p.valid() {
		return false
	}
	if g.down {
		return bytes.Compare(p.row().key, g.from) >= 0
	}
	return bytes.Compare(p.row().key, g.to) < 0
}

// first says whether a comes before b on the way.
func (g *merging) first(a, b []byte) bool {
	if g.down {
		return bytes.Compare(a, b) > 0
	}
	return bytes.Compare(a, b) < 0
}

func (g *merging) step(p *place) {
	if g.down {
		p.prev()
	} else {
		p.next()
	}
}

// next returns the next row that is there. What it returns is lent until the next call.
func (g *merging) next() (key, value []byte, ok bool, err error) {
	if g.lent {
		g.lent = false
		g.stepDisk()
	}
	for {
		up, low, disk := g.inside(&g.upper), g.inside(&g.lower), g.disk != nil && g.disk.Valid()
		key = nil
		if up {
			key = g.upper.row().key
		}
		if low && (key == nil || g.first(g.lower.row().key, key)) {
			key = g.lower.row().key
		}
		if disk && (key == nil || g.first(g.disk.Key(), key)) {
			value, err = openRow(g.disk.Key(), g.disk.Value())
			g.lent = true
			return g.disk.Key(), value, err == nil, err
		}
		if key == nil {
			if g.disk != nil {
				err = g.disk.Error()
			}
			return nil, nil, false, err
		}
		if marked := g.take(key, up, low, disk); marked[0] != markGone {
			return key, marked[1:], true, nil
		}
	}
}

// take returns the newest value that a layer has for a key, and steps over it and what it hides.
func (g *merging) take(key []byte, up, low, disk bool) (marked []byte) {
	if up && bytes.Equal(g.upper.row().key, key) {
		marked = g.upper.row().value
		g.step(&g.upper)
	}
	if low && bytes.Equal(g.lower.row().key, key) {
		if marked == nil {
			marked = g.lower.row().value
		}
		g.step(&g.lower)
	}
	if disk && bytes.Equal(g.disk.Key(), key) {
		g.stepDisk()
	}
	return marked
}

func (g *merging) stepDisk() {
	if g.down {
		g.disk.Prev()
	} else {
		g.disk.Next()
	}
}

func (g *merging) close() {
	if g.disk != nil {
		_ = g.disk.Close() // what could not be read, next has told
	}
}

// Scan calls yield for the rows with from <= key < to, in order.
func (o *overlay) Scan(from, to []byte, yield func(key, value []byte) bool) {
	if err := o.scan(from, to, yield); err != nil {
		o.fault(err)
	}
}

func (o *overlay) scan(from, to []byte, yield func(key, value []byte) bool) error {
	var g merging
	o.walk(&g, from, to, false)
	defer g.close()
	for {
		key, value, ok, err := g.next()
		if err != nil {
			return err
		}
		if !ok || !yield(key, value) {
			return nil
		}
	}
}

// Last returns the last row with from <= key < to.
func (o *overlay) Last(from, to []byte) (key, value []byte, ok bool) {
	var g merging
	o.walk(&g, from, to, true)
	defer g.close()
	key, value, ok, err := g.next()
	if err != nil {
		o.fault(err)
	}
	return bytes.Clone(key), bytes.Clone(value), ok
}
