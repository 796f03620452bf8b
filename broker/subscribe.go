// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"strings"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
)

// subscribing is a SUBSCRIBE on its way through the deciders and the store.
type subscribing struct {
	id      uint16
	subs    []plugin.Subscription
	plain   []topic.Filter
	codes   []mqtt.ReasonCode
	fresh   []bool       // the subscription did not exist
	before  []subscriber // of a persistent session: its options where it did
	turn    []int        // likewise, of the subscriber
	at      int
	joining int // shared subscriptions whose home has not answered
	wish    wish
	detail  string // of what is refused; for a Reason String
}

func (c *connection) receiveSubscribe(h mqtt.Header, body []byte, cfg *config) error {
	p := &c.sh.subscribe
	if err := p.Decode(h, body, c.version); err != nil {
		return err
	}
	if p.Properties.CountUser() > cfg.limits.MaxUserProperties {
		return &mqtt.Error{Code: mqtt.ImplementationSpecificError, Op: "SUBSCRIBE", Err: errTooManyProperties}
	}
	identifier, _ := p.Properties.VarInt(mqtt.PropSubscriptionIdentifier)
	n := min(len(p.Subscriptions), c.lim(cfg).MaxSubscriptions)
	w := &subscribing{id: p.ID, subs: make([]plugin.Subscription, n), plain: make([]topic.Filter, n),
		codes: make([]mqtt.ReasonCode, len(p.Subscriptions)), fresh: make([]bool, n)}
	for i := range w.codes[n:] {
		w.codes[n+i] = mqtt.QuotaExceeded
	}
	for i, s := range p.Subscriptions[:n] {
		w.subs[i] = plugin.Subscription{Filter: string(s.Filter), QoS: s.QoS, NoLocal: s.NoLocal,
			RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling, Identifier: identifier}
		w.plain[i], w.codes[i] = c.checkFilter(&w.subs[i], c.lim(cfg))
	}
	c.readWish(w, p.Properties)
	c.authorizeSubscribe(w)
	return nil
}

// readWish reads what the client wants to be left out. What it cannot have is refused, and told.
func (c *connection) readWish(w *subscribing, p mqtt.Properties) {
	if len(p) == 0 {
		return
	}
	var err error
	if w.wish, err = wishOf(p); err != nil {
		w.detail = err.Error()
	}
	for i := range w.subs {
		shared := w.wish.any() && w.plain[i].Share != ""
		if shared && w.detail == "" {
			w.detail = "a shared subscription takes every message"
		}
		if !w.codes[i].IsError() && (err != nil || shared) {
			w.codes[i] = mqtt.ImplementationSpecificError
		}
	}
}

// checkFilter applies the standard's rules and the limits to one subscription.
func (c *connection) checkFilter(s *plugin.Subscription, l *Limits) (topic.Filter, mqtt.ReasonCode) {
	if len(s.Filter) > l.MaxTopicLength {
		return topic.Filter{}, mqtt.TopicFilterInvalid
	}
	f, err := topic.ParseFilter(s.Filter, l.MaxTopicLevels)
	switch {
	case err != nil:
		return f, mqtt.TopicFilterInvalid
	case !l.WildcardAvailable && strings.ContainsAny(f.Filter, "+#"):
		return f, mqtt.WildcardSubscriptionsNotSupported
	case !l.SharedAvailable && f.Share != "":
		return f, mqtt.SharedSubscriptionsNotSupported
	case !l.IdentifierAvailable && s.Identifier != 0:
		return f, mqtt.SubscriptionIdentifiersNotSupported
	case c.subs[s.Filter] == nil && len(c.subs) >= l.MaxSubscriptions:
		return f, mqtt.QuotaExceeded
	}
	return f, mqtt.Success
}

// authorizeSubscribe asks about each subscription in turn, then makes them.
func (c *connection) authorizeSubscribe(w *subscribing) {
	b := c.sh.b
	for ; w.at < len(w.subs); w.at++ {
		if w.codes[w.at].IsError() {
			continue
		}
		s := &w.subs[w.at]
		a := plugin.Access{Client: c.client, Action: plugin.Subscribe, Topic: w.plain[w.at].Filter,
			Share: w.plain[w.at].Share, QoS: s.QoS}
		d, undecided := b.decide(&a)
		if undecided {
			c.async(open, func(ctx context.Context) { d = b.decideSlow(ctx, &a) }, func() {
				c.subscribeDecided(w, d)
				w.at++
				c.authorizeSubscribe(w)
			})
			return
		}
		c.subscribeDecided(w, d)
	}
	c.makeSubscriptions(w)
}

func (c *connection) subscribeDecided(w *subscribing, d plugin.Decision) {
	s := &w.subs[w.at]
	if d.Verdict == plugin.Deny {
		w.codes[w.at] = mqtt.NotAuthorized
		if d.Code != 0 {
			w.codes[w.at] = d.Code
		}
		c.sh.b.log.Debug("subscription denied", "client", c.client.ID, "filter", s.Filter, "rule", d.Rule)
		return
	}
	if len(c.sh.b.hooks.subscribers) > 0 {
		if code := c.sh.b.interceptSubscribe(c.client, s); code.IsError() {
			w.codes[w.at] = code
			return
		}
	}
	s.QoS = min(s.QoS, c.lim(c.sh.b.config.Load()).MaxQoS)
	if w.wish.any() {
		s.QoS = 0
	}
	w.codes[w.at] = mqtt.ReasonCode(s.QoS)
}

// makeSubscriptions puts the granted ones into force. The index knows them before the store does, so that no committed message
// goes by; SUBACK follows the store.
func (c *connection) makeSubscriptions(w *subscribing) {
	cmd := &store.Subscribe{Context: c}
	limit := c.lim(c.sh.b.config.Load()).MaxSubscriptions
	if c.kept != nil {
		w.before, w.turn = make([]subscriber, len(w.subs)), make([]int, len(w.subs))
	}
	for i := range w.subs {
		if w.codes[i].IsError() {
			continue
		}
		s := &w.subs[i]
		if c.subs[s.Filter] == nil && len(c.subs) >= limit {
			w.codes[i] = mqtt.QuotaExceeded
			continue
		}
		if sub := c.subs[s.Filter]; sub != nil && c.kept != nil {
			w.before[i] = *sub
		}
		w.fresh[i] = c.setSubscription(s, w.plain[i])
		c.subs[s.Filter].reshape(w.wish)
		if c.kept != nil {
			w.turn[i] = c.subs[s.Filter].turn
		}
		cmd.Subscriptions = append(cmd.Subscriptions, store.Subscription{Filter: s.Filter, QoS: s.QoS, NoLocal: s.NoLocal,
			RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling, Identifier: s.Identifier})
	}
	if c.kept == nil || len(cmd.Subscriptions) == 0 {
		c.subscribed(w)
		return
	}
	cmd.Owner = c.kept.owner
	c.waitForStore()
	cmd.Done = func(s *store.Subscribe) {
		c.sh.loop.Post(loop.Func(func(*loop.Loop) { c.subscriptionsKept(w, s.Err) }))
	}
	c.sh.b.store.ProposeSubscribe(cmd)
}

// waitForStore counts a SUBSCRIBE or UNSUBSCRIBE whose answer waits for the store, and pauses a client that has many.
func (c *connection) waitForStore() {
	r := c.rarely()
	r.asked++
	if r.asked >= maxAsked {
		c.stop(holdAsked)
	}
}

// maxAsked is how many of them one client may have.
const maxAsked = 64

func (c *connection) storeAnswered() {
	c.rare.asked--
	if c.rare.asked <= maxAsked/2 {
		c.resume(holdAsked)
	}
}

func (c *connection) subscriptionsKept(w *subscribing, err error) {
	if c.state != open {
		return
	}
	c.storeAnswered()
	switch {
	case errors.Is(err, store.ErrFull):
		for i := range w.subs {
			if !w.codes[i].IsError() && !c.takeBack(w, i) {
				c.storeFailed(err)
				return
			}
		}
	case err != nil:
		c.storeFailed(err)
		return
	}
	c.subscribed(w)
}

// takeBack undoes one subscription that the store has no room for: what was before it is in force again. It cannot be undone while
// another SUBSCRIBE for the same filter is on its way.
func (c *connection) takeBack(w *subscribing, i int) bool {
	w.codes[i] = mqtt.QuotaExceeded
	sub := c.subs[w.subs[i].Filter]
	switch {
	case sub == nil:
	case sub.turn != w.turn[i]:
		return false
	case w.fresh[i]:
		c.removeSubscription(sub.whole)
	default:
		was := &w.before[i]
		sub.qos, sub.noLocal, sub.asIs, sub.ids = was.qos, was.noLocal, was.asIs, was.ids
		sub.shape.end()
		sub.shape = was.shape
	}
	return true
}

// setSubscription adds a subscription, or replaces the options of one with the same filter [MQTT-3.8.4-3]; it says whether it is new.
func (c *connection) setSubscription(s *plugin.Subscription, f topic.Filter) bool {
	sub := c.subs[s.Filter]
	fresh := sub == nil || sub.leaving // an UNSUBSCRIBE is on its way through the store
	if sub != nil {
		sub.leaving = false
	} else {
		sub = &subscriber{c: c, filter: f.Filter, whole: s.Filter}
		if c.subs == nil {
			c.subs = make(map[string]*subscriber)
		}
		c.subs[s.Filter] = sub
		c.sh.tally.subscriptions.Add(1)
		if f.Share == "" {
			c.sh.b.index.Add(f.Filter, c.sh.n, sub)
		}
	}
	sub.turn++
	sub.qos, sub.noLocal, sub.asIs, sub.ids = s.QoS, s.NoLocal, s.RetainAsPublished, nil
	if s.Identifier != 0 {
		sub.ids = []uint32{s.Identifier}
	}
	c.zero = c.zero || s.QoS == 0
	return fresh
}

// subscribeStored puts a stored subscription of a resumed session into force.
func (c *connection) subscribeStored(s store.Subscription) {
	f, err := topic.ParseFilter(s.Filter, 0)
	if err != nil {
		c.sh.b.log.Error("a stored subscription is not valid", "client", c.client.ID, "filter", s.Filter, "err", err)
		return
	}
	c.setSubscription(&plugin.Subscription{Filter: s.Filter, QoS: s.QoS, NoLocal: s.NoLocal,
		RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling, Identifier: s.Identifier}, f)
	if f.Share != "" {
		c.joinShare(f.Filter, c.subs[s.Filter], nil)
	}
}

// subscribed goes on once the store knows the subscriptions: members join their shared subscriptions, then SUBACK says that all is in
// force.
func (c *connection) subscribed(w *subscribing) {
	for i := range w.subs {
		sub := c.subs[w.subs[i].Filter]
		if w.codes[i].IsError() || w.plain[i].Share == "" || sub == nil {
			continue
		}
		if sub.member == nil {
			w.joining++
			c.joinShare(w.plain[i].Filter, sub, func() {
				if w.joining--; w.joining == 0 && c.state == open {
					c.suback(w)
				}
			})
			continue
		}
		// With another QoS the store may have a queue for it now.
		sub.member.onShare(c.sh, func(s *share) { s.checkStore(); s.dispatch() })
	}
	if w.joining == 0 {
		c.suback(w)
	}
}

// suback answers SUBACK, then sends retained messages: never for shared subscriptions, and as Retain Handling says.
func (c *connection) suback(w *subscribing) {
	p := mqtt.Suback{ID: w.id, Codes: w.codes}
	if w.detail != "" && c.problem {
		p.Properties = c.reason(w.detail, p.Append(nil, c.version))
	}
	if c.version != mqtt.V5 {
		for i, code := range p.Codes {
			if code.IsError() {
				p.Codes[i] = mqtt.UnspecifiedError // 0x80 [MQTT-3.9.3-2]
			}
		}
	}
	c.write(p.Append(nil, c.version))
	for i := range w.subs {
		if w.codes[i].IsError() {
			continue
		}
		s := &w.subs[i]
		c.sh.b.events.subscription(c, subscriptionMade, s)
		sub := c.subs[s.Filter]
		switch {
		case sub == nil || w.plain[i].Share != "":
		case s.RetainHandling == 0 || s.RetainHandling == 1 && w.fresh[i]:
			c.startStream(sub)
		}
	}
}

func (c *connection) receiveUnsubscribe(h mqtt.Header, body []byte, cfg *config) error {
	p := &c.sh.unsubscribe
	if err := p.Decode(h, body, c.version); err != nil {
		return err
	}
	if p.Properties.CountUser() > cfg.limits.MaxUserProperties {
		return &mqtt.Error{Code: mqtt.ImplementationSpecificError, Op: "UNSUBSCRIBE", Err: errTooManyProperties}
	}
	answer := &mqtt.Unsuback{ID: p.ID, Codes: make([]mqtt.ReasonCode, len(p.Filters))}
	var gone []string
	seen := map[string]bool{}
	for i, filter := range p.Filters {
		switch f := string(filter); {
		case c.subs[f] != nil && !seen[f]:
			gone = append(gone, f)
			seen[f] = true
			c.subs[f].leaving = true
		default:
			if _, err := topic.ParseFilter(f, 0); err != nil {
				answer.Codes[i] = mqtt.TopicFilterInvalid
				continue
			}
			answer.Codes[i] = mqtt.NoSubscriptionExisted
		}
	}
	if c.kept == nil || len(gone) == 0 {
		c.unsubscribed(answer, gone)
		return nil
	}
	c.waitForStore()
	c.sh.b.store.ProposeUnsubscribe(&store.Unsubscribe{Owner: c.kept.owner, Filters: gone, Done: func(u *store.Unsubscribe) {
		c.sh.loop.Post(loop.Func(func(*loop.Loop) {
			if c.state == open {
				c.unsubscriptionsKept(answer, gone, u.Err)
			}
		}))
	}})
	return nil
}

func (c *connection) unsubscriptionsKept(answer *mqtt.Unsuback, gone []string, err error) {
	switch {
	case err == nil:
		c.storeAnswered()
		c.unsubscribed(answer, gone)
	case errors.Is(err, store.ErrFull) && c.version == mqtt.V5: // they stay in force
		c.storeAnswered()
		for i, code := range answer.Codes {
			if code == mqtt.Success {
				answer.Codes[i] = mqtt.ImplementationSpecificError
			}
		}
		for _, f := range gone {
			if s := c.subs[f]; s != nil {
				s.leaving = false
			}
		}
		c.write(answer.Append(nil, c.version))
	default:
		c.storeFailed(err)
	}
}

// unsubscribed takes subscriptions out of force and answers UNSUBACK.
func (c *connection) unsubscribed(answer *mqtt.Unsuback, gone []string) {
	for _, f := range gone {
		if s := c.subs[f]; s != nil && s.leaving { // it was not made again meanwhile
			c.removeSubscription(f)
		}
		c.sh.b.events.subscription(c, subscriptionRemoved, &plugin.Subscription{Filter: f})
	}
	c.write(answer.Append(nil, c.version))
}

// stillAllowed asks again about a subscription. What nobody says from memory counts as allowed, as it was before.
func (c *connection) stillAllowed(s *subscriber) bool {
	f, err := topic.ParseFilter(s.whole, 0)
	if err != nil {
		return true
	}
	d, undecided := c.sh.b.decide(&plugin.Access{Client: c.client, Action: plugin.Subscribe, Topic: f.Filter, Share: f.Share, QoS: s.qos})
	return undecided || d.Verdict != plugin.Deny
}

// revoke ends a subscription that rules do not allow any more.
func (c *connection) revoke(s *subscriber) {
	if s.leaving {
		return
	}
	s.leaving = true
	c.sh.b.log.Debug("subscription revoked", "client", c.client.ID, "filter", s.whole)
	if c.kept == nil {
		c.endRevoked(s)
		return
	}
	c.sh.b.store.ProposeUnsubscribe(&store.Unsubscribe{Owner: c.kept.owner, Filters: []string{s.whole}, Done: func(u *store.Unsubscribe) {
		c.sh.loop.Post(loop.Func(func(*loop.Loop) {
			switch {
			case c.state != open:
			case u.Err == nil:
				c.endRevoked(s)
			case errors.Is(u.Err, store.ErrFull):
				s.leaving = false // the next delivery tries again
			default:
				c.storeFailed(u.Err)
			}
		}))
	}})
}

func (c *connection) endRevoked(s *subscriber) {
	if c.subs[s.whole] == s && s.leaving {
		c.removeSubscription(s.whole)
		c.sh.b.events.subscription(c, subscriptionRemoved, &plugin.Subscription{Filter: s.whole})
	}
}

func (c *connection) removeSubscription(filter string) {
	if s := c.subs[filter]; s != nil {
		delete(c.subs, filter)
		c.detachSubscriber(s)
	}
}

// detachSubscriber takes a subscription out of the index, or out of its shared subscription.
func (c *connection) detachSubscriber(s *subscriber) {
	c.sh.tally.subscriptions.Add(-1)
	s.shape.end()
	if s.member != nil {
		s.c = nil
		s.member.leave(c.sh)
		return
	}
	c.sh.b.index.Remove(s.filter, c.sh.n, s)
}
