// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"sync"

	"github.com/noctule/noctule/internal/invariants"
)

// outStart is the size of a connection's first buffer, outKeep the largest that goes back to the pool.
const (
	outStart = 4 << 10
	outKeep  = 128 << 10
)

var outPool = sync.Pool{New: func() any {
	b := make([]byte, outStart)
	invariants.Poison(b)
	b = b[:0]
	return &b
}}

// Out is a connection's queue of bytes to be written: small bytes copied into one pooled buffer, large ones by
// reference. An empty queue holds no buffer. Not safe for concurrent use, with one exception: what Slices gave may be
// read by another goroutine while the owner appends, for appending moves or changes no byte that already waits.
type Out struct {
	buf  *[]byte // pooled; nil when empty
	refs []ref   // in order of at
	held int     // bytes in refs
	head int     // bytes at the front of buf that are written already
}

// ref is a block that is written after the first at bytes of buf.
type ref struct {
	at   int
	b    []byte
	seal invariants.Seal
}

// referenced is how checks call what Ref was given.
const referenced = "a block that an out-queue refers to"

// Len is the number of bytes that wait, those of referenced blocks included.
func (o *Out) Len() int {
	if o.buf == nil {
		return 0
	}
	return len(*o.buf) - o.head + o.held
}

// Buf gives the buffer to append to: dst := o.Buf(); dst = append(dst, ...); o.Set(dst). Nothing else may touch the
// queue between the two. What Buf gave is not to be changed: bytes before its end may be on their way.
func (o *Out) Buf() []byte {
	if o.buf == nil {
		o.buf = outPool.Get().(*[]byte)
		invariants.CheckPoison((*o.buf)[:cap(*o.buf)], "the buffer of an out-queue")
	}
	return *o.buf
}

// Set takes back what Buf gave, with more appended.
func (o *Out) Set(b []byte) { *o.buf = b }

// Append copies b to the end.
func (o *Out) Append(b []byte) { o.Set(append(o.Buf(), b...)) }

// Ref puts b at the end without copying it. b must not change until it is written: pass memory of the garbage
// collector that nobody writes to any more.
func (o *Out) Ref(b []byte) {
	buf := o.Buf()
	r := ref{at: len(buf), b: b}
	r.seal.Close(b)
	o.refs = append(o.refs, r)
	o.held += len(b)
}

// Slices appends the waiting bytes to dst, in order, for one writev. They belong to the queue and stand until the next
// call of Advance, Take or Reset.
func (o *Out) Slices(dst [][]byte) [][]byte {
	if o.buf == nil {
		return dst
	}
	from := o.head
	for _, r := range o.refs {
		if r.at > from {
			dst = append(dst, (*o.buf)[from:r.at])
			from = r.at
		}
		r.seal.Check(r.b, referenced)
		dst = append(dst, r.b)
	}
	if len(*o.buf) > from {
		dst = append(dst, (*o.buf)[from:])
	}
	return dst
}

// Advance drops the first n bytes, which have been written. n is at most Len.
func (o *Out) Advance(n int) {
	if n == o.Len() {
		o.Reset()
		return
	}
	done := 0 // refs written wholly
	for n > 0 {
		stop := len(*o.buf)
		if done < len(o.refs) {
			stop = o.refs[done].at
		}
		if step := min(n, stop-o.head); step > 0 {
			o.head += step
			n -= step
			continue
		}
		r := &o.refs[done]
		step := min(n, len(r.b))
		r.seal.Check(r.b, referenced)
		r.b = r.b[step:]
		r.seal.Close(r.b)
		o.held -= step
		n -= step
		if len(r.b) == 0 {
			done++
		}
	}
	if done > 0 {
		kept := copy(o.refs, o.refs[done:])
		clear(o.refs[kept:])
		o.refs = o.refs[:kept]
	}
	o.compact()
}

// compact moves the waiting bytes to the front of the buffer once more than half of it is written, so that a queue that
// never runs empty does not grow without end.
func (o *Out) compact() {
	b := *o.buf
	if o.head <= len(b)-o.head {
		return
	}
	*o.buf = b[:copy(b, b[o.head:])]
	invariants.Poison(b[len(*o.buf):])
	for i := range o.refs {
		o.refs[i].at -= o.head
	}
	o.head = 0
}

// Take moves all that waits into to, which must be empty, and leaves o empty.
func (o *Out) Take(to *Out) {
	*to, *o = *o, Out{refs: to.refs[:0]}
}

// Reset drops all that waits and gives the buffer back.
func (o *Out) Reset() {
	if o.buf != nil {
		invariants.Poison((*o.buf)[:cap(*o.buf)])
		if cap(*o.buf) <= outKeep {
			*o.buf = (*o.buf)[:0]
			outPool.Put(o.buf)
		}
		o.buf = nil
	}
	clear(o.refs)
	o.refs, o.held, o.head = o.refs[:0], 0, 0
}
