// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"crypto/tls"
	"net"
	"os"
)

// gate is what lies below TLS: the socket, after the bytes that were looked at before TLS began. Its dry flag makes an empty
// socket a passed deadline instead of a wait; crypto/tls goes on after that with whatever it has, as it does for net/http.
type gate struct {
	net.Conn
	head []byte
	dry  bool // belongs to the reader
}

// Read implements net.Conn.
func (g *gate) Read(b []byte) (int, error) {
	if len(g.head) > 0 {
		n := copy(b, g.head)
		g.head = g.head[n:]
		return n, nil
	}
	g.head = nil
	if g.dry {
		return 0, os.ErrDeadlineExceeded
	}
	return g.Conn.Read(b)
}

// tlsStream is a TLS connection whose reader waits without a buffer.
type tlsStream struct {
	*tls.Conn
	gate  *gate
	first [1]byte
}

// readRecord blocks for the first byte, and then takes along in a pooled buffer what has been decrypted.
func (t *tlsStream) readRecord() (*[]byte, error) {
	if _, err := t.Conn.Read(t.first[:]); err != nil {
		return nil, err
	}
	p := larges.take()
	b := append(*p, t.first[0])
	t.gate.dry = true
	var err error
	for err == nil && len(b) < cap(b) {
		var n int
		n, err = t.Conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
	}
	t.gate.dry = false
	*p = b
	if timedOut(err) {
		err = nil
	}
	return p, err
}

// CloseWrite tells the peer the end of our stream, in TLS and below.
func (t *tlsStream) CloseWrite() error {
	if err := t.Conn.CloseWrite(); err != nil {
		return err
	}
	return halfClose(t.gate.Conn)
}
