// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/noctule/noctule/broker/ban"
	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/server/config"
	"github.com/noctule/noctule/store"
)

// openStore opens the store in the data directory, or makes one in memory where that is what durability says; then nothing on disk is
// read or written.
func (s *Server) openStore() error {
	c := s.config
	o := store.Options{Limits: c.Store.Limits, Notice: s.watch.Notice, OnDrop: s.watch.Dropped}
	if c.Store.Durability == store.InMemory {
		s.store = store.NewMemory(o)
		s.drops = journal.New(journal.Options{Logger: s.log})
		return nil
	}
	o.Durability, o.OnDamage, o.WriteBuffer = c.Store.Durability, c.Store.OnDamage, c.Store.WriteBuffer
	dir, err := dataDirectory(c)
	if err != nil {
		return err
	}
	if s.store, err = store.Open(dir, o); err != nil {
		return cannotOpen(dir, err)
	}
	s.drops = journal.New(journal.Options{Dir: dir, Logger: s.log})
	if s.bans, err = ban.Open(dir, time.Now, s.log); err != nil {
		return fmt.Errorf("%w; mend the file or move it away: without it nobody is banned", err)
	}
	return s.writeKey(dir)
}

// dataDirectory makes the data directory where there is none, and gives its whole path.
func dataDirectory(c *config.Config) (string, error) {
	if c.Data == "" {
		return "", c.Mistake("data", "there is no data directory: the environment names no home of this user",
			"name one with data (--data), or keep nothing: store.durability: memory (--durability memory)")
	}
	dir, err := filepath.Abs(c.Data)
	if err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", cannotOpen(dir, err)
	}
	probe, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return "", cannotOpen(dir, err)
	}
	probe.Close() // nothing was written
	if err := os.Remove(probe.Name()); err != nil {
		return "", cannotOpen(dir, err)
	}
	return dir, nil
}

// cannotOpen says what to do where the data directory is of no use.
func cannotOpen(dir string, err error) error {
	do := "name another directory with data (--data)"
	switch {
	case errors.Is(err, store.ErrInUse):
		do = "another broker has it; stop that one, or give this one a directory of its own with data (--data)"
	case errors.Is(err, store.ErrDamaged):
		do = "restore it from a backup, or let the broker set aside what is damaged: store.on_damage: set-aside"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		do = "give this user the right to write there, or " + do
	case errors.Is(err, syscall.ENOSPC):
		do = "make room on its disk, or " + do
	}
	return fmt.Errorf("data directory %s: %w; %s", dir, err, do)
}

// saysData tells where the data is, and how safe.
func saysData(c *config.Config) string {
	if c.Store.Durability == store.InMemory {
		return "in memory only (durability memory): nothing survives a restart"
	}
	dir, err := filepath.Abs(c.Data)
	if err != nil {
		dir = c.Data
	}
	return fmt.Sprintf("%s (durability %s)", dir, c.Store.Durability)
}
