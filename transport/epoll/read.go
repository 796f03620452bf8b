// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"errors"
	"io"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
	"golang.org/x/sys/unix"
)

// errAgain says that the socket is empty.
var errAgain = errors.New("transport: nothing to read")

// readable reads once and passes on what came.
func (c *conn) readable() {
	if c.paused {
		c.deaf = true
		c.arm()
		return
	}
	var err error
	if t := c.secure(); t != nil {
		err = c.pullTLS(t)
	} else {
		err = c.pull()
	}
	c.ended(err)
}

// ended obeys the error of a read.
func (c *conn) ended(err error) {
	switch {
	case err == nil || err == errAgain || c.state == closed:
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF): // TLS calls an end without notice unexpected
		c.peerEnded()
	case c.state == peeling:
		c.refuse(front.Refuse(transport.CauseGone, err))
	default:
		c.closeNow(err)
	}
}

// pull reads a plain socket.
func (c *conn) pull() error {
	p := c.home.Load()
	b, old := c.room(p.in)
	n, err := c.fill(b[old:])
	if n > 0 {
		c.arrived(b[:old+n], old)
		p.lent(b[:old+n])
	}
	return err
}

// room is where to read into: behind a copy of what waits, in the loop's buffer, or, if that is too small, in memory of the
// connection.
func (c *conn) room(buffer []byte) (b []byte, old int) {
	switch {
	case c.state == peeling:
		return buffer, copy(buffer, c.more.peel.buf)
	case c.in == nil:
		return buffer, 0
	case c.in.Large():
		return c.in.Grow()
	}
	return buffer, copy(buffer, c.in.Tail())
}

// fill reads the socket once.
func (c *conn) fill(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(c.fd), b)
		switch {
		case err == nil && n > 0:
			return n, nil
		case err == nil:
			return 0, io.EOF
		case err == unix.EAGAIN:
			return 0, errAgain
		case err != unix.EINTR:
			return 0, err
		}
	}
}

// arrived takes in what was read, free of TLS: b[:old] was there before, b[old:] is new and may be changed.
func (c *conn) arrived(b []byte, old int) {
	c.li.srv.tallies[c.home.Load().loop.Index()].read.Add(int64(len(b) - old))
	switch {
	case c.state == peeling:
		c.peel(b)
	case c.state == open:
		c.digest(b, old)
	}
}

// digest has the core eat.
func (c *conn) digest(b []byte, old int) {
	var err error
	if w := c.frames(); w != nil {
		var n int
		var owed bool
		if n, owed, err = w.Decode(b[old:]); owed {
			c.Dirty()
		}
		b = b[:old+n]
	}
	c.offer(b)
	if err != nil {
		c.closeAfterFlush(err)
	}
}

// offer feeds the core, from the loop's intake if the connection has none, and obeys it. A paused core is not fed: TLS may bring more
// than was eaten before.
func (c *conn) offer(b []byte) {
	lent := c.in == nil
	if lent {
		c.in = &c.home.Load().intake
		*c.in = front.Intake{}
	}
	v := transport.GoOn
	if c.paused {
		c.in.Hold(b)
	} else {
		c.feeding = true
		v = c.in.Feed(c.core, b)
		c.feeding = false
	}
	switch {
	case c.state != open || c.in.Idle():
		c.in = nil
	case lent:
		own := *c.in
		c.in = &own
	}
	switch {
	case v == transport.Pause && c.state == open:
		c.paused = true
	case v > transport.Pause:
		c.Close(v)
	}
}
