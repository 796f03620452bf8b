// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// KeepAlive are the probes on idle sockets of Listen; a peer that vanished is noticed after some three minutes even
// where MQTT's keep alive is off.
var KeepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 8}

// ListenOptions shape a listener's sockets.
type ListenOptions struct {
	// NotSentLowat bounds the bytes per connection that the kernel holds unsent before it calls a socket full
	// (TCP_NOTSENT_LOWAT); 0 leaves it to the system. Linux only, elsewhere it has no effect.
	NotSentLowat int
	// ReusePort lets other sockets of the same user have the same TCP port (SO_REUSEPORT); the kernel deals connections among them. Linux
	// only, elsewhere listening fails with errors.ErrUnsupported.
	ReusePort bool
}

// Listen listens on a TCP or Unix address as transports like it: without multipath TCP, with keep-alive probes. What it returns is a
// *Listener.
func Listen(ctx context.Context, network, address string, o ListenOptions) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: KeepAlive}
	lc.SetMultipathTCP(false)
	if o.NotSentLowat > 0 || o.ReusePort {
		lc.Control = func(network, _ string, c syscall.RawConn) error {
			if network != "tcp" && network != "tcp4" && network != "tcp6" {
				return nil
			}
			if o.ReusePort {
				if err := setReusePort(c); err != nil {
					return err
				}
			}
			if o.NotSentLowat > 0 {
				return setNotSentLowat(c, o.NotSentLowat)
			}
			return nil
		}
	}
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return NewListener(l), nil
}

// A Listener is a net.Listener whose end can be waited for.
type Listener struct {
	net.Listener
	once   sync.Once
	closed chan struct{}
}

// NewListener wraps l.
func NewListener(l net.Listener) *Listener {
	return &Listener{Listener: l, closed: make(chan struct{})}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Closed is closed when Close has been called.
func (l *Listener) Closed() <-chan struct{} { return l.closed }

// SyscallConn implements syscall.Conn.
func (l *Listener) SyscallConn() (syscall.RawConn, error) {
	if c, ok := l.Listener.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
