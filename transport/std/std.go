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
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
)

// Defaults of Options.
const (
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultFlushTimeout     = 5 * time.Second
)

// Options are what all listeners of a Server share.
type Options struct {
	// Loops are dealt the connections in turn. They must run, and outlive the server.
	Loops *loop.Group
	// NewCore makes the protocol side of a connection, on the connection's loop, before the first Feed.
	NewCore func(transport.Conn) transport.Core
	// Now stamps Info.Opened; time.Now if nil.
	Now func() time.Time
	// Logger gets what an operator must know, descriptors running out above all, and at level debug each refusal. Nothing
	// is logged if nil.
	Logger *slog.Logger
	// HandshakeTimeout bounds PROXY header, TLS and WebSocket together, from accept; DefaultHandshakeTimeout if 0.
	HandshakeTimeout time.Duration
	// FlushTimeout bounds CloseAfterFlush; DefaultFlushTimeout if 0.
	FlushTimeout time.Duration
	// MaxConnections bounds the connections of the server, handshakes included; 0 means no bound.
	MaxConnections int
	// OnRefused is told of every connection that never reached a core, with its cause (one of the Cause constants). From
	// any goroutine; it must not block.
	OnRefused func(cause string, remote net.Addr)
}

// Protocol is what a listener speaks.
type Protocol byte

const (
	Sniff Protocol = iota // anything: the first byte decides, within TLS again
	MQTT                  // MQTT over TCP or a Unix socket
	TLS                   // MQTT over TLS
	WS                    // MQTT over WebSocket
	WSS                   // MQTT over WebSocket over TLS
)

// ProxyMode says what a listener makes of PROXY protocol headers.
type ProxyMode byte

const (
	ProxyOff      ProxyMode = iota // a header is an unknown protocol
	ProxyAllowed                   // a trusted peer may send one
	ProxyRequired                  // only trusted peers may connect, and each must send one
)

// ListenerOptions are fixed for the life of a listener. The zero value sniffs, without TLS and without PROXY headers.
type ListenerOptions struct {
	Protocol Protocol
	// TLS is the server's configuration, see package tlsconf; TLS is refused if nil.
	TLS *tls.Config

	Proxy ProxyMode
	// ProxyTrusted are the peers whose PROXY headers are believed. Peers on a Unix socket always are.
	ProxyTrusted []netip.Prefix

	// WebSocketPaths are the paths that answer; "/" and "/mqtt" if empty.
	WebSocketPaths []string
	// CheckOrigin decides on a WebSocket handshake by the headers Origin (empty if there is none) and Host. If nil,
	// websocket.SameOrigin does. It runs on the connection's goroutine.
	CheckOrigin func(origin, host string, info *transport.Info) bool

	// MaxConnectionsPerAddress bounds the connections of one remote address (IPv6: of one /64), as told by PROXY protocol
	// where that is trusted; 0 means no bound. Unix sockets are not bounded.
	MaxConnectionsPerAddress int
}

// A Server carries the connections of any number of listeners. Its methods may be called from any goroutine but a loop's.
type Server struct {
	opts Options

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	perAddr   map[netip.Addr]int
	next      int           // loop of the next connection
	closing   bool          // nothing is accepted any more
	empty     chan struct{} // closed when closing and no connection is left

	counts counts
}

// New makes a server. Loops and NewCore are needed.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if o.FlushTimeout <= 0 {
		o.FlushTimeout = DefaultFlushTimeout
	}
	if o.OnRefused == nil {
		o.OnRefused = func(string, net.Addr) {}
	}
	return &Server{
		opts:      o,
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		perAddr:   make(map[netip.Addr]int),
		empty:     make(chan struct{}),
	}
}

// Shutdown closes all listeners and waits until the last connection has ended. If ctx ends first, the connections left
// are closed at once, out-queues lost, and Shutdown waits for that and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopAccepting()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	s.cutAll()
	<-s.empty
	return context.Cause(ctx)
}

// Close closes all listeners and connections at once and waits for their end. Cores learn of it.
func (s *Server) Close() error {
	s.stopAccepting()
	s.cutAll()
	<-s.empty
	return nil
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.closing = true
	for l := range s.listeners {
		l.Close() // Serve returns; an error means that it was closed before
	}
	if len(s.conns) == 0 {
		close(s.empty)
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
