// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package admin is the HTTP server for those who run a broker: health, metrics, profiles and a small status page.
//
// It has no login. It listens on loopback unless its owner decided otherwise, answers only to names that cannot be the work of
// DNS rebinding, and gives profiles, what is stored, bans and the list of dropped messages to this host only. It reads and changes nothing,
// but for bans, and those for who has the key: the user as whom the broker runs.
//
// A Server owns its listener and the goroutines of net/http; Close ends them.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/transport"
)

// Phase is where the server stands in its life.
type Phase int32

// Phases, in their order.
const (
	Starting Phase = iota
	Ready
	Draining
	Stopped
)

func (p Phase) String() string { return [...]string{"starting", "ready", "draining", "stopped"}[p] }

// Source is what the pages tell about. Its functions are called from any goroutine.
type Source struct {
	Version string
	Phase   func() Phase
	// Alive asks every loop for a sign of life and reports whether all gave one before ctx ended.
	Alive func(ctx context.Context) bool
	// Listeners are the addresses that clients are to use.
	Listeners func() []string
	Broker    *broker.Broker
	Transport transport.Server
	Started   time.Time
	// Key has to come with requests that change something; empty refuses them all.
	Key string
}

// Options are what a Server is made of.
type Options struct {
	Source Source
	// Hosts are names by which it may be called, besides localhost and IP addresses.
	Hosts []string
	// Logger gets errors of net/http. Nil discards.
	Logger *slog.Logger
}

// Server answers HTTP on one listener.
type Server struct {
	listener net.Listener
	http     http.Server
}

// Bounds of a request. Profiles may take longer to write than anything else.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 90 * time.Second
	idleTimeout   = 60 * time.Second
	mostHeader    = 16 << 10
)

// New makes a server for a listener and takes the listener over.
func New(l net.Listener, o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{listener: l}
	s.http = http.Server{
		Handler:           guard(o.Hosts, routes(o.Source)),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: mostHeader, ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

func routes(src Source) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", src.health)
	mux.HandleFunc("GET /readyz", src.ready)
	mux.Handle("GET /metrics", metrics(src))
	mux.HandleFunc("GET /{$}", src.status)
	mux.HandleFunc("GET /api/v1/alarms", src.alarms)
	mux.HandleFunc("GET /api/v1/drops", localOnly(src.drops))
	mux.HandleFunc("GET /api/v1/bans", localOnly(src.bans))
	mux.HandleFunc("POST /api/v1/bans", localOnly(src.changes(src.ban)))
	mux.HandleFunc("DELETE /api/v1/bans", localOnly(src.changes(src.unban)))
	mux.HandleFunc("GET /api/v1/store", localOnly(src.inventory))
	mux.HandleFunc("GET /api/v1/backup", localOnly(src.backup))
	mux.HandleFunc("GET /debug/pprof/", localOnly(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", localOnly(pprof.Cmdline))
	mux.HandleFunc("GET /debug/pprof/profile", localOnly(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", localOnly(pprof.Symbol))
	mux.HandleFunc("GET /debug/pprof/trace", localOnly(pprof.Trace))
	return mux
}

// Serve answers until Close, and then returns nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close ends it at once, requests under way too.
func (s *Server) Close() error {
	return errors.Join(s.http.Close(), closed(s.listener.Close()))
}

// closed forgives the second close of a listener that Serve had taken.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
