// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/noctule/noctule/admin"
	"github.com/noctule/noctule/transport"
)

// listenAdmin opens the admin server's socket; nil where it is off. A default address that is taken (a second broker on this host)
// is no reason not to serve clients; one that somebody chose is.
func (s *Server) listenAdmin() (net.Listener, error) {
	a := s.config.Admin
	if a.Off() {
		return nil, nil
	}
	l, err := transport.Listen(context.Background(), "tcp", a.Address, transport.ListenOptions{})
	if err == nil {
		return l, nil
	}
	if _, given := s.config.Given("admin.address"); !given && errors.Is(err, syscall.EADDRINUSE) {
		s.log.Warn("no admin server: its default address is taken; choose one with admin.address, or off", "err", err)
		return nil, nil
	}
	return nil, fmt.Errorf("admin: %w; choose another admin.address, or off", err)
}

// writeKey makes the key that changes by the admin server want, and writes it where only this user, who runs the verbs, can read it. A new one
// with each start.
func (s *Server) writeKey(dir string) error {
	if s.config.Admin.Off() {
		return nil
	}
	s.key = rand.Text()
	path := filepath.Join(dir, admin.KeyFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // its mode might be another one
		return fmt.Errorf("admin: %w", err)
	}
	if err := os.WriteFile(path, []byte(s.key+"\n"), 0o600); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

// openAdmin makes the admin server for its socket.
func (s *Server) openAdmin(l net.Listener) {
	s.admin = admin.New(l, admin.Options{
		Source: admin.Source{
			Version: s.opts.Version, Phase: s.Phase, Alive: s.alive, Listeners: s.Addresses, Broker: s.broker,
			Transport: s.transport, Started: time.Now(), Key: s.key,
		},
		Hosts: s.config.Admin.Hosts, Logger: s.log,
	})
}
