// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/noctule/noctule/server/config"
)

// reloadTimeout bounds a reload, plug-ins included.
const reloadTimeout = time.Minute

// TryReload starts a Reload whose outcome is logged. One at a time runs; the others wait.
func (s *Server) TryReload() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
		defer cancel()
		err := s.Reload(ctx)
		if ms, ok := errors.AsType[config.Mistakes](err); ok {
			for _, m := range ms {
				s.log.Error("the reload changed nothing: a mistake in the configuration", "err", m)
			}
			return
		}
		if err != nil {
			s.log.Error("the reload changed nothing", "err", err)
		}
	}()
}

// Reload reads the configuration anew, checks it, and applies what can be applied while running. It logs what changed and what
// waits for a restart. Where it fails nothing has changed; should a plug-in, or a certificate of a listener that runs, fail to read
// its files, it keeps the old ones, and the configuration stays as it was.
func (s *Server) Reload(ctx context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.notify.reloading()
	err := s.reload(ctx)
	if err != nil {
		s.notify.reloaded("serving; the last reload changed nothing")
		return fmt.Errorf("reload: %w", err)
	}
	s.notify.reloaded("serving")
	return nil
}

func (s *Server) reload(ctx context.Context) error {
	old := s.Config()
	next := old
	if s.opts.Load != nil {
		var err error
		if next, err = s.opts.Load(); err != nil {
			return err
		}
	}
	if err := Check(next); err != nil {
		return err
	}
	if err := s.broker.ReloadPlugins(ctx); err != nil {
		return err
	}
	if err := s.certs.reload(); err != nil {
		return err
	}
	return s.apply(old, next)
}

// apply makes the new configuration the one in force, and logs each change with the moment when it takes effect.
func (s *Server) apply(old, next *config.Config) error {
	if err := s.broker.SetLimits(next.Limits.Limits); err != nil {
		return err
	}
	s.broker.SetPolicy(next.Policy)
	s.memory.set(next.Memory, s.log)
	s.level.Set(levelOf(next.Log.Level))
	s.mu.Lock()
	s.config = next
	s.mu.Unlock()
	changes := config.Changes(old, next)
	for _, c := range changes {
		if c.Reload == config.AtRestart {
			s.log.Warn("option changed; it takes effect at the next start", "option", c.Option, "from", c.From, "to", c.To)
			continue
		}
		s.log.Info("option changed", "option", c.Option, "from", c.From, "to", c.To, "takes_effect", c.Reload.String())
	}
	s.log.Info("configuration reloaded", "changes", len(changes))
	return nil
}
