// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"

	"github.com/noctule/noctule/mqtt"
)

// overlay is rows and bodies on a disk: what changed since the last checkpoint is in memory, in the active layer, above a
// Pebble instance with all that is older. At a checkpoint the active layer is frozen, a new one begins above it, and the
// frozen one is written to Pebble in the background, in one atomic batch. What comes and goes between two checkpoints never
// reaches the disk but in the log.
//
// The rules of rows hold: one goroutine changes it, reads may run beside each other.
type overlay struct {
	db     *pebble.DB
	active *layer
	frozen *layer // nil, or on its way to db
	// flushed is the position up to which db holds everything. Rows of messages that came later are in the layers only.
	flushed Position
	fault   func(error) // told of what could not be read; the rows read are not to be trusted then
	marked  []byte
}

// layer is what changed between two checkpoints. Each value begins with a mark.
type layer struct {
	rows  sortedRows
	bytes int64 // about, rows and bodies
	// bodies are the messages of the positions from first on, in steps of two; nil where there is none, or it was freed.
	first    Position
	bodies   []*mqtt.Message
	volatile map[Ref]*mqtt.Message // those that are never written out
	applied  Position              // the last command in it, once it is frozen
}

// Marks of values in a layer.
const (
	markGone  = iota // deleted here, and may be in what is below
	markSet          // set here, and may be in what is below
	markFresh        // set here, and not in what is below
)

// rowOverhead is about what a row costs in memory besides its bytes.
const rowOverhead = 64

var errRow = errors.New("a row's checksum does not match")

func newOverlay(db *pebble.DB, fault func(error)) *overlay {
	return &overlay{db: db, active: &layer{}, flushed: ^Position(0), fault: fault} // all is in db until somebody knows better
}

// Get returns the newest value of a row.
func (o *overlay) Get(key []byte) ([]byte, bool) {
	if v, ok := o.active.rows.Get(key); ok {
		return v[1:], v[0] != markGone
	}
	if o.newerThan(key, o.frozenUpTo()) {
		return nil, false
	}
	if o.frozen != nil {
		if v, ok := o.frozen.rows.Get(key); ok {
			return v[1:], v[0] != markGone
		}
	}
	if o.newerThan(key, o.flushed) {
		return nil, false
	}
	v, err := o.fromDB(key)
	switch {
	case err == nil:
		return v, true
	case !errors.Is(err, pebble.ErrNotFound):
		o.fault(err)
	}
	return nil, false
}

// fromDB reads a value from the disk.
func (o *overlay) fromDB(key []byte) ([]byte, error) {
	stored, closer, err := o.db.Get(key)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	v, err := openRow(key, stored)
	return bytes.Clone(v), err
}

// newerThan says that a row, if it is there at all, came after a position: rows of messages are named by theirs.
func (o *overlay) newerThan(key []byte, at Position) bool {
	switch {
	case len(key) < prefixLen+8:
		return false
	case key[2] == kindQueue:
		return len(key) >= prefixLen+16 && keyNumber2(key) > uint64(at)
	}
	return key[2] == kindRefs && keyNumber(key) > uint64(at)
}

// frozenUpTo is the last position that is in the frozen layer or below.
func (o *overlay) frozenUpTo() Position {
	if o.frozen != nil {
		return o.frozen.applied
	}
	return o.flushed
}

func (o *overlay) Set(key, value []byte) { o.set(key, value, markSet) }

// Insert is Set for a key that is not there.
func (o *overlay) Insert(key, value []byte) { o.set(key, value, markFresh) }

func (o *overlay) set(key, value []byte, mark byte) {
	l := o.active
	b, i, ok := l.rows.find(key)
	if !ok {
		o.marked = append(append(o.marked[:0], mark), value...)
		l.rows.insert(b, i, key, o.marked)
		l.bytes += int64(len(key) + len(o.marked) + rowOverhead)
		return
	}
	old := l.rows.blocks[b][i].value
	if mark = old[0]; mark == markGone {
		mark = markSet
	}
	l.bytes += int64(1 + len(value) - len(old))
	o.marked = append(append(o.marked[:0], mark), value...)
	l.rows.replace(b, i, o.marked)
}

func (o *overlay) Delete(key []byte) {
	l := o.active
	b, i, ok := l.rows.find(key)
	if !ok {
		l.rows.insert(b, i, key, gone)
		l.bytes += int64(len(key) + len(gone) + rowOverhead)
		return
	}
	old := l.rows.blocks[b][i].value
	switch old[0] {
	case markFresh:
		l.bytes -= int64(len(key) + len(old) + rowOverhead)
		l.rows.remove(b, i)
	case markSet:
		l.bytes += int64(len(gone) - len(old))
		l.rows.replace(b, i, gone)
	}
}

// gone is the value of what was deleted.
var gone = []byte{markGone}

// Put keeps a message.
func (o *overlay) Put(ref Ref, m *mqtt.Message) {
	l := o.active
	l.bytes += int64(m.Size()) + rowOverhead
	if ref.Position.volatile() {
		if l.volatile == nil {
			l.volatile = map[Ref]*mqtt.Message{}
		}
		l.volatile[ref] = m
		return
	}
	if len(l.bodies) == 0 {
		l.first = ref.Position
	}
	i := int(ref.Position-l.first) / 2
	for len(l.bodies) < i {
		l.bodies = append(l.bodies, nil)
	}
	l.bodies = append(l.bodies, m)
}

// messageAt returns a message that was put and not freed.
func (o *overlay) messageAt(ref Ref) (*mqtt.Message, error) {
	if m, ok := o.inMemory(ref); ok {
		return m, nil
	}
	var k keys
	v, err := o.fromDB(k.number(ref.Group, kindBody, uint64(ref.Position)))
	if err != nil {
		return nil, bodyError(ref, err)
	}
	return decodeBody(v)
}

func bodyError(ref Ref, err error) error {
	return fmt.Errorf("store: message %d of group %d: %w", ref.Position, ref.Group, err)
}

// inMemory finds a message that is in a layer, or can be nowhere else.
func (o *overlay) inMemory(ref Ref) (*mqtt.Message, bool) {
	if ref.Position.volatile() {
		m, ok := o.active.volatile[ref]
		return m, ok
	}
	if m := o.active.body(ref.Position); m != nil {
		return m, true
	}
	if o.frozen != nil {
		if m := o.frozen.body(ref.Position); m != nil {
			return m, true
		}
	}
	return nil, false
}

func (l *layer) body(at Position) *mqtt.Message {
	if at < l.first {
		return nil
	}
	if i := int(at-l.first) / 2; i < len(l.bodies) {
		return l.bodies[i]
	}
	return nil
}

// span is how many positions there are from the first body to one that is written now.
func (l *layer) span(at Position) Position {
	if len(l.bodies) == 0 {
		return 0
	}
	return at - l.first
}

// Free lets a message go.
func (o *overlay) Free(ref Ref) {
	l := o.active
	if ref.Position.volatile() {
		if m, ok := l.volatile[ref]; ok {
			l.bytes -= int64(m.Size()) + rowOverhead
			delete(l.volatile, ref)
		}
		return
	}
	if m := l.body(ref.Position); m != nil {
		l.bytes -= int64(m.Size()) + rowOverhead
		l.bodies[int(ref.Position-l.first)/2] = nil
		return
	}
	var k keys
	o.Delete(k.number(ref.Group, kindBody, uint64(ref.Position)))
}

// freeze begins a new layer, and returns the one before, to be written out and then given to thaw. The caller sees to it
// that nothing is frozen yet.
func (o *overlay) freeze(applied Position) *layer {
	o.frozen = o.active
	o.frozen.applied = applied
	o.active = &layer{volatile: o.frozen.volatile} // they stay in memory
	for _, m := range o.active.volatile {
		o.active.bytes += int64(m.Size()) + rowOverhead
	}
	o.frozen.volatile = nil
	return o.frozen
}

// thaw forgets the frozen layer, which is in db now.
func (o *overlay) thaw() {
	o.flushed = o.frozen.applied
	o.frozen = nil
}

// writeTo puts all that a layer changed into a batch.
func (l *layer) writeTo(b *pebble.Batch, group func(topic string) uint16) error {
	from, to := allRows()
	var err error
	l.rows.Scan(from, to, func(key, value []byte) bool {
		if value[0] == markGone {
			err = b.Delete(key, nil)
			return err == nil
		}
		err = setRow(b, key, value[1:])
		return err == nil
	})
	var k keys
	var buf []byte
	for i, m := range l.bodies {
		if m == nil || err != nil {
			continue
		}
		at := l.first + 2*Position(i)
		buf = appendBody(buf[:0], m)
		err = setRow(b, k.number(group(m.Topic), kindBody, uint64(at)), buf)
	}
	return err
}

// setRow puts a row into a batch, with its checksum.
func setRow(b *pebble.Batch, key, value []byte) error {
	d := b.SetDeferred(len(key), len(value)+4)
	copy(d.Key, key)
	n := copy(d.Value, value)
	binary.BigEndian.PutUint32(d.Value[n:], rowChecksum(key, value))
	return d.Finish()
}

func rowChecksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// openRow checks a stored value, and returns it without its checksum.
func openRow(key, stored []byte) ([]byte, error) {
	n := len(stored) - 4
	if n < 0 || binary.BigEndian.Uint32(stored[n:]) != rowChecksum(key, stored[:n]) {
		return nil, fmt.Errorf("%w: %q", errRow, key)
	}
	return stored[:n], nil
}

// appendBody encodes a message as a row of its own.
func appendBody(dst []byte, m *mqtt.Message) []byte {
	return appendMessage(append(dst, rowVersion), m)
}

// decodeBody decodes what appendBody made. The message has bytes of its own, all in one piece.
func decodeBody(v []byte) (*mqtt.Message, error) {
	d := rowDecoder(bytes.Clone(v))
	d.owned = true
	m := d.message()
	if err := d.end(); err != nil || m == nil {
		return nil, errCorrupt
	}
	return m, nil
}

// overlaid is the bodies of an overlay.
type overlaid struct{ *overlay }

func (b overlaid) Get(ref Ref) (*mqtt.Message, error) { return b.messageAt(ref) }

func (b overlaid) Reader() bodyReader { return &bodiesInOrder{o: b.overlay} }

// bodiesInOrder reads messages of an overlay with an iterator for each group, since the next one wanted is mostly the next
// one there is.
type bodiesInOrder struct {
	o     *overlay
	iters []*pebble.Iterator // by group; nil where none was needed
	keys  keys
}

// Get returns a message.
func (b *bodiesInOrder) Get(ref Ref) (*mqtt.Message, error) {
	if m, ok := b.o.inMemory(ref); ok {
		return m, nil
	}
	it, err := b.iterator(ref.Group)
	if err != nil {
		return nil, err
	}
	key := b.keys.number(ref.Group, kindBody, uint64(ref.Position))
	if !it.Valid() || !it.Next() || !bytes.Equal(it.Key(), key) {
		it.SeekGE(key)
	}
	if !it.Valid() || !bytes.Equal(it.Key(), key) {
		if err = it.Error(); err == nil {
			err = pebble.ErrNotFound
		}
		return nil, bodyError(ref, err)
	}
	v, err := openRow(key, it.Value())
	if err != nil {
		return nil, bodyError(ref, err)
	}
	return decodeBody(v)
}

func (b *bodiesInOrder) iterator(group uint16) (*pebble.Iterator, error) {
	for len(b.iters) <= int(group) {
		b.iters = append(b.iters, nil)
	}
	if b.iters[group] == nil {
		var k keys
		from, to := k.all(group, kindBody)
		it, err := b.o.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			return nil, err
		}
		b.iters[group] = it
	}
	return b.iters[group], nil
}

// Close lets go of the iterators. What one could not read, Get has told.
func (b *bodiesInOrder) Close() {
	for _, it := range b.iters {
		if it != nil {
			_ = it.Close()
		}
	}
	b.iters = b.iters[:0]
}
