// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package identity is the plug-in "acl.identity": it obeys the rules that a login brings (plugin.Grant.Rules: of a token, a directory, a
// table), before any other source is asked, and about that client alone.
//
//	allow publish devices/${clientid}/#
//	deny any both admin/#
//
// The language is that of acl.file (docs/acl.md); who may be left out, and lines topic and pattern of Mosquitto's may stand between. What the rules do not mention is left to the other sources,
// and denied where there are none. Rules that cannot be read, or are more than rules.MaxOwn, deny everything.
//
// Rules are compiled when a client is first asked about and remembered in a table of fixed size, so what clients bring takes the place of
// what others have brought, which is then compiled anew. Any goroutine may ask; nothing blocks.
package identity

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync/atomic"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/rules"
)

// Name is the path of the plug-in.
const Name = "acl.identity"

// The table: 4096 clients in buckets of four.
const (
	buckets = 1024
	ways    = 4
)

// ACL is the plug-in.
type ACL struct {
	log   *slog.Logger
	seed  maphash.Seed
	slots [buckets * ways]atomic.Pointer[compiled]
	turn  atomic.Uint32 // which of a full bucket goes next
}

// compiled is the rules of one grant.
type compiled struct {
	grant *plugin.Grant
	set   *rules.Set      // nil if they cannot be obeyed
	deny  plugin.Decision // then the answer to everything
}

var (
	_ plugin.GrantAuthorizer  = (*ACL)(nil)
	_ plugin.SteadyAuthorizer = (*ACL)(nil)
	_ plugin.Starter          = (*ACL)(nil)
)

func init() {
	plugin.Register(Name, func(decode func(any) error) (plugin.Plugin, error) {
		if err := decode(&struct{}{}); err != nil {
			return nil, err
		}
		return New(), nil
	})
}

// New makes the plug-in.
func New() *ACL { return &ACL{log: slog.New(slog.DiscardHandler), seed: maphash.MakeSeed()} }

// Name is "acl.identity".
func (*ACL) Name() string { return Name }

// Start takes the logger.
func (a *ACL) Start(_ context.Context, h plugin.Host) error {
	a.log = h.Logger()
	return nil
}

// ReadsGrants says that it is asked about clients whose grant has rules.
func (*ACL) ReadsGrants() {}

// RulesVersion never changes: other rules are another grant, of another identity.
func (*ACL) RulesVersion() uint64 { return 0 }

// Authorize answers by the rules of the client's grant, Ignore where they say nothing.
func (a *ACL) Authorize(x *plugin.Access) plugin.Decision {
	g := x.Client.Grant
	if g == nil || len(g.Rules) == 0 {
		return plugin.Decision{}
	}
	c := a.compiled(x.Client)
	if c.set == nil {
		return c.deny
	}
	d, whole := c.set.Ask(x)
	if x.Share != "" && d.Verdict == plugin.Allow && !whole {
		return plugin.Decision{Verdict: plugin.Deny, Rule: "login: a shared subscription needs one rule that allows all of it"}
	}
	return d
}

// compiled finds the rules of a client's grant, or compiles them.
func (a *ACL) compiled(client *plugin.Client) *compiled {
	i := maphash.Comparable(a.seed, client.Grant) % buckets * ways
	b := a.slots[i : i+ways]
	for j := range b {
		if c := b[j].Load(); c != nil && c.grant == client.Grant {
			return c
		}
	}
	c := &compiled{grant: client.Grant}
	var err error
	if c.set, err = rules.Own("login", client.Grant.Rules); err != nil {
		a.log.Warn("the rules of a login cannot be obeyed; it may do nothing", "client", client.ID, "err", err)
		c.deny = plugin.Decision{Verdict: plugin.Deny, Rule: err.Error()}
	}
	for j := range b {
		if b[j].CompareAndSwap(nil, c) {
			return c
		}
	}
	b[a.turn.Add(1)%ways].Store(c)
	return c
}
