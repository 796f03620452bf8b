// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package http is the plug-in "auth.http": an HTTP server is asked who may connect.
//
// A request is made of templates for each login; every value is escaped for its place, and one that cannot stand there is refused without
// asking. The answer is a status, or a JSON object. What is neither allowed nor refused clearly is an error, and errors deny.
//
// Questions are bounded, and answers remembered, as package remote says. Auth may be called from any goroutine; its connections
// belong to net/http and end with Stop.
package http

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
)

// Name is the path of the plug-in.
const Name = "auth.http"

// Options of the plug-in. They are obeyed at restart; a reload forgets remembered answers.
type Options struct {
	// URL is asked. Path and query may have templates, host and port not.
	URL string `yaml:"url"`
	// Method is POST, the default, PUT or GET.
	Method string `yaml:"method"`
	// Headers are sent along; values may have templates.
	Headers map[string]string `yaml:"headers"`
	// Body says how fields are sent: "json", the default, or "form"; with GET "query", the only one there.
	Body string `yaml:"body"`
	// Fields are sent, by name; values may have templates. Default username, password and clientid.
	Fields map[string]string `yaml:"fields"`
	// Allow, Deny and Ignore are the statuses that mean so. Default 200 and 204; 400, 401, 403 and 404; none. Others are errors.
	Allow  []int `yaml:"allow_status"`
	Deny   []int `yaml:"deny_status"`
	Ignore []int `yaml:"ignore_status"`
	// Answer says what decides: "auto", the default, is a JSON object with result where the answer has one, else the status; "json" wants
	// such an object with every allowing status; "status" looks at no body.
	Answer string `yaml:"answer"`
	// Require refuses clients that give neither user name nor password without asking. Default false: they are for the next.
	Require bool `yaml:"require"`

	remote.Options    `yaml:",inline"`
	remote.TLSOptions `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Method: http.MethodPost, Answer: "auto", Allow: []int{200, 204}, Deny: []int{400, 401, 403, 404}, Options: remote.Defaults()}
}

// Auth is the plug-in. Before Start it refuses everybody.
type Auth struct {
	opts    Options
	request *request
	client  *http.Client
	now     func() time.Time
	step    *remote.Step
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

// New makes the plug-in. Nobody is asked before the first login.
func New(o Options) (*Auth, error) {
	a := &Auth{opts: o}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	return a, nil
}

func (a *Auth) check() error {
	o := &a.opts
	if err := o.Options.Check(Name); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), Name+": "))
	}
	switch o.Answer {
	case "auto", "json", "status":
	default:
		return fmt.Errorf("answer is %q; write auto, json or status", o.Answer)
	}
	all := slices.Concat(o.Allow, o.Deny, o.Ignore)
	for i, s := range all {
		if s < 200 || s > 499 {
			return fmt.Errorf("status %d is no answer about a login; write one of 200 to 499", s)
		}
		if slices.Contains(all[:i], s) {
			return fmt.Errorf("status %d is listed twice", s)
		}
	}
	if len(o.Allow) == 0 {
		return errors.New("allow_status is empty, so nobody could come in")
	}
	var err error
	if a.request, err = newRequest(o); err != nil {
		return err
	}
	a.client, err = o.NewHTTPClient(o.Parallel)
	return err
}

// Name is "auth.http".
func (a *Auth) Name() string { return Name }

// Start makes the plug-in ready to ask.
func (a *Auth) Start(_ context.Context, h plugin.Host) error {
	a.now = h.Now
	a.step = remote.NewStep(Name, a.opts.Options, h.Now, h.Logger().With("url", a.request.base))
	return nil
}

// Stop closes connections that rest.
func (a *Auth) Stop(context.Context) error {
	a.client.CloseIdleConnections()
	return nil
}

// Reload forgets remembered answers.
func (a *Auth) Reload(context.Context) error {
	a.step.Forget()
	return nil
}

// Authenticate asks, or remembers.
func (a *Auth) Authenticate(ctx context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	switch {
	case a.step == nil:
		return plugin.Decision{}, plugin.Identity{}, errors.New(Name + ": not started")
	case !l.HasUser && !l.HasPass && a.opts.Require:
		d := remote.Deny(Name + ": no user name and no password given")
		return d.Decision, d.Identity, nil
	case !l.HasUser && !l.HasPass:
		return plugin.Decision{}, plugin.Identity{}, nil
	}
	q, err := a.request.fill(l)
	if err != nil {
		d := remote.Deny(Name + ": " + err.Error())
		return d.Decision, d.Identity, nil
	}
	return a.step.Ask(ctx, q.key(), func(ctx context.Context) (remote.Answer, error) { return a.ask(ctx, q) })
}

func (a *Auth) ask(ctx context.Context, q *filled) (remote.Answer, error) {
	req, err := q.build(ctx, a.request.method)
	if err != nil {
		return remote.Answer{}, remote.WithoutURL(err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return remote.Answer{}, remote.WithoutURL(err)
	}
	defer resp.Body.Close()
	return a.read(resp)
}
