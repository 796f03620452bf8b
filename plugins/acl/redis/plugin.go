// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package redis is the plug-in "acl.redis": rules are hashes in Redis or Valkey, from a topic filter to what it allows.
//
//	HSET mqtt:acl:alice  home/#  both   home/safe/#  deny   news/#  subscribe
//
// When a client connects its hash is read; it decides from then on. As a hash has no order, the most exact rule decides. What is
// remembered, for how long, and what holds while the server is away: package source. Any goroutine may ask.
package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/redisserver"
	"github.com/noctule/noctule/plugins/internal/remote"
	"github.com/noctule/noctule/plugins/internal/rules"
	"github.com/noctule/noctule/plugins/internal/source"
)

// Name is the path of the plug-in.
const Name = "acl.redis"

// Options of the plug-in. They are obeyed at restart; a reload has rules asked for anew.
type Options struct {
	// Key is that of a client's hash. Default mqtt:acl:${username}.
	Key string `yaml:"key"`

	source.Options         `yaml:",inline"`
	redisserver.Connection `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Key: "mqtt:acl:${username}", Options: source.Defaults(), Connection: redisserver.Defaults()}
}

// ACL is the plug-in. Before Start it denies everything.
type ACL struct {
	*source.Source
	conn   redisserver.Connection
	key    *remote.Template
	server *redisserver.Server
}

var (
	_ plugin.ReceiveAuthorizer = (*ACL)(nil)
	_ plugin.SlowAuthorizer    = (*ACL)(nil)
	_ plugin.Preparer          = (*ACL)(nil)
	_ plugin.Starter           = (*ACL)(nil)
	_ plugin.Stopper           = (*ACL)(nil)
	_ plugin.Reloader          = (*ACL)(nil)
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
func New(o Options) (*ACL, error) {
	if err := o.Options.Check(Name); err != nil {
		return nil, err
	}
	a := &ACL{conn: o.Connection}
	var err error
	if a.key, err = remote.Parse(o.Key, "password"); err != nil {
		return nil, fmt.Errorf("%s: key: %w", Name, err)
	}
	if a.key.Constant() {
		return nil, errors.New(Name + ": key: no ${username} or other name stands in it, so everybody would have the same rights; for these use acl.file")
	}
	if a.server, err = redisserver.New(&o.Connection, o.Timeout); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	a.Source = source.New(Name, o.Options, false, a.question)
	return a, nil
}

// Start tries to connect.
func (a *ACL) Start(ctx context.Context, h plugin.Host) error {
	if _, err := a.server.Client(); err != nil {
		h.Logger().Warn("Redis does not answer; clients are refused until it does", "err", err)
	}
	return a.Source.Start(ctx, h)
}

// Stop ends what is asked, and closes the connections.
func (a *ACL) Stop(ctx context.Context) error {
	err := a.Source.Stop(ctx)
	a.server.Close()
	return err
}

func (a *ACL) question(x *plugin.Access) (source.Question, error) {
	c := *x.Client
	if c.Anonymous { // a name that nobody vouches for is none
		c.Username = ""
	}
	key, err := a.key.Expand(&plugin.Login{Client: &c}, a.conn.Escape)
	if err != nil {
		return source.Question{}, err
	}
	return source.Question{Key: key, Load: func(ctx context.Context) (source.Answer, error) { return a.load(ctx, key) }}, nil
}

// load gives the rules of a client. HSCAN would be for larger hashes; these have an end.
func (a *ACL) load(ctx context.Context, key string) (source.Answer, error) {
	c, err := a.server.Client()
	if err != nil {
		return source.Answer{}, err
	}
	hash, err := c.Do(ctx, c.B().Hgetall().Key(key).Build()).AsStrMap()
	if err != nil {
		return source.Answer{}, err
	}
	if len(hash) >= rules.MaxOwn {
		return source.Answer{}, fmt.Errorf("there are %d rules for one client; %d are the most", len(hash), rules.MaxOwn-1)
	}
	if len(hash) == 0 {
		return source.Answer{}, nil
	}
	list := []string{"order specific"}
	for filter, access := range hash {
		permission := "allow"
		if access == "deny" {
			permission, access = "deny", "both"
		}
		line, err := rules.Line(permission, access, "", "", filter)
		if err != nil {
			return source.Answer{}, fmt.Errorf("the rule for %.64q: it is publish, subscribe, both, all or deny, not %.32q", filter, access)
		}
		list = append(list, line)
	}
	return source.Answer{Rules: list}, nil
}
