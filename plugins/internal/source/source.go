// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package source is what authorizers share that take rules from somebody else: an HTTP server, a database.
//
// A question is asked once: mostly one for all rights of a client, when it connects. The answer is compiled, remembered and decides from then on,
// on the loop of the connection, without waiting. After its time an answer is asked for anew, in the background, while the old one
// serves; if nobody answers, for as long as Options.Stale, and then everything is denied. Where a question holds the topic, each
// topic is a question of its own, and deliveries are not asked about.
//
// Each question is bounded in time by a remote.Step, which also stops asking for a while when nobody answers. What is remembered is bounded in
// number. Any goroutine may ask; goroutines of the background end with Stop.
package source

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
	"github.com/noctule/noctule/plugins/internal/rules"
)

// Options of a source, part of the options of a plug-in. They are obeyed at restart.
type Options struct {
	// Stale is for how long an answer serves beyond cache_ttl while nobody answers, at most 1d. Default 5m.
	Stale time.Duration `yaml:"stale"`
	// Unmatched is what becomes of an access that no rule is about: deny, or ignore, which asks the next plug-in. Default deny.
	Unmatched string `yaml:"unmatched"`

	remote.Options `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Stale: 5 * time.Minute, Unmatched: "deny", Options: remote.Defaults()}
}

// Check finds values out of range. name is the plug-in's.
func (o *Options) Check(name string) error {
	switch {
	case o.Stale < 0 || o.Stale > 24*time.Hour:
		return fmt.Errorf("%s: stale is %v; write 0s to 1d", name, o.Stale)
	case o.Unmatched != "deny" && o.Unmatched != "ignore":
		return fmt.Errorf("%s: unmatched is %q; write deny (what no rule allows is denied) or ignore (the next plug-in is asked)", name, o.Unmatched)
	case o.CacheTTL < time.Second:
		return fmt.Errorf("%s: cache_ttl is %v; write 1s to 1d: without a memory every publish would be a question", name, o.CacheTTL)
	case o.CacheSize < 1:
		return fmt.Errorf("%s: cache_size is 0; write how many clients there are at most", name)
	}
	return o.Options.Check(name)
}

// Answer is what a question came to: rules, and a verdict for what they do not mention; Ignore leaves that to Options.Unmatched.
type Answer struct {
	Rules   []string
	Verdict plugin.Verdict
	None    bool // nothing is said at all: the next plug-in is asked
}

// Question is what is asked: Key is everything that decides about the answer.
type Question struct {
	Key  string
	Load func(context.Context) (Answer, error)
}

// Source is an authorizer.
type Source struct {
	name      string
	opts      Options
	perAccess bool
	question  func(*plugin.Access) (Question, error)

	log  *slog.Logger
	now  func() time.Time
	step *remote.Step
	due  atomic.Int64 // what was loaded before is asked for anew

	mu      sync.Mutex
	entries map[string]*entry
	bound   [buckets * ways]atomic.Pointer[bound]
	seed    maphash.Seed
	turn    atomic.Uint32

	work   chan struct{} // background questions under way
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// bound is a client's entry, so that its question need not be put together each time.
type bound struct {
	client *plugin.Client
	entry  *entry
}

// The table of bound: 4096 clients in buckets of four.
const (
	buckets = 1024
	ways    = 4
)

// maxWork is how many background questions wait or are asked at once.
const maxWork = 256

// entry is one remembered answer.
type entry struct {
	state   atomic.Pointer[state] // nil until it was loaded
	loading atomic.Bool           // in the background
	retry   atomic.Int64          // not before this, after a failure
}

// state is an answer. Immutable.
type state struct {
	set    *rules.Set
	rest   plugin.Decision // for what the rules do not mention
	loaded int64           // when, nanoseconds
	ttl    int64
}

// New makes a source. question gives what to ask about an access, or an error that denies; perAccess says that it looks at more than the
// client.
func New(name string, o Options, perAccess bool, question func(*plugin.Access) (Question, error)) *Source {
	return &Source{name: name, opts: o, perAccess: perAccess, question: question, entries: map[string]*entry{}, seed: maphash.MakeSeed(),
		work: make(chan struct{}, maxWork)}
}

// Name is the plug-in's.
func (s *Source) Name() string { return s.name }

// Start makes the source ready to ask.
func (s *Source) Start(_ context.Context, h plugin.Host) error {
	s.log, s.now = h.Logger(), h.Now
	o := s.opts.Options
	o.CacheSize = 0 // what is remembered is remembered here
	s.step = remote.NewStep(s.name, o, h.Now, s.log)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return nil
}

// Stop ends what is asked in the background.
func (s *Source) Stop(context.Context) error {
	if s.cancel != nil {
		s.cancel()
		s.all.Wait()
	}
	return nil
}

// Reload has everything asked for anew; until then what is known serves.
func (s *Source) Reload(context.Context) error {
	s.due.Store(s.now().UnixNano() + 1)
	return nil
}

// AuthorizesReceive says that deliveries are asked about, where the answer does not depend on the topic.
func (s *Source) AuthorizesReceive() bool { return !s.perAccess }

// Authorize answers from memory, or says Ignore where that has no answer.
func (s *Source) Authorize(a *plugin.Access) plugin.Decision {
	if s.step == nil {
		return plugin.Decision{Verdict: plugin.Deny, Rule: s.name + ": not started"}
	}
	e, q, err := s.find(a)
	if err != nil {
		return s.refused(err)
	}
	st := e.state.Load()
	switch now := s.now().UnixNano(); {
	case st != nil && s.fresh(st, now):
		return st.decide(a)
	case st != nil && now-st.loaded <= st.ttl+int64(s.opts.Stale):
		s.refresh(e, a, q, now)
		return st.decide(a)
	case a.Action == plugin.Receive:
		s.refresh(e, a, q, now)
		return plugin.Decision{Verdict: plugin.Deny, Rule: s.name + ": the client's rules are not known now"}
	}
	return plugin.Decision{}
}

// AuthorizeSlow asks, where memory has no answer.
func (s *Source) AuthorizeSlow(ctx context.Context, a *plugin.Access) (plugin.Decision, error) {
	if s.step == nil {
		return plugin.Decision{}, errors.New(s.name + ": not started")
	}
	e, q, err := s.find(a)
	if err != nil {
		return s.refused(err), nil
	}
	if st := e.state.Load(); st != nil && s.fresh(st, s.now().UnixNano()) {
		return st.decide(a), nil
	}
	st, err := s.load(ctx, e, a, q)
	if err != nil {
		return plugin.Decision{}, err
	}
	return st.decide(a), nil
}

// Prepare loads a client's rules, unless questions are about single accesses.
func (s *Source) Prepare(ctx context.Context, c *plugin.Client) error {
	if s.perAccess || s.step == nil {
		return nil
	}
	a := &plugin.Access{Client: c}
	e, q, err := s.find(a)
	if err != nil {
		return nil // denied at each access
	}
	st, now := e.state.Load(), s.now().UnixNano()
	if st != nil && s.fresh(st, now) {
		return nil
	}
	if _, err = s.load(ctx, e, a, q); err != nil && st != nil && now-st.loaded <= st.ttl+int64(s.opts.Stale) {
		return nil
	}
	return err
}

func (s *Source) refused(err error) plugin.Decision {
	return plugin.Decision{Verdict: plugin.Deny, Rule: s.name + ": " + err.Error()}
}

func (s *Source) fresh(st *state, now int64) bool {
	return now-st.loaded <= st.ttl && st.loaded >= s.due.Load()
}

// decide answers by what was loaded.
func (st *state) decide(a *plugin.Access) plugin.Decision {
	if st.set != nil {
		d, whole := st.set.Ask(a)
		if a.Share != "" && d.Verdict == plugin.Allow && !whole {
			return plugin.Decision{Verdict: plugin.Deny, Rule: d.Rule + ": a shared subscription needs one rule that allows all of it"}
		}
		if d.Verdict != plugin.Ignore {
			return d
		}
	}
	return st.rest
}

// find gives the entry of a question, and the question where it was put together: a client that was asked about has its entry bound.
func (s *Source) find(a *plugin.Access) (*entry, *Question, error) {
	var b []atomic.Pointer[bound]
	if !s.perAccess {
		i := maphash.Comparable(s.seed, a.Client) % buckets * ways
		b = s.bound[i : i+ways]
		for j := range b {
			if x := b[j].Load(); x != nil && x.client == a.Client {
				return x.entry, nil, nil
			}
		}
	}
	q, err := s.question(a)
	if err != nil {
		return nil, nil, err
	}
	e := s.entry(q.Key)
	if !s.perAccess {
		x := &bound{a.Client, e}
		for j := range b {
			if b[j].CompareAndSwap(nil, x) {
				return e, &q, nil
			}
		}
		b[s.turn.Add(1)%ways].Store(x)
	}
	return e, &q, nil
}

// looked is how many entries are looked at to make room for one.
const looked = 16

func (s *Source) entry(key string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		return e
	}
	if len(s.entries) >= s.opts.CacheSize {
		s.makeRoom()
	}
	e := &entry{}
	s.entries[key] = e
	return e
}

// makeRoom drops the oldest of a few entries, picked as the map likes.
func (s *Source) makeRoom() {
	var oldest string
	first, n := int64(0), 0
	for key, e := range s.entries {
		at := int64(-1)
		if st := e.state.Load(); st != nil {
			at = st.loaded
		}
		if n == 0 || at < first {
			oldest, first = key, at
		}
		if n++; n == looked {
			break
		}
	}
	delete(s.entries, oldest)
}

// load asks now.
func (s *Source) load(ctx context.Context, e *entry, a *plugin.Access, q *Question) (*state, error) {
	if q == nil {
		made, err := s.question(a)
		if err != nil {
			return nil, err
		}
		q = &made
	}
	var st *state
	_, _, err := s.step.Ask(ctx, nil, func(ctx context.Context) (remote.Answer, error) {
		answer, err := q.Load(ctx)
		if err == nil {
			st, err = s.stateOf(&answer)
		}
		return remote.Answer{}, err
	})
	if err != nil {
		e.retry.Store(s.now().Add(time.Second).UnixNano())
		return nil, err
	}
	e.state.Store(st)
	return st, nil
}

func (s *Source) stateOf(a *Answer) (*state, error) {
	st := &state{loaded: s.now().UnixNano(), ttl: int64(s.opts.CacheTTL)}
	switch {
	case a.None:
		return st, nil
	case a.Verdict == plugin.Allow:
		st.rest = plugin.Decision{Verdict: plugin.Allow, Rule: s.name}
	case a.Verdict == plugin.Deny || s.opts.Unmatched == "deny":
		st.rest = plugin.Decision{Verdict: plugin.Deny, Rule: s.name + ": no rule allows it"}
	}
	if len(a.Rules) == 0 {
		if a.Verdict != plugin.Allow {
			st.ttl = max(int64(time.Second), min(st.ttl, int64(s.opts.CacheDenied)))
		}
		return st, nil
	}
	var err error
	st.set, err = rules.Own(s.name, a.Rules)
	return st, err
}

// refresh asks in the background, if nobody does so far. The access is lent: what is needed of it is copied.
func (s *Source) refresh(e *entry, a *plugin.Access, q *Question, now int64) {
	if now < e.retry.Load() || s.ctx.Err() != nil || !e.loading.CompareAndSwap(false, true) {
		return
	}
	select {
	case s.work <- struct{}{}:
	default: // there is enough to do; the next access tries again
		e.loading.Store(false)
		return
	}
	own := *a
	own.Topic, own.Share = strings.Clone(a.Topic), strings.Clone(a.Share)
	s.all.Go(func() {
		defer func() {
			if v := recover(); v != nil { // nobody above contains it
				s.log.Error("a question panicked", "err", fmt.Sprint(v))
			}
			<-s.work
			e.loading.Store(false)
		}()
		if _, err := s.load(s.ctx, e, &own, q); err != nil && s.ctx.Err() == nil && !errors.Is(err, remote.ErrAway) {
			s.log.Warn("rules could not be loaded; those of before serve for a while", "client", own.Client.ID, "err", err)
		}
	})
}
