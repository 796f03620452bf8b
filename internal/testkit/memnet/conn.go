// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package memnet

import (
	"io"
	"net"
	"syscall"
	"time"
)

// A Conn is one end of a connection. Its methods may be called from any goroutine.
type Conn struct {
	in, out       *stream // what this end reads, what it writes
	local, remote net.Addr
}

// Pipe makes a connection without a listener. Each direction holds buffer bytes, DefaultBuffer if 0.
func Pipe(buffer int) (client, server *Conn) {
	if buffer <= 0 {
		buffer = DefaultBuffer
	}
	a := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 49152}
	b := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883}
	return pair(a, b, buffer)
}

func pair(from, to net.Addr, buffer int) (client, server *Conn) {
	up, down := newStream(buffer), newStream(buffer)
	client = &Conn{in: down, out: up, local: from, remote: to}
	server = &Conn{in: up, out: down, local: to, remote: from}
	return client, server
}

// Read implements net.Conn. It returns io.EOF after the other end has closed, or closed for writing, and all was read.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

// Write implements net.Conn. It blocks while the buffer is full.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

// Close implements net.Conn. The other end reads what was written before, then io.EOF; its writes fail.
func (c *Conn) Close() error {
	if !c.in.closeRead() {
		return c.wrap("close", net.ErrClosed)
	}
	c.out.closeWrite(net.ErrClosed)
	return nil
}

// CloseWrite ends this end's output; it goes on reading.
func (c *Conn) CloseWrite() error {
	c.out.closeWrite(syscall.EPIPE)
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	c.out.setWriteDeadline(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setWriteDeadline(t)
	return nil
}

// Cut resets the connection: both ends see ECONNRESET at once, and what was under way is lost.
func (c *Conn) Cut() {
	c.in.reset()
	c.out.reset()
}

// Freeze stops (or, with false, resumes) the flow of bytes in both directions: readers wait, writers fill the buffer and
// wait. Nothing is lost.
func (c *Conn) Freeze(on bool) {
	c.in.freeze(on)
	c.out.freeze(on)
}

// SetLatency has bytes written from now on arrive d later, in both directions.
func (c *Conn) SetLatency(d time.Duration) {
	c.in.setLatency(d)
	c.out.setLatency(d)
}

// wrap gives an error the shape that package net gives it; io.EOF stays as it is.
func (c *Conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}
