// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Tags of the fields of a version edit, as Pebble v2 writes them. All others are refused.
const (
	tagComparer    = 1
	tagLogNumber   = 2
	tagNextFile    = 3
	tagLastSeq     = 4
	tagPointer     = 5
	tagDeleted     = 6
	tagTable4      = 103
	tagTable5      = 104 // with range keys
	tagTableEnd    = 1
	tagMarked      = 2
	tagCreated     = 6
	tagVirtual     = 66
	tagPrefix      = 67
	tagSuffix      = 68
	tagBlobs       = 69
	hasPoints      = 1
	lastLevel      = 6
	trailerLen     = 8
	exclusiveBound = 1<<64 - 1<<8 | 15 // trailer of the largest key of a table that ends with a range deletion
)

var errEdit = errors.New("a record of the MANIFEST is not understood")

// A version is the set of live tables, as the records so far have it.
type version struct {
	comparer string
	live     map[uint64]*table
}

// apply takes one record.
func (v *version) apply(record []byte) error {
	f := fields{b: record}
	var added []*table
	for len(f.b) > 0 && !f.bad {
		switch tag := f.number(); tag {
		case tagComparer:
			v.comparer = string(f.bytes())
		case tagLogNumber, tagNextFile, tagLastSeq:
			f.number()
		case tagPointer:
			f.number()
			f.bytes()
		case tagDeleted:
			level, number := f.number(), f.number()
			t := v.live[number]
			if f.bad || t == nil || t.level != int(level) {
				return fmt.Errorf("%w: it deletes table %d of level %d, which is not there", errEdit, number, level)
			}
			delete(v.live, number)
		case tagTable4, tagTable5:
			added = append(added, f.table(tag == tagTable5))
		default:
			return fmt.Errorf("%w: tag %d", errEdit, tag)
		}
	}
	if f.bad {
		return fmt.Errorf("%w: it is too short", errEdit)
	}
	for _, t := range added { // last, because a move to another level deletes and adds
		if v.live[t.number] != nil {
			return fmt.Errorf("%w: it adds table %d twice", errEdit, t.number)
		}
		v.live[t.number] = t
	}
	return nil
}

// fields takes a record apart.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) number() uint64 {
	n, size := binary.Uvarint(f.b)
	if size <= 0 {
		f.b, f.bad = nil, true
		return 0
	}
	f.b = f.b[size:]
	return n
}

func (f *fields) bytes() []byte {
	n := f.number()
	if n > uint64(len(f.b)) {
		f.b, f.bad = nil, true
		return nil
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) table(ranges bool) *table {
	t := &table{level: int(min(f.number(), lastLevel+1))}
	t.number, t.size = f.number(), int64(f.number())
	points := true
	if ranges {
		t.foreign = "has range keys, which are not understood"
		if len(f.b) == 0 {
			f.bad = true
			return t
		}
		points = f.b[0]&hasPoints != 0
		f.b = f.b[1:]
	}
	if points {
		f.bounds(t)
	}
	if ranges {
		f.bounds(t)
	}
	t.oldest, t.newest = f.number(), f.number()
	f.custom(t)
	f.bad = f.bad || t.level > lastLevel || t.size < 0
	return t
}

// bounds widens the bounds of a table by two internal keys: user key and trailer.
func (f *fields) bounds(t *table) {
	from, to := f.bytes(), f.bytes()
	if len(from) < trailerLen || len(to) < trailerLen {
		f.bad = true
		return
	}
	from = bytes.Clone(from[:len(from)-trailerLen])
	end := to[: len(to)-trailerLen : len(to)-trailerLen]
	if binary.LittleEndian.Uint64(to[len(end):]) == exclusiveBound {
		end = bytes.Clone(end)
	} else {
		end = after(end)
	}
	if t.end == nil || bytes.Compare(from, t.smallest) < 0 {
		t.smallest = from
	}
	if t.end == nil || bytes.Compare(end, t.end) > 0 {
		t.end = end
	}
}

// custom takes the tagged fields at the end of a table.
func (f *fields) custom(t *table) {
	for !f.bad {
		switch tag := f.number(); tag {
		case tagTableEnd:
			return
		case tagMarked, tagCreated:
			f.bytes()
		case tagVirtual:
			f.number()
			t.foreign = "is a part of another file"
		case tagPrefix, tagSuffix:
			f.bytes()
			t.foreign = "has keys that are made when they are read"
		case tagBlobs:
			f.number()
			for n := f.number(); n > 0 && !f.bad; n-- {
				f.number()
				f.number()
			}
			t.foreign = "has values in other files"
		default:
			f.bad = true
		}
	}
}

// after is the key that comes next after a key, in a new slice.
func after(key []byte) []byte {
	return append(bytes.Clone(key), 0)
}
