// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
	"golang.org/x/sys/unix"
)

// secure is a connection's TLS.
type secure struct {
	*tls.Conn
	gate  gate
	shake *shake // while the handshake is under way
	bye   bool   // the end of our stream was told
}

// sayGoodbye encrypts the end of our stream. It reports false if that has been done before.
func (t *secure) sayGoodbye() bool {
	if t.bye {
		return false
	}
	t.bye = true
	return t.CloseWrite() == nil
}

// gate is what lies below TLS: a net.Conn in memory. An empty one makes a passed deadline of a read; crypto/tls goes on after that
// with whatever it has, as it does for net/http. During the handshake it is the socket, and blocks.
type gate struct {
	conn  *conn
	shake *shake        // nil after the handshake
	head  []byte        // was read before TLS began
	in    []byte        // arrived; lent by the loop
	end   error         // of the stream, behind in; nil if it goes on
	out   transport.Out // encrypted, to be written
}

// Read implements net.Conn.
func (g *gate) Read(b []byte) (int, error) {
	from := &g.head
	if len(*from) == 0 {
		if g.head = nil; g.shake != nil {
			return g.shake.read(b)
		}
		from = &g.in
	}
	n := copy(b, *from)
	*from = (*from)[n:]
	switch {
	case n > 0 || len(b) == 0:
		return n, nil
	case g.end != nil:
		return 0, g.end
	}
	return 0, os.ErrDeadlineExceeded
}

// Write implements net.Conn.
func (g *gate) Write(b []byte) (int, error) {
	if g.shake != nil {
		return g.shake.write(b)
	}
	g.out.Append(b)
	return len(b), nil
}

// take gives what is to be written, as one slice.
func (g *gate) take() (b []byte) {
	for _, s := range g.out.Slices(nil) {
		b = append(b, s...)
	}
	g.out.Reset()
	return b
}

// Close implements net.Conn. The connection closes the socket.
func (g *gate) Close() error { return nil }

// LocalAddr implements net.Conn.
func (g *gate) LocalAddr() net.Addr { return g.conn.li.addr }

// RemoteAddr implements net.Conn.
func (g *gate) RemoteAddr() net.Addr { return g.conn.remote }

// SetDeadline implements net.Conn. Time is the connection's business.
func (g *gate) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (g *gate) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

// shake is a TLS handshake on its goroutine. Until that posts it home it has the socket for itself; the loop tells it only that
// there is news, or that it is to stop.
type shake struct {
	conn    *conn
	fd      int
	event   unix.EpollEvent
	epoll   int
	slots   chan struct{} // one for each handshake that computes
	news    chan struct{} // holds at most one
	stopped atomic.Pointer[error]
	err     error // how it ended
}

// startTLS hands the connection to a goroutine. head was read before.
func (c *conn) startTLS(head []byte) {
	p := c.home.Load()
	s := &shake{conn: c, fd: int(c.fd), epoll: p.fd, slots: c.li.srv.shaking, news: make(chan struct{}, 1)}
	s.event = unix.EpollEvent{Fd: c.slot, Pad: int32(c.generation)}
	t := &secure{shake: s, gate: gate{conn: c, shake: s, head: head}}
	t.Conn = tls.Server(&t.gate, c.li.opts.TLS)
	c.more.tls = t
	c.state = shaking
	c.armed = unix.EPOLLONESHOT // so that arm sees a change afterwards
	if err := s.await(unix.EPOLLIN); err != nil {
		c.state = peeling
		c.refuse(front.Refuse(transport.CauseGone, err))
		return
	}
	go s.run(t)
}

// run is the goroutine.
func (s *shake) run(t *secure) {
	s.slots <- struct{}{}
	s.err = t.HandshakeContext(context.Background()) // it ends with the socket's errors, and when it is stopped
	<-s.slots
	s.conn.Loop().Post((*shaken)(s))
}

// signal tells the goroutine that there is news.
func (s *shake) signal() {
	select {
	case s.news <- struct{}{}:
	default: // it knows
	}
}

// stop ends the handshake with an error.
func (s *shake) stop(err error) {
	s.stopped.CompareAndSwap(nil, &err)
	s.signal()
}

// await has the kernel tell the loop once when the socket is ready.
func (s *shake) await(events uint32) error {
	s.event.Events = events | unix.EPOLLONESHOT
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, s.fd, &s.event))
}

// wait waits for news of the socket. Others compute meanwhile.
func (s *shake) wait(events uint32) error {
	if err := s.await(events); err != nil {
		return err
	}
	<-s.slots
	<-s.news
	s.slots <- struct{}{}
	return nil
}

func (s *shake) read(b []byte) (int, error) {
	for {
		if err := s.stopped.Load(); err != nil {
			return 0, *err
		}
		n, err := unix.Read(s.fd, b)
		switch {
		case err == nil && n == 0 && len(b) > 0:
			return 0, io.EOF
		case err == nil:
			return n, nil
		case err == unix.EAGAIN:
			if err := s.wait(unix.EPOLLIN); err != nil {
				return 0, err
			}
		case err != unix.EINTR:
			return 0, err
		}
	}
}

func (s *shake) write(b []byte) (done int, err error) {
	for done < len(b) {
		if err := s.stopped.Load(); err != nil {
			return done, *err
		}
		n, err := unix.Write(s.fd, b[done:])
		switch {
		case err == nil:
			done += n
		case err == unix.EAGAIN:
			if err := s.wait(unix.EPOLLOUT); err != nil {
				return done, err
			}
		case err != unix.EINTR:
			return done, err
		}
	}
	return done, nil
}

// shaken is the task that the goroutine posts at its end.
type shaken shake

func (t *shaken) Run(*loop.Loop) {
	s := (*shake)(t)
	c := s.conn
	defer c.contain()
	tc := c.more.tls
	tc.shake, tc.gate.shake = nil, nil
	if c.state == closed {
		c.dispose()
		return
	}
	c.state = peeling
	if s.err != nil {
		c.refuse(front.Refuse(transport.CauseTLS, s.err))
		return
	}
	p := c.more.peel
	state := tc.ConnectionState()
	p.info.TLS = &state
	c.arm()
	if c.state == closed {
		return
	}
	if c.peel(nil); c.state == closed {
		return
	}
	c.ended(c.decrypt(tc)) // the handshake may have taken along what comes after it
	if tc.gate.out.Len() > 0 {
		c.Dirty()
	}
}

// pullTLS reads a socket with TLS.
func (c *conn) pullTLS(t *secure) error {
	p := c.home.Load()
	b := p.in
	n, err := c.fill(b)
	if n == 0 && err == errAgain {
		return err
	}
	t.gate.in, t.gate.end = b[:n], err
	err = c.decrypt(t)
	t.gate.in = nil
	p.lent(b[:n])
	if t.gate.out.Len() > 0 { // the answer to a key update
		c.Dirty()
	}
	return err
}

// decrypt passes on all that TLS makes of what arrived.
func (c *conn) decrypt(t *secure) error {
	p := c.home.Load()
	for c.state != closed {
		b, old := c.room(p.plaintext())
		n := old
		var err error
		for err == nil && len(b)-n >= front.MaxRead/4 {
			var k int
			k, err = t.Read(b[n:])
			n += k
		}
		if n > old {
			c.arrived(b[:n], old)
			p.lent(b[:n])
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// flushTLS encrypts and writes, and reports whether all is written.
func (c *conn) flushTLS(t *secure) (all bool, err error) {
	p := c.home.Load()
	out := &t.gate.out
	for written := 0; written < writeMost; {
		if out.Len() == 0 {
			bufs := c.gather(p.slices[:0])
			if len(bufs) == 0 {
				return true, nil
			}
			err := c.encrypt(t, bufs)
			clear(bufs)
			if err != nil {
				return false, err
			}
		}
		n, short, err := p.write(int(c.fd), out.First(p.slices[:0], writeSlices))
		if err != nil {
			return false, err
		}
		out.Advance(n)
		if short {
			return false, nil
		}
		written += n
	}
	return false, nil
}

// encrypt takes a piece of bufs, which gather gave, into TLS.
func (c *conn) encrypt(t *secure, bufs [][]byte) error {
	b := bufs[0]
	if len(bufs) > 1 && len(b) < recordsMost {
		joined := c.home.Load().plaintext()[:0]
		for _, s := range bufs {
			joined = append(joined, s[:min(len(s), recordsMost-len(joined))]...)
		}
		b = joined
	}
	b = b[:min(len(b), recordsMost)]
	if _, err := t.Write(b); err != nil {
		return err
	}
	c.home.Load().lent(b)
	c.advance(len(b))
	return nil
}
