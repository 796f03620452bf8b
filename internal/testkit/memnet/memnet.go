// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package memnet is a network in memory, for tests.
//
// A Listener is a net.Listener whose connections are made by Dial. Connections are buffered, obey deadlines, can be
// closed for writing alone, and have knobs for faults: Cut, Freeze, SetLatency. Everything that waits does so on a
// sync.Cond, and time is the time package's: so tests under testing/synctest see it idle, in virtual time.
//
// No goroutine is started, but for the moment in which a timer fires. Each direction of a connection has one lock, a leaf.
package memnet

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// DefaultBuffer is how many bytes a direction holds before Write blocks.
const DefaultBuffer = 64 << 10

// backlog is how many connections wait for Accept before Dial blocks.
const backlog = 128

// Options shape the connections of a listener. The zero value is fine.
type Options struct {
	// Buffer is the size of each direction in bytes; DefaultBuffer if 0.
	Buffer int
	// Addr is the listener's address; 127.0.0.1:1883 if nil.
	Addr net.Addr
}

// A Listener accepts connections made by its Dial.
type Listener struct {
	opts   Options
	queue  chan *Conn
	once   sync.Once
	closed chan struct{}
	port   atomic.Int32
}

// Listen makes a listener with the default options.
func Listen() *Listener { return Options{}.Listen() }

// Listen makes a listener.
func (o Options) Listen() *Listener {
	if o.Buffer <= 0 {
		o.Buffer = DefaultBuffer
	}
	if o.Addr == nil {
		o.Addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883}
	}
	return &Listener{opts: o, queue: make(chan *Conn, backlog), closed: make(chan struct{})}
}

// Accept implements net.Listener. The connection is a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, l.closedError("accept")
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, l.closedError("accept")
	}
}

// Close implements net.Listener. Connections that nobody accepted are reset; the others live on.
func (l *Listener) Close() error {
	err := l.closedError("close")
	l.once.Do(func() {
		close(l.closed)
		err = nil
	})
	for {
		select {
		case c := <-l.queue:
			c.Cut()
		default:
			return err
		}
	}
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.opts.Addr }

// Dial connects to the listener, from a port of 127.0.0.1. The connection is a *Conn.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	port := 49152 + int(l.port.Add(1))%16384
	return l.DialFrom(ctx, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
}

// DialFrom connects to the listener from the address that the other side is to see.
func (l *Listener) DialFrom(ctx context.Context, from net.Addr) (net.Conn, error) {
	client, server := pair(from, l.opts.Addr, l.opts.Buffer)
	select {
	case <-l.closed:
		return nil, l.closedError("dial")
	default:
	}
	select {
	case l.queue <- server:
	case <-l.closed:
		return nil, l.closedError("dial")
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: l.opts.Addr, Err: ctx.Err()}
	}
	select {
	case <-l.closed: // Close may have emptied the queue before this one was in it
		client.Cut()
	default:
	}
	return client, nil
}

func (l *Listener) closedError(op string) error {
	return &net.OpError{Op: op, Net: "memory", Addr: l.opts.Addr, Err: net.ErrClosed}
}
