// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"net"

	"github.com/noctule/noctule/loop"
)

const (
	// flightMax is the most that a writer takes along. What it has taken leaves the queue only when all of it is
	// written, so it must be less than the budgets that the broker applies to the queue.
	flightMax = 256 << 10
	// chunkSize is the buffer in which a stream's small slices are joined, and what TLS puts into one record.
	chunkSize = 16 << 10
	// writevMax is how many slices one call takes; the systems allow 1024.
	writevMax = 64
)

// Flush implements loop.Flusher: it writes what can be written without blocking and leaves the rest to a writer.
func (c *conn) Flush(*loop.Loop) {
	switch {
	case c.writing:
		c.count()
	case c.state <= flushing:
		c.flush()
	default:
		c.out.Reset() // the core does not know yet that nobody reads it
	}
	if c.moving != nil {
		c.leave()
	}
}

func (c *conn) flush() {
	var room [8][]byte
	bufs := c.gather(room[:0])
	if c.stream == nil && len(bufs) > 0 {
		n, err := c.raw.write(bufs)
		if err != nil {
			c.closeNow(err)
			return
		}
		c.advance(n)
		bufs = c.gather(room[:0])
	}
	switch {
	case len(bufs) > 0:
		c.startWriter(bufs)
	case c.state == flushing:
		c.flushed()
	}
}

// gather appends to dst what is to be written next, in order.
func (c *conn) gather(dst [][]byte) [][]byte {
	if c.ws == nil {
		return c.out.First(dst, writevMax)
	}
	return c.ws.Gather(dst, &c.out)
}

// advance takes n written bytes from what gather gave.
func (c *conn) advance(n int) {
	c.srv.bytesWritten.Add(int64(n))
	if c.ws != nil {
		n = c.ws.Advance(n)
	}
	if n > 0 {
		c.out.Advance(n)
	}
}

// startWriter has the bytes written by a goroutine, which may block. They stay in the queue until it is home; what is
// queued meanwhile waits for its turn.
func (c *conn) startWriter(bufs [][]byte) {
	own := make(net.Buffers, 0, len(bufs))
	c.underway = 0
	for _, b := range bufs {
		b = b[:min(len(b), flightMax-c.underway)]
		if len(b) == 0 {
			break
		}
		own = append(own, b)
		c.underway += len(b)
	}
	c.writing, c.blocked = true, true
	c.count()
	go c.write(own)
}

// count tells the counters what waits for a writer.
func (c *conn) count() {
	now := 0
	if c.writing && c.state != closed {
		now = max(1, c.out.Len()) // never 0 while there is a writer: so it is known to be counted
	}
	c.srv.unsent.Add(int64(now - c.unsent))
	switch {
	case c.unsent == 0 && now > 0:
		c.srv.blocked.Add(1)
	case c.unsent > 0 && now == 0:
		c.srv.blocked.Add(-1)
	}
	c.unsent = now
}

// write is the writer.
func (c *conn) write(bufs net.Buffers) {
	if c.stream == nil {
		_, c.writeErr = bufs.WriteTo(c.sock)
	} else {
		c.writeErr = writeJoined(c.stream, bufs)
	}
	c.home.Load().Post((*written)(c))
}

// written is the task that a writer posts at its end.
type written conn

func (t *written) Run(l *loop.Loop) {
	c := (*conn)(t)
	if !c.here(l, t) {
		return
	}
	defer c.contain()
	c.writing = false
	switch {
	case c.state == closed:
		c.dispose()
		return
	case c.writeErr != nil:
		c.closeNow(c.writeErr)
		return
	case c.underway > 0:
		c.advance(c.underway)
		c.underway = 0
	}
	if c.state <= flushing {
		c.flush()
	}
	c.count()
	if c.blocked && !c.writing && c.state == open {
		c.blocked = false
		c.feeding = true
		c.core.Drained()
		c.feeding = false
	}
}

// closeWrite ends our direction of the socket. It reports false if the socket cannot do that.
func (c *conn) closeWrite() bool {
	if c.stream == nil {
		return halfClose(c.sock) == nil
	}
	c.writing = true
	go c.hangUp() // TLS has something to write
	return true
}

// hangUp is the writer that ends a stream's output.
func (c *conn) hangUp() {
	c.writeErr = halfClose(c.stream)
	c.home.Load().Post((*written)(c))
}

// halfClose closes a connection for writing, or wholly if it knows no such thing.
func halfClose(n net.Conn) error {
	if h, ok := n.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return n.Close()
}

// writeJoined writes bufs to a stream in pieces worth a record of TLS, without copying what is large.
func writeJoined(to net.Conn, bufs [][]byte) error {
	if len(bufs) == 1 {
		_, err := to.Write(bufs[0])
		return err
	}
	p := larges.take()
	defer free(p)
	chunk := (*p)[:0]
	for _, b := range bufs {
		if len(chunk)+len(b) > chunkSize {
			if _, err := to.Write(chunk); err != nil {
				return err
			}
			chunk = chunk[:0]
		}
		if len(b) <= chunkSize {
			chunk = append(chunk, b...)
		} else if _, err := to.Write(b); err != nil {
			return err
		}
	}
	_, err := to.Write(chunk)
	return err
}
