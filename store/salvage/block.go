// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/sstable/valblk"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The end of a table of format Pebblev7:
//
//	footer  checksum type u8 | metaindex handle | index handle | zeros | attributes u32 | crc u32 of all the rest | version u32 | magic
const (
	footerLen      = 61
	footerAttrs    = 41
	footerChecksum = 45
	footerVersion  = 49
	footerMagic    = "\xf0\x9f\xaa\xb3\xf0\x9f\xaa\xb3"

	checksumCRC32C = 1
	formatPebblev7 = 7

	rangeDelName   = "rocksdb.range_del2"
	valueIndexName = "pebble.value_index"

	// window is how much is read at once. Blocks of Options have about 8 KiB.
	window = 64 << 10
)

var errChecksum = errors.New("its checksum is wrong")

// blocks reads the blocks of one table. Pebble's own reader would do, but it needs the properties and looks for the flipped bit in
// a block whose checksum is wrong, for up to 16 s per MiB.
type blocks struct {
	file       vfs.File
	size       int64
	pool       block.BufferPool
	attributes sstable.Attributes
	index      block.Handle
	metaindex  block.Handle
	ahead      []byte // bytes of the file from aheadAt
	aheadAt    int64
	single     []byte // buffer for a block that is not read ahead
}

// init reads the footer.
func (b *blocks) init() error {
	var f [footerLen]byte
	if err := b.readAt(f[:], b.size-footerLen); err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	sum := masked(crc32.Update(crc32.Checksum(f[:footerChecksum], castagnoli), castagnoli, f[footerVersion:]))
	switch {
	case string(f[footerLen-len(footerMagic):]) != footerMagic:
		return errors.New("footer: is none")
	case sum != binary.LittleEndian.Uint32(f[footerChecksum:]):
		return fmt.Errorf("footer: %w", errChecksum)
	case f[0] != checksumCRC32C || binary.LittleEndian.Uint32(f[footerVersion:]) != formatPebblev7:
		return errors.New("footer: another format of tables")
	}
	b.attributes = sstable.Attributes(binary.LittleEndian.Uint32(f[footerAttrs:]))
	var n, m int
	b.metaindex, n = block.DecodeHandle(f[1:footerAttrs])
	if n > 0 {
		b.index, m = block.DecodeHandle(f[1+n : footerAttrs])
	}
	if n == 0 || m == 0 {
		return errors.New("footer: no handles")
	}
	return nil
}

// meta calls f for each block named in the metaindex.
func (b *blocks) meta(f func(name string, value []byte) error) error {
	v, err := b.read(b.metaindex, false, nil)
	if err != nil {
		return err
	}
	defer v.Release()
	var d colblk.KeyValueBlockDecoder
	d.Init(v.BlockData())
	for i := range d.BlockDecoder().Rows() {
		if err := f(string(d.KeyAt(i)), d.ValueAt(i)); err != nil {
			return err
		}
	}
	return nil
}

// checkMeta reads all blocks that hold no rows, and calls bad for each that is damaged.
func (b *blocks) checkMeta(bad func(name string, err error)) {
	err := b.meta(func(name string, value []byte) error {
		var err error
		switch name {
		case rangeDelName: // the scanner reads it
		case valueIndexName:
			err = b.checkValues(value)
		default:
			h, _ := block.DecodeHandle(value)
			err = b.check(h)
		}
		if err != nil {
			bad(name, err)
		}
		return nil
	})
	if err != nil {
		bad("metaindex", err)
	}
}

// checkValues reads all blocks with values of older versions.
func (b *blocks) checkValues(value []byte) error {
	h, _, err := valblk.DecodeIndexHandle(value)
	if err != nil {
		return err
	}
	v, err := b.read(h.Handle, false, nil)
	if err != nil {
		return err
	}
	defer v.Release()
	all, err := valblk.DecodeIndex(v.BlockData(), h)
	for i := 0; err == nil && i < len(all); i++ {
		err = b.check(all[i])
	}
	return err
}

// check reads a block for its checksum only.
func (b *blocks) check(h block.Handle) error {
	_, err := b.raw(h, false)
	return err
}

// read reads a block, checks it, decompresses it, and prepares it with prepare. The caller has to release it. Ahead says
// that the next blocks of the file will be wanted, too.
func (b *blocks) read(h block.Handle, ahead bool, prepare func(*block.Metadata, []byte) error) (block.Value, error) {
	raw, err := b.raw(h, ahead)
	if err != nil {
		return block.Value{}, err
	}
	data, how := raw[:h.Length], block.CompressionIndicator(raw[h.Length])
	n := len(data)
	if how != block.NoCompressionIndicator {
		if n, err = block.DecompressedLen(how, data); err != nil {
			return block.Value{}, err
		}
	}
	v := block.Alloc(n, &b.pool)
	good := false
	defer func() {
		if !good {
			v.Release()
		}
	}()
	if how == block.NoCompressionIndicator {
		copy(v.BlockData(), data)
	} else if err = block.DecompressInto(how, data, v.BlockData()); err != nil {
		return block.Value{}, err
	}
	if prepare != nil {
		if err = prepare(v.BlockMetadata(), v.BlockData()); err != nil {
			return block.Value{}, err
		}
	}
	good = true
	return v, nil
}

// raw reads a block with its trailer (how it is compressed, checksum) and checks it. It is good until the next call.
func (b *blocks) raw(h block.Handle, ahead bool) ([]byte, error) {
	n := int64(h.Length) + block.TrailerLen
	if h.Offset > uint64(b.size) || h.Length > uint64(b.size) || n > b.size-int64(h.Offset) {
		return nil, errors.New("is not inside of the file")
	}
	raw, err := b.bytes(int64(h.Offset), n, ahead)
	if err != nil {
		return nil, err
	}
	if checksum(raw[:h.Length+1]) != binary.LittleEndian.Uint32(raw[h.Length+1:]) {
		return nil, fmt.Errorf("block at byte %d: %w", h.Offset, errChecksum)
	}
	return raw, nil
}

func (b *blocks) bytes(at, n int64, ahead bool) ([]byte, error) {
	if at >= b.aheadAt && at+n <= b.aheadAt+int64(len(b.ahead)) {
		return b.ahead[at-b.aheadAt:][:n], nil
	}
	if ahead && n <= window {
		if cap(b.ahead) == 0 {
			b.ahead = make([]byte, 0, window)
		}
		b.ahead, b.aheadAt = b.ahead[:min(window, b.size-at)], at
		if b.readAt(b.ahead, at) == nil {
			return b.ahead[:n], nil
		}
		b.ahead = b.ahead[:0] // something behind it may be unreadable
	}
	if int64(cap(b.single)) < n {
		b.single = make([]byte, n)
	}
	b.single = b.single[:n]
	return b.single, b.readAt(b.single, at)
}

func (b *blocks) readAt(p []byte, at int64) error {
	if at < 0 {
		return errors.New("is too short")
	}
	n, err := b.file.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	return err
}
