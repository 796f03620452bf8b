// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/noctule/noctule/transport/proxy"
	"github.com/noctule/noctule/transport/websocket"
)

// First bytes that tell protocols apart.
const (
	firstMQTT = 0x10 // CONNECT
	firstTLS  = 0x16 // a record with a handshake
	firstHTTP = 'G'  // GET
)

// refusalTime bounds the writing of an HTTP answer that says no.
const refusalTime = time.Second

var defaultPaths = []string{"/", "/mqtt"}

// handshake peels one connection.
type handshake struct {
	*listener
	conn     *conn
	in       net.Conn // what is read: the socket, or TLS on it
	buf      []byte   // read and not used
	deadline time.Time
}

// shake is the goroutine of a handshake.
func (li *listener) shake(c *conn) {
	h := &handshake{listener: li, conn: c, in: c.sock, deadline: time.Now().Add(li.srv.opts.HandshakeTimeout)}
	err := c.sock.SetDeadline(h.deadline)
	if err == nil {
		err = h.peel()
	}
	if err == nil {
		err = c.sock.SetDeadline(time.Time{})
	}
	if err != nil {
		c.refuse(err)
		return
	}
	c.start(h.buf)
}

// peel takes off layer by layer, until MQTT is next.
func (h *handshake) peel() error {
	if h.opts.Proxy != ProxyOff {
		if err := h.proxyHeader(); err != nil {
			return err
		}
	}
	kind := h.opts.Protocol
	if kind == Sniff {
		first, err := h.first()
		if err != nil {
			return err
		}
		if first == firstTLS {
			kind = TLS
		}
	}
	if kind == TLS || kind == WSS {
		if err := h.startTLS(); err != nil {
			return err
		}
	}
	switch h.opts.Protocol {
	case Sniff:
		return h.sniff()
	case WS, WSS:
		return h.upgrade()
	}
	return nil
}

// sniff tells MQTT and WebSocket apart.
func (h *handshake) sniff() error {
	first, err := h.first()
	if err != nil {
		return err
	}
	switch first {
	case firstMQTT:
		return nil
	case firstHTTP:
		return h.upgrade()
	}
	return refuse(CauseUnknownProtocol, fmt.Errorf("first byte %#02x", first))
}

// first looks at the first byte without using it.
func (h *handshake) first() (byte, error) {
	for len(h.buf) == 0 {
		if err := h.more(proxy.MaxHeader); err != nil {
			return 0, err
		}
	}
	return h.buf[0], nil
}

// more reads what is there, so that at most limit bytes wait.
func (h *handshake) more(limit int) error {
	if len(h.buf) == cap(h.buf) {
		grown := make([]byte, len(h.buf), min(max(2*cap(h.buf), 512), limit))
		copy(grown, h.buf)
		h.buf = grown
	}
	n, err := h.in.Read(h.buf[len(h.buf):cap(h.buf)])
	h.buf = h.buf[:len(h.buf)+n]
	if n > 0 || err == nil {
		return nil
	}
	return refuse(CauseGone, err)
}

// proxyHeader takes a PROXY header off.
func (h *handshake) proxyHeader() error {
	first, err := h.first()
	if err != nil {
		return err
	}
	c := h.conn
	trusted := h.trusted(c.info.Peer)
	if first != proxy.FirstV1 && first != proxy.FirstV2 {
		if h.opts.Proxy == ProxyRequired {
			return refuse(CauseProxyMissing, nil)
		}
		if trusted { // an untrusted one was counted when it was accepted
			return c.countAddress(h.opts.MaxConnectionsPerAddress)
		}
		return nil
	}
	if !trusted {
		return refuse(CauseProxyUntrusted, nil)
	}
	header, size, err := proxy.Parse(h.buf)
	for errors.Is(err, proxy.ErrShort) {
		if err := h.more(proxy.MaxHeader); err != nil {
			return err
		}
		header, size, err = proxy.Parse(h.buf)
	}
	if err != nil {
		return refuse(CauseProxyHeader, err)
	}
	h.buf = slices.Clone(h.buf[size:])
	c.info.LocalPeer = false // who hides behind a proxy is never taken for a local user
	if !header.Forwarded {
		return nil
	}
	c.info.Remote = header.Source
	c.info.Local = header.Destination
	return c.countAddress(h.opts.MaxConnectionsPerAddress)
}

// startTLS makes the TLS handshake.
func (h *handshake) startTLS() error {
	if h.opts.TLS == nil {
		return refuse(CauseNoTLS, errors.New("the client speaks TLS and the listener has no certificate"))
	}
	g := &gate{Conn: h.conn.sock, head: h.buf}
	t := tls.Server(g, h.opts.TLS)
	ctx, cancel := context.WithDeadline(context.Background(), h.deadline)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return refuse(CauseHandshakeTimeout, err)
		}
		return refuse(CauseTLS, err)
	}
	state := t.ConnectionState()
	h.conn.info.TLS = &state
	h.conn.stream = &tlsStream{Conn: t, gate: g}
	h.in, h.buf = t, nil
	return nil
}

// upgrade makes the WebSocket handshake.
func (h *handshake) upgrade() error {
	c := h.conn
	u := websocket.Upgrader{Paths: h.opts.WebSocketPaths, CheckOrigin: h.checkOrigin}
	if len(u.Paths) == 0 {
		u.Paths = defaultPaths
	}
	answer, err := u.Upgrade(h.buf)
	for errors.Is(err, websocket.ErrShort) {
		if err := h.more(websocket.MaxRequest); err != nil {
			return err
		}
		answer, err = u.Upgrade(h.buf)
	}
	if err != nil {
		h.decline(answer.Response)
		if errors.Is(err, websocket.ErrOrigin) {
			return refuse(CauseForeignOrigin, fmt.Errorf("%w %q", err, answer.Origin))
		}
		return refuse(CauseWebSocket, err)
	}
	if _, err := h.in.Write(answer.Response); err != nil {
		return refuse(CauseGone, err)
	}
	h.buf = slices.Clone(h.buf[answer.Size:])
	c.info.WebSocket, c.info.Origin = true, answer.Origin
	c.ws = newWS()
	return nil
}

// decline sends an answer that says no, and reads on for a moment so that the client sees it: to close a socket with
// input unread is to reset it.
func (h *handshake) decline(answer []byte) {
	if until := time.Now().Add(refusalTime); until.Before(h.deadline) {
		h.conn.sock.SetDeadline(until) // should it fail, so will the write
	}
	if _, err := h.in.Write(answer); err != nil {
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

// checkOrigin asks the listener's rule. Without one, a page must have come from this very host, and a local user's
// browser must have reached it by a name that is safe.
func (h *handshake) checkOrigin(origin, host string) bool {
	info := &h.conn.info
	if h.opts.CheckOrigin != nil {
		return h.opts.CheckOrigin(origin, host, info)
	}
	if origin != "" && info.LocalPeer && !websocket.LoopbackHost(host) {
		return false
	}
	return websocket.SameOrigin(origin, host)
}
