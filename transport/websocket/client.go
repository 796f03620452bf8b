// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

// Client makes the handshake as a client on conn, offering the subprotocol mqtt [MQTT-6.0.0-3], and returns the stream of
// bytes within. host goes into the Host header, header (may be nil) is sent along. When ctx ends the handshake fails.
// conn belongs to the result; after an error it is closed.
//
// Of the result, Read and Write may be called concurrently with each other and with Close. Read answers pings. Close sends a close
// frame and does not wait for the answer.
func Client(ctx context.Context, conn net.Conn, host, path string, header http.Header) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	c, err := handshake(conn, host, path, header)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close() // the error that matters is err
		return nil, fmt.Errorf("websocket: handshake: %w", err)
	}
	return c, nil
}

// handshake asks and checks the answer (RFC 6455, section 4.1).
func handshake(conn net.Conn, host, path string, header http.Header) (*clientConn, error) {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", path, host, key)
	if header.Get("Sec-WebSocket-Protocol") == "" {
		b.WriteString("Sec-WebSocket-Protocol: mqtt\r\n")
	}
	header.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	if _, err := conn.Write(b.Bytes()); err != nil {
		return nil, err
	}

	limit := &io.LimitedReader{R: conn, N: MaxRequest}
	r := bufio.NewReader(limit)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, err
	}
	resp.Body.Close() // there is none
	switch {
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	case !has(resp.Header, "Upgrade", "websocket") || !has(resp.Header, "Connection", "upgrade"),
		resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key):
		return nil, errors.New("the server's answer is not that of a WebSocket")
	case !slices.Contains(Subprotocols, resp.Header.Get("Sec-WebSocket-Protocol")):
		return nil, errors.New("the server does not speak the subprotocol mqtt")
	case resp.Header.Get("Sec-WebSocket-Extensions") != "":
		return nil, errors.New("the server chose an extension that was not offered")
	}
	c := newClientConn(conn)
	if n := r.Buffered(); n > 0 {
		c.early, _ = r.Peek(n) // buffered: it cannot fail
	}
	return c, nil
}

// clientConn is the client's end.
type clientConn struct {
	net.Conn

	read  lock // guards the fields up to rerr
	dec   Decoder
	early []byte // frames that came with the handshake
	ready []byte // payload that is still to be read, in buf
	buf   []byte
	rerr  error

	write  lock // guards the fields below, and writing to Conn
	frame  []byte
	closed bool // a close frame was sent, or writing failed
}

// A lock is held while its owner waits for the network, so it is a channel and no mutex: who waits for it under
// testing/synctest counts as idle.
type lock chan struct{}

func (l lock) lock()   { l <- struct{}{} }
func (l lock) unlock() { <-l }

func newClientConn(conn net.Conn) *clientConn {
	return &clientConn{Conn: conn, read: make(lock, 1), write: make(lock, 1), dec: Decoder{server: true}}
}

// Read implements net.Conn. It returns io.EOF after the server's close frame.
func (c *clientConn) Read(b []byte) (int, error) {
	c.read.lock()
	defer c.read.unlock()
	for len(c.ready) == 0 {
		if c.rerr != nil {
			return 0, c.rerr
		}
		if len(b) == 0 {
			return 0, nil
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// fill reads once from the connection and decodes.
func (c *clientConn) fill() error {
	if c.buf == nil {
		c.buf = make([]byte, 4<<10)
	}
	n := copy(c.buf, c.early)
	c.early = c.early[n:]
	if n == 0 {
		var err error
		if n, err = c.Conn.Read(c.buf); n == 0 {
			return err // a passed deadline may be moved; anything else comes again
		}
	}
	k, err := c.dec.Decode(c.buf[:n])
	c.ready = c.buf[:k]
	if err != nil {
		c.end(err)
		return nil
	}
	if c.dec.owed {
		pong := c.dec.pong
		c.dec.owed, c.dec.pong = false, nil
		return c.send(OpPong, pong)
	}
	return nil
}

// end answers the decoder's last word.
func (c *clientConn) end(err error) {
	c.rerr = err
	if e, ok := errors.AsType[*CloseError](err); ok {
		if e.Peer {
			c.rerr = io.EOF
		}
		c.sendClose(e.Code)
	}
}

// Write implements net.Conn: b becomes one binary frame.
func (c *clientConn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := c.send(OpBinary, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// send writes a frame, unless the close frame has been sent.
func (c *clientConn) send(op Opcode, payload []byte) error {
	c.write.lock()
	defer c.write.unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = op == OpClose
	var key [4]byte
	rand.Read(key[:]) // never fails
	c.frame = appendMasked(c.frame[:0], op, payload, key)
	_, err := c.Conn.Write(c.frame)
	c.closed = c.closed || err != nil // half a frame may be out: nothing can follow
	if cap(c.frame) > 64<<10 {
		c.frame = nil
	}
	return err
}

// closeTime bounds the sending of a close frame.
const closeTime = time.Second

func (c *clientConn) sendClose(code CloseCode) {
	c.Conn.SetWriteDeadline(time.Now().Add(closeTime)) // also ends a Write that is stuck
	c.send(OpClose, closePayload(code))                // the connection ends either way
}

// Close implements net.Conn.
func (c *clientConn) Close() error {
	c.sendClose(CloseNormal)
	return c.Conn.Close()
}
