// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	scratchSize = 256 << 10 // most that is read at once
	eventsMax   = 1024      // sockets served in one iteration
	// connectMax bounds the clients that connect at the same time, to stay below the shortest backlog of a listener (100, mosquitto).
	connectMax = 64
	// stepWait is how long an iteration waits for sockets, and so how late an interrupt is noticed.
	stepWait = 50 * time.Millisecond
)

// errSetup ends a run whose clients do not become ready, or do not come to their end, in time.
var errSetup = errors.New("load: clients did not connect, subscribe or leave in time")

// engine serves all connections of a run.
type engine struct {
	epoll   int
	target  unix.Sockaddr
	family  int
	addr    string // for the Host of the WebSocket upgrade
	path    string // of the same
	wire    Wire
	exact   bool // look at the clock before each read
	conns   []*conn
	waiting int // connections that are not ready yet
	dirty   []*conn
	touched []*flow
	stopped bool      // windows are not topped up any more
	now     time.Time // since sockets were last ready
	acks    latencies // from sending a message to its last acknowledgement
	scratch []byte
	cipher  []byte // the same of ciphertext; nil until it is needed

	// Of paced flows.
	delivers dueLatencies // from falling due to each delivery
	lates    latencies    // from falling due to sending
	events   []unix.EpollEvent
}

// Wire is what lies between MQTT and the socket. The zero value is nothing.
type Wire struct {
	WebSocket bool
	TLS       *tls.Config // names the server; nil is no TLS
}

// newEngine makes an engine for a broker that listens on an IP address.
func newEngine(addr string, w Wire) (*engine, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("load: %q is not an IP address and port", addr)
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("load: epoll: %w", err)
	}
	e := &engine{
		epoll: ep, addr: addr, path: "/mqtt", wire: w,
		scratch: make([]byte, scratchSize),
		events:  make([]unix.EpollEvent, eventsMax),
	}
	if a := ap.Addr().Unmap(); a.Is4() {
		e.family, e.target = unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: a.As4()}
	} else {
		e.family, e.target = unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: a.As16()}
	}
	return e, nil
}

// close resets all connections, which leaves no socket in TIME_WAIT behind.
func (e *engine) close() {
	for _, c := range e.conns {
		c.end()
	}
	unix.Close(e.epoll)
}

// connect has all clients connect and subscribe, within the given time.
func (e *engine) connect(ctx context.Context, clients []client, within time.Duration) error {
	deadline := time.Now().Add(within)
	for _, cl := range clients {
		if err := e.open(cl); err != nil {
			return err
		}
		if err := e.await(ctx, connectMax, deadline); err != nil {
			return err
		}
	}
	return e.await(ctx, 1, deadline)
}

// await goes on until fewer than limit connections are not ready.
func (e *engine) await(ctx context.Context, limit int, deadline time.Time) error {
	for e.waiting >= limit {
		if time.Now().After(deadline) {
			return errSetup
		}
		if err := e.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// leave has all clients say goodbye and waits until the broker has closed their connections, within the given time.
func (e *engine) leave(ctx context.Context, within time.Duration) error {
	for _, c := range e.conns {
		if c.phase == ready {
			c.leave()
		}
	}
	if err := e.flush(); err != nil {
		return err
	}
	return e.await(ctx, 1, time.Now().Add(within))
}

// open connects one client's socket and queues its first packet.
func (e *engine) open(cl client) error {
	fd, err := unix.Socket(e.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("load: socket: %w", err)
	}
	c := &conn{engine: e, client: cl, fd: fd, index: int32(len(e.conns)), phase: connecting, begun: time.Now()}
	c.steer, _ = cl.role.(steered)
	e.conns = append(e.conns, c)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("load: no delay: %w", err)
	}
	err = unix.Connect(fd, e.target)
	c.armed = err == unix.EINPROGRESS // the CONNECT follows as soon as there is a connection
	if err != nil && !c.armed {
		e.waiting++
		if cl.role != nil {
			cl.role.connected(c)
		}
		return e.failed(c, c.wrong(fmt.Errorf("connect: %w", err)))
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.index}
	if c.armed {
		ev.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("load: epoll: %w", err)
	}
	e.waiting++
	if cl.role != nil {
		cl.role.connected(c)
	}
	if e.wire.TLS == nil {
		c.begin()
	} else {
		c.phase, c.secure = securing, newSecure(e.wire.TLS)
		if _, err := c.secure.shake(); err != nil { // says hello
			return e.failed(c, c.wrong(fmt.Errorf("TLS: %w", err)))
		}
		c.mark()
	}
	return e.flush()
}

// touch has a flow's window topped up at the end of the iteration.
func (e *engine) touch(f *flow) {
	if !f.touched {
		f.touched = true
		e.touched = append(e.touched, f)
	}
}

// failed ends a connection. The run goes on if the client's role takes it so.
func (e *engine) failed(c *conn, err error) error {
	if c.steer == nil {
		return err
	}
	if c.closed {
		return nil
	}
	c.end()
	return c.steer.lost(c, err)
}

// step is one iteration.
func (e *engine) step(ctx context.Context) error { return e.stepWithin(ctx, stepWait) }

// stepWithin is one iteration, which waits for sockets no longer than it is told.
func (e *engine) stepWithin(ctx context.Context, wait time.Duration) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	n, err := e.poll(min(wait, stepWait))
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("load: epoll: %w", err)
	}
	e.now = time.Now()
	for _, ev := range e.events[:max(n, 0)] {
		if err := e.serve(e.conns[ev.Fd], ev.Events); err != nil {
			return err
		}
	}
	if len(e.touched) > 0 {
		e.now = time.Now()
	}
	for _, f := range e.touched {
		f.touched = false
		if !e.stopped || f.pace != nil { // what is owed is sent in any case
			f.refill()
		}
	}
	e.touched = e.touched[:0]
	return e.flush()
}

// poll waits for sockets. epoll_wait counts in milliseconds; what is shorter, or not whole, is waited for by ppoll.
func (e *engine) poll(wait time.Duration) (int, error) {
	if wait <= 0 || wait%time.Millisecond == 0 {
		return unix.EpollWait(e.epoll, e.events, int(max(wait, 0)/time.Millisecond))
	}
	n, err := unix.EpollWait(e.epoll, e.events, 0)
	if n != 0 || err != nil {
		return n, err
	}
	limit := unix.NsecToTimespec(int64(wait))
	set := [1]unix.PollFd{{Fd: int32(e.epoll), Events: unix.POLLIN}}
	if n, err := unix.Ppoll(set[:], &limit, nil); n <= 0 || err != nil {
		return 0, err
	}
	return unix.EpollWait(e.epoll, e.events, 0)
}

// serve does what a socket is ready for.
func (e *engine) serve(c *conn, events uint32) error {
	if events&unix.EPOLLOUT != 0 {
		if err := c.flush(); err != nil {
			if err := e.failed(c, err); err != nil {
				return err
			}
		}
	}
	if events&^unix.EPOLLOUT == 0 {
		return nil
	}
	if e.exact {
		e.now = time.Now()
	}
	if err := c.read(); err != nil {
		return e.failed(c, err)
	}
	return nil
}

// flush writes every connection that has something to write.
func (e *engine) flush() error {
	for _, c := range e.dirty {
		c.dirty = false
		if c.armed {
			continue // the event will come
		}
		if err := c.flush(); err != nil {
			if err := e.failed(c, err); err != nil {
				return err
			}
		}
	}
	e.dirty = e.dirty[:0]
	return nil
}
