// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/sstable/valblk"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// bundle is the number of keys with a common prefix in Pebble's default layout of a data block. It is part of the format on disk.
const bundle = 16

var keySchema = colblk.DefaultKeySchema(comparer, bundle)

var errOrder = errors.New("a block holds keys that are not its own")

// A scanner goes through one table: rows forward, range deletions along with them. What it cannot read it reports as lost, and
// goes on behind it.
type scanner struct {
	*table
	blocks
	lose func(t *table, from, to []byte, err error)

	top, leaf colblk.IndexIter // leaf is used if the index has two levels
	data      colblk.DataBlockIter
	values    valblk.Reader // never read from: it makes what stands for a value in another block
	blockEnd  []byte        // all keys of the data block are <= blockEnd
	from      []byte        // what is not read yet is >= from, except for older versions of the key before
	inTop     bool          // top stands at a block
	hasLeaf   bool
	inLeaf    bool // leaf stands at a block
	inData    bool // data stands at a row
	inOrder   bool // from is a key of the index, with a zero behind
	failed    bool

	key       []byte // of the row, good until next
	trailer   uint64 // sequence number and kind of the row
	value     []byte // of the row, good until next
	elsewhere bool   // the value is in another block

	spans *colblk.KeyspanIter // range deletions; nil = there are none any more
	span  *sstable.Span
}

// open reads what the table has besides rows, and goes to its first row. It reports false, with the whole table lost, if that
// cannot be done. There may be no row; then key is nil.
func open(t *table, fs vfs.FS, dir string, lose func(*table, []byte, []byte, error)) (s *scanner, ok bool) {
	s = &scanner{table: t, lose: lose, from: t.smallest}
	defer func() {
		if err := asError(recover()); err != nil {
			lose(t, t.smallest, t.end, err)
			ok = false
		}
		if !ok {
			s.close()
			s = nil
		}
	}()
	s.pool.Init(6)
	s.blocks.size = t.size
	err := errors.New(t.foreign)
	if t.foreign == "" {
		if s.file, err = fs.Open(fs.PathJoin(dir, t.name())); err == nil {
			err = s.start()
		}
	}
	if err != nil {
		lose(t, t.smallest, t.end, err)
		return s, false
	}
	s.next()
	return s, true
}

// asError is a panic, as an error. Pebble's decoders panic at what they do not understand.
func asError(p any) error {
	if p == nil {
		return nil
	}
	return fmt.Errorf("is not understood: %v", p)
}

func (s *scanner) start() error {
	if err := s.blocks.init(); err != nil {
		return err
	}
	if s.attributes.Has(sstable.AttributeRangeDels) {
		if err := s.readDeletions(); err != nil {
			return err
		}
	}
	v, err := s.read(s.index, false, colblk.InitIndexBlockMetadata)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	s.data.InitOnce(&keySchema, comparer, &s.values)
	return s.top.InitHandle(comparer, v.MakeHandle(), block.NoTransforms)
}

func (s *scanner) readDeletions() error {
	var h block.Handle
	err := s.meta(func(name string, value []byte) error {
		if name == rangeDelName {
			h, _ = block.DecodeHandle(value)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("metaindex: %w", err)
	}
	v, err := s.read(h, false, colblk.InitKeyspanBlockMetadata)
	if err != nil {
		return fmt.Errorf("range deletions: %w", err)
	}
	s.spans = colblk.NewKeyspanIter(comparer.Compare, v.MakeHandle(), block.NoFragmentTransforms)
	s.span, err = s.spans.First()
	return err
}

func (s *scanner) close() {
	if s.spans != nil {
		s.spans.Close()
	}
	_ = s.data.Close() // they give buffers back and never fail
	_ = s.leaf.Close()
	_ = s.top.Close()
	s.pool.Release()
	if s.file != nil {
		_ = s.file.Close() // it was only read
	}
}

// next goes to the next row: greater keys first, older versions of one key last. At the end key is nil.
func (s *scanner) next() {
	defer func() {
		if err := asError(recover()); err != nil {
			s.lose(s.table, s.from, s.end, err)
			s.key, s.failed = nil, true
		}
	}()
	for !s.failed {
		if s.inData && s.row() {
			return
		}
		if s.inData {
			s.inData, s.inOrder, s.from = false, true, after(s.blockEnd)
		}
		if !s.nextBlock() {
			break
		}
	}
	s.key = nil
}

// row takes the next row of the data block.
func (s *scanner) row() bool {
	kv := s.data.Next()
	if kv == nil {
		return false
	}
	s.key, s.trailer = kv.K.UserKey, uint64(kv.K.Trailer)
	if s.elsewhere = !kv.V.IsInPlaceValue(); s.elsewhere {
		s.value = nil
	} else {
		s.value = kv.V.InPlaceValue()
	}
	return true
}

// nextBlock goes to the next data block, or over one that is lost. It reports false at the end of the table.
func (s *scanner) nextBlock() bool {
	index := &s.top
	if !s.attributes.Has(sstable.AttributeTwoLevelIndex) {
		if !step(&s.top, &s.inTop) {
			return false
		}
	} else {
		index = &s.leaf
		for !s.hasLeaf || !step(&s.leaf, &s.inLeaf) {
			if !step(&s.top, &s.inTop) {
				return false
			}
			s.readLeaf()
		}
	}
	s.blockEnd = append(s.blockEnd[:0], index.Separator()...)
	if err := s.readData(index); err != nil {
		s.skip(s.blockEnd, err)
	}
	return true
}

// step goes to the first block of an index, and then to the next.
func step(i *colblk.IndexIter, inside *bool) bool {
	if !*inside {
		*inside = true
		return i.First()
	}
	return i.Next()
}

// skip gives up what is not read yet up to a key, inclusive.
func (s *scanner) skip(end []byte, err error) {
	to := after(end)
	s.lose(s.table, s.from, to, err)
	s.from, s.inOrder = to, true
}

// readLeaf reads the index block at which top stands.
func (s *scanner) readLeaf() {
	s.hasLeaf, s.inLeaf = false, false
	v, err := s.readIndexed(&s.top, false, colblk.InitIndexBlockMetadata)
	if err == nil {
		err = s.leaf.InitHandle(comparer, v.MakeHandle(), block.NoTransforms)
	}
	if err != nil {
		s.skip(s.top.Separator(), fmt.Errorf("index: %w", err))
		return
	}
	s.hasLeaf = true
}

// readData reads the data block at which an index stands, and goes in front of its first row.
func (s *scanner) readData(index *colblk.IndexIter) error {
	v, err := s.readIndexed(index, true, func(m *block.Metadata, b []byte) error {
		return colblk.InitDataBlockMetadata(&keySchema, m, b)
	})
	if err != nil {
		return err
	}
	if err := s.data.InitHandle(comparer, v.MakeHandle(), block.NoTransforms); err != nil {
		return err
	}
	last := s.data.Last()
	if last == nil || bytes.Compare(last.K.UserKey, s.blockEnd) > 0 || bytes.Compare(last.K.UserKey, s.end) >= 0 {
		return errOrder
	}
	least := s.from
	if s.inOrder { // older versions of the last key of the block before may follow
		least = least[:len(least)-1]
	}
	if first := s.data.First(); bytes.Compare(first.K.UserKey, least) < 0 {
		return errOrder
	}
	s.data.Prev() // in front of the first row
	s.inData = true
	return nil
}

func (s *scanner) readIndexed(index *colblk.IndexIter, ahead bool, prepare func(*block.Metadata, []byte) error) (block.Value, error) {
	h, err := index.BlockHandleWithProperties()
	if err != nil {
		return block.Value{}, err
	}
	return s.read(h.Handle, ahead, prepare)
}

func (s *scanner) seq() uint64 { return s.trailer >> 8 }

func (s *scanner) kind() byte { return byte(s.trailer) }

// deleted is the greatest sequence number with which a range deletion of this table covers a key, or 0. Keys must be asked for in
// their order.
func (s *scanner) deleted(key []byte) (seq uint64) {
	for s.span != nil && bytes.Compare(s.span.End, key) <= 0 {
		s.nextSpan()
	}
	if s.span == nil || bytes.Compare(key, s.span.Start) < 0 {
		return 0
	}
	for _, k := range s.span.Keys {
		seq = max(seq, uint64(k.SeqNum()))
	}
	return seq
}

func (s *scanner) nextSpan() {
	from := bytes.Clone(s.span.End)
	defer func() {
		if err := asError(recover()); err != nil {
			s.lose(s.table, from, s.end, err)
			s.span = nil
		}
	}()
	span, err := s.spans.Next()
	if err != nil {
		s.lose(s.table, from, s.end, fmt.Errorf("range deletions: %w", err))
	}
	s.span = span
}

// done says that there is nothing any more that the table can say of keys to come.
func (s *scanner) done() bool { return s.key == nil && s.span == nil }
