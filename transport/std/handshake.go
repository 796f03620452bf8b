// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"time"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
	"github.com/noctule/noctule/transport/websocket"
)

// refusalTime bounds the writing of an HTTP answer that says no.
const refusalTime = time.Second

// handshake peels one connection.
type handshake struct {
	*listener
	conn     *conn
	peel     front.Peel
	in       net.Conn // what is read: the socket, or TLS on it
	buf      []byte   // read and not used
	deadline time.Time
}

// shake is the goroutine of a handshake.
func (li *listener) shake(c *conn) {
	h := &handshake{listener: li, conn: c, in: c.sock, deadline: time.Now().Add(li.srv.opts.HandshakeTimeout)}
	h.peel = front.Peel{Books: li.srv.books, Options: &li.opts, Info: &c.info, Counted: c.counted}
	err := c.sock.SetDeadline(h.deadline)
	if err == nil {
		err = h.run()
	}
	c.counted = h.peel.Counted
	if err == nil {
		err = c.sock.SetDeadline(time.Time{})
	}
	if err != nil {
		c.refuse(err)
		return
	}
	c.start(h.buf)
}

// run takes off layer by layer, until MQTT is next.
func (h *handshake) run() error {
	for {
		used, next, err := h.peel.Step(h.buf)
		if err != nil {
			if h.peel.Reply != nil {
				h.decline()
			}
			return err
		}
		if used > 0 {
			h.buf = slices.Clone(h.buf[used:])
		}
		switch next {
		case front.More:
			err = h.more()
		case front.StartTLS:
			err = h.startTLS()
		case front.Done:
			return h.welcome()
		}
		if err != nil {
			return err
		}
	}
}

// more reads what is there.
func (h *handshake) more() error {
	if len(h.buf) == cap(h.buf) {
		grown := make([]byte, len(h.buf), min(max(2*cap(h.buf), 512), front.MaxHead))
		copy(grown, h.buf)
		h.buf = grown
	}
	n, err := h.in.Read(h.buf[len(h.buf):cap(h.buf)])
	h.buf = h.buf[:len(h.buf)+n]
	if n > 0 || err == nil {
		return nil
	}
	return front.Refuse(transport.CauseGone, err)
}

// startTLS makes the TLS handshake.
func (h *handshake) startTLS() error {
	g := &gate{Conn: h.conn.sock, head: h.buf}
	t := tls.Server(g, h.opts.TLS)
	ctx, cancel := context.WithDeadline(context.Background(), h.deadline)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return front.Refuse(transport.CauseHandshakeTimeout, err)
		}
		return front.Refuse(transport.CauseTLS, err)
	}
	state := t.ConnectionState()
	h.conn.info.TLS = &state
	h.conn.stream = &tlsStream{Conn: t, gate: g}
	h.in, h.buf = t, nil
	return nil
}

// welcome answers the request of a WebSocket, if it is one.
func (h *handshake) welcome() error {
	if h.peel.Reply != nil {
		if _, err := h.in.Write(h.peel.Reply); err != nil {
			return front.Refuse(transport.CauseGone, err)
		}
	}
	if h.conn.info.WebSocket {
		h.conn.ws = front.NewFrames(nil)
	}
	return nil
}

// decline sends an answer that says no, and reads on for a moment so that the client sees it: to close a socket with
// input unread is to reset it.
func (h *handshake) decline() {
	if until := time.Now().Add(refusalTime); until.Before(h.deadline) {
		h.conn.sock.SetDeadline(until) // should it fail, so will the write
	}
	if _, err := h.in.Write(h.peel.Reply); err != nil {
		return
	}
	if halfClose(h.in) != nil {
		return
	}
	var drop [512]byte
	for n := 0; n < websocket.MaxRequest; {
		k, err := h.conn.sock.Read(drop[:])
		if err != nil {
			return
		}
		n += k
	}
}
