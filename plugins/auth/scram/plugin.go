// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package scram is the plug-ins "auth.scram" and "auth.scram.sha512": the authentication methods SCRAM-SHA-256 and
// SCRAM-SHA-512 of RFC 5802 and RFC 7677 for MQTT 5.0 clients, with credentials from a file.
//
// The password never travels, and the file holds no password nor anything to log in with. The file has a line
// "name:SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey" for each user and method. It is read at Start, and again
// by Reload and when it changes; what cannot be read whole is not used at all: at Start that is an error, later the
// credentials of before stay. A name that is unknown gets a salt as one that is known.
//
// The credentials read are immutable and swapped as a whole, so Begin may be called from any goroutine; an exchange belongs
// to one at a time. A started Auth owns one goroutine, which watches the file.
package scram

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/textfile"
)

// Paths of the plug-ins, one for each method.
const (
	NameSHA256 = "auth.scram"
	NameSHA512 = "auth.scram.sha512"
)

// DefaultFile is the file of credentials where no other is named. Both methods may share it.
const DefaultFile = "scram.txt"

// Options of the plug-in. They are obeyed at restart; the file is read again at reload.
type Options struct {
	// Path is the file with the credentials. Default scram.txt.
	Path string `yaml:"path"`
}

// Auth is the plug-in. Before Start it refuses everybody.
type Auth struct {
	name    string
	method  Method
	opts    Options
	log     *slog.Logger
	users   atomic.Pointer[credentials]
	watcher *textfile.Watcher
}

var (
	_ plugin.EnhancedAuthenticator = (*Auth)(nil)
	_ plugin.Starter               = (*Auth)(nil)
	_ plugin.Stopper               = (*Auth)(nil)
	_ plugin.Reloader              = (*Auth)(nil)
)

func init() {
	for _, m := range []Method{SHA256, SHA512} {
		plugin.Register(m.plugin(), func(decode func(any) error) (plugin.Plugin, error) {
			var o Options
			if err := decode(&o); err != nil {
				return nil, err
			}
			return New(m, o), nil
		})
	}
}

// New makes the plug-in for a method. The file is read by Start.
func New(m Method, o Options) *Auth {
	if o.Path == "" {
		o.Path = DefaultFile
	}
	return &Auth{name: m.plugin(), method: m, opts: o}
}

// Name is "auth.scram" or "auth.scram.sha512".
func (a *Auth) Name() string { return a.name }

// Method is the authentication method: "SCRAM-SHA-256" or "SCRAM-SHA-512".
func (a *Auth) Method() string { return a.method.String() }

// Start reads the file and begins to watch it.
func (a *Auth) Start(_ context.Context, h plugin.Host) error {
	a.log = h.Logger()
	f, err := a.load()
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	a.watcher = textfile.Watch(f, func() {
		if err := a.Reload(context.Background()); err != nil {
			a.log.Error("the credentials file cannot be used; the credentials of before stay", "err", err)
		}
	})
	return nil
}

// Stop ends the watch.
func (a *Auth) Stop(context.Context) error {
	if a.watcher != nil {
		a.watcher.Stop()
		a.watcher = nil
	}
	return nil
}

// Reload reads the file again. After an error the credentials of before stay.
func (a *Auth) Reload(context.Context) error {
	if _, err := a.load(); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	return nil
}

// load reads the file and puts its credentials in use.
func (a *Auth) load() (*textfile.File, error) {
	f, err := textfile.Read(a.opts.Path)
	if err != nil {
		return nil, err
	}
	c, err := parseCredentials(f)
	if err != nil {
		return nil, err
	}
	if f.ReadableByOthers() || f.WritableByOthers() {
		a.log.Warn("every user of this computer can read the credentials file; run chmod 600 on it", "file", f.Path)
	}
	if len(c.of[a.method].list) == 0 {
		a.log.Warn("the credentials file has nobody for this method, so nobody can log in by it",
			"file", f.Path, "method", a.Method())
	}
	a.users.Store(c)
	return f, nil
}

var errNotStarted = errors.New("scram: not started")

// Begin starts an exchange with the credentials of this moment.
func (a *Auth) Begin(context.Context, *plugin.Client) (plugin.Exchange, error) {
	c := a.users.Load()
	if c == nil {
		return nil, errNotStarted
	}
	return newExchange(c, a.method)
}
