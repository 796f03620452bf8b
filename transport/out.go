// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import "sync"

// outStart is the size of a connection's first buffer, outKeep the largest that goes back to the pool.
const (
	outStart = 4 << 10
	outKeep  = 64 << 10
)

var outPool = sync.Pool{New: func() any { b := make([]byte, 0, outStart); return &b }}

// Out is a connection's queue of bytes to be written: small bytes copied into one pooled buffer, large ones by
// reference. An empty queue holds no buffer. Not safe for concurrent use.
type Out struct {
	buf  *[]byte // pooled; nil when empty
	refs []ref   // in order of at
	held int     // bytes in refs
}

// ref is a block that is written after the first at bytes of buf.
type ref struct {
	at int
	b  []byte
}

// Len is the number of bytes that wait, those of referenced blocks included.
func (o *Out) Len() int {
	if o.buf == nil {
		return 0
	}
	return len(*o.buf) + o.held
}

// Buf gives the tail to append to: dst := o.Buf(); dst = append(dst, ...); o.Set(dst). Nothing else may touch the queue between the two.
func (o *Out) Buf() []byte {
	if o.buf == nil {
		o.buf = outPool.Get().(*[]byte)
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
	o.refs = append(o.refs, ref{at: len(buf), b: b})
	o.held += len(b)
}

// Slices appends the waiting bytes to dst, in order, for one writev. They belong to the queue and stand until the next
// call of any other method.
func (o *Out) Slices(dst [][]byte) [][]byte {
	if o.buf == nil {
		return dst
	}
	from := 0
	for _, r := range o.refs {
		if r.at > from {
			dst = append(dst, (*o.buf)[from:r.at])
			from = r.at
		}
		dst = append(dst, r.b)
	}
	if len(*o.buf) > from {
		dst = append(dst, (*o.buf)[from:])
	}
	return dst
}

// Take moves all that waits into to, which must be empty, and leaves o empty.
func (o *Out) Take(to *Out) {
	*to, *o = *o, Out{refs: to.refs[:0]}
}

// Reset drops all that waits and gives the buffer back.
func (o *Out) Reset() {
	if o.buf != nil {
		if cap(*o.buf) <= outKeep {
			*o.buf = (*o.buf)[:0]
			outPool.Put(o.buf)
		}
		o.buf = nil
	}
	clear(o.refs)
	o.refs, o.held = o.refs[:0], 0
}
