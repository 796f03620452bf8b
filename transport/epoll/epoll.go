// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
)

// A Server carries the connections of any number of listeners. Its methods may be called from any goroutine but a loop's.
type Server struct {
	books   *front.Books
	opts    *transport.Options // of books
	pollers []*Poller
	tallies []tally       // by loop
	shaking chan struct{} // holds one for each TLS handshake that computes
	cutting atomic.Bool   // whoever comes to a loop is to be closed

	mu        sync.Mutex
	listeners map[*listener]struct{}
	serving   sync.WaitGroup // Serve calls whose listener a loop may watch; added to under mu
}

// tally are the bytes that a loop moved. Each has a cache line of its own.
type tally struct {
	read, written   atomic.Int64
	unsent, blocked atomic.Int64 // a connection that moves may leave negative ones behind
	_               [32]byte
}

var _ transport.Server = (*Server)(nil)

// New makes a server. Loops and NewCore are needed; the loops must have pollers made by NewPoller.
func New(o transport.Options) (*Server, error) {
	books := front.NewBooks(o)
	s := &Server{
		books: books, opts: &books.Options,
		tallies:   make([]tally, o.Loops.N()),
		shaking:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		listeners: make(map[*listener]struct{}),
	}
	for i := range o.Loops.N() {
		p, err := pollerOf(o.Loops.Loop(i))
		if err != nil {
			return nil, err
		}
		s.pollers = append(s.pollers, p)
	}
	return s, nil
}

// Counts returns the counters.
func (s *Server) Counts() transport.Counts {
	c := s.books.Counts()
	for i := range s.tallies {
		c.BytesRead += s.tallies[i].read.Load()
		c.BytesWritten += s.tallies[i].written.Load()
		c.Unsent += s.tallies[i].unsent.Load()
		c.Blocked += s.tallies[i].blocked.Load()
	}
	return c
}

// Shutdown implements transport.Server.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopAccepting()
	s.unwatched()
	select {
	case <-s.books.Empty():
		return nil
	case <-ctx.Done():
	}
	s.cutAll()
	<-s.books.Empty()
	return context.Cause(ctx)
}

// Close implements transport.Server.
func (s *Server) Close() error {
	s.stopAccepting()
	s.unwatched()
	s.cutAll()
	<-s.books.Empty()
	return nil
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.books.Close()
	for li := range s.listeners {
		li.stop()
	}
}

// unwatched waits, after stopAccepting, until no loop watches a listener any more: once Shutdown or Close has returned the loops
// may end, and would not do what Serve still wants of them.
func (s *Server) unwatched() { s.serving.Wait() }

// cutAll closes every connection. One that is on its way between two loops sees cutting where it arrives.
func (s *Server) cutAll() {
	s.cutting.Store(true)
	for _, p := range s.pollers {
		p.loop.Post(loop.Func(func(*loop.Loop) {
			for _, c := range p.slots {
				if c != nil && c.li.srv == s {
					c.cut()
				}
			}
		}))
	}
}
