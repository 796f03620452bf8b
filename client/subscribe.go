// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/topic"
)

// Subscription is a topic filter with its options and handler.
type Subscription struct {
	Filter string // may be shared: $share/NAME/FILTER
	QoS    mqtt.QoS
	// NoLocal, RetainAsPublished and RetainHandling exist in 5.0 only.
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0: send retained messages, 1: if the subscription is new, 2: never

	// Handler takes the messages; nil leaves them to Options.Handler.
	Handler Handler
	// ManualAck leaves it to the handler, or whoever it hands the message to, to call Message.Ack.
	ManualAck bool

	// Identifier is the subscription identifier, the same for all subscriptions of one call; 0 has the client give one.
	Identifier uint32
	// User are user properties of the SUBSCRIBE; those of all subscriptions of a call go into one packet.
	User []UserProperty
}

// subscribed is a subscription that the client keeps.
type subscribed struct {
	Subscription
	matches string   // the filter without share name
	ident   uint32   // 0 = none
	request *request // that made it: those of one request are repeated together
	granted bool     // by the server, in the present session
}

// request is a SUBSCRIBE or UNSUBSCRIBE on its way.
type request struct {
	subs    []*subscribed // of a SUBSCRIBE
	old     []*subscribed // that they replace
	filters []string      // of an UNSUBSCRIBE
	user    []UserProperty
	ident   uint32
	id      uint16        // packet identifier on the present connection; 0 if it was not sent
	done    chan struct{} // nil if nobody waits
	codes   []mqtt.ReasonCode
	err     error
}

func (r *request) kind() mqtt.PacketType {
	if r.subs != nil {
		return mqtt.SUBSCRIBE
	}
	return mqtt.UNSUBSCRIBE
}

func (r *request) answer(codes []mqtt.ReasonCode, _ mqtt.Properties, err error) {
	if r.done != nil {
		r.codes, r.err = slices.Clone(codes), err
		close(r.done)
		r.done = nil
	}
}

// Subscribe makes subscriptions, in one packet, and waits until the server has answered; without a connection, until
// there is one. They last until Unsubscribe: if the server loses the session they are made again. The codes are granted
// QoS or refusals, in the order of subs. If any was refused the error is a *ReasonError, joined with those of the others. A filter subscribed
// before is replaced. If ctx ends before the answer, the subscriptions are forgotten.
func (c *Client) Subscribe(ctx context.Context, subs ...Subscription) ([]mqtt.ReasonCode, error) {
	if len(subs) == 0 {
		return nil, errors.New("client: subscribe: no subscription is given") // [MQTT-3.8.3-2]
	}
	if err := checkSubscriptions(subs); err != nil {
		return nil, fmt.Errorf("client: subscribe: %w", err)
	}
	c.mu.Lock()
	r := c.newSubscribe(subs)
	r.done = make(chan struct{})
	return c.await(ctx, r)
}

// Unsubscribe ends subscriptions, in one packet, and waits until the server has answered. The codes are those of the server,
// in the order of filters; none before 5.0. User properties may be sent along by UnsubscribeWith.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]mqtt.ReasonCode, error) {
	return c.UnsubscribeWith(ctx, nil, filters...)
}

// UnsubscribeWith is Unsubscribe with user properties.
func (c *Client) UnsubscribeWith(ctx context.Context, user []UserProperty, filters ...string) ([]mqtt.ReasonCode, error) {
	if len(filters) == 0 {
		return nil, errors.New("client: unsubscribe: no filter is given") // [MQTT-3.10.3-2]
	}
	for _, f := range filters {
		if _, err := topic.ParseFilter(f, 0); err != nil {
			return nil, fmt.Errorf("client: unsubscribe: %w", err)
		}
		if err := checkText("topic filter", f); err != nil {
			return nil, fmt.Errorf("client: unsubscribe: %w", err)
		}
	}
	if err := checkUser(user); err != nil {
		return nil, fmt.Errorf("client: unsubscribe: %w", err)
	}
	r := &request{filters: slices.Clone(filters), user: slices.Clone(user), done: make(chan struct{})}
	c.mu.Lock()
	return c.await(ctx, r)
}

// await sends a request and waits for its answer. The mutex is held when it is called, and not when it returns.
func (c *Client) await(ctx context.Context, r *request) ([]mqtt.ReasonCode, error) {
	if c.closing {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	done := r.done
	c.addRequest(r)
	c.mu.Unlock()
	if err := c.wait(ctx, done); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dropRequest(r)
		return nil, err
	}
	return r.codes, r.err
}

// newSubscribe makes the request of a call. The mutex is held, or the client not yet known to anybody.
func (c *Client) newSubscribe(subs []Subscription) *request {
	r := &request{ident: subs[0].Identifier}
	if r.ident == 0 && !c.opt.NoIdentifiers {
		c.nextIdent++
		r.ident = c.nextIdent
	}
	for _, s := range subs {
		f, _ := topic.ParseFilter(s.Filter, 0) // it was checked
		r.user = append(r.user, s.User...)
		r.subs = append(r.subs, &subscribed{Subscription: s, matches: f.Filter, ident: r.ident, request: r})
	}
	return r
}

// addRequest takes a request on. Handlers are in place before the SUBSCRIBE is sent, for retained messages may come before its answer.
func (c *Client) addRequest(r *request) {
	for _, s := range r.subs {
		if i := c.subscription(s.Filter); i >= 0 {
			r.old = append(r.old, c.subs[i])
			c.subs[i] = s
		} else {
			c.subs = append(c.subs, s)
		}
	}
	c.requests = append(c.requests, r)
	if c.link != nil && !c.link.closing {
		c.sendRequest(r)
	}
}

// subscription returns the index of a filter in c.subs, -1 if there is none.
func (c *Client) subscription(filter string) int {
	return slices.IndexFunc(c.subs, func(s *subscribed) bool { return s.Filter == filter })
}

// sendRequests sends what has no answer yet, and if the server has lost the session all subscriptions too.
func (c *Client) sendRequests(present bool) {
	if !present {
		pending := c.requests
		c.requests = nil
		for _, s := range c.subs {
			r := s.request
			if s.granted && !slices.Contains(c.requests, r) {
				c.requests = append(c.requests, r.again(c.subs))
			}
			s.granted = false
		}
		c.requests = append(c.requests, pending...)
	}
	for _, r := range slices.Clone(c.requests) {
		c.sendRequest(r)
	}
}

// again makes the request that repeats what is left of r.
func (r *request) again(subs []*subscribed) *request {
	repeat := &request{user: r.user, ident: r.ident}
	for _, s := range subs {
		if s.request == r && s.granted {
			s.request, s.granted = repeat, false
			repeat.subs = append(repeat.subs, s)
		}
	}
	return repeat
}

// sendRequest sends a request on the present connection, if an identifier is free and the server takes it.
func (c *Client) sendRequest(r *request) {
	l := c.link
	if err := l.refusesRequest(r); err != nil {
		c.endRequest(r, nil, nil, err)
		return
	}
	id := c.requestID()
	if id == 0 {
		return // all are in use: the next answer frees one
	}
	mark := l.mark()
	b := r.append(l.out.Buf(), id, l)
	if limit := l.limits.MaxPacket; limit != 0 && len(b)-mark > int(limit) {
		l.out.Set(b[:mark])
		c.endRequest(r, nil, nil, limitError(mqtt.PacketTooLarge, r.kind().String(), "the server's Maximum Packet Size is less"))
		return
	}
	l.out.Set(b)
	r.id = id
	c.asked[id] = r
	l.sent(mark)
}

// requestID finds a free packet identifier, from the top down, for those of messages come from below. 0 = none.
func (c *Client) requestID() uint16 {
	for range 0xFFFF {
		c.lastAsked--
		if c.lastAsked == 0 {
			c.lastAsked = 0xFFFF
		}
		if id := c.lastAsked; c.asked[id] == nil && c.sess.Out.Find(id) == nil && !c.mayResend(id) {
			return id
		}
	}
	return 0
}

// mayResend reports whether an identifier belongs to a message that is still to be repeated.
func (c *Client) mayResend(id uint16) bool {
	for i := range c.resend {
		if c.resend[i].ID == id {
			return true
		}
	}
	return false
}

func (r *request) append(dst []byte, id uint16, l *link) []byte {
	var p mqtt.Properties
	if l.version == mqtt.V5 {
		if r.ident != 0 && l.ids && r.subs != nil {
			p = mqtt.AppendPropVarInt(p, mqtt.PropSubscriptionIdentifier, r.ident)
		}
		p = appendUser(p, r.user)
	}
	if r.subs == nil {
		packet := mqtt.Unsubscribe{ID: id, Properties: p}
		for _, f := range r.filters {
			packet.Filters = append(packet.Filters, []byte(f))
		}
		return packet.Append(dst, l.version)
	}
	packet := mqtt.Subscribe{ID: id, Properties: p}
	for _, s := range r.subs {
		packet.Subscriptions = append(packet.Subscriptions, mqtt.Subscription{
			Filter: []byte(s.Filter), QoS: s.QoS,
			NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling,
		})
	}
	return packet.Append(dst, l.version)
}

// refusesRequest tells what the server said it does not take.
func (l *link) refusesRequest(r *request) error {
	for _, s := range r.subs {
		f, _ := topic.ParseFilter(s.Filter, 0) // it was checked
		switch {
		case f.Wild() && !l.wildcards: // [MQTT-3.2.2-16] and following
			return limitError(mqtt.WildcardSubscriptionsNotSupported, "SUBSCRIBE", "the server said so")
		case f.Share != "" && !l.shared && l.version == mqtt.V5:
			return limitError(mqtt.SharedSubscriptionsNotSupported, "SUBSCRIBE", "the server said so")
		case s.Identifier != 0 && !l.ids && l.version == mqtt.V5:
			return limitError(mqtt.SubscriptionIdentifiersNotSupported, "SUBSCRIBE", "the server said so")
		}
	}
	return nil
}

// receiveAnswer takes a SUBACK or UNSUBACK.
func (c *Client) receiveAnswer(kind mqtt.PacketType, id uint16, codes []mqtt.ReasonCode, p mqtt.Properties) error {
	r := c.asked[id]
	if r == nil || r.kind() != kind {
		return nil // its call has been given up
	}
	want := len(r.subs) + len(r.filters)
	if len(codes) != want && (kind == mqtt.SUBSCRIBE || c.link.version == mqtt.V5) {
		return limitError(mqtt.ProtocolError, kind.String(), "the answer has another number of codes")
	}
	delete(c.asked, id)
	var errs []error
	for i, code := range codes {
		if code.IsError() {
			e := &ReasonError{Packet: kind + 1, Code: code, Properties: slices.Clone(p)}
			if r.subs != nil {
				e.Filter = r.subs[i].Filter
			} else {
				e.Filter = r.filters[i]
			}
			errs = append(errs, e)
		}
	}
	c.endRequest(r, codes, p, joinOne(errs))
	for _, r := range c.requests {
		if r.id == 0 {
			c.sendRequest(r)
			break
		}
	}
	c.flush() // an identifier is free again
	return nil
}

// joinOne joins errors, and leaves a single one as it is.
func joinOne(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// endRequest ends a request with the server's answer, or for err without one.
func (c *Client) endRequest(r *request, codes []mqtt.ReasonCode, p mqtt.Properties, err error) {
	if i := slices.Index(c.requests, r); i >= 0 {
		c.requests = slices.Delete(c.requests, i, i+1)
	}
	for i, s := range r.subs {
		s.granted = i < len(codes) && !codes[i].IsError()
		if !s.granted {
			c.unsubscribed(s.Filter, s, r.old)
		}
	}
	for i, f := range r.filters {
		if err == nil || i < len(codes) && !codes[i].IsError() {
			c.unsubscribed(f, nil, nil)
		}
	}
	if r.done == nil && err != nil {
		c.opt.Logger.Warn("subscriptions could not be made again", "err", err)
	}
	r.answer(codes, p, err)
}

// unsubscribed forgets a filter, or goes back to the subscription that was to be replaced. Only s is forgotten, if it is given.
func (c *Client) unsubscribed(filter string, s *subscribed, old []*subscribed) {
	i := c.subscription(filter)
	if i < 0 || s != nil && c.subs[i] != s {
		return
	}
	if j := slices.IndexFunc(old, func(o *subscribed) bool { return o.Filter == filter }); j >= 0 {
		c.subs[i] = old[j]
		return
	}
	c.subs = slices.Delete(c.subs, i, i+1)
}

// dropRequest gives up a request whose caller has gone. Its packet identifier stays in use until the answer comes.
func (c *Client) dropRequest(r *request) {
	if r.done == nil {
		return // the answer came at the same moment
	}
	r.done = nil
	i := slices.Index(c.requests, r)
	c.requests = slices.Delete(c.requests, i, i+1)
	for _, s := range r.subs {
		c.unsubscribed(s.Filter, s, r.old)
	}
	if r.id != 0 {
		c.asked[r.id] = &request{filters: r.filters}
		if r.subs != nil {
			c.asked[r.id] = &request{subs: r.subs}
		}
	}
}
