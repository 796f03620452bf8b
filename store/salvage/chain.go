// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The MANIFEST is a LevelDB log: blocks of 32 KiB, chunks that do not cross them, records of one or more chunks.
//
//	chunk  crc u32 of kind and bytes | length u16 | kind u8 (whole, first, middle, last) | bytes
const (
	chunkBlock = 32 << 10
	chunkHead  = 7

	wholeChunk  = 1
	firstChunk  = 2
	middleChunk = 3
	lastChunk   = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum of LevelDB, RocksDB and Pebble.
func masked(c uint32) uint32 { return (c>>15 | c<<17) + 0xA282EAD8 }

func checksum(b []byte) uint32 { return masked(crc32.Checksum(b, castagnoli)) }

// A chain reads records from copies of one file, each chunk from the first copy in which it is whole.
type chain struct {
	copies [2]chunks
	at     int64  // offset of the block
	offset int    // of the next chunk in the block
	record []byte // reused
	open   bool   // the block has been read
}

// chunks is one of the copies.
type chunks struct {
	file  vfs.File // nil = there is none
	bad   string   // what was wrong, or ""
	block [chunkBlock]byte
	n     int // bytes of block
}

// next is the next record, good until the call after. It reports false at the end, or at a chunk that is whole nowhere.
func (c *chain) next() ([]byte, bool) {
	c.record = c.record[:0]
	for inside := false; ; {
		kind, body := c.chunk()
		switch {
		case kind == wholeChunk && !inside, kind == firstChunk && !inside, kind == middleChunk && inside, kind == lastChunk && inside:
			c.record = append(c.record, body...)
		default:
			return nil, false
		}
		c.offset += chunkHead + len(body)
		if kind == wholeChunk || kind == lastChunk {
			return c.record, true
		}
		inside = true
	}
}

// chunk is the chunk at the place reached; kind 0 = none of the copies has one.
func (c *chain) chunk() (kind byte, body []byte) {
	if !c.open || c.offset+chunkHead > chunkBlock {
		if c.open {
			c.at += chunkBlock
		}
		c.open, c.offset = true, 0
		for i := range c.copies {
			c.copies[i].read(c.at)
		}
	}
	for i := range c.copies {
		if kind, body = c.copies[i].chunk(c.offset); kind == 0 {
			continue
		}
		for j := range c.copies {
			other := &c.copies[j]
			if k, _ := other.chunk(c.offset); k == 0 && other.file != nil && other.bad == "" {
				other.bad = fmt.Sprintf("is damaged, or ends, at byte %d", c.at+int64(c.offset))
			}
		}
		return kind, body
	}
	return 0, nil
}

// torn says whether there is a record behind the place where the chain ended. If not, the end is what a power cut leaves of a
// record that was never synced: each record is synced before the next is written.
func (c *chain) torn() bool {
	for i := range c.copies {
		for o := c.offset; o+chunkHead <= c.copies[i].n; o++ {
			if kind, _ := c.copies[i].chunk(o); (kind == wholeChunk || kind == firstChunk) && o > c.offset {
				return true
			}
		}
		for at := c.at + chunkBlock; c.copies[i].read(at); at += chunkBlock {
			if kind, _ := c.copies[i].chunk(0); kind == wholeChunk || kind == firstChunk {
				return true
			}
		}
	}
	return false
}

// read reads a block, as far as the file goes, and reports whether there is anything of it.
func (c *chunks) read(at int64) bool {
	c.n = 0
	if c.file != nil {
		n, err := c.file.ReadAt(c.block[:], at)
		if err != nil && err != io.EOF && c.bad == "" {
			c.bad = err.Error()
		}
		c.n = max(n, 0)
	}
	return c.n > 0
}

// chunk is the chunk at an offset of the block; kind 0 = there is none that is whole.
func (c *chunks) chunk(offset int) (kind byte, body []byte) {
	b := c.block[min(offset, c.n):c.n]
	if len(b) < chunkHead {
		return 0, nil
	}
	end := chunkHead + int(binary.LittleEndian.Uint16(b[4:]))
	if kind = b[6]; kind < wholeChunk || kind > lastChunk || end > len(b) || checksum(b[6:end]) != binary.LittleEndian.Uint32(b) {
		return 0, nil
	}
	return kind, b[chunkHead:end]
}
