// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"sort"
)

// rows is the ordered key-value interface below the machine. One goroutine changes it; Get and Scan may run beside each
// other, but not beside a change. Keys and values handed in are copied; those handed out are lent until the next change.
type rows interface {
	// Get returns the value of key, and whether there is one.
	Get(key []byte) (value []byte, ok bool)
	Set(key, value []byte)
	// Insert is Set for a key that is not there.
	Insert(key, value []byte)
	Delete(key []byte)
	// Scan calls yield in order for the rows from <= key < to, until it returns false. Nothing may be changed meanwhile.
	Scan(from, to []byte, yield func(key, value []byte) bool)
	// Last returns the last row with from <= key < to.
	Last(from, to []byte) (key, value []byte, ok bool)
}

// blockRows is how many rows a block of sortedRows holds at most. Measured with a million rows on a busy machine: a write
// at a random place costs 1.5, 1.4 and 1.2 us with 32, 128 and 512, one at the end of a queue 0.23 us with each. The
// smaller blocks move less memory when a queue is trimmed at its front.
const blockRows = 128

// row is one key with its value; both are parts of one allocation.
type row struct{ key, value []byte }

// sortedRows is rows in memory: sorted rows in blocks of bounded size, the blocks in one sorted slice. Simpler than a
// balanced tree, and as fast up to tens of millions of rows.
type sortedRows struct {
	blocks [][]row // none is empty
}

// find returns the place of key: its block, its index there, and whether it is there. For a key that is not there it is
// the place to insert it; without blocks that is block -1.
func (r *sortedRows) find(key []byte) (block, index int, found bool) {
	block = sort.Search(len(r.blocks), func(i int) bool { return bytes.Compare(r.blocks[i][0].key, key) > 0 }) - 1
	if block < 0 {
		if len(r.blocks) == 0 {
			return -1, 0, false
		}
		return 0, 0, false
	}
	rows := r.blocks[block]
	lo, hi := 0, len(rows)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(rows[mid].key, key); {
		case c == 0:
			return block, mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return block, lo, false
}

func (r *sortedRows) Get(key []byte) ([]byte, bool) {
	b, i, ok := r.find(key)
	if !ok {
		return nil, false
	}
	return r.blocks[b][i].value, true
}

func (r *sortedRows) Set(key, value []byte) {
	if b, i, ok := r.find(key); ok {
		r.replace(b, i, value)
	} else {
		r.insert(b, i, key, value)
	}
}

// replace changes the value of the row at a place.
func (r *sortedRows) replace(b, i int, value []byte) {
	rw := &r.blocks[b][i]
	if len(value) <= cap(rw.value) {
		rw.value = append(rw.value[:0], value...)
	} else {
		*rw = newRow(rw.key, value)
	}
}

// insert puts a row to the place that find gave for its key.
func (r *sortedRows) insert(b, i int, key, value []byte) {
	if b < 0 {
		r.blocks = append(r.blocks, append(make([]row, 0, 4), newRow(key, value)))
		return
	}
	if len(r.blocks[b]) == blockRows {
		b, i = r.split(b, i)
	}
	rows := append(r.blocks[b], row{})
	copy(rows[i+1:], rows[i:])
	rows[i] = newRow(key, value)
	r.blocks[b] = rows
}

func (r *sortedRows) Insert(key, value []byte) { r.Set(key, value) }

// split makes room in block b for an insertion at i, and returns where it goes now. A block that grows at its end, as
// those of queues do, is left full.
func (r *sortedRows) split(b, i int) (block, index int) {
	full := r.blocks[b]
	at := len(full) / 2
	if i == len(full) {
		at = len(full)
	}
	right := append(make([]row, 0, max(len(full)-at, 4)), full[at:]...)
	clear(full[at:])
	if at < len(full) {
		r.blocks[b] = full[:at]
	}
	if len(right) == 0 { // the insertion begins a block of its own
		if b+1 < len(r.blocks) && len(r.blocks[b+1]) < blockRows {
			return b + 1, 0
		}
		r.insertBlock(b+1, right)
		return b + 1, 0
	}
	r.insertBlock(b+1, right)
	if i > at {
		return b + 1, i - at
	}
	return b, i
}

func (r *sortedRows) insertBlock(b int, rows []row) {
	r.blocks = append(r.blocks, nil)
	copy(r.blocks[b+1:], r.blocks[b:])
	r.blocks[b] = rows
}

func (r *sortedRows) Delete(key []byte) {
	if b, i, ok := r.find(key); ok {
		r.remove(b, i)
	}
}

// remove takes the row at a place away.
func (r *sortedRows) remove(b, i int) {
	rows := r.blocks[b]
	if i == 0 { // queues are trimmed at their front: move nothing
		rows[0] = row{}
		rows = rows[1:]
	} else {
		copy(rows[i:], rows[i+1:])
		rows[len(rows)-1] = row{}
		rows = rows[:len(rows)-1]
	}
	if len(rows) > 0 {
		r.blocks[b] = rows
		return
	}
	copy(r.blocks[b:], r.blocks[b+1:])
	r.blocks[len(r.blocks)-1] = nil
	r.blocks = r.blocks[:len(r.blocks)-1]
}

func (r *sortedRows) Scan(from, to []byte, yield func(key, value []byte) bool) {
	b, i, _ := r.find(from)
	for b = max(b, 0); b < len(r.blocks); b, i = b+1, 0 {
		for _, rw := range r.blocks[b][i:] {
			if bytes.Compare(rw.key, to) >= 0 || !yield(rw.key, rw.value) {
				return
			}
		}
	}
}

func (r *sortedRows) Last(from, to []byte) (key, value []byte, ok bool) {
	b, i, _ := r.find(to)
	if i == 0 {
		return nil, nil, false // find gives the first place of a block only where nothing is before it
	}
	rw := r.blocks[b][i-1]
	return rw.key, rw.value, bytes.Compare(rw.key, from) >= 0
}

func newRow(key, value []byte) row {
	both := make([]byte, len(key)+len(value))
	n := copy(both, key)
	copy(both[n:], value)
	return row{both[:n:n], both[n:]}
}
