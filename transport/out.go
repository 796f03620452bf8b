// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"math"
	"sync"

	"github.com/noctule/noctule/internal/invariants"
)

// outStart is the size of a connection's first buffer, outKeep the largest that goes back to the pool.
const (
	outStart = 4 << 10
	outKeep  = 128 << 10
)

// outRefs is the most references for which a buffer that goes back keeps room.
const outRefs = 256

var outPool = sync.Pool{New: func() any {
	b := &outBuffer{b: make([]byte, outStart)}
	invariants.Poison(b.b)
	b.b = b.b[:0]
	return b
}}

// Out is a connection's queue of bytes to be written: small bytes copied into one pooled buffer, large ones by
// reference. An empty queue holds no buffer. Not safe for concurrent use, with one exception: what Slices and First gave may be
// read by another goroutine while the owner appends, for appending moves or changes no byte that already waits.
type Out struct {
	buf  *outBuffer // pooled; nil when empty
	held int        // bytes in refs
	head int        // bytes at the front of buf that are written already
}

// outBuffer is what a queue that is not empty holds.
type outBuffer struct {
	b    []byte
	refs []ref // in order of at
	done int   // refs[:done] are written, and cleared
}

// ref is a block that is written after the first at bytes of buf.
type ref struct {
	at    int
	b     []byte
	block *Block // whose reference goes when it is written; nil for memory of the garbage collector
	seal  invariants.Seal
}

// referenced is how checks call what Ref was given.
const referenced = "a block that an out-queue refers to"

// Len is the number of bytes that wait, those of referenced blocks included.
func (o *Out) Len() int {
	if o.buf == nil {
		return 0
	}
	return len(o.buf.b) - o.head + o.held
}

func (o *Out) buffer() *outBuffer {
	if o.buf == nil {
		o.buf = outPool.Get().(*outBuffer)
		invariants.CheckPoison(o.buf.b[:cap(o.buf.b)], "the buffer of an out-queue")
	}
	return o.buf
}

// Buf gives the buffer to append to: dst := o.Buf(); dst = append(dst, ...); o.Set(dst). Nothing else may touch the
// queue between the two. What Buf gave is not to be changed: bytes before its end may be on their way.
func (o *Out) Buf() []byte { return o.buffer().b }

// Set takes back what Buf gave, with more appended.
func (o *Out) Set(b []byte) { o.buf.b = b }

// Append copies b to the end.
func (o *Out) Append(b []byte) { o.Set(append(o.Buf(), b...)) }

// Ref puts b at the end without copying it. b must not change until it is written: pass memory of the garbage
// collector that nobody writes to any more.
func (o *Out) Ref(b []byte) { o.refer(b, nil) }

// RefBlock puts the bytes of a block at the end without copying them. A reference of the caller's becomes the queue's.
func (o *Out) RefBlock(k *Block) { o.refer(k.b, k) }

func (o *Out) refer(b []byte, k *Block) {
	buf := o.buffer()
	r := ref{at: len(buf.b), b: b, block: k}
	r.seal.Close(b)
	buf.refs = append(buf.refs, r)
	o.held += len(b)
}

// Slices appends the waiting bytes to dst, in order. They belong to the queue and stand until the next call of Advance, Take or
// Reset.
func (o *Out) Slices(dst [][]byte) [][]byte { return o.First(dst, math.MaxInt) }

// First does as Slices does, for about the first most slices: for one writev. It gives one at least if anything waits.
func (o *Out) First(dst [][]byte, most int) [][]byte {
	if o.buf == nil {
		return dst
	}
	from, b, most := o.head, o.buf.b, most+len(dst)
	for i := o.buf.done; i < len(o.buf.refs); i++ {
		r := &o.buf.refs[i]
		if len(dst) >= most {
			return dst
		}
		if r.at > from {
			dst = append(dst, b[from:r.at])
			from = r.at
		}
		if len(r.b) > 0 {
			r.seal.Check(r.b, referenced)
			dst = append(dst, r.b)
		}
	}
	if len(b) > from && len(dst) < most {
		dst = append(dst, b[from:])
	}
	return dst
}

// Advance drops the first n bytes, which have been written. n is at most Len.
func (o *Out) Advance(n int) {
	if n == o.Len() {
		o.Reset()
		return
	}
	buf := o.buf
	for n > 0 {
		stop := len(buf.b)
		if buf.done < len(buf.refs) {
			stop = buf.refs[buf.done].at
		}
		if step := min(n, stop-o.head); step > 0 {
			o.head += step
			n -= step
			continue
		}
		r := &buf.refs[buf.done]
		step := min(n, len(r.b))
		r.seal.Check(r.b, referenced)
		r.b = r.b[step:]
		r.seal.Close(r.b)
		o.held -= step
		n -= step
		if len(r.b) == 0 {
			r.release()
			buf.done++
		}
	}
	o.compact()
}

// release gives up what a reference refers to.
func (r *ref) release() {
	if r.block != nil {
		r.block.Release(1)
	}
	*r = ref{}
}

// compact moves what waits to the front once more than half of it is written, so that a queue that never runs empty does not grow
// without end.
func (o *Out) compact() {
	buf := o.buf
	if buf.done > len(buf.refs)-buf.done {
		left := copy(buf.refs, buf.refs[buf.done:])
		clear(buf.refs[left:])
		buf.refs, buf.done = buf.refs[:left], 0
	}
	b := buf.b
	if o.head <= len(b)-o.head {
		return
	}
	buf.b = b[:copy(b, b[o.head:])]
	invariants.Poison(b[len(buf.b):])
	for i := buf.done; i < len(buf.refs); i++ {
		buf.refs[i].at -= o.head
	}
	o.head = 0
}

// Take moves all that waits into to, which must be empty, and leaves o empty.
func (o *Out) Take(to *Out) { *to, *o = *o, Out{} }

// Reset drops all that waits and gives the buffer back.
func (o *Out) Reset() {
	buf := o.buf
	if buf == nil {
		return
	}
	for i := buf.done; i < len(buf.refs); i++ {
		buf.refs[i].release()
	}
	*o = Out{}
	invariants.Poison(buf.b[:cap(buf.b)])
	if cap(buf.b) > outKeep {
		return
	}
	buf.b, buf.refs, buf.done = buf.b[:0], buf.refs[:0], 0
	if cap(buf.refs) > outRefs {
		buf.refs = nil
	}
	outPool.Put(buf)
}
