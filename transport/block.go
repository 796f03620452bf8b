// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/noctule/noctule/internal/invariants"
)

// Sizes of pooled blocks, in bytes: powers of two from the smallest to the largest. Larger ones are made for the occasion.
const (
	blockSmallest = 1 << 9
	blockLargest  = 1 << 20
	blockSizes    = 12
	// blockKeep is how much of free blocks the pool keeps for each size; of those larger than that, one.
	blockKeep = 256 << 10
)

// A Block is bytes that many out-queues send without a copy of their own: a large payload on its way to many clients. It counts who
// refers to it, and its memory is used again when nobody does. Its bytes do not change in between. Any goroutine may use it that
// holds a reference; one that is lost costs no more than memory that the garbage collector takes.
type Block struct {
	b    []byte
	refs atomic.Int32
}

// NewBlock copies b into a block, to which the caller has the one reference.
func NewBlock(b []byte) *Block {
	k := blocks.take(len(b))
	k.b = append(k.b, b...)
	k.refs.Store(1)
	return k
}

// Bytes are what the block holds, to be read only, while a reference is held.
func (k *Block) Bytes() []byte { return k.b }

// Hold adds n references. The caller has one.
func (k *Block) Hold(n int) {
	if k.refs.Add(int32(n)) <= int32(n) {
		panic("transport: a block was held that nobody refers to")
	}
}

// Release takes n references back. After the last one the bytes are somebody else's.
func (k *Block) Release(n int) {
	switch left := k.refs.Add(-int32(n)); {
	case left < 0:
		panic("transport: a block was released too often")
	case left == 0:
		blocks.give(k)
	}
}

// BlockStats count blocks, for the process.
type BlockStats struct {
	InUse  int64 // bytes of the memory of blocks that somebody refers to
	Pooled int64 // bytes of the memory that waits to be used again
	Taken  int64 // blocks made of it, or of new memory, since the start
	Made   int64 // those of new memory
}

// Blocks returns the counters. From any goroutine.
func Blocks() BlockStats {
	s := BlockStats{InUse: blocks.inUse.Load(), Made: blocks.made.Load()}
	for i := range blocks.sizes {
		z := &blocks.sizes[i]
		z.mu.Lock()
		s.Taken += z.taken
		s.Pooled += int64(len(z.free)) * (blockSmallest << i)
		z.mu.Unlock()
	}
	s.Taken += blocks.huge.Load()
	return s
}

// blockPool keeps free blocks by size.
type blockPool struct {
	inUse, made, huge atomic.Int64
	sizes             [blockSizes]blockSize
}

// blockSize are the free blocks of one size. Its lock is a leaf, and held for a few instructions.
type blockSize struct {
	mu    sync.Mutex
	free  []*Block
	taken int64
	_     [24]byte // a cache line of its own
}

var blocks blockPool

// class is the index of the smallest size that holds n bytes; -1 if none does.
func class(n int) int {
	if n > blockLargest {
		return -1
	}
	return bits.Len(uint(max(n, 1)-1) >> (bits.Len(blockSmallest) - 1))
}

// take gives an empty block with room for n bytes.
func (p *blockPool) take(n int) *Block {
	i := class(n)
	if i < 0 {
		p.huge.Add(1)
		p.made.Add(1)
		p.inUse.Add(int64(n))
		return &Block{b: make([]byte, 0, n)}
	}
	p.inUse.Add(blockSmallest << i)
	z := &p.sizes[i]
	z.mu.Lock()
	z.taken++
	if last := len(z.free) - 1; last >= 0 {
		k := z.free[last]
		z.free[last] = nil
		z.free = z.free[:last]
		z.mu.Unlock()
		invariants.CheckPoison(k.b[:cap(k.b)], "a block")
		return k
	}
	z.mu.Unlock()
	p.made.Add(1)
	return &Block{b: make([]byte, 0, blockSmallest<<i)}
}

// give takes back a block to which nobody refers.
func (p *blockPool) give(k *Block) {
	size := cap(k.b)
	p.inUse.Add(-int64(size))
	invariants.Poison(k.b[:size])
	k.b = k.b[:0]
	i := class(size)
	if i < 0 {
		return
	}
	z := &p.sizes[i]
	z.mu.Lock()
	if len(z.free) < max(1, blockKeep/size) {
		z.free = append(z.free, k)
	}
	z.mu.Unlock()
}
