// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/noctule/noctule/internal/invariants"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
)

// Sizes of input buffers, in bytes.
const (
	streamRoom  = 16 << 10 // most that a stream's reader brings: a TLS record
	streamSmall = 4 << 10  // what a reader that cannot wait without a buffer waits with
)

var (
	scratches = pool{name: "a loop's buffer for input"}
	larges    = pool{name: "a large buffer of a stream"}
	smalls    = pool{name: "a small buffer of a stream"}
)

func init() {
	scratches.New = func() any { return fresh(front.MaxRead) }
	larges.New = func() any { return fresh(streamRoom) }
	smalls.New = func() any { return fresh(streamSmall) }
}

// A pool keeps empty buffers of one size.
type pool struct {
	sync.Pool
	name string
}

func fresh(size int) *[]byte {
	b := make([]byte, size)
	invariants.Poison(b)
	b = b[:0]
	return &b
}

// take gives an empty buffer.
func (p *pool) take() *[]byte {
	b := p.Get().(*[]byte)
	invariants.CheckPoison((*b)[:cap(*b)], p.name)
	return b
}

// give takes a buffer back, which nobody may use any more.
func (p *pool) give(b *[]byte) {
	invariants.Poison((*b)[:cap(*b)])
	*b = (*b)[:0]
	p.Put(b)
}

// errAgain says that the socket is empty.
var errAgain = errors.New("transport: nothing to read")

// readOn waits for further input, unless that happens already or none is wanted.
func (c *conn) readOn() {
	if c.reading || c.paused || c.peerGone || c.state == closed {
		return
	}
	c.reading = true
	c.park()
}

// arrival is the task that a reader posts: there is input, or the end of it.
type arrival conn

func (t *arrival) Run(l *loop.Loop) {
	if c := (*conn)(t); c.here(l, t) {
		c.arrived()
	}
}

// arrived reads, feeds and waits on.
func (c *conn) arrived() {
	defer c.contain()
	c.reading = false
	if c.state == closed {
		c.dispose()
		return
	}
	full, err := c.pull()
	switch {
	case err == nil && full && !c.paused && c.state != closed:
		// There is more, most likely: no need to wait for it, but others come first.
		c.reading = true
		c.home.Load().Post((*arrival)(c))
	case err == nil || err == errAgain:
		c.readOn()
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF): // TLS calls an end without notice unexpected
		c.peerEnded()
	default:
		c.closeNow(err)
	}
}

// peerEnded ends the connection for the peer's end of stream. What the core has to say is still written: the peer may
// have closed only its own direction.
func (c *conn) peerEnded() {
	c.peerGone = true
	if c.state == lingering {
		c.closeNow(nil)
		return
	}
	c.closeAfterFlush(io.EOF)
}

// resumption feeds again what was left when the connection was paused.
type resumption conn

func (t *resumption) Run(l *loop.Loop) {
	c := (*conn)(t)
	if !c.here(l, t) {
		return
	}
	defer c.contain()
	c.reading = false
	if c.state == closed {
		c.dispose()
		return
	}
	if tail := c.in.Tail(); len(tail) > 0 && c.state == open {
		c.offer(tail)
	}
	c.readOn()
}

// pull reads once and feeds the core. full says that the buffer was filled.
func (c *conn) pull() (full bool, err error) {
	var b []byte
	var old int
	if c.in.Large() {
		b, old = c.in.Grow()
	} else { // behind a copy of the tail in the loop's buffer
		p := scratches.take()
		defer scratches.give(p)
		b = (*p)[:cap(*p)]
		old = copy(b, c.in.Tail())
	}
	n, err := c.fill(b[old:])
	if n > 0 {
		c.digest(b[:old+n], old)
	}
	return old+n == len(b), err
}

// fill reads once into b, which has room for all that a stream's reader may bring. Nothing there is errAgain. Bytes may
// come with an error.
func (c *conn) fill(b []byte) (n int, err error) {
	if c.stream == nil && c.gotErr == nil {
		n, err = c.raw.read(b)
	} else {
		if c.got != nil {
			n = copy(b, *c.got)
		}
		err = c.gotErr
		c.freeGot()
	}
	c.srv.bytesRead.Add(int64(n))
	return n, err
}

// digest takes input in: b[:old] was there before, b[old:] is new and may be changed.
func (c *conn) digest(b []byte, old int) {
	if c.state != open {
		return
	}
	var err error
	if c.ws != nil {
		var n int
		var owed bool
		if n, owed, err = c.ws.Decode(b[old:]); owed {
			c.Dirty()
		}
		b = b[:old+n]
	}
	c.offer(b)
	if err != nil {
		c.closeAfterFlush(err)
	}
}

// offer feeds the core and obeys it.
func (c *conn) offer(b []byte) {
	c.feeding = true
	v := c.in.Feed(c.core, b)
	c.feeding = false
	switch {
	case v == transport.Pause && c.state == open:
		c.paused = true
	case v > transport.Pause:
		c.Close(v)
	}
}

// read is the reader of a stream: it blocks until there is input and brings it in a pooled buffer.
func (c *conn) read() {
	if g, ok := c.stream.(*tlsStream); ok {
		c.got, c.gotErr = g.readRecord()
	} else {
		c.got, c.gotErr = c.readSmall()
	}
	c.home.Load().Post((*arrival)(c))
}

// readSmall waits with a small buffer, or a larger one if the last was filled.
func (c *conn) readSmall() (*[]byte, error) {
	from := &smalls
	if c.large {
		from = &larges
	}
	p := from.take()
	n, err := c.stream.Read((*p)[:cap(*p)])
	c.large = n == cap(*p)
	*p = (*p)[:n]
	if n == 0 {
		free(p)
		return nil, err
	}
	return p, err
}

// freeGot gives the reader's buffer back.
func (c *conn) freeGot() {
	if c.got != nil {
		free(c.got)
		c.got = nil
	}
	c.gotErr = nil
}

// free puts a reader's buffer into the pool it came from.
func free(p *[]byte) {
	if cap(*p) == streamSmall {
		smalls.give(p)
	} else {
		larges.give(p)
	}
}

// timedOut reports a read that found nothing in time; the stream goes on.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
