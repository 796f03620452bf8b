// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// subscribeBatch is how many filters go into one SUBSCRIBE.
const subscribeBatch = 100

// A phase of a connection's life.
type phase byte

const (
	securing    phase = iota // is in the TLS handshake
	upgrading                // waits for the answer to the WebSocket upgrade
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

// A steered role is told of its connection, and decides what becomes of the run when that ends: an error ends it too.
type steered interface {
	ready(*conn)
	writable(*conn) // all is written
	lost(*conn, error) error
}

// client describes a client before it connects.
type client struct {
	id      string
	filters []string
	qos     byte // of its subscriptions
	role    role // nil: it only connects

	persistent bool // its session outlives the connection

	login *Login // nil: an ordinary one of 3.1.1
}

// conn is one client's connection.
type conn struct {
	engine *engine
	client client
	steer  steered // its role, if that is one
	fd     int
	index  int32
	phase  phase
	dirty  bool // in the engine's list
	armed  bool // waits for room in the socket

	closed bool      // its descriptor is
	begun  time.Time // when it was opened
	wrote  time.Time // last, for the keep alive

	tail    []byte // input that is not a whole packet yet
	out     []byte
	written int     // bytes at the front of out, or with TLS of what that made of it, that are written
	secure  *secure // nil without TLS
	frames  *frames
	subacks int // still to come
}

// A ClientError is what went wrong with one client.
type ClientError struct {
	ID  string
	Err error
}

// Error names the client.
func (e *ClientError) Error() string { return "load: client " + e.ID + ": " + e.Err.Error() }

func (e *ClientError) Unwrap() error { return e.Err }

// wrong is err, with the client's name.
func (c *conn) wrong(err error) error { return &ClientError{c.client.id, err} }

// write queues bytes that are framed already.
func (c *conn) write(b []byte) {
	if c.closed {
		return
	}
	c.out = append(c.out, b...)
	c.mark()
}

// mark has the connection flushed at the end of the iteration.
func (c *conn) mark() {
	if !c.dirty && !c.closed {
		c.dirty = true
		c.engine.dirty = append(c.engine.dirty, c)
	}
}

// begin queues the first bytes of WebSocket or MQTT.
func (c *conn) begin() {
	if c.engine.wire.WebSocket {
		c.phase = upgrading
		c.write([]byte(upgradeRequest(c.engine.addr, c.engine.path)))
		return
	}
	c.phase = connecting
	c.send(c.client.connect())
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
	if c.closed {
		return nil
	}
	b, old := c.room()
	into := b[old:]
	if c.secure != nil {
		into = c.engine.ciphertext()
	}
	n, err := unix.Read(c.fd, into)
	if c.phase == leaving && err != unix.EAGAIN && err != unix.EINTR {
		return c.left(n)
	}
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return c.wrong(fmt.Errorf("read: %w", err))
	case n == 0:
		return c.wrong(io.ErrUnexpectedEOF)
	}
	if c.secure != nil {
		return c.secured(into[:n])
	}
	return c.arrived(b, old, n)
}

// room is where input goes: behind old bytes that are there from before.
func (c *conn) room() (b []byte, old int) {
	if e := c.engine; 2*len(c.tail) > len(e.scratch) { // a large packet
		e.scratch = make([]byte, 4*len(c.tail))
	}
	return c.engine.scratch, copy(c.engine.scratch, c.tail)
}

// arrived hands on n bytes that came into b, behind old ones.
func (c *conn) arrived(b []byte, old, n int) (err error) {
	fresh := b[old : old+n]
	if c.phase == upgrading {
		if fresh, err = c.upgraded(b[:old+n]); err != nil || fresh == nil {
			return err
		}
		b, old = fresh, 0
	}
	if c.frames != nil {
		if fresh, err = c.frames.decode(fresh); err != nil {
			return c.wrong(err)
		}
		if len(c.frames.pong) > 0 {
			c.write(c.frames.appendPongs(nil))
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
			return c.wrong(err)
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
	c.send(c.client.connect())
	return b[end+4:], nil
}

// advance goes through the packets that make a connection ready.
func (c *conn) advance(p packet) error {
	switch {
	case c.phase == connecting && p.kind() == typeConnack:
		if err := c.granted(p.body); err != nil {
			return err
		}
		c.subscribe()
	case c.phase == subscribing && c.client.role != nil && (p.kind() == typePublish || p.kind() == typePubrel):
		return c.client.role.receive(c, p) // the broker may be that quick, and the session from before
	case c.phase == subscribing && p.kind() == typeSuback:
		if err := c.subscribed(p.body); err != nil {
			return err
		}
		c.subacks--
	default:
		return fmt.Errorf("load: unexpected packet of type %d", p.kind())
	}
	if c.subacks == 0 {
		c.phase = ready
		c.engine.waiting--
		if c.steer != nil {
			c.steer.ready(c)
		}
	}
	return nil
}

// granted looks whether a CONNACK lets the client in.
func (c *conn) granted(body []byte) error {
	v5 := c.client.v5()
	if len(body) < 2 || !v5 && len(body) != 2 {
		return errTruncated
	}
	if body[1] != 0 {
		return &Refusal{Code: body[1], V5: v5}
	}
	if v5 && c.client.login != nil {
		return c.client.login.grant(body[2:])
	}
	return nil
}

// subscribed looks whether a SUBACK grants all filters.
func (c *conn) subscribed(body []byte) (err error) {
	if len(body) < 2 {
		return errTruncated
	}
	codes := body[2:]
	if c.client.v5() {
		if codes, err = skipProperties(codes); err != nil {
			return err
		}
	}
	for _, code := range codes {
		if code >= 0x80 {
			return fmt.Errorf("load: a subscription was refused with code %#x", code)
		}
	}
	return nil
}

// v5 tells whether the client speaks MQTT 5.0.
func (cl *client) v5() bool { return cl.login != nil && cl.login.Version == 5 }

// connect is the client's CONNECT.
func (cl *client) connect() []byte {
	if cl.login != nil {
		return cl.login.append(nil)
	}
	return appendConnect(nil, cl.id, cl.persistent)
}

// end closes the connection and leaves the other ones alone.
func (c *conn) end() {
	if c.closed {
		return
	}
	if c.phase != ready && c.phase != gone {
		c.engine.waiting--
	}
	if c.secure != nil {
		c.secure.cancel()
	}
	c.phase, c.closed = gone, true
	unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // only a courtesy
	unix.Close(c.fd)                                                                     // takes it out of the epoll set
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
		c.send(appendSubscribe(nil, uint16(c.subacks), rest[:n], c.client.qos, c.client.v5()))
		rest = rest[n:]
	}
}

// flush writes what the socket takes and waits for room if that is not all.
func (c *conn) flush() error {
	if c.closed {
		return nil
	}
	out := &c.out
	if c.secure != nil {
		if err := c.secure.encrypt(c.out); err != nil {
			return c.wrong(fmt.Errorf("TLS: %w", err))
		}
		c.out, out = c.out[:0], &c.secure.gate.out
	}
	if c.written < len(*out) {
		c.wrote = c.engine.now
	}
	for c.written < len(*out) {
		n, err := unix.Write(c.fd, (*out)[c.written:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return c.arm(true)
		}
		if err != nil {
			if c.phase <= connecting && c.written == 0 {
				return c.wrong(fmt.Errorf("connect: %w", err))
			}
			return c.wrong(fmt.Errorf("write: %w", err))
		}
		c.written += n
	}
	*out, c.written = (*out)[:0], 0
	if err := c.arm(false); err != nil {
		return err
	}
	if c.steer != nil && c.phase == ready {
		c.steer.writable(c)
	}
	return nil
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
