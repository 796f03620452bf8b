// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/noctule/noctule/mqtt"
)

// errCorrupt is any record or row that does not decode.
var errCorrupt = errors.New("store: corrupt record")

// decoder takes apart what the append functions below wrote. After the first fault it gives zeros, and err is set.
type decoder struct {
	b     []byte
	err   error
	owned bool // b is the decoder's, and so what is decoded may be parts of it
}

func (d *decoder) fault() { d.b, d.err = nil, errCorrupt }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fault()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) bool() bool {
	c := d.byte()
	if c > 1 {
		d.fault()
	}
	return c == 1
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fault()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fault()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint16() uint16 {
	v := d.uint()
	if v > 0xFFFF {
		d.fault()
	}
	return uint16(v)
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > 0xFFFFFFFF {
		d.fault()
	}
	return uint32(v)
}

// bytes is lent from the input.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fault()
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

// string is a copy, or a part of the input where that is the decoder's own.
func (d *decoder) string() string {
	b := d.bytes()
	if d.owned {
		return unsafe.String(unsafe.SliceData(b), len(b)) // nobody writes to it
	}
	return string(b)
}

// part is bytes to keep: a copy, or a part of the input where that is the decoder's own. Empty is nil.
func (d *decoder) part() []byte {
	b := d.bytes()
	if len(b) == 0 {
		return nil
	}
	if d.owned {
		return b[:len(b):len(b)]
	}
	return bytes.Clone(b)
}

// count reads a number of elements that take at least one byte each, so that a corrupt one cannot ask for more memory
// than the input has bytes.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fault()
		return 0
	}
	return int(n)
}

func (d *decoder) owner() Owner { return Owner{SessionID(d.uint()), d.uint()} }
func (d *decoder) ref() Ref     { return Ref{d.uint16(), Position(d.uint())} }

// end is the decoder's verdict: all of the input must be used up.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fault()
	}
	return d.err
}

func appendUint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }
func appendInt(dst []byte, v int64) []byte   { return binary.AppendVarint(dst, v) }

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(appendUint(dst, uint64(len(s))), s...)
}

func appendOwner(dst []byte, o Owner) []byte {
	return appendUint(appendUint(dst, uint64(o.ID)), o.Epoch)
}

func appendRef(dst []byte, r Ref) []byte {
	return appendUint(appendUint(dst, uint64(r.Group)), uint64(r.Position))
}

func appendRefs(dst []byte, refs []Ref) []byte {
	dst = appendUint(dst, uint64(len(refs)))
	for _, r := range refs {
		dst = appendRef(dst, r)
	}
	return dst
}

func (d *decoder) refs() []Ref {
	n := d.count()
	if n == 0 {
		return nil
	}
	refs := make([]Ref, 0, n)
	for range n {
		refs = append(refs, d.ref())
	}
	return refs
}

func appendShared(dst []byte, shared []Shared) []byte {
	dst = appendUint(dst, uint64(len(shared)))
	for _, s := range shared {
		dst = appendRef(appendString(dst, s.Filter), s.Ref)
	}
	return dst
}

func (d *decoder) shared() []Shared {
	n := d.count()
	if n == 0 {
		return nil
	}
	shared := make([]Shared, 0, n)
	for range n {
		shared = append(shared, Shared{d.string(), d.ref()})
	}
	return shared
}

func appendSubscription(dst []byte, s *Subscription) []byte {
	dst = append(appendString(dst, s.Filter), byte(s.QoS), s.RetainHandling)
	dst = appendBool(appendBool(dst, s.NoLocal), s.RetainAsPublished)
	return appendUint(dst, uint64(s.Identifier))
}

func (d *decoder) subscription() Subscription {
	return Subscription{
		Filter:            d.string(),
		QoS:               mqtt.QoS(d.byte()),
		RetainHandling:    d.byte(),
		NoLocal:           d.bool(),
		RetainAsPublished: d.bool(),
		Identifier:        d.uint32(),
	}
}

func appendInflight(dst []byte, e *Inflight) []byte {
	dst = appendUint(dst, uint64(e.ID))
	dst = append(dst, byte(e.QoS), byte(e.State))
	dst = appendBool(dst, e.Retain)
	dst = appendUint(dst, uint64(len(e.Identifiers)))
	for _, id := range e.Identifiers {
		dst = appendUint(dst, uint64(id))
	}
	dst = appendString(appendRef(dst, e.Ref), e.Share)
	return appendMessage(dst, e.Message)
}

func (d *decoder) inflight() Inflight {
	e := Inflight{ID: d.uint16(), QoS: mqtt.QoS(d.byte()), State: SendState(d.byte()), Retain: d.bool()}
	if n := d.count(); n > 0 {
		e.Identifiers = make([]uint32, 0, n)
		for range n {
			e.Identifiers = append(e.Identifiers, d.uint32())
		}
	}
	e.Ref, e.Share, e.Message = d.ref(), d.string(), d.message()
	return e
}
