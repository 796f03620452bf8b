// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package redis is the plug-in "auth.redis": users are hashes in Redis or Valkey.
//
// One HMGET asks for the fields of a user, by a key made of a template. The password's hash is verified here. A server that is away at the
// start is a warning, as it may come.
//
// Auth may be called from any goroutine. The client, with its goroutines, lives from the first login that it could be
// connected for to Stop.
package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/redisserver"
	"github.com/noctule/noctule/plugins/internal/remote"
	"github.com/noctule/noctule/plugins/internal/table"
)

// Name is the path of the plug-in.
const Name = "auth.redis"

// Options of the plug-in. They are obeyed at restart; a reload forgets remembered answers.
type Options struct {
	// Key is that of a user's hash. Default mqtt:user:${username}.
	Key string `yaml:"key"`
	// Fields are asked for. password_hash, groups, superuser, rules and username have a meaning, others are claims. Default: the first three.
	Fields []string `yaml:"fields"`
	// Require refuses clients that give no user name. Default false: they are for the next.
	Require bool `yaml:"require"`

	table.Options          `yaml:",inline"`
	Remote                 remote.Options `yaml:",inline"`
	redisserver.Connection `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Key: "mqtt:user:${username}", Fields: []string{table.Hash, table.Groups, table.Superuser},
		Remote: remote.Defaults(), Connection: redisserver.Defaults()}
}

// Auth is the plug-in. Before Start it refuses everybody.
type Auth struct {
	opts   Options
	key    *remote.Template
	server *redisserver.Server
	step   *remote.Step
	judge  *table.Judge
}

var (
	_ plugin.Authenticator = (*Auth)(nil)
	_ plugin.Starter       = (*Auth)(nil)
	_ plugin.Stopper       = (*Auth)(nil)
	_ plugin.Reloader      = (*Auth)(nil)
)

func init() {
	plugin.Register(Name, func(decode func(any) error) (plugin.Plugin, error) {
		o := Defaults()
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o)
	})
}

// New makes the plug-in. Nothing is connected before Start.
func New(o Options) (*Auth, error) {
	if err := o.Remote.Check(Name); err != nil {
		return nil, err
	}
	a := &Auth{opts: o}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	a.judge = table.NewJudge(Name, o.Options)
	return a, nil
}

func (a *Auth) check() (err error) {
	o := &a.opts
	if err := o.Options.Check(); err != nil {
		return err
	}
	if !slices.Contains(o.Fields, table.Hash) {
		return errors.New("fields lack " + table.Hash)
	}
	if a.key, err = remote.Parse(o.Key, "password"); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if a.key.Constant() {
		return errors.New("key: no ${username} or other name stands in it, so everybody would be the same user")
	}
	a.server, err = redisserver.New(&o.Connection, o.Remote.Timeout)
	return err
}

// Name is "auth.redis".
func (a *Auth) Name() string { return Name }

// Start tries to connect.
func (a *Auth) Start(_ context.Context, h plugin.Host) error {
	a.step = remote.NewStep(Name, a.opts.Remote, h.Now, h.Logger())
	if _, err := a.server.Client(); err != nil {
		h.Logger().Warn("Redis does not answer; logins are refused until it does", "err", err)
	}
	return nil
}

// Stop closes the connections.
func (a *Auth) Stop(context.Context) error {
	a.server.Close()
	return nil
}

// Reload forgets remembered answers.
func (a *Auth) Reload(context.Context) error {
	a.step.Forget()
	return nil
}

// Authenticate asks the server, or remembers.
func (a *Auth) Authenticate(ctx context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	switch {
	case a.step == nil:
		return plugin.Decision{}, plugin.Identity{}, errors.New(Name + ": not started")
	case !l.HasUser && !a.opts.Require:
		return plugin.Decision{}, plugin.Identity{}, nil
	case !l.HasUser || !l.HasPass:
		d := remote.Deny(Name + ": no user name or no password given")
		return d.Decision, d.Identity, nil
	}
	key, err := a.key.Expand(l, a.opts.Escape)
	if err != nil {
		d := remote.Deny(Name + ": " + err.Error())
		return d.Decision, d.Identity, nil
	}
	return a.step.Ask(ctx, [][]byte{[]byte(key), l.Password}, func(ctx context.Context) (remote.Answer, error) {
		row, err := a.find(ctx, key)
		if err != nil {
			return remote.Answer{}, err
		}
		return a.judge.Judge(ctx, l, row)
	})
}

// find gives the fields of a user, nil if there is none.
func (a *Auth) find(ctx context.Context, key string) (table.Row, error) {
	c, err := a.server.Client()
	if err != nil {
		return nil, err
	}
	values, err := c.Do(ctx, c.B().Hmget().Key(key).Field(a.opts.Fields...).Build()).ToArray()
	if err != nil {
		return nil, err
	}
	if len(values) != len(a.opts.Fields) {
		return nil, fmt.Errorf("%d fields were asked for, and %d came", len(a.opts.Fields), len(values))
	}
	var row table.Row
	for i, v := range values {
		if v.IsNil() {
			continue
		}
		s, err := v.ToString()
		if err != nil {
			return nil, err
		}
		if row == nil {
			row = table.Row{}
		}
		row[a.opts.Fields[i]] = s
	}
	return row, nil
}
