// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// subscribeBatch is how many filters go into one SUBSCRIBE.
const subscribeBatch = 100

// A phase of a connection's life.
type phase byte

const (
	upgrading   phase = iota // waits for the answer to the WebSocket upgrade
	connecting               // waits for CONNACK
	subscribing              // waits for SUBACKs
	ready
	leaving // said goodbye: waits for the end of the connection
	gone
)

// A role is what a client is there for.
type role interface {
	connected(*conn)
	receive(*conn, packet) error
}

// client describes a client before it connects.
type client struct {
	id      string
	filters []string
	qos     byte // of its subscriptions
	role    role // nil: it only connects

	persistent bool // its session outlives the connection
}

// conn is one client's connection.
type conn struct {
	engine *engine
	client client
	fd     int
	index  int32
	phase  phase
	dirty  bool // in the engine's list
	armed  bool // waits for room in the socket

	tail    []byte // input that is not a whole packet yet
	out     []byte
	written int // bytes at the front of out that are written
	frames  *frames
	subacks int // still to come
}

// write queues bytes that are framed already.
func (c *conn) write(b []byte) {
	c.out = append(c.out, b...)
	if !c.dirty {
		c.dirty = true
		c.engine.dirty = append(c.engine.dirty, c)
	}
}

// send queues a packet.
func (c *conn) send(b []byte) {
	if c.frames != nil {
		c.out = appendFrame(c.out, len(b))
	}
	c.write(b)
}

// acknowledge queues a packet that holds nothing but an identifier.
func (c *conn) acknowledge(first byte, id uint16) {
	ack := [4]byte{first, 2, byte(id >> 8), byte(id)}
	c.send(ack[:])
}

// read reads once and hands on what arrived.
func (c *conn) read() error {
	b := c.engine.scratch
	old := copy(b, c.tail)
	n, err := unix.Read(c.fd, b[old:])
	if c.phase == leaving && err != unix.EAGAIN && err != unix.EINTR {
		return c.left(n)
	}
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("load: client %s: read: %w", c.client.id, err)
	case n == 0:
		return fmt.Errorf("load: client %s: %w", c.client.id, io.ErrUnexpectedEOF)
	}
	fresh := b[old : old+n]
	if c.phase == upgrading {
		if fresh, err = c.upgraded(b[:old+n]); err != nil || fresh == nil {
			return err
		}
		b, old = fresh, 0
	}
	if c.frames != nil {
		if fresh, err = c.frames.decode(fresh); err != nil {
			return fmt.Errorf("client %s: %w", c.client.id, err)
		}
	}
	return c.digest(b[:old+len(fresh)])
}

// digest takes the packets out of b and keeps the rest.
func (c *conn) digest(b []byte) error {
	for {
		p, size, err := cut(b)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		if c.phase == ready && c.client.role != nil {
			err = c.client.role.receive(c, p)
		} else {
			err = c.advance(p)
		}
		if err != nil {
			return fmt.Errorf("client %s: %w", c.client.id, err)
		}
		b = b[size:]
	}
	c.tail = append(c.tail[:0], b...)
	return nil
}

// upgraded takes the answer to the WebSocket upgrade. It returns what follows, or nil while the answer is not whole.
func (c *conn) upgraded(b []byte) ([]byte, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		c.tail = append(c.tail[:0], b...)
		return nil, nil
	}
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 101")) {
		return nil, errUpgrade
	}
	c.tail = c.tail[:0]
	c.phase = connecting
	c.frames = &frames{}
	c.send(appendConnect(nil, c.client.id, c.client.persistent))
	return b[end+4:], nil
}

// advance goes through the packets that make a connection ready.
func (c *conn) advance(p packet) error {
	switch {
	case c.phase == connecting && p.kind() == typeConnack:
		if len(p.body) != 2 || p.body[1] != 0 {
			return fmt.Errorf("load: refused by CONNACK % x", p.body)
		}
		c.subscribe()
	case c.phase == subscribing && p.kind() == typePublish && c.client.role != nil:
		return c.client.role.receive(c, p) // the broker may be that quick
	case c.phase == subscribing && p.kind() == typeSuback:
		if bytes.IndexByte(p.body[min(2, len(p.body)):], 0x80) >= 0 {
			return errors.New("load: a subscription was refused")
		}
		c.subacks--
	default:
		return fmt.Errorf("load: unexpected packet of type %d", p.kind())
	}
	if c.subacks == 0 {
		c.phase = ready
		c.engine.waiting--
	}
	return nil
}

// leave queues a DISCONNECT, after which the broker closes the connection.
func (c *conn) leave() {
	c.phase = leaving
	c.engine.waiting++
	c.send([]byte{typeDisconnect << 4, 0})
}

// left takes note of what was read from a connection after its DISCONNECT: packets that were under way do not matter any more, and
// the end is what is waited for.
func (c *conn) left(n int) error {
	if n > 0 {
		return nil
	}
	c.phase = gone
	c.engine.waiting--
	return unix.EpollCtl(c.engine.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
}

// subscribe queues all SUBSCRIBEs of the client.
func (c *conn) subscribe() {
	c.phase = subscribing
	for rest := c.client.filters; len(rest) > 0; {
		n := min(subscribeBatch, len(rest))
		c.subacks++
		c.send(appendSubscribe(nil, uint16(c.subacks), rest[:n], c.client.qos))
		rest = rest[n:]
	}
}

// flush writes what the socket takes and waits for room if that is not all.
func (c *conn) flush() error {
	for c.written < len(c.out) {
		n, err := unix.Write(c.fd, c.out[c.written:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return c.arm(true)
		}
		if err != nil {
			return fmt.Errorf("load: client %s: write: %w", c.client.id, err)
		}
		c.written += n
	}
	c.out, c.written = c.out[:0], 0
	return c.arm(false)
}

// arm asks for an event when the socket has room, or no more.
func (c *conn) arm(on bool) error {
	if c.armed == on {
		return nil
	}
	c.armed = on
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.index}
	if on {
		ev.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(c.engine.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev); err != nil {
		return fmt.Errorf("load: epoll: %w", err)
	}
	return nil
}
