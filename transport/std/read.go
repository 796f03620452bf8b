// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
)

// Sizes of input buffers, in bytes.
const (
	scratchSize = 64 << 10 // the loop reads into it; most that is read at once
	streamRoom  = 16 << 10 // most that a stream's reader brings: a TLS record
	streamSmall = 4 << 10  // what a reader that cannot wait without a buffer waits with
)

var (
	scratches = sync.Pool{New: func() any { b := make([]byte, scratchSize); return &b }}
	larges    = sync.Pool{New: func() any { b := make([]byte, 0, streamRoom); return &b }}
	smalls    = sync.Pool{New: func() any { b := make([]byte, 0, streamSmall); return &b }}
)

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
	if len(c.tail) > 0 && c.state == open {
		c.feeding = true
		c.keep(c.offer(c.tail))
		c.feeding = false
	}
	c.readOn()
}

// pull reads once and feeds the core. full says that the buffer was filled.
func (c *conn) pull() (full bool, err error) {
	if len(c.tail) <= scratchSize/2 && c.need <= scratchSize {
		return c.pullScratch()
	}
	return c.pullTail()
}

// pullScratch reads behind a copy of the tail in the loop's buffer.
func (c *conn) pullScratch() (full bool, err error) {
	p := scratches.Get().(*[]byte)
	defer scratches.Put(p)
	b := *p
	old := copy(b, c.tail)
	n, err := c.fill(b[old:])
	if n > 0 {
		c.digest(b[:old+n], old)
	}
	return old+n == len(b), err
}

// pullTail reads into the tail itself: a packet that is larger than the loop's buffer.
func (c *conn) pullTail() (full bool, err error) {
	c.growTail()
	b := c.tail[:cap(c.tail)]
	old := len(c.tail)
	n, err := c.fill(b[old:])
	if n > 0 {
		c.digest(b[:old+n], old)
	}
	return old+n == len(b), err
}

// growTail makes room at the end of the tail. What was promised by the peer and has not arrived costs no memory but for
// a step: the larger of 64 KB and half of what is there, so that copying stays cheap.
func (c *conn) growTail() {
	have := len(c.tail)
	if cap(c.tail)-have >= streamRoom {
		return
	}
	room := min(max(c.need-have, streamRoom), max(scratchSize, have/2))
	grown := make([]byte, have, have+room)
	copy(grown, c.tail)
	c.tail = grown
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
	c.srv.counts.bytesRead.Add(int64(n))
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
		n, err = c.ws.decode(c, b[old:])
		b = b[:old+n]
	}
	c.feeding = true
	c.keep(c.offer(b))
	c.feeding = false
	if err != nil {
		c.closeAfterFlush(err)
	}
}

// offer feeds the core with b until it wants more than there is, and returns what it did not eat.
func (c *conn) offer(b []byte) []byte {
	for c.state == open && len(b) > 0 && len(b) >= c.need {
		eaten, need, v := c.core.Feed(b)
		b, c.need = b[eaten:], need
		switch v {
		case transport.GoOn:
			if need == 0 {
				return b
			}
			if eaten == 0 && len(b) >= need {
				panic("transport: the core wants what it has")
			}
		case transport.Pause:
			c.paused, c.need = true, 0
			return b
		default:
			c.Close(v)
		}
	}
	if c.state != open {
		return nil
	}
	return b
}

// keep stores what the core did not eat, in no more memory than it needs.
func (c *conn) keep(b []byte) {
	switch {
	case len(b) == 0:
		c.tail = nil
	case len(c.tail) > 0 && &b[0] == &c.tail[0]: // nothing was eaten
		c.tail = b
	case cap(c.tail) >= len(b) && cap(c.tail) <= 2*len(b)+streamRoom:
		c.tail = append(c.tail[:0], b...) // overlapping is fine
	default:
		c.tail = append(make([]byte, 0, len(b)), b...)
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
	pool := &smalls
	if c.large {
		pool = &larges
	}
	p := pool.Get().(*[]byte)
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
	*p = (*p)[:0]
	if cap(*p) == streamSmall {
		smalls.Put(p)
	} else {
		larges.Put(p)
	}
}

// timedOut reports a read that found nothing in time; the stream goes on.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
