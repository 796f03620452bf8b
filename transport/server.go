// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/noctule/noctule/loop"
)

// A Server carries the connections of any number of listeners. Its methods may be called from any goroutine but a loop's.
type Server interface {
	// Serve accepts connections until l is closed or the server is shut down, and then returns nil; it takes l over and
	// closes it at the end. name is the listener's name in the configuration. A transport that does not leave accepting to
	// l itself notices its end only if Listen or NewListener made it.
	Serve(name string, l net.Listener, o ListenerOptions) error
	// Shutdown closes all listeners and waits until the last connection has ended. If ctx ends first, the connections left
	// are closed at once, out-queues lost, and Shutdown waits for that and returns ctx's error.
	Shutdown(ctx context.Context) error
	// Close closes all listeners and connections at once and waits for their end. Cores learn of it.
	Close() error
	// Counts returns the counters.
	Counts() Counts
}

// Defaults of Options.
const (
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultFlushTimeout     = 5 * time.Second
)

// Options are what all listeners of a Server share.
type Options struct {
	// Loops are dealt the connections. They must run, and outlive the server.
	Loops *loop.Group
	// NewCore makes the protocol side of a connection, on the connection's loop, before the first Feed.
	NewCore func(Conn) Core
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

// SetDefaults fills in what is not set.
func (o *Options) SetDefaults() {
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
	// websocket.SameOrigin does. It must not block: it may run on a loop.
	CheckOrigin func(origin, host string, info *Info) bool

	// Loop is the loop that accepts, counted from 1, where a transport accepts on loops; 0: whichever is idle. It is for listeners with a
	// socket for each loop, see ListenOptions.ReusePort.
	Loop int

	// MaxConnectionsPerAddress bounds the connections of one remote address (IPv6: of one /64), as told by PROXY protocol
	// where that is trusted; 0 means no bound. Unix sockets are not bounded.
	MaxConnectionsPerAddress int
}

// Causes why a connection was refused: the closed list of what OnRefused and Counts name.
const (
	CauseTooMany           = "too_many_connections"
	CauseTooManyPerAddress = "too_many_connections_per_address"
	CauseNoDescriptor      = "out_of_descriptors"
	CauseUnknownProtocol   = "unknown_protocol"
	CauseNoTLS             = "tls_not_configured"
	CauseTLS               = "tls_handshake"
	CauseProxyHeader       = "proxy_header"
	CauseProxyMissing      = "proxy_header_missing"
	CauseProxyUntrusted    = "proxy_untrusted"
	CauseWebSocket         = "websocket_handshake"
	CauseForeignOrigin     = "foreign_origin"
	CauseHandshakeTimeout  = "handshake_timeout"
	CauseGone              = "peer_gone" // before the first byte, or in the middle of the handshake
	CauseClosing           = "server_closing"
)

// Causes are all that transports count.
var Causes = []string{
	CauseTooMany, CauseTooManyPerAddress, CauseNoDescriptor, CauseUnknownProtocol, CauseNoTLS, CauseTLS, CauseProxyHeader,
	CauseProxyMissing, CauseProxyUntrusted, CauseWebSocket, CauseForeignOrigin, CauseHandshakeTimeout, CauseGone, CauseClosing,
}

// Counts are a server's counters since its start.
type Counts struct {
	Accepted     int64            // sockets accepted
	Open         int64            // connections there are, handshakes included
	BytesRead    int64            // as the socket counts, after TLS, WebSocket frames included
	BytesWritten int64            // likewise
	Unsent       int64            // bytes that wait in the out-queues of the Blocked
	Blocked      int64            // connections whose socket does not take what is to be written
	Refused      map[string]int64 // by cause
}
