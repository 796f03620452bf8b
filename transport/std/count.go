// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// Causes why a connection was refused: the closed list of what OnRefused and Counts name.
const (
	CauseTooMany           = "too_many_connections"
	CauseTooManyPerAddress = "too_many_connections_per_address"
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

// counts are a server's counters.
type counts struct {
	accepted     atomic.Int64
	bytesRead    atomic.Int64
	bytesWritten atomic.Int64

	mu      sync.Mutex
	refused map[string]int64
}

// Counts are a server's counters since its start.
type Counts struct {
	Accepted     int64            // sockets accepted
	Open         int64            // connections there are, handshakes included
	BytesRead    int64            // as the socket counts, after TLS, WebSocket frames included
	BytesWritten int64            // likewise
	Refused      map[string]int64 // by cause
}

// Counts returns the counters.
func (s *Server) Counts() Counts {
	c := Counts{
		Accepted:     s.counts.accepted.Load(),
		BytesRead:    s.counts.bytesRead.Load(),
		BytesWritten: s.counts.bytesWritten.Load(),
		Refused:      make(map[string]int64),
	}
	s.mu.Lock()
	c.Open = int64(len(s.conns))
	s.mu.Unlock()
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	for cause, n := range s.counts.refused {
		c.Refused[cause] = n
	}
	return c
}

// refused counts a connection that never reached a core.
func (s *Server) refused(cause string, remote net.Addr) {
	s.counts.mu.Lock()
	if s.counts.refused == nil {
		s.counts.refused = make(map[string]int64)
	}
	s.counts.refused[cause]++
	s.counts.mu.Unlock()
	s.opts.OnRefused(cause, remote)
}

// A refusal is an error with its cause.
type refusal struct {
	cause string
	err   error
}

func (r *refusal) Error() string {
	if r.err == nil {
		return r.cause
	}
	return r.cause + ": " + r.err.Error()
}

func (r *refusal) Unwrap() error { return r.err }

// refuse makes an error of a handshake. Time running out has a cause of its own, wherever it was noticed.
func refuse(cause string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		cause = CauseHandshakeTimeout
	}
	return &refusal{cause: cause, err: err}
}

// causeOf names the cause of a failed handshake.
func causeOf(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.cause
	}
	return CauseGone
}
