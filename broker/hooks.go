// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
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
	authorizers    []plugin.Authorizer
	receivers      []plugin.Authorizer // authorizers that are asked before a delivery too
	slow           []plugin.SlowAuthorizer
	publishers     []plugin.PublishInterceptor
	subscribers    []plugin.SubscribeInterceptor
	deliverers     []plugin.DeliverInterceptor
}

func (h *hooks) add(ps []plugin.Plugin) error {
	names := map[string]bool{}
	h.enhanced = map[string]plugin.EnhancedAuthenticator{}
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
		if x, ok := p.(plugin.Authorizer); ok {
			h.authorizers = append(h.authorizers, x)
			if r, ok := p.(plugin.ReceiveAuthorizer); ok && r.AuthorizesReceive() {
				h.receivers = append(h.receivers, x)
			}
		}
		if x, ok := p.(plugin.SlowAuthorizer); ok {
			h.slow = append(h.slow, x)
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

// authorizes says whether anybody decides about accesses.
func (h *hooks) authorizes() bool { return len(h.authorizers)+len(h.slow) > 0 }

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

// decide asks the authorizers that answer from memory. undecided: those that have to ask elsewhere come next.
func (b *Broker) decide(a *plugin.Access) (d plugin.Decision, undecided bool) {
	if !b.hooks.authorizes() {
		return plugin.Decision{Verdict: plugin.Allow}, false
	}
	failed := true
	func() {
		defer b.guard("authorize", &failed)
		for _, x := range b.hooks.authorizers {
			if d = x.Authorize(a); d.Verdict != plugin.Ignore {
				break
			}
		}
		failed = false
	}()
	switch {
	case failed:
		return denied("panic"), false
	case d.Verdict != plugin.Ignore:
		return d, false
	case len(b.hooks.slow) > 0:
		return d, true
	}
	return denied("default"), false
}

// decideSlow asks the authorizers that may block. On a worker goroutine.
func (b *Broker) decideSlow(ctx context.Context, a *plugin.Access) (d plugin.Decision) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.HookTimeout)
	defer cancel()
	failed := true
	func() {
		defer b.guard("authorize", &failed)
		for _, x := range b.hooks.slow {
			var err error
			if d, err = x.AuthorizeSlow(ctx, a); err != nil {
				b.log.Warn("an authorizer failed; denied", "client", a.Client.ID, "err", err)
				d = denied("error")
			}
			if d.Verdict != plugin.Ignore {
				break
			}
		}
		failed = false
	}()
	if failed || d.Verdict == plugin.Ignore {
		return denied("default")
	}
	return d
}

// mayReceive asks before a delivery; only where a plug-in wants to be asked.
func (b *Broker) mayReceive(c *plugin.Client, m *mqtt.Message) (ok bool) {
	a := plugin.Access{Client: c, Action: plugin.Receive, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain}
	failed := true
	defer func() { ok = ok && !failed }()
	defer b.guard("authorize", &failed)
	for _, x := range b.hooks.receivers {
		if d := x.Authorize(&a); d.Verdict != plugin.Ignore {
			failed = false
			return d.Verdict == plugin.Allow
		}
	}
	failed = false
	return false
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
