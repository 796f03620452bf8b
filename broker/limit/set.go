// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Set is the rules in force. It does not change.
type Set struct{ rules []*rule }

// NewSet makes a Set. Rules that old has too, and that are the same in it, go on with their accounts. old may be nil.
func NewSet(rules []Rule, old *Set) (*Set, error) {
	s := &Set{}
	names := map[string]bool{}
	for _, r := range rules {
		if r.Name == "" || names[r.Name] {
			return nil, fmt.Errorf("limit: rule %q: the name is missing, or another rule has it", r.Name)
		}
		names[r.Name] = true
		c := old.same(r)
		if c == nil {
			var err error
			if c, err = compile(r); err != nil {
				return nil, fmt.Errorf("limit: rule %s: %w", r.Name, err)
			}
		}
		s.rules = append(s.rules, c)
	}
	return s, nil
}

func (s *Set) same(r Rule) *rule {
	if s == nil {
		return nil
	}
	for _, c := range s.rules {
		if c.Name == r.Name && reflect.DeepEqual(c.Rule, r) {
			return c
		}
	}
	return nil
}

// Empty says that there are no rules.
func (s *Set) Empty() bool { return s == nil || len(s.rules) == 0 }

// Same says whether two sets hold the same rules with the same accounts.
func (s *Set) Same(t *Set) bool {
	if s.Empty() || t.Empty() {
		return s.Empty() && t.Empty()
	}
	if len(s.rules) != len(t.rules) {
		return false
	}
	for i := range s.rules {
		if s.rules[i] != t.rules[i] {
			return false
		}
	}
	return true
}

// Match is the rules that hold for a client: for each Per the first of the list that matches; nil where none does.
type Match [Pers]*rule

// Empty says that no rule holds.
func (m *Match) Empty() bool { return *m == Match{} }

// Match finds the rules for a client. Before an authenticator has vouched for it (Who.Known is false) a Per for which a
// rule with users or groups comes first has none yet, and nothing is counted by client or user: anybody could claim to be them.
func (s *Set) Match(w *Who) (m Match) {
	if s == nil {
		return m
	}
	var later [Pers]bool
	for _, r := range s.rules {
		if m[r.Per] != nil || later[r.Per] || !w.Known && (r.Per == PerClient || r.Per == PerUser) {
			continue
		}
		yes, wait := r.holds(w)
		later[r.Per] = wait
		if yes {
			m[r.Per] = r
		}
	}
	return m
}

// Rule is the rule that counts by p; nil where none holds.
func (m *Match) Rule(p Per) *Rule {
	if m[p] == nil {
		return nil
	}
	return &m[p].Rule
}

// Caps are the least of those of all the rules; the second result says whether there are any.
func (m *Match) Caps() (c Caps, any bool) {
	c.MaxQoS = 2
	for _, r := range m {
		if r == nil {
			continue
		}
		for _, f := range []struct{ to, from *int }{
			{&c.MaxPacket, &r.MaxPacket}, {&c.MaxTopicLevels, &r.MaxTopicLevels}, {&c.MaxTopicLength, &r.MaxTopicLength},
			{&c.MaxSubscriptions, &r.MaxSubscriptions}, {&c.ReceiveMaximum, &r.ReceiveMaximum}, {&c.MaxInflight, &r.MaxInflight},
			{&c.MaxQueueMessages, &r.MaxQueueMessages}, {&c.MaxQueueBytes, &r.MaxQueueBytes},
		} {
			*f.to = tighter(*f.to, *f.from)
		}
		c.MaxSessionExpiry = tighter(c.MaxSessionExpiry, r.MaxSessionExpiry)
		c.MaxQoS = min(c.MaxQoS, r.MaxQoS)
	}
	return c, c != Caps{MaxQoS: 2}
}

// tighter is the lesser of two bounds, of which 0 is none.
func tighter[N ~int | ~int64](a, b N) N {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// An Account is what a rule counts for one key.
type Account struct {
	Connects, MessagesIn, BytesIn, MessagesOut, BytesOut Bucket

	connections atomic.Int64
	rule        *rule
	key         string
	refs        int // under the lock of accounts
}

// Rule is the rule that the account belongs to.
func (a *Account) Rule() *Rule { return &a.rule.Rule }

// Key is what it counts by: a client identifier, a user name, an address, a listener.
func (a *Account) Key() string { return a.key }

// Connect counts a connection, unless the rule's MaxConnections are there.
func (a *Account) Connect() bool {
	if most := a.rule.MaxConnections; a.connections.Add(1) > most && most > 0 {
		a.connections.Add(-1)
		return false
	}
	return true
}

// Join counts a connection that is there already.
func (a *Account) Join() { a.connections.Add(1) }

// Disconnect ends what Connect or Join counted.
func (a *Account) Disconnect() { a.connections.Add(-1) }

// Connections is how many there are.
func (a *Account) Connections() int64 { return a.connections.Load() }

func (a *Account) full(now int64) bool {
	return a.Connects.Full(now) && a.MessagesIn.Full(now) && a.BytesIn.Full(now) && a.MessagesOut.Full(now) && a.BytesOut.Full(now)
}

// accounts are those of one rule. One that nobody uses is kept until its buckets are full: who comes again has what he left.
type accounts struct {
	mu    sync.Mutex // guards the following
	byKey map[string]*Account
	used  int // with refs
	next  int // how many nobody uses, when it is time to look which of them may go
}

// mostResting bounds the accounts that nobody uses.
const mostResting = 1 << 16

// Account gives the account of a client with the rule that counts by p, to be given back with Release; nil where no rule holds.
func (m *Match) Account(p Per, w *Who, now int64) *Account {
	r := m[p]
	if r == nil {
		return nil
	}
	key := r.key(w)
	s := &r.accounts
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.byKey[key]
	if a == nil {
		s.tidy(now)
		a = &Account{rule: r, key: key}
		a.Connects.Init(r.Connects, now)
		a.MessagesIn.Init(r.MessagesIn, now)
		a.BytesIn.Init(r.BytesIn, now)
		a.MessagesOut.Init(r.MessagesOut, now)
		a.BytesOut.Init(r.BytesOut, now)
		if s.byKey == nil {
			s.byKey = map[string]*Account{}
		}
		s.byKey[key] = a
	}
	if a.refs == 0 {
		s.used++
	}
	a.refs++
	return a
}

// Release gives an account back.
func (a *Account) Release(now int64) {
	s := &a.rule.accounts
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.refs--; a.refs > 0 {
		return
	}
	s.used--
	if a.full(now) {
		delete(s.byKey, a.key)
	}
}

// tidy forgets accounts that nobody uses: those that are full; any, where they are too many. It looks at them all when they have doubled.
func (s *accounts) tidy(now int64) {
	resting := len(s.byKey) - s.used
	if resting < max(64, s.next) {
		return
	}
	for key, a := range s.byKey {
		if a.refs == 0 && (resting > mostResting/2 || a.full(now)) {
			delete(s.byKey, key)
			resting--
		}
	}
	s.next = min(2*resting, mostResting)
}

// Kind is what a rule did.
type Kind byte

// What rules do.
const (
	ConnectRefused     Kind = iota // beyond connects
	ConnectionsRefused             // beyond max_connections
	Paused                         // a connection was not read for a while
	Rejected                       // a PUBLISH was answered 0x97, or at QoS 0 dropped, by the policy reject
	Dropped                        // a PUBLISH was dropped by the policy drop
	Disconnected                   // a connection ended
	Shaped                         // a delivery waits for its turn
	RetainedRefused                // a retained message was refused
	Kinds                          // how many
)

var kindWords = [Kinds]string{"connect_refused", "connections_refused", "paused", "rejected", "dropped", "disconnected", "shaped", "retained_refused"}

func (k Kind) String() string { return kindWords[k] }

// hits are how often a rule did one thing.
type hits struct {
	n      atomic.Int64
	told   atomic.Int64 // of n
	toldAt atomic.Int64 // unix ns
}

// TellEvery is how often the log says the same of a rule.
const TellEvery = time.Minute

// Hit counts what the rule did. tell says that it is time to log it, with how often it was done since the last time.
func (a *Account) Hit(k Kind, now int64) (tell bool, times int64) {
	h := &a.rule.hits[k]
	n := h.n.Add(1)
	at := h.toldAt.Load()
	if at != 0 && now-at < int64(TellEvery) || !h.toldAt.CompareAndSwap(at, now) {
		return false, 0
	}
	return true, n - h.told.Swap(n)
}

// Count is what one rule did, and how many keys it counts for.
type Count struct {
	Rule     string
	Hits     [Kinds]int64 // since the rule is in force
	Accounts int
}

// Counts are those of all rules, in their order.
func (s *Set) Counts() []Count {
	if s == nil {
		return nil
	}
	out := make([]Count, len(s.rules))
	for i, r := range s.rules {
		out[i].Rule = r.Name
		for k := range r.hits {
			out[i].Hits[k] = r.hits[k].n.Load()
		}
		r.accounts.mu.Lock()
		out[i].Accounts = len(r.accounts.byKey)
		r.accounts.mu.Unlock()
	}
	return out
}
