// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// hooks are the deciders by kind, in the order of their plug-ins. They do not change after New.
type hooks struct {
	authenticators []plugin.Authenticator
	enhanced       map[string]plugin.EnhancedAuthenticator
	authorizers    []authorizer
	receivers      []plugin.Authorizer // authorizers that are asked before a delivery too
	grants         plugin.GrantAuthorizer
	preparers      []plugin.Preparer
	steady         bool // what authorizers said may be remembered
	versions       []plugin.SteadyAuthorizer
	publishers     []plugin.PublishInterceptor
	subscribers    []plugin.SubscribeInterceptor
	deliverers     []plugin.DeliverInterceptor
}

// authorizer is a plug-in that decides about accesses: from memory, or by asking elsewhere, or the second where the first has no answer.
type authorizer struct {
	fast plugin.Authorizer     // nil if it has none
	slow plugin.SlowAuthorizer // likewise
}

func (h *hooks) add(ps []plugin.Plugin) error {
	names := map[string]bool{}
	h.enhanced = map[string]plugin.EnhancedAuthenticator{}
	h.steady = true
	for _, p := range ps {
		if names[p.Name()] {
			return fmt.Errorf("broker: two plug-ins are called %q", p.Name())
		}
		names[p.Name()] = true
		if x, ok := p.(plugin.Authenticator); ok {
			h.authenticators = append(h.authenticators, x)
		}
		if x, ok := p.(plugin.EnhancedAuthenticator); ok {
			if _, twice := h.enhanced[x.Method()]; twice {
				return fmt.Errorf("broker: two plug-ins speak the authentication method %q", x.Method())
			}
			h.enhanced[x.Method()] = x
		}
		if err := h.addAuthorizer(p); err != nil {
			return err
		}
		if x, ok := p.(plugin.Preparer); ok {
			h.preparers = append(h.preparers, x)
		}
		if x, ok := p.(plugin.PublishInterceptor); ok {
			h.publishers = append(h.publishers, x)
		}
		if x, ok := p.(plugin.SubscribeInterceptor); ok {
			h.subscribers = append(h.subscribers, x)
		}
		if x, ok := p.(plugin.DeliverInterceptor); ok {
			h.deliverers = append(h.deliverers, x)
		}
	}
	return nil
}

func (h *hooks) addAuthorizer(p plugin.Plugin) error {
	fast, isFast := p.(plugin.Authorizer)
	slow, isSlow := p.(plugin.SlowAuthorizer)
	if v, ok := p.(plugin.SteadyAuthorizer); ok {
		h.versions = append(h.versions, v)
	} else if isFast {
		h.steady = false
	}
	if x, ok := p.(plugin.GrantAuthorizer); ok {
		if h.grants != nil {
			return fmt.Errorf("broker: two plug-ins read the rules of logins: %q is the second", p.Name())
		}
		h.grants = x
		return nil
	}
	if isFast || isSlow {
		h.authorizers = append(h.authorizers, authorizer{fast, slow})
	}
	if r, ok := p.(plugin.ReceiveAuthorizer); ok && r.AuthorizesReceive() {
		h.receivers = append(h.receivers, fast)
	}
	return nil
}

// version changes with the rules of any authorizer.
func (h *hooks) version() (n uint64) {
	for _, v := range h.versions {
		n += v.RulesVersion()
	}
	return n
}

// ruled says whether a client's login has brought rules.
func ruled(c *plugin.Client) bool { return c.Grant != nil && len(c.Grant.Rules) > 0 }

// authorizes says whether anybody decides about a client's accesses.
func (h *hooks) authorizes(c *plugin.Client) bool { return len(h.authorizers) > 0 || ruled(c) }

// receives says whether anybody decides about deliveries to a client.
func (h *hooks) receives(c *plugin.Client) bool { return len(h.receivers) > 0 || ruled(c) }

// byGrant asks about a client whose login has brought rules: Ignore where they say nothing.
func (h *hooks) byGrant(a *plugin.Access) plugin.Decision {
	if h.grants == nil {
		return denied("no plug-in reads the rules of this login")
	}
	return h.grants.Authorize(a)
}

// denied is the answer where deciders exist and none was decisive, or one failed.
func denied(rule string) plugin.Decision {
	return plugin.Decision{Verdict: plugin.Deny, Code: mqtt.NotAuthorized, Rule: rule}
}

// guard contains the panic of a plug-in. Use: defer b.guard("name", &failed).
func (b *Broker) guard(hook string, failed *bool) {
	if v := recover(); v != nil {
		*failed = true
		b.shards[0].tally.add(PluginPanics, 1)
		b.log.Error("a plug-in panicked", "hook", hook, "err", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
}

// decide asks the authorizers, in order, until one has to ask elsewhere: undecided, decideSlow goes on. Any goroutine.
func (b *Broker) decide(a *plugin.Access) (d plugin.Decision, undecided bool) {
	if !b.hooks.authorizes(a.Client) {
		return plugin.Decision{Verdict: plugin.Allow}, false
	}
	return b.ask(a, func(plugin.SlowAuthorizer) (plugin.Decision, bool) { return plugin.Decision{}, true })
}

// decideSlow is decide with those that may block. On a worker goroutine.
func (b *Broker) decideSlow(ctx context.Context, a *plugin.Access) plugin.Decision {
	ctx, cancel := context.WithTimeout(ctx, b.opts.HookTimeout)
	defer cancel()
	d, _ := b.ask(a, func(x plugin.SlowAuthorizer) (plugin.Decision, bool) {
		d, err := x.AuthorizeSlow(ctx, a)
		if err != nil {
			b.log.Warn("an authorizer failed; denied", "client", a.Client.ID, "err", err)
			d = denied("error")
		}
		return d, false
	})
	return d
}

// prepare has plug-ins load what they need about a client. On a worker goroutine.
func (b *Broker) prepare(ctx context.Context, c *plugin.Client) (err error) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.HookTimeout)
	defer cancel()
	failed := true
	func() {
		defer b.guard("prepare", &failed)
		for _, x := range b.hooks.preparers {
			if err = x.Prepare(ctx, c); err != nil {
				break
			}
		}
		failed = false
	}()
	if failed {
		return errors.New("a plug-in panicked")
	}
	return err
}

// ask gives the first decisive answer, or Deny. Where there is none from memory, slow is asked, and may end it. A panic denies.
func (b *Broker) ask(a *plugin.Access, slow func(plugin.SlowAuthorizer) (plugin.Decision, bool)) (d plugin.Decision, ended bool) {
	failed := true
	func() {
		defer b.guard("authorize", &failed)
		d, ended = b.hooks.ask(a, slow)
		failed = false
	}()
	switch {
	case failed:
		return denied("panic"), false
	case !ended && d.Verdict == plugin.Ignore:
		return denied("default"), false
	}
	return d, ended
}

func (h *hooks) ask(a *plugin.Access, slow func(plugin.SlowAuthorizer) (plugin.Decision, bool)) (d plugin.Decision, ended bool) {
	if ruled(a.Client) {
		if d = h.byGrant(a); d.Verdict != plugin.Ignore {
			return d, false
		}
	}
	for i := range h.authorizers {
		x := &h.authorizers[i]
		if x.fast != nil {
			if d = x.fast.Authorize(a); d.Verdict != plugin.Ignore {
				return d, false
			}
		}
		if x.slow != nil {
			if d, ended = slow(x.slow); ended || d.Verdict != plugin.Ignore {
				return d, ended
			}
		}
	}
	return d, false
}

// mayReceive asks before a delivery. Where those that see deliveries say nothing, and there are authorizers that do not see them, one of these
// has decided when the client subscribed.
func (b *Broker) mayReceive(a *plugin.Access) (d plugin.Decision) {
	h := &b.hooks
	failed := true
	func() {
		defer b.guard("authorize", &failed)
		if ruled(a.Client) {
			d = h.byGrant(a)
		}
		for i := 0; i < len(h.receivers) && d.Verdict == plugin.Ignore; i++ {
			d = h.receivers[i].Authorize(a)
		}
		failed = false
	}()
	switch {
	case failed:
		return denied("panic")
	case d.Verdict != plugin.Ignore:
		return d
	case len(h.receivers) < len(h.authorizers):
		return plugin.Decision{Verdict: plugin.Allow}
	}
	return denied("default")
}

func (b *Broker) interceptPublish(c *plugin.Client, m *mqtt.Message) (code mqtt.ReasonCode) {
	failed := true
	func() {
		defer b.guard("publish", &failed)
		for _, x := range b.hooks.publishers {
			if code = x.InterceptPublish(c, m); code.IsError() {
				break
			}
		}
		failed = false
	}()
	if failed {
		return mqtt.ImplementationSpecificError
	}
	return code
}

func (b *Broker) interceptSubscribe(c *plugin.Client, s *plugin.Subscription) (code mqtt.ReasonCode) {
	failed := true
	func() {
		defer b.guard("subscribe", &failed)
		for _, x := range b.hooks.subscribers {
			if code = x.InterceptSubscribe(c, s); code.IsError() {
				break
			}
		}
		failed = false
	}()
	if failed {
		return mqtt.ImplementationSpecificError
	}
	return code
}

// interceptDeliver gives the message to send, nil to send none.
func (b *Broker) interceptDeliver(c *plugin.Client, m *mqtt.Message) *mqtt.Message {
	failed := true
	func() {
		defer b.guard("deliver", &failed)
		for _, x := range b.hooks.deliverers {
			var ok bool
			if m, ok = x.InterceptDeliver(c, m); !ok || m == nil {
				m = nil
				break
			}
		}
		failed = false
	}()
	if failed {
		return nil
	}
	return m
}

// host is what one plug-in sees of the broker.
type host struct {
	b    *Broker
	name string
}

func (h host) Logger() *slog.Logger { return h.b.log.With("plugin", h.name) }
func (h host) Now() time.Time       { return h.b.opts.Now() }
func (h host) Publish(ctx context.Context, m *mqtt.Message) error {
	return h.b.Publish(ctx, m)
}
func (h host) Disconnect(clientID string, code mqtt.ReasonCode) bool {
	return h.b.Disconnect(clientID, code)
}
