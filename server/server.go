// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package server makes a running broker of a configuration: it opens the store, builds the plug-ins, the broker, the listeners and the
// admin server, tells the service manager how things stand, applies a changed configuration, and ends in order.
//
// The phases are starting (New), ready (Serve, once all listeners accept), draining (clients are told to leave) and stopped.
// A Server is owned by the goroutine that calls New and Serve; Reload, Phase and Addresses may be called from any. It starts
// one goroutine for each listening socket, for the admin server, for the service manager's watchdog and for unused memory; Serve
// waits for all of them.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/admin"
	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/ban"
	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/server/config"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/transport"
)

// Options are what a Server is made of.
type Options struct {
	// Config is checked already, as Load returns it. Nil means the defaults.
	Config *config.Config
	// Load reads the configuration anew for Reload. Nil means that there is nothing to read.
	Load func() (*config.Config, error)
	// Version is told to clients and metrics.
	Version string
	// Stderr takes the log and what is said at the start. Nil discards.
	Stderr io.Writer
	// Terminal says that Stderr is one: the log is coloured.
	Terminal bool
}

// Server is one broker with all that belongs to it.
type Server struct {
	opts   Options
	log    *slog.Logger
	level  *slog.LevelVar
	phase  atomic.Int32 // admin.Phase
	notify notifier

	store     store.Store // until the broker has it
	watch     broker.StoreWatch
	drops     *journal.Journal
	bans      *ban.List // nil: in memory
	key       string    // for changes by the admin server; empty: it takes none
	broker    *broker.Broker
	transport transport.Server
	sockets   []*socket
	certs     certificates
	admin     *admin.Server // nil if off
	memory    governor

	reloading sync.Mutex     // one Reload at a time; taken before mu
	mu        sync.Mutex     // guards config
	config    *config.Config // in force

	serving sync.WaitGroup // a goroutine for each socket
	failed  chan error     // a listener that broke; takes the first
}

// New builds everything and opens the listening sockets; nobody is served before Serve. Where it fails nothing is left open, and
// the service manager has been told why.
func New(o Options) (*Server, error) {
	if o.Config == nil {
		c, err := config.Load(config.Input{})
		if err != nil {
			return nil, err
		}
		o.Config = c
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.Version == "" {
		o.Version = "noctule"
	}
	s := &Server{opts: o, config: o.Config, level: new(slog.LevelVar), failed: make(chan error, 1)}
	s.level.Set(levelOf(o.Config.Log.Level))
	s.log = newLogger(o.Stderr, o.Config.Log.Format, s.level, o.Terminal)
	if err := s.build(); err != nil {
		s.notify.failed(err)
		s.closeAll()
		return nil, err
	}
	return s, nil
}

// build makes the parts, each of those before it.
func (s *Server) build() error {
	c := s.config
	wires, err := wiresOf(c.Transport)
	if err != nil {
		return err
	}
	plugins, err := buildPlugins(c)
	if err != nil {
		return err
	}
	if found := c.Safety(authenticates(plugins)); len(found) > 0 {
		return found
	}
	if s.certs, err = loadCertificates(c, s.log); err != nil {
		return err
	}
	if s.sockets, err = s.openSockets(); err != nil {
		return err
	}
	adminSocket, err := s.listenAdmin()
	if err != nil {
		return err
	}
	s.memory.set(c.Memory, s.log)
	limits := c.Limits.Limits
	if err = s.openStore(); err == nil {
		s.broker, err = broker.New(broker.Options{
			Store: s.store, Durability: c.Store.Durability, Watch: &s.watch, Drops: s.drops, Bans: s.bans, Plugins: plugins, Logger: s.log,
			Limits: &limits, Policy: c.Policy, HookTimeout: c.Auth.HookTimeout, Version: s.opts.Version, NewPoller: wires.newPoller,
			StallAlarm: stallAlarm(c.Alarms.LoopBlocked), Memory: s.memory.usage,
		})
	}
	if err != nil {
		if adminSocket != nil {
			adminSocket.Close() // err matters more
		}
		return err
	}
	s.transport, err = wires.newServer(transport.Options{
		Loops: s.broker.Loops(), NewCore: s.broker.Core, Logger: s.log, HandshakeTimeout: limits.ConnectTimeout,
		MaxConnections: socketLimit(limits.MaxConnections),
	})
	if err != nil { // only if the loops were not made for it, and they were
		panic(err)
	}
	if adminSocket != nil {
		s.openAdmin(adminSocket)
	}
	return nil
}

// stallAlarm says to the broker when a loop is blocked; 0 in the configuration means never.
func stallAlarm(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// socketLimit bounds sockets by the clients that are wanted: as many again may be on their way to CONNECT.
func socketLimit(clients int) int {
	if clients == 0 {
		return 0
	}
	return 2*clients + 1000
}

// closeAll gives back what a failed New had opened.
func (s *Server) closeAll() {
	for _, k := range s.sockets {
		k.Close() // an error would say nothing to whoever wants it closed
	}
	s.certs.close()
	if s.broker == nil && s.store != nil {
		s.store.Close() // likewise
		s.drops.Close()
	}
}

// lingerTimeout is how long connections may take to close once their clients have left or were cut off.
const lingerTimeout = 2 * time.Second

// Serve accepts clients until ctx ends, then says good-bye to them within shutdown.timeout and returns. Its error is nil
// where all ended in order. It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	for _, k := range s.sockets {
		s.serving.Go(func() {
			if err := k.serve(s.transport); err != nil {
				s.fail(err)
			}
		})
	}
	if s.admin != nil {
		s.serving.Go(func() {
			if err := s.admin.Serve(); err != nil {
				s.fail(err)
			}
		})
	}
	s.phase.Store(int32(admin.Ready))
	s.say()
	s.notify.ready()
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	s.serving.Go(func() { s.notify.watchdog(watching, s.alive) })
	s.serving.Go(func() { mindMemory(watching) })
	var broken error
	select {
	case <-ctx.Done():
	case broken = <-s.failed:
		s.log.Error("a listener broke; the server ends", "err", broken)
	case <-s.broker.Failed():
		broken = s.broker.Failure()
		s.log.Error("the server ends", "err", broken)
	}
	err := s.shutdown(ctx)
	unwatch()
	s.serving.Wait()
	s.phase.Store(int32(admin.Stopped))
	return errors.Join(broken, err)
}

func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default: // one is enough to end
	}
}

// shutdown ends in order: no new connections, clients leave, the store is closed.
func (s *Server) shutdown(ctx context.Context) error {
	s.phase.Store(int32(admin.Draining))
	s.notify.stopping()
	timeout := s.Config().Shutdown.Timeout
	failed := s.broker.Failure()
	if failed != nil {
		timeout = 0 // what clients wait for does not come
	}
	s.log.Info("stopping", "timeout", timeout)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	for _, k := range s.sockets {
		k.Close() // the transport closes it too
	}
	s.certs.close()
	began := time.Now()
	drained := s.broker.Drain(ctx)
	lingering, done := context.WithTimeout(context.WithoutCancel(ctx), lingerTimeout)
	s.transport.Shutdown(lingering) //nolint:errcheck // those that are still there have all that we had for them
	done()
	err := s.broker.Shutdown(ctx)
	if errors.Is(drained, context.DeadlineExceeded) { // that is what the time-out is for
		if failed == nil {
			s.log.Warn("clients were cut off after shutdown.timeout", "timeout", timeout)
		}
		err = without(err, drained)
	}
	if failed != nil {
		err = nil // the failure is said; what follows from it would only hide it
	}
	if s.admin != nil {
		s.admin.Close() // requests under way are lost
	}
	s.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
	return err
}

// without is what is left of joined errors after one is taken out.
func without(err, one error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	return errors.Join(slices.DeleteFunc(slices.Clone(joined.Unwrap()), func(e error) bool { return e == one })...)
}

// Config is the configuration in force; it must not be changed.
func (s *Server) Config() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// Phase is where the server stands in its life.
func (s *Server) Phase() admin.Phase { return admin.Phase(s.phase.Load()) }

// Addresses are those that the listeners listen on, as URLs.
func (s *Server) Addresses() []string {
	out := make([]string, len(s.sockets))
	for i, k := range s.sockets {
		out[i] = k.url()
	}
	return out
}

// AdminAddress is where the admin server listens, empty if it is off.
func (s *Server) AdminAddress() string {
	if s.admin == nil {
		return ""
	}
	return s.admin.Addr().String()
}

// alive asks every loop for a sign of life.
func (s *Server) alive(ctx context.Context) bool {
	loops := s.broker.Loops()
	answered := make(chan struct{}, loops.N())
	for i := range loops.N() {
		loops.Loop(i).Post(loop.Func(func(*loop.Loop) { answered <- struct{}{} }))
	}
	for range loops.N() {
		select {
		case <-answered:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// say tells the person who started the server what there is.
func (s *Server) say() {
	w, c := s.opts.Stderr, s.Config()
	fmt.Fprintf(w, "noctule %s\n", s.opts.Version)
	for _, k := range s.sockets {
		fmt.Fprintf(w, "  clients  %s%s\n", k.url(), k.speaks())
	}
	if s.admin != nil {
		fmt.Fprintf(w, "  admin    http://%s/\n", s.admin.Addr())
	} else {
		fmt.Fprintln(w, "  admin    off")
	}
	fmt.Fprintf(w, "  data     %s\n", saysData(c))
	for _, warning := range c.Warnings() {
		fmt.Fprintf(w, "  warning  %s\n", warning)
	}
}
