// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
	"golang.org/x/sys/unix"
)

// lingerTime is how long a connection whose last byte is sent waits for the peer's end of stream. Closed earlier, with
// input unread, the kernel would reset the connection and the peer might never see our last bytes.
const lingerTime = time.Second

// errCorePanicked is why a connection is closed whose core panicked; the loop reports the panic.
var errCorePanicked = errors.New("transport: the core panicked")

// state is how far a connection's life has gone. It only grows.
//
//	peeling <--> shaking (TLS); peeling --MQTT is next--> open --CloseAfterFlush, end of stream--> flushing
//	flushing --all written--> lingering --end of stream, time--> closed
//	peeling --refused with an answer--> lingering
//	any --CloseNow, error, time--> closed
type state byte

const (
	peeling   state = iota // what comes before MQTT is being taken off; there is no core
	shaking                // a goroutine makes the TLS handshake
	open                   //
	flushing               // input is dropped, the out-queue is being written
	lingering              // the core has been told the end; input is dropped until the peer's end
	closed                 // the socket is closed; a goroutine of a handshake may still have to come home
)

// conn is one connection. Most of them are plain and idle, so what few need, or all need shortly, is kept elsewhere.
type conn struct {
	loop.DirtyMark
	state state

	paused   bool
	feeding  bool // the core is being fed
	blocked  bool // the socket is full: EPOLLOUT is awaited
	deaf     bool // input is not awaited, for it came while nobody wants it
	peerGone bool // the end of its stream was read

	fd         int32
	slot       int32 // in the poller; -1 if there is none
	generation uint32
	armed      uint32 // what the kernel was told to tell; 0 if it does not know us
	unsent     int32  // bytes that the tally counts as waiting; those of a blocked connection

	home atomic.Pointer[Poller] // its loop's; Move changes it there
	li   *listener
	core transport.Core
	out  transport.Out
	in   *front.Intake // nil if nothing waits

	remote net.Addr
	opened int64

	more   *extra // nil for most
	moving *move
	end    *ending // from flushing on
}

// extra is what only some connections have.
type extra struct {
	info    *transport.Info // where it is not what listener and socket say
	peel    *peel           // until MQTT is next
	frames  *front.Frames   // nil unless WebSocket
	tls     *secure         // nil without TLS
	counted netip.Addr      // with which it is counted in the books
}

// A move is a Move that waits for the end of the loop's iteration.
type move struct {
	conn *conn
	to   *loop.Loop
	then loop.Task
}

// An ending is what a connection needs on its way out.
type ending struct {
	reason error // for Core.Closed
	timer  loop.Timer
	told   bool // Core.Closed is on its way or done
}

var (
	_ transport.Conn = (*conn)(nil)
	_ loop.Flusher   = (*conn)(nil)
)

// extra gives room for what only some connections have.
func (c *conn) extra() *extra {
	if c.more == nil {
		c.more = new(extra)
	}
	return c.more
}

// frames are those of a WebSocket, nil if it is none.
func (c *conn) frames() *front.Frames {
	if c.more == nil {
		return nil
	}
	return c.more.frames
}

// secure is the TLS of the connection, nil without.
func (c *conn) secure() *secure {
	if c.more == nil {
		return nil
	}
	return c.more.tls
}

// Info implements transport.Conn.
func (c *conn) Info() *transport.Info {
	if c.more != nil && c.more.info != nil {
		return c.more.info
	}
	info := c.plainInfo()
	return &info
}

// plainInfo is what listener and socket say.
func (c *conn) plainInfo() transport.Info {
	local := c.li.addr
	if c.state != closed {
		local = c.li.localOf(int(c.fd))
	}
	return transport.Info{
		Listener: c.li.name, Remote: c.remote, Peer: c.remote, Local: local, LocalPeer: front.IsLocal(c.remote), Opened: c.opened,
	}
}

// Loop implements transport.Conn.
func (c *conn) Loop() *loop.Loop { return c.home.Load().loop }

// Out implements transport.Conn.
func (c *conn) Out() *transport.Out { return &c.out }

// Dirty implements transport.Conn.
func (c *conn) Dirty() { c.home.Load().loop.Dirty(c) }

// Blocked implements transport.Conn.
func (c *conn) Blocked() bool { return c.blocked }

// Resume implements transport.Conn.
func (c *conn) Resume() {
	if !c.paused || c.state != open {
		return
	}
	if c.in == nil {
		c.paused, c.deaf = false, false
		c.arm()
		return
	}
	c.paused = false
	c.Loop().Post((*resumption)(c))
}

// resumption feeds again what was left when the connection was paused.
type resumption conn

func (t *resumption) Run(l *loop.Loop) {
	c := (*conn)(t)
	if !c.here(l, t) || c.state != open || c.paused {
		return
	}
	defer c.contain()
	if c.in != nil {
		c.offer(c.in.Tail())
	}
	if c.state == open && !c.paused {
		c.deaf = false
		c.arm()
	}
}

// Move implements transport.Conn. The handing over is done at the end of the iteration, when the out-queue has been
// flushed: so the old loop's list of dirty connections never holds a stranger.
func (c *conn) Move(to *loop.Loop, then loop.Task) {
	c.moving = &move{conn: c, to: to, then: then}
	c.Dirty()
}

// leave hands a connection that moves over to its new loop.
func (c *conn) leave() {
	if c.state == open && !c.paused {
		panic("transport: Move of a connection that is not paused")
	}
	p, m := c.home.Load(), c.moving
	if c.state != closed {
		c.disarm()
		p.remove(c)
		if c.end != nil {
			p.loop.Cancel(&c.end.timer)
		}
	}
	c.home.Store(m.to.Poller().(*Poller))
	m.to.Post(m)
}

// Run begins the connection's life on its new loop.
func (m *move) Run(l *loop.Loop) {
	c := m.conn
	p := c.home.Load()
	c.moving = nil
	if c.state != closed {
		p.add(c)
		c.deaf = c.peerGone || c.paused && c.state == open // no need to hear of it before Resume
		c.arm()
		if c.end != nil {
			l.At(&c.end.timer, l.Now()+int64(c.li.srv.opts.FlushTimeout), (*expiry)(c))
		}
		if c.li.srv.cutting.Load() {
			c.closeNow(net.ErrClosed)
		}
	}
	m.then.Run(l)
}

// Close implements transport.Conn.
func (c *conn) Close(v transport.Verdict) {
	if v == transport.CloseAfterFlush {
		c.closeAfterFlush(nil)
	} else {
		c.closeNow(nil)
	}
}

// here reports whether l may touch c. If not, because c has moved or is about to or has just done so, the task t follows
// it, and has its turn after the task that Move was given.
func (c *conn) here(l *loop.Loop, t loop.Task) bool {
	if home := c.home.Load().loop; home != l || c.moving != nil {
		home.Post(t)
		return false
	}
	return true
}

// begin makes the core. head are bytes of MQTT (or of WebSocket frames) that came with what was before.
func (c *conn) begin(head []byte) {
	c.state = open
	c.feeding = true
	c.core = c.li.srv.opts.NewCore(c)
	c.feeding = false
	if len(head) > 0 && c.state == open {
		c.digest(head, 0)
	}
}

// cut ends a connection from outside.
func (c *conn) cut() {
	defer c.contain()
	if c.state <= shaking {
		c.refuse(front.Refuse(transport.CauseClosing, nil))
		return
	}
	c.closeNow(net.ErrClosed)
}

// contain closes the connection if the core, being fed, has panicked. The loop takes care of the panic.
func (c *conn) contain() {
	if c.feeding {
		c.feeding = false
		c.in = nil
		c.closeNow(errCorePanicked)
	}
}

// ready is told what the kernel knows of the socket.
func (c *conn) ready(events uint32) {
	defer c.contain()
	if c.state == shaking {
		c.more.tls.shake.signal()
		return
	}
	if c.blocked && events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		c.writable()
	}
	if events&^unix.EPOLLOUT != 0 && c.state != closed && !c.deaf {
		c.readable()
	}
}

// arm tells the kernel what is wanted, if that has changed.
func (c *conn) arm() {
	var want uint32
	if !c.deaf {
		want = unix.EPOLLIN
	}
	if c.blocked {
		want |= unix.EPOLLOUT
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case want == c.armed || c.state == closed:
		return
	case c.armed == 0:
		op = unix.EPOLL_CTL_ADD
	case want == 0: // or else the kernel would tell of a hang-up without end
		op = unix.EPOLL_CTL_DEL
	}
	if err := c.home.Load().control(op, c, want); err != nil {
		c.closeNow(err)
		return
	}
	c.armed = want
}

// disarm has the kernel forget us.
func (c *conn) disarm() {
	if c.armed != 0 {
		c.armed = 0
		c.home.Load().control(unix.EPOLL_CTL_DEL, c, 0) // fails only if it has forgotten already
	}
}

// peerEnded ends the connection for the peer's end of stream. What the core has to say is still written: the peer may
// have closed only its own direction.
func (c *conn) peerEnded() {
	c.peerGone = true
	c.deaf = true // the end would be told again and again
	switch c.state {
	case peeling:
		c.refuse(front.Refuse(transport.CauseGone, io.EOF))
	case lingering:
		c.closeNow(nil)
	default:
		c.arm()
		c.closeAfterFlush(io.EOF)
	}
}

// closeAfterFlush begins the end. What is in the out-queue is still written, within Options.FlushTimeout.
func (c *conn) closeAfterFlush(reason error) {
	if c.state != open {
		return
	}
	c.state = flushing
	c.endInput()
	c.end = &ending{reason: reason}
	l := c.Loop()
	l.At(&c.end.timer, l.Now()+int64(c.li.srv.opts.FlushTimeout), (*expiry)(c))
	if c.paused && c.moving == nil { // or else the peer's end would go unnoticed
		c.paused = false
		c.deaf = c.peerGone
		c.arm()
	}
	c.Dirty()
}

// flushed goes on with the end when the last byte has been written.
func (c *conn) flushed() {
	if w := c.frames(); w != nil && w.SayGoodbye() {
		c.flush()
		return
	}
	if t := c.secure(); t != nil && t.sayGoodbye() {
		c.flush()
		return
	}
	c.tellCore()
	if c.peerGone || unix.Shutdown(int(c.fd), unix.SHUT_WR) != nil {
		c.closeNow(nil)
		return
	}
	c.linger(min(lingerTime, c.li.srv.opts.FlushTimeout))
}

// linger waits for the peer's end.
func (c *conn) linger(most time.Duration) {
	c.state = lingering
	l := c.Loop()
	l.At(&c.end.timer, l.Now()+int64(most), (*expiry)(c))
	c.blocked, c.deaf = false, false
	c.count()
	c.arm()
}

// expiry ends a connection that takes too long to end.
type expiry conn

func (t *expiry) Run(*loop.Loop) { (*conn)(t).closeNow(nil) }

// closeNow closes the socket. reason counts unless the end had begun before.
func (c *conn) closeNow(reason error) {
	if c.state == closed {
		return
	}
	p := c.home.Load()
	away := c.state == shaking
	c.state = closed
	c.endInput()
	if c.end == nil {
		c.end = &ending{reason: reason}
	}
	p.loop.Cancel(&c.end.timer)
	if away {
		c.more.tls.shake.stop(net.ErrClosed)
		return // it comes home to be disposed of
	}
	c.dispose()
}

// dispose closes the socket and gives back what the connection holds.
func (c *conn) dispose() {
	p := c.home.Load()
	p.remove(c)
	unix.Close(int(c.fd)) // the kernel forgets it by itself
	c.fd, c.armed = -1, 0
	c.out.Reset()
	c.blocked = false
	c.count()
	var counted netip.Addr
	if m := c.more; m != nil {
		counted = m.counted
		m.frames = nil
		if m.tls != nil {
			m.tls.gate.out.Reset()
			m.tls = nil
		}
		c.endPeel()
	}
	c.tellCore()
	c.li.srv.books.Forget(counted)
}

// tellCore has Core.Closed called, once.
func (c *conn) tellCore() {
	if !c.end.told && c.core != nil {
		c.end.told = true
		c.Loop().Post((*farewell)(c))
	}
}

// farewell calls Core.Closed.
type farewell conn

func (t *farewell) Run(l *loop.Loop) {
	c := (*conn)(t)
	if !c.here(l, t) {
		return
	}
	if core := c.core; core != nil {
		c.core = nil
		core.Closed(c.end.reason)
	}
}

// endInput forgets what was read and not eaten, and whatever else is read.
func (c *conn) endInput() {
	if c.in != nil {
		c.in.End()
		if !c.feeding {
			c.in = nil
		}
	}
}
