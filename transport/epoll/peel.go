// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"os"
	"slices"
	"sync"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
	"golang.org/x/sys/unix"
)

// refusalTime bounds the wait for a client to read that it is refused.
const refusalTime = time.Second

// peel is what a connection has until MQTT is next.
type peel struct {
	front.Peel
	conn  *conn
	info  transport.Info
	buf   []byte // read and not used
	timer loop.Timer
}

var peels = sync.Pool{New: func() any { return new(peel) }}

// startPeel takes off what comes before MQTT, in a bounded time.
func (c *conn) startPeel() {
	p := peels.Get().(*peel)
	p.conn, p.info = c, c.plainInfo()
	p.Peel = front.Peel{Books: c.li.srv.books, Options: &c.li.opts, Info: &p.info}
	e := c.extra()
	p.Counted = e.counted
	e.peel = p
	l := c.Loop()
	l.At(&p.timer, l.Now()+int64(c.li.srv.opts.HandshakeTimeout), p)
	c.peel(nil) // it may need no byte to know
}

// Run ends a handshake that takes too long.
func (p *peel) Run(*loop.Loop) {
	c := p.conn
	switch c.state {
	case closed: // and on its way home
		return
	case shaking:
		c.more.tls.shake.stop(os.ErrDeadlineExceeded)
		return
	}
	c.refuse(front.Refuse(transport.CauseHandshakeTimeout, nil))
}

// peel looks at b, all that was read and not used.
func (c *conn) peel(b []byte) {
	p := c.more.peel
	used, next, err := p.Step(b)
	c.more.counted = p.Counted
	b = b[used:]
	switch {
	case err != nil:
		c.refuse(err)
	case next == front.StartTLS:
		p.buf = nil
		c.startTLS(slices.Clone(b))
	case next == front.More:
		p.buf = slices.Clone(b)
	default:
		c.peeled(b)
	}
}

// peeled begins MQTT with b.
func (c *conn) peeled(b []byte) {
	p := c.more.peel
	if p.info.WebSocket {
		c.more.frames = front.NewFrames(p.Reply)
		c.Dirty()
	}
	if info := p.info; info.WebSocket || info.TLS != nil || info.Remote != c.remote || info.LocalPeer != front.IsLocal(c.remote) {
		c.more.info = &info
	}
	c.endPeel()
	if e := c.more; e.info == nil && e.frames == nil && e.tls == nil && !e.counted.IsValid() {
		c.more = nil
	}
	c.begin(b)
}

// endPeel gives back what only peeling needs.
func (c *conn) endPeel() {
	p := c.more.peel
	if p == nil {
		return
	}
	c.more.peel = nil
	c.Loop().Cancel(&p.timer)
	*p = peel{}
	peels.Put(p)
}

// refuse ends a connection that has no core, after it was told why if there is something to tell.
func (c *conn) refuse(err error) {
	remote := c.remote
	var reply []byte
	if c.more != nil && c.more.peel != nil {
		remote, reply = c.more.peel.info.Remote, c.more.peel.Reply
	}
	c.li.srv.books.Refused(c.li.name, remote, front.CauseOf(err), err)
	if reply == nil || c.state != peeling {
		c.closeNow(nil)
		return
	}
	// To close a socket with input unread is to reset it: read on for a moment, so that the client sees the answer.
	c.endPeel()
	c.end = &ending{}
	if t := c.more.tls; t != nil {
		t.Write(reply) // into memory
		t.sayGoodbye()
		reply = t.gate.take()
	}
	n, e := unix.Write(int(c.fd), reply)
	if e != nil || n < len(reply) || c.peerGone || unix.Shutdown(int(c.fd), unix.SHUT_WR) != nil {
		c.closeNow(nil)
		return
	}
	c.linger(refusalTime)
}
