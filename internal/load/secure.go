// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"time"
)

// recordMost is the most plaintext that a record of TLS holds.
const recordMost = 16 << 10

// secure is a connection's TLS: crypto/tls on a gate in memory. The handshake is a coroutine of the engine's goroutine, which it gives
// way to when it wants more from the broker; so no lock is needed, and no second thread.
type secure struct {
	tls    *tls.Conn
	gate   gate
	resume func() (struct{}, bool) // goes on with the handshake
	cancel func()                  // ends it
	err    error                   // how it ended
}

// newSecure makes a handshake that has not begun.
func newSecure(config *tls.Config) *secure {
	s := &secure{}
	s.tls = tls.Client(&s.gate, config)
	s.resume, s.cancel = iter.Pull(func(yield func(struct{}) bool) {
		s.gate.wait = func() bool { return yield(struct{}{}) }
		s.err = s.tls.Handshake()
		s.gate.wait = nil
	})
	return s
}

// shake goes on with the handshake as far as what arrived allows.
func (s *secure) shake() (done bool, err error) {
	if _, more := s.resume(); more {
		return false, nil
	}
	return true, s.err
}

// encrypt takes plaintext in.
func (s *secure) encrypt(plain []byte) error {
	if len(plain) == 0 {
		return nil
	}
	_, err := s.tls.Write(plain) // the gate takes all
	return err
}

// gate is what lies below TLS. After the handshake an empty one makes a passed deadline of a read; crypto/tls goes on after that.
type gate struct {
	in   []byte      // arrived; lent by the engine
	out  []byte      // to be written
	wait func() bool // until something has arrived; false: nothing will. nil after the handshake
}

// Read implements net.Conn.
func (g *gate) Read(b []byte) (int, error) {
	for len(g.in) == 0 {
		if g.wait == nil {
			return 0, os.ErrDeadlineExceeded
		}
		if !g.wait() {
			return 0, net.ErrClosed
		}
	}
	n := copy(b, g.in)
	g.in = g.in[n:]
	return n, nil
}

// Write implements net.Conn.
func (g *gate) Write(b []byte) (int, error) {
	g.out = append(g.out, b...)
	return len(b), nil
}

// Close implements net.Conn. The engine closes the socket.
func (g *gate) Close() error { return nil }

// LocalAddr implements net.Conn.
func (g *gate) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn.
func (g *gate) RemoteAddr() net.Addr { return nil }

// SetDeadline implements net.Conn. Time is the engine's business.
func (g *gate) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (g *gate) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

// secured takes ciphertext that arrived.
func (c *conn) secured(b []byte) error {
	s := c.secure
	s.gate.in = b
	err := c.decrypt()
	s.gate.in = nil
	if len(s.gate.out) > 0 {
		c.mark()
	}
	return err
}

// decrypt hands on all that TLS makes of what arrived, once the handshake is over.
func (c *conn) decrypt() error {
	if c.phase == securing {
		done, err := c.secure.shake()
		if err != nil {
			return c.wrong(fmt.Errorf("TLS: %w", err))
		}
		if !done {
			return nil
		}
		c.begin()
	}
	for {
		b, old := c.room()
		n := old
		var err error
		for err == nil && len(b)-n >= recordMost {
			var k int
			k, err = c.secure.tls.Read(b[n:])
			n += k
		}
		if n > old {
			if err := c.arrived(b, old, n-old); err != nil || c.closed {
				return err
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, io.EOF):
			return c.wrong(io.ErrUnexpectedEOF)
		case err != nil:
			return c.wrong(fmt.Errorf("TLS: %w", err))
		}
	}
}

// ciphertext is room for what is read from a socket with TLS.
func (e *engine) ciphertext() []byte {
	if e.cipher == nil {
		e.cipher = make([]byte, scratchSize)
	}
	return e.cipher
}
