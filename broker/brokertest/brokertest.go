// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package brokertest runs a broker inside a test: in memory, without a port, without globals, and gone at the test's end. It
// works inside testing/synctest, where time is virtual.
package brokertest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/transport/std"
)

// Broker is a running broker and the network in memory on which it listens.
type Broker struct {
	*broker.Broker
	t   testing.TB
	net *memnet.Listener
	srv *std.Server

	served chan struct{}
}

// New starts a broker with the given options and has it shut down at the end of the test. It speaks everything that a port of the program
// does, by first byte, but TLS.
func New(t testing.TB, o broker.Options) *Broker {
	t.Helper()
	b, err := broker.New(o)
	if err != nil {
		t.Fatalf("brokertest: %v", err)
	}
	s := &Broker{Broker: b, t: t, net: memnet.Listen(), served: make(chan struct{})}
	s.srv = std.New(std.Options{Loops: b.Loops(), NewCore: b.Core, Now: o.Now, Logger: o.Logger,
		HandshakeTimeout: b.Limits().ConnectTimeout})
	go func() {
		defer close(s.served)
		if err := s.srv.Serve("test", s.net, std.ListenerOptions{}); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("brokertest: serve: %v", err)
		}
	}()
	t.Cleanup(s.Stop)
	return s
}

// Stop shuts the broker down; the end of the test does it too.
func (s *Broker) Stop() {
	s.net.Close()
	<-s.served
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond) // for windows that tests leave full
	defer cancel()
	s.Drain(ctx) // its error says that clients were cut off: tests leave them open
	s.srv.Close()
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.t.Errorf("brokertest: shutdown: %v", err)
	}
}

// Dial opens a connection to the broker, from the loopback address.
func (s *Broker) Dial() net.Conn {
	s.t.Helper()
	c, err := s.net.Dial(context.Background())
	if err != nil {
		s.t.Fatalf("brokertest: dial: %v", err)
	}
	return c
}

// DialFrom opens a connection that seems to come from another address.
func (s *Broker) DialFrom(from net.Addr) net.Conn {
	s.t.Helper()
	c, err := s.net.DialFrom(context.Background(), from)
	if err != nil {
		s.t.Fatalf("brokertest: dial: %v", err)
	}
	return c
}
