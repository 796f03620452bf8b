// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package std is the transport on net.Conn and goroutines. It runs wherever Go runs.
//
// # The way of the bytes
//
// An accepted socket is peeled on a goroutine of its own, in a bounded time: PROXY header, TLS, WebSocket. Then it
// belongs to a loop. A connection that waits for input has one goroutine parked on the socket, with no buffer and a
// small stack; it ends when there is input, having posted the connection to its loop. The loop feeds the core and starts the
// goroutine anew. So there is at most one read under way, and a loop that lags makes TCP hold its peers back.
//
// Where the platform lets it (Unix, neither TLS nor memory), the loop itself reads and writes the socket, without
// blocking. Otherwise the goroutine reads, and another, which lives only while there is something to write, writes. The
// latter also takes over whatever a full socket refuses.
//
// # Ownership
//
// Everything in a conn belongs to its loop, except: while reading is set the input fields belong to the reader, while
// writing is set the slices under way (not the queue) belong to the writer. Both come home as a task of the loop. A socket is closed
// on its loop only, which is why the loop may use its descriptor. Server.mu is a leaf.
package std

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
)

// A Server carries the connections of any number of listeners. Its methods may be called from any goroutine but a loop's.
type Server struct {
	books *front.Books
	opts  *transport.Options // of books

	bytesRead, bytesWritten atomic.Int64
	unsent, blocked         atomic.Int64

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	next      int // loop of the next connection
}

var _ transport.Server = (*Server)(nil)

// New makes a server. Loops and NewCore are needed.
func New(o Options) *Server {
	books := front.NewBooks(o)
	return &Server{
		books: books, opts: &books.Options,
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
	}
}

// Counts returns the counters.
func (s *Server) Counts() Counts {
	c := s.books.Counts()
	c.BytesRead, c.BytesWritten = s.bytesRead.Load(), s.bytesWritten.Load()
	c.Unsent, c.Blocked = s.unsent.Load(), s.blocked.Load()
	return c
}

// Shutdown closes all listeners and waits until the last connection has ended. If ctx ends first, the connections left
// are closed at once, out-queues lost, and Shutdown waits for that and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopAccepting()
	select {
	case <-s.books.Empty():
		return nil
	case <-ctx.Done():
	}
	s.cutAll()
	<-s.books.Empty()
	return context.Cause(ctx)
}

// Close closes all listeners and connections at once and waits for their end. Cores learn of it.
func (s *Server) Close() error {
	s.stopAccepting()
	s.cutAll()
	<-s.books.Empty()
	return nil
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.books.Close()
	for l := range s.listeners {
		l.Close() // Serve returns; an error means that it was closed before
	}
}

// cutAll closes every connection: those that belong to a loop there, the others here.
func (s *Server) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.onLoop {
			c.home.Load().Post((*cut)(c))
		} else {
			c.sock.Close() // its handshake fails
		}
	}
}
