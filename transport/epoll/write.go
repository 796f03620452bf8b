// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"math"
	"unsafe"

	"github.com/noctule/noctule/loop"
	"golang.org/x/sys/unix"
)

const (
	// writeSlices is how many slices one call takes; the kernel allows 1024.
	writeSlices = 256
	// writeMost is what one connection writes at once; then others have their turn.
	writeMost = 1 << 20
	// recordsMost is what TLS encrypts before it is written.
	recordsMost = 64 << 10
)

// Flush implements loop.Flusher: it writes what can be written without blocking.
func (c *conn) Flush(*loop.Loop) {
	switch {
	case c.blocked:
		c.count()
	case c.state == open || c.state == flushing:
		c.flush()
	default:
		c.out.Reset() // the core does not know yet that nobody reads it
	}
	if c.moving != nil {
		c.leave()
	}
}

// flush writes. What is left waits for the socket.
func (c *conn) flush() {
	var err error
	var all bool
	if t := c.secure(); t != nil {
		all, err = c.flushTLS(t)
	} else {
		all, err = c.flushPlain()
	}
	switch {
	case err != nil:
		c.closeNow(err)
	case !all:
		c.blocked = true
		c.count()
		c.arm()
	case c.state == flushing:
		c.flushed()
	}
}

// count tells the tally what waits for the socket. A connection that is not blocked counts with nothing: what is in its queue goes out
// at the end of the iteration.
func (c *conn) count() {
	now := 0
	if c.blocked {
		now = max(1, min(c.out.Len()+c.ahead(), math.MaxInt32)) // never 0 while it is blocked: so it is known to be counted
	}
	if now == int(c.unsent) {
		return
	}
	t := &c.li.srv.tallies[c.home.Load().loop.Index()]
	t.unsent.Add(int64(now) - int64(c.unsent))
	switch {
	case c.unsent == 0:
		t.blocked.Add(1)
	case now == 0:
		t.blocked.Add(-1)
	}
	c.unsent = int32(now)
}

// ahead are the bytes that have left the out-queue and not been written: frames, and what TLS has encrypted.
func (c *conn) ahead() (n int) {
	if w := c.frames(); w != nil {
		n = w.Ahead()
	}
	if t := c.secure(); t != nil {
		n += t.gate.out.Len()
	}
	return n
}

// flushPlain writes without TLS and reports whether all is written.
func (c *conn) flushPlain() (all bool, err error) {
	p := c.home.Load()
	for written := 0; written < writeMost; {
		bufs := c.gather(p.slices[:0])
		if len(bufs) == 0 {
			return true, nil
		}
		n, short, err := p.write(int(c.fd), bufs)
		if err != nil {
			return false, err
		}
		c.advance(n)
		if short {
			return false, nil
		}
		written += n
		if c.out.Len() == 0 && c.frames() == nil {
			return true, nil
		}
	}
	return false, nil
}

// gather appends to dst what is to be written next, in order.
func (c *conn) gather(dst [][]byte) [][]byte {
	if w := c.frames(); w != nil {
		return w.Gather(dst, &c.out)
	}
	return c.out.First(dst, writeSlices)
}

// advance takes n written bytes from what gather gave.
func (c *conn) advance(n int) {
	c.li.srv.tallies[c.home.Load().loop.Index()].written.Add(int64(n))
	if w := c.frames(); w != nil {
		n = w.Advance(n)
	}
	if n > 0 {
		c.out.Advance(n)
	}
}

// write writes once, without blocking, and forgets bufs. short says that the socket is full.
func (p *Poller) write(fd int, bufs [][]byte) (n int, short bool, err error) {
	defer clear(bufs)
	bufs = bufs[:min(len(bufs), writeSlices)]
	for {
		if len(bufs) == 1 {
			n, err = unix.Write(fd, bufs[0])
		} else {
			n, err = p.writev(fd, bufs)
		}
		switch err {
		case nil:
			total := 0
			for _, b := range bufs {
				total += len(b)
			}
			return n, n < total, nil
		case unix.EAGAIN:
			return 0, true, nil
		case unix.EINTR:
		default:
			return 0, false, err
		}
	}
}

// writev is that of the system, without the allocation that package unix makes for more than a few slices. None of them is empty.
func (p *Poller) writev(fd int, bufs [][]byte) (int, error) {
	iov := p.iovecs[:len(bufs)]
	for i, b := range bufs {
		iov[i].Base = &b[0]
		iov[i].SetLen(len(b))
	}
	n, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	clear(iov)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// writable goes on writing, and tells the core when all is written.
func (c *conn) writable() {
	c.blocked = false
	c.flush()
	if c.blocked || c.state == closed {
		return
	}
	c.count()
	c.arm()
	if c.state == open {
		c.feeding = true
		c.core.Drained()
		c.feeding = false
	}
}
