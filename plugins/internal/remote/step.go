// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package remote is what authenticators share that ask somebody else: an HTTP server, a database, a directory.
//
// A Step stands around each question. It bounds how long one takes and how many are asked at once, remembers answers for a short
// time, and stops asking for a while when nobody answers: until then every login fails at once, so that no worker of the broker waits
// for a server that is away. Whatever goes wrong is an error, and errors deny.
//
// Answers are remembered under a keyed digest of everything that decided, so the memory holds no password. A Template puts what is known of a
// client into addresses, queries and keys, each value escaped for its place.
//
// All types may be used from any goroutine. The package starts none.
package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/noctule/noctule/plugin"
)

// Options of a Step, part of the options of a plug-in. They are obeyed at restart.
type Options struct {
	// Timeout is for one answer, waiting for one's turn included, 10ms to 1m. Default 3s; auth.hook_timeout bounds it too.
	Timeout time.Duration `yaml:"timeout"`
	// Parallel is how many questions are asked at once, 1 to 1024; others wait. Default 16.
	Parallel int `yaml:"parallel"`
	// CacheTTL is for how long an allowed login is remembered, at most 1d; 0 is not at all. Default 1m. A right that is taken
	// away ends with it.
	CacheTTL time.Duration `yaml:"cache_ttl"`
	// CacheDenied is the same for refused logins. Default 5s.
	CacheDenied time.Duration `yaml:"cache_denied"`
	// CacheSize is how many answers are remembered at most, 0 to 1000000. Default 10000.
	CacheSize int `yaml:"cache_size"`
	// MaxFailures in a row end the asking for RetryAfter; then one login is tried. 1 to 1000, default 5.
	MaxFailures int `yaml:"max_failures"`
	// RetryAfter is 100ms to 1h, default 5s.
	RetryAfter time.Duration `yaml:"retry_after"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Timeout: 3 * time.Second, Parallel: 16, CacheTTL: time.Minute, CacheDenied: 5 * time.Second,
		CacheSize: 10_000, MaxFailures: 5, RetryAfter: 5 * time.Second}
}

// Check finds values out of range. name is the plug-in's.
func (o *Options) Check(name string) error {
	wrong := func(option, what, write string) error {
		return fmt.Errorf("%s: %s is %s; write %s", name, option, what, write)
	}
	switch {
	case o.Timeout < 10*time.Millisecond || o.Timeout > time.Minute:
		return wrong("timeout", o.Timeout.String(), "10ms to 1m")
	case o.Parallel < 1 || o.Parallel > 1024:
		return wrong("parallel", fmt.Sprint(o.Parallel), "1 to 1024")
	case o.CacheTTL < 0 || o.CacheTTL > 24*time.Hour:
		return wrong("cache_ttl", o.CacheTTL.String(), "0s to 1d")
	case o.CacheDenied < 0 || o.CacheDenied > 24*time.Hour:
		return wrong("cache_denied", o.CacheDenied.String(), "0s to 1d")
	case o.CacheSize < 0 || o.CacheSize > 1_000_000:
		return wrong("cache_size", fmt.Sprint(o.CacheSize), "0 to 1000000")
	case o.MaxFailures < 1 || o.MaxFailures > 1000:
		return wrong("max_failures", fmt.Sprint(o.MaxFailures), "1 to 1000")
	case o.RetryAfter < 100*time.Millisecond || o.RetryAfter > time.Hour:
		return wrong("retry_after", o.RetryAfter.String(), "100ms to 1h")
	}
	return nil
}

// Answer is what a question came to.
type Answer struct {
	plugin.Decision
	plugin.Identity
}

// Deny is a refusal with its rule.
func Deny(rule string) Answer {
	return Answer{Decision: plugin.Decision{Verdict: plugin.Deny, Rule: rule}}
}

// ErrAway refuses without asking: nobody has answered for a while.
var ErrAway = errors.New("it does not answer; not asked")

// Step bounds the questions of one plug-in.
type Step struct {
	name    string
	opts    Options
	now     func() time.Time
	slots   chan struct{} // as many as may be asked at once
	breaker breaker
	cache   *cache
}

// NewStep makes the step of a plug-in whose options were checked. now is the clock.
func NewStep(name string, o Options, now func() time.Time, log *slog.Logger) *Step {
	return &Step{name: name, opts: o, now: now, slots: make(chan struct{}, o.Parallel), cache: newCache(o.CacheSize),
		breaker: breaker{max: o.MaxFailures, pause: o.RetryAfter, log: log}}
}

// Forget drops all remembered answers.
func (s *Step) Forget() { s.cache.clear() }

// Ask gives the answer to a question, from memory or by asking. key is everything that decides, the password too, in an order of the
// caller's. It blocks for the options' timeout at most, or until ctx ends, as long as ask obeys its context. Errors name the plug-in.
func (s *Step) Ask(ctx context.Context, key [][]byte, ask func(context.Context) (Answer, error)) (plugin.Decision, plugin.Identity, error) {
	d := s.cache.digest(key)
	if a, ok := s.cache.get(d, s.now()); ok {
		return a.Decision, a.Identity, nil
	}
	a, err := s.ask(ctx, ask)
	if err != nil {
		return plugin.Decision{}, plugin.Identity{}, fmt.Errorf("%s: %w", s.name, err)
	}
	s.remember(d, a)
	return a.Decision, a.Identity, nil
}

func (s *Step) ask(ctx context.Context, ask func(context.Context) (Answer, error)) (a Answer, err error) {
	bounded, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	trial, ok := s.breaker.enter(s.now())
	if !ok {
		return a, ErrAway
	}
	outcome := neutral
	defer func() { s.breaker.leave(trial, outcome, s.now(), err) }()
	select {
	case s.slots <- struct{}{}:
	case <-bounded.Done():
		return a, fmt.Errorf("waiting for one's turn: %w", bounded.Err())
	}
	defer func() { <-s.slots }()
	outcome = failure // of a panic too
	a, err = ask(bounded)
	switch {
	case err == nil:
		outcome = success
	case errors.Is(ctx.Err(), context.Canceled): // the client has gone, or the broker ends
		outcome = neutral
	}
	return a, err
}

// remember keeps an answer for as long as its kind is kept, and a login not beyond its end.
func (s *Step) remember(d digest, a Answer) {
	now, keep := s.now(), s.opts.CacheDenied
	if a.Verdict == plugin.Allow {
		keep = s.opts.CacheTTL
	}
	until := now.Add(keep)
	if a.Grant != nil && !a.Grant.Expires.IsZero() && a.Grant.Expires.Before(until) {
		until = a.Grant.Expires
	}
	if until.After(now) {
		s.cache.put(d, a, now, until)
	}
}
