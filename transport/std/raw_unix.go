// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package std

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawSocket is a socket that the loop reads and writes itself. Its descriptor is valid until the loop closes the socket.
type rawSocket struct {
	rc     syscall.RawConn
	fd     int
	probed bool               // the socket was empty: whatever woke us is news
	ready  func(uintptr) bool // conn.isReady, made once
	wait   func()             // conn.await, made once
}

// initSocket decides how the connection is read and written.
func (c *conn) initSocket() {
	if c.stream != nil {
		return
	}
	switch c.sock.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		c.stream = c.sock
		return
	}
	rc, err := c.sock.(syscall.Conn).SyscallConn()
	if err == nil {
		err = rc.Control(func(fd uintptr) { c.raw.fd = int(fd) })
	}
	if err != nil { // the socket is closed: the first read says so
		c.stream = c.sock
		return
	}
	c.raw.rc, c.raw.ready, c.raw.wait = rc, c.isReady, c.await
}

// park starts the reader. It is kept shallow: its stack is most of what an idle connection costs.
func (c *conn) park() {
	if c.stream != nil {
		go c.read()
	} else {
		go c.raw.wait()
	}
}

// await is the reader of a socket that the loop reads itself: it only waits.
func (c *conn) await() {
	c.raw.probed = false
	c.gotErr = c.raw.rc.Read(c.raw.ready)
	c.home.Load().Post((*arrival)(c))
}

// isReady reports whether there is something to read, the end included. The runtime's poller tells of changes only, so
// the first question is for the socket.
func (c *conn) isReady(fd uintptr) bool {
	if c.raw.probed {
		return true
	}
	c.raw.probed = true
	poll := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll[:], 0)
	return n != 0 || err != nil // after an error the loop's read will know better
}

// read reads once, without blocking.
func (r *rawSocket) read(b []byte) (int, error) {
	for {
		n, err := unix.Read(r.fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, errAgain
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// write writes once, without blocking; a full socket takes nothing.
func (r *rawSocket) write(bufs [][]byte) (int, error) {
	for {
		n, err := writev(r.fd, bufs)
		switch err {
		case nil:
			return n, nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}
