// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// writePatience is how long a write may take before the connection counts as lost.
const writePatience = 10 * time.Second

// A conn is one connection. A goroutine of its own decodes what comes; one goroutine sends.
type conn struct {
	net    net.Conn
	v      mqtt.Version
	in     chan any // packets, owned by who takes them; closed at the end of the connection
	closed chan struct{}
	once   sync.Once
	unhook func() bool
}

// newConn begins to read. Some time after ctx has ended the connection is closed, so that what had come before is still read.
func newConn(ctx context.Context, c net.Conn, v mqtt.Version) *conn {
	n := &conn{net: c, v: v, in: make(chan any, 256), closed: make(chan struct{})}
	n.unhook = context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now().Add(time.Second)) })
	go n.read()
	return n
}

// close cuts the connection; what was not read is lost.
func (n *conn) close() {
	n.once.Do(func() {
		n.unhook()
		close(n.closed)
		n.net.Close()
	})
}

// disconnect says good-bye (normal disconnection, without the will) and closes.
func (n *conn) disconnect() {
	n.write((&mqtt.Disconnect{}).Append(nil, n.v)) // if it does not arrive the connection is lost, which is noticed
	n.close()
}

// write sends bytes and reports whether the connection is still good. An error shows up as the end of what comes in.
func (n *conn) write(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	n.net.SetWriteDeadline(time.Now().Add(writePatience))
	_, err := n.net.Write(b)
	return err == nil
}

// read decodes packets until the connection ends, or brings what is not MQTT.
func (n *conn) read() {
	defer close(n.in)
	var buf []byte
	chunk := make([]byte, 64<<10)
	for {
		rest, ok := n.split(buf)
		if !ok {
			return
		}
		m, err := n.net.Read(chunk)
		buf = append(append(buf[:0], rest...), chunk[:m]...)
		if m == 0 && err != nil {
			return
		}
	}
}

// split hands on the whole packets at the start of b and returns what is left.
func (n *conn) split(b []byte) (rest []byte, ok bool) {
	for {
		h, size, err := mqtt.DecodeHeader(b, n.v)
		if err != nil {
			return nil, false
		}
		if size == 0 || len(b) < size+h.Remaining {
			return b, true
		}
		p, err := decode(h, slices.Clone(b[size:size+h.Remaining]), n.v)
		if err != nil {
			return nil, false
		}
		b = b[size+h.Remaining:]
		select {
		case n.in <- p:
		case <-n.closed:
			return nil, false
		}
	}
}

// decode decodes a packet that a server sends. The packet owns body.
func decode(h mqtt.Header, body []byte, v mqtt.Version) (any, error) {
	switch h.Type {
	case mqtt.CONNACK:
		p := &mqtt.Connack{}
		return p, p.Decode(h, body, v)
	case mqtt.PUBLISH:
		p := &mqtt.Publish{}
		return p, p.Decode(h, body, v)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		p := &mqtt.Ack{}
		return p, p.Decode(h, body, v)
	case mqtt.SUBACK:
		p := &mqtt.Suback{}
		return p, p.Decode(h, body, v)
	case mqtt.UNSUBACK:
		p := &mqtt.Unsuback{}
		return p, p.Decode(h, body, v)
	case mqtt.DISCONNECT:
		p := &mqtt.Disconnect{}
		return p, p.Decode(h, body, v)
	case mqtt.PINGRESP:
		return pong{}, nil
	}
	return nil, fmt.Errorf("a server does not send %v", h.Type)
}

// pong is a PINGRESP.
type pong struct{}
