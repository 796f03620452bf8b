// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
)

// lingerTime is how long a connection whose last byte is sent waits for the peer's end of stream. Closed earlier, with
// input unread, the kernel would reset the connection and the peer might never see our last bytes.
const lingerTime = time.Second

// errCorePanicked is why a connection is closed whose core panicked; the loop reports the panic.
var errCorePanicked = errors.New("transport: the core panicked")

// state is how far a connection's life has gone. It only grows.
//
//	open --CloseAfterFlush, end of stream--> flushing --all written--> lingering --end of stream, time--> closed
//	any --CloseNow, error, time--> closed
type state byte

const (
	open      state = iota
	flushing        // input is dropped, the out-queue is being written
	lingering       // the core has been told the end; input is dropped until the peer's end
	closed          // the socket is closed; reader and writer may still have to come home
)

// conn is one connection.
type conn struct {
	loop.DirtyMark
	home atomic.Pointer[loop.Loop] // its loop; Move changes it there

	srv     *Server
	sock    net.Conn // the accepted socket
	stream  net.Conn // where the loop cannot read and write the socket itself: what it is read from and written to
	raw     rawSocket
	core    transport.Core
	info    transport.Info
	counted netip.Addr    // with which it is counted in Server.perAddr
	ws      *front.Frames // nil unless WebSocket

	out      transport.Out
	underway int // bytes that the writer has
	in       front.Intake
	head     []byte // input that came with the handshake, until the connection is open

	got      *[]byte // what the reader read, a pooled buffer; nil without
	gotErr   error   // how the read ended
	writeErr error   // how the write ended

	moving *move
	end    *ending // from flushing on

	unsent int // bytes that the counters have as waiting; those of a connection with a writer

	state    state
	onLoop   bool // handed to the loop; guarded by Server.mu
	reading  bool // a reader is under way, or its arrival is
	writing  bool // a writer is under way, or its return is
	paused   bool
	feeding  bool // the core is being fed
	blocked  bool // the core is owed a Drained
	large    bool // the last read of a stream filled its buffer
	peerGone bool // the end of its stream was read
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
	timer  *time.Timer
	told   bool // Core.Closed is on its way or done
}

var (
	_ transport.Conn = (*conn)(nil)
	_ loop.Flusher   = (*conn)(nil)
)

// Info implements transport.Conn.
func (c *conn) Info() *transport.Info { return &c.info }

// Loop implements transport.Conn.
func (c *conn) Loop() *loop.Loop { return c.home.Load() }

// Out implements transport.Conn.
func (c *conn) Out() *transport.Out { return &c.out }

// Dirty implements transport.Conn.
func (c *conn) Dirty() { c.home.Load().Dirty(c) }

// Blocked implements transport.Conn.
func (c *conn) Blocked() bool { return c.blocked }

// Resume implements transport.Conn.
func (c *conn) Resume() {
	if !c.paused || c.state != open {
		return
	}
	c.paused = false
	c.reading = true // its turn is on the way, as after a read
	c.home.Load().Post((*resumption)(c))
}

// Move implements transport.Conn. The handing over is done at the end of the iteration, when the out-queue has been
// flushed: so the old loop's list of dirty connections never holds a stranger.
func (c *conn) Move(to *loop.Loop, then loop.Task) {
	c.moving = &move{conn: c, to: to, then: then}
	c.Dirty()
}

// Run begins the connection's life on its new loop.
func (m *move) Run(l *loop.Loop) {
	m.conn.moving = nil
	m.then.Run(l)
}

// leave hands a connection that moves over to its new loop.
func (c *conn) leave() {
	if c.state == open && !c.paused {
		panic("transport: Move of a connection that is not paused")
	}
	m := c.moving
	c.home.Store(m.to)
	m.to.Post(m)
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
	if home := c.home.Load(); home != l || c.moving != nil {
		home.Post(t)
		return false
	}
	return true
}

// opening is a connection's first task.
type opening conn

func (t *opening) Run(*loop.Loop) {
	c := (*conn)(t)
	defer c.contain()
	c.feeding = true
	c.core = c.srv.opts.NewCore(c)
	head := c.head
	c.head = nil
	if len(head) > 0 && c.state == open {
		c.digest(head, 0)
	}
	c.feeding = false
	c.readOn()
}

// cut ends a connection from outside.
type cut conn

func (t *cut) Run(l *loop.Loop) {
	if c := (*conn)(t); c.here(l, t) {
		c.closeNow(net.ErrClosed)
	}
}

// contain closes the connection if the core, being fed, has panicked. The loop takes care of the panic.
func (c *conn) contain() {
	if c.feeding {
		c.feeding = false
		c.closeNow(errCorePanicked)
	}
}

// closeAfterFlush begins the end. What is in the out-queue is still written, within Options.FlushTimeout.
func (c *conn) closeAfterFlush(reason error) {
	if c.state != open {
		return
	}
	c.state = flushing
	c.in.End()
	c.end = &ending{reason: reason}
	c.end.timer = time.AfterFunc(c.srv.opts.FlushTimeout, func() { c.home.Load().Post((*expiry)(c)) })
	if c.paused { // or else the peer's end would go unnoticed
		c.paused = false
		c.readOn()
	}
	c.Dirty()
}

// flushed goes on with the end when the last byte has been written.
func (c *conn) flushed() {
	if c.ws != nil && c.ws.SayGoodbye() {
		c.flush()
		return
	}
	c.tellCore()
	if c.peerGone || !c.closeWrite() {
		c.closeNow(nil)
		return
	}
	c.state = lingering
	c.end.timer.Reset(min(lingerTime, c.srv.opts.FlushTimeout))
	c.readOn()
}

// expiry ends a connection that takes too long to end.
type expiry conn

func (t *expiry) Run(l *loop.Loop) {
	if c := (*conn)(t); c.here(l, t) {
		c.closeNow(nil)
	}
}

// closeNow closes the socket. reason counts unless the end had begun before.
func (c *conn) closeNow(reason error) {
	if c.state == closed {
		return
	}
	c.state = closed
	c.in.End()
	if c.end == nil {
		c.end = &ending{reason: reason}
	}
	if c.end.timer != nil {
		c.end.timer.Stop()
	}
	c.sock.Close() // an error would change nothing
	c.tellCore()
	c.dispose()
}

// tellCore has Core.Closed called, once.
func (c *conn) tellCore() {
	if !c.end.told {
		c.end.told = true
		c.home.Load().Post((*farewell)(c))
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

// dispose gives back what a closed connection holds, once reader and writer are home.
func (c *conn) dispose() {
	if c.state != closed || c.reading || c.writing {
		return
	}
	c.out.Reset()
	c.count()
	c.freeGot()
	c.srv.forget(c)
}
