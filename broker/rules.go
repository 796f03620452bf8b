// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"time"

	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
)

// bound is what rules demand of one connection. A connection for which none holds has none, and pays a comparison with nil.
//
// What comes in pays before it is taken: a packet whose turn has not come reserves its tokens, the connection is not read until they are there,
// and then the packet passes without paying again. So connections that share a bucket pass in the order in which they came to it, each
// wakes up once for each packet that had to wait, and nothing passes too early. What goes out pays likewise, and waits in the queue.
type bound struct {
	accounts [limit.Pers]*limit.Account // nil where no rule counts by it
	in       []*limit.Account           // those that limit what comes in
	out      []*limit.Account           // and what goes out
	limits   *Limits                    // those of all clients, with the caps of the rules; nil where there are no caps

	paid       bool  // the next packet has reserved its tokens
	publish    bool  // it is a PUBLISH
	owed       int64 // bytes that it has reserved
	reader     loop.Timer
	waiting    bool  // the next delivery has reserved its tokens, which are not there yet
	writePaid  bool  // they are there
	writeOwed  int64 // bytes that it has reserved
	writer     loop.Timer
	connection *connection
}

// lim is the limits that hold for the connection.
func (c *connection) lim(cfg *config) *Limits {
	if c.bound != nil && c.bound.limits != nil {
		return c.bound.limits
	}
	return &cfg.limits
}

// who is the client as rules see it; known: its user name and groups are vouched for.
func (c *connection) who(known bool) limit.Who {
	cl := c.client
	return limit.Who{Listener: cl.Listener, User: cl.Username, Groups: cl.Groups, Client: cl.ID, Address: addressOf(cl.Remote), Known: known}
}

// payConnect has a CONNECT pay for what rules allow of them, and says whether it may go on. before is what it has paid for already.
func (c *connection) payConnect(cfg *config, before *limit.Match, known bool) (now limit.Match, ok bool) {
	w := c.who(known)
	m := cfg.rules.Match(&w)
	at := c.sh.loop.Now()
	for p := range limit.Pers {
		r := m.Rule(p)
		if r == nil || !r.Connects.Limited() || r == before.Rule(p) {
			continue
		}
		a := m.Account(p, &w, at)
		paid := a.Connects.Take(at, 1)
		if !paid {
			c.hit(a, limit.ConnectRefused)
		}
		a.Release(at)
		if !paid {
			c.refuse(plugin.ConnectionRate, mqtt.ConnectionRateExceeded, "rule "+r.Name)
			return m, false
		}
	}
	return m, true
}

// bind finds the rules for a connection that is about to be granted, and counts it. Where it is one too many, or its will is beyond a
// cap, it is refused.
func (c *connection) bind(cfg *config) bool {
	c.login.rules = cfg.rules
	if cfg.rules.Empty() {
		return true
	}
	w := c.who(true)
	m := cfg.rules.Match(&w)
	if m.Empty() {
		return true
	}
	r := &bound{connection: c}
	now := c.sh.loop.Now()
	for p := range limit.Pers {
		a := m.Account(p, &w, now)
		if a == nil {
			continue
		}
		if !a.Connect() {
			c.hit(a, limit.ConnectionsRefused)
			a.Release(now)
			r.release(now)
			c.refuse(plugin.TooManyConnections, mqtt.QuotaExceeded, "rule "+a.Rule().Name)
			return false
		}
		r.take(p, a)
	}
	c.bound = r
	if caps, any := m.Caps(); any {
		r.limits = c.sh.capped(cfg, caps)
		c.login.terms.Tighten(c.offering(cfg))
		return c.willFits(r.limits)
	}
	return true
}

// willFits refuses a will beyond the caps.
func (c *connection) willFits(l *Limits) bool {
	switch {
	case c.will == nil:
	case c.will.Message.QoS > l.MaxQoS:
		c.refuse(plugin.QoSNotSupported, mqtt.QoSNotSupported, "will QoS is above the maximum") // [MQTT-3.2.2-12]
		return false
	case checkTopic(bytesOf(c.will.Message.Topic), l) != nil:
		c.refuse(plugin.TopicInvalid, mqtt.TopicNameInvalid, "the will's topic is too long")
		return false
	}
	return true
}

// take adds an account, whose connection is counted already.
func (r *bound) take(p limit.Per, a *limit.Account) {
	r.accounts[p] = a
	if a.MessagesIn.Limited() || a.BytesIn.Limited() {
		r.in = append(r.in, a)
	}
	if a.MessagesOut.Limited() || a.BytesOut.Limited() {
		r.out = append(r.out, a)
	}
}

// release gives the accounts back.
func (r *bound) release(now int64) {
	for _, a := range r.accounts {
		if a != nil {
			a.Disconnect()
			a.Release(now)
		}
	}
	r.accounts, r.in, r.out = [limit.Pers]*limit.Account{}, nil, nil
}

// unbind ends what bind began.
func (c *connection) unbind() {
	r := c.bound
	if r == nil {
		return
	}
	c.sh.loop.Cancel(&r.reader)
	c.sh.loop.Cancel(&r.writer)
	r.refund()
	r.release(c.sh.loop.Now())
	r.paid, r.waiting, r.writePaid = false, false, false
}

// refund returns what was reserved for a packet or a delivery that does not pass any more.
func (r *bound) refund() {
	for _, a := range r.in {
		if r.owed > 0 && a.Rule().Policy.Pauses() {
			a.BytesIn.Return(r.owed)
			if r.publish {
				a.MessagesIn.Return(1)
			}
		}
	}
	for _, a := range r.out {
		if r.waiting || r.writePaid {
			a.BytesOut.Return(r.writeOwed)
			a.MessagesOut.Return(1)
		}
	}
	r.owed = 0
}

// rebind finds the rules anew after a change of them. What was granted stays: the caps, and a connection that is one too many now.
func (c *connection) rebind(cfg *config) {
	old := c.bound
	if c.state != open || old == nil && cfg.rules.Empty() {
		return
	}
	w := c.who(true)
	m := cfg.rules.Match(&w)
	if m.Empty() && old == nil {
		return
	}
	r := &bound{connection: c}
	now := c.sh.loop.Now()
	for p := range limit.Pers {
		if a := m.Account(p, &w, now); a != nil {
			a.Join()
			r.take(p, a)
		}
	}
	if old != nil {
		c.unbind()
		r.limits = old.limits
	}
	c.bound = r
	c.resume(holdRate)
	c.pump()
}

// rebindAll has all connections of the loop find their rules anew, some at a time.
func (sh *shard) rebindAll() {
	var all []*connection
	sh.each(func(c *connection) { all = append(all, c) })
	var some loop.Func
	some = func(*loop.Loop) {
		const most = 1000 // some 1 ms
		cfg := sh.b.config.Load()
		n := min(most, len(all))
		for _, c := range all[:n] {
			if c.sh == sh {
				c.rebind(cfg)
			}
		}
		if all = all[n:]; len(all) > 0 {
			sh.loop.Defer(some)
		}
	}
	some(sh.loop)
}

// cappedLimits are those with the caps of rules, shared by the connections of a loop.
type cappedLimits struct {
	cfg *config
	by  map[limit.Caps]*Limits
}

func (sh *shard) capped(cfg *config, caps limit.Caps) *Limits {
	k := &sh.caps
	if k.cfg != cfg {
		k.cfg, k.by = cfg, map[limit.Caps]*Limits{}
	}
	l := k.by[caps]
	if l == nil {
		l = cfg.limits.capped(caps)
		k.by[caps] = l
	}
	return l
}

// capped is the lesser of the limits and the caps.
func (l *Limits) capped(caps limit.Caps) *Limits {
	c := *l
	less := func(to *int, most int) {
		if most > 0 && most < *to {
			*to = most
		}
	}
	less(&c.MaxPacket, caps.MaxPacket)
	less(&c.MaxTopicLevels, caps.MaxTopicLevels)
	less(&c.MaxTopicLength, caps.MaxTopicLength)
	less(&c.MaxSubscriptions, caps.MaxSubscriptions)
	less(&c.MaxQueueMessages, caps.MaxQueueMessages)
	less(&c.MaxQueueBytes, caps.MaxQueueBytes)
	if m := caps.ReceiveMaximum; m > 0 && m < int(c.ReceiveMaximum) {
		c.ReceiveMaximum = uint16(m)
	}
	if m := caps.MaxInflight; m > 0 && m < int(c.MaxInflight) {
		c.MaxInflight = uint16(m)
	}
	if d := caps.MaxSessionExpiry; d > 0 && (c.MaxSessionExpiry == 0 || d < c.MaxSessionExpiry) {
		c.MaxSessionExpiry = d
	}
	c.MaxQoS = min(c.MaxQoS, caps.MaxQoS)
	return &c
}

// atLeast is how long a connection that has to wait does so at least, where the buckets hold what comes meanwhile: to wake up for each
// packet would cost more than the packet.
const atLeast = 4 * time.Millisecond

// waitFor is the wait for one bucket.
func waitFor(b *limit.Bucket, now, n int64) time.Duration {
	wait := b.Reserve(now, n)
	if wait > 0 {
		wait = max(wait, min(atLeast, b.Span()/4))
	}
	return wait
}

// mayTake says whether a packet that arrived may be taken now. Where it may not, it has reserved its tokens and the connection is
// not read until they are there; the packet is then the first to be taken.
func (c *connection) mayTake(h mqtt.Header, size int) bool {
	r := c.bound
	if r.paid {
		r.paid, r.owed = false, 0
		return true
	}
	now, n := c.sh.loop.Now(), int64(size)
	publish := h.Type == mqtt.PUBLISH
	wait := time.Duration(0)
	var by *limit.Account
	for _, a := range r.in {
		p := a.Rule().Policy
		if publish && !c.pausedBy(p, h) {
			continue // receivePublish has it pay
		}
		w := waitFor(&a.BytesIn, now, n)
		if publish {
			w = max(w, waitFor(&a.MessagesIn, now, 1))
		}
		if w > wait && (publish || p.Pauses()) { // by other policies the bytes of other packets are owed, and cost messages
			wait, by = w, a
		}
	}
	if wait == 0 {
		return true
	}
	r.owed, r.publish = n, publish
	c.hit(by, limit.Paused)
	c.stop(holdRate)
	c.sh.loop.At(&r.reader, now+int64(wait), (*readerTurn)(r))
	return false
}

// pausedBy says whether a PUBLISH beyond a rate waits: by the policy reject it does where the client's version has no way to say no.
func (c *connection) pausedBy(p limit.Policy, h mqtt.Header) bool {
	return p == limit.Pause || p == limit.Reject && c.version != mqtt.V5 && h.Flags&6 != 0
}

// readerTurn goes on with the packet whose turn has come.
type readerTurn bound

func (t *readerTurn) Run(*loop.Loop) {
	r := (*bound)(t)
	r.paid = true
	r.connection.resume(holdRate)
}

// mayPublish has a PUBLISH pay where more than the rate is refused, and says whether it goes on. It comes after the packet was counted in,
// and its alias was learned.
func (c *connection) mayPublish(p *mqtt.Publish, h mqtt.Header, size int) bool {
	r, now := c.bound, c.sh.loop.Now()
	for i, a := range r.in {
		policy := a.Rule().Policy
		if c.pausedBy(policy, h) {
			continue
		}
		messages := a.MessagesIn.Take(now, 1)
		if messages && a.BytesIn.Take(now, int64(size)) {
			continue
		}
		if messages {
			a.MessagesIn.Return(1)
		}
		for _, before := range r.in[:i] { // it goes nowhere, and costs nothing
			if !c.pausedBy(before.Rule().Policy, h) {
				before.MessagesIn.Return(1)
				before.BytesIn.Return(int64(size))
			}
		}
		cause, code := plugin.MessageRateTooHigh, mqtt.MessageRateTooHigh
		if messages {
			cause, code = plugin.QuotaExceeded, mqtt.QuotaExceeded
		}
		c.tooMuch(p, a, cause, code)
		return false
	}
	return true
}

// tooMuch refuses a PUBLISH by the policy of the rule that it is too much for. An acknowledgement without an error would say that we
// have it, so 5.0 clients get 0x97 with either policy; before 5.0 a message that goes nowhere may be acknowledged [MQTT-3.3.5-2].
func (c *connection) tooMuch(p *mqtt.Publish, a *limit.Account, cause plugin.Cause, code mqtt.ReasonCode) {
	switch a.Rule().Policy {
	case limit.Disconnect:
		c.hit(a, limit.Disconnected)
		c.closeWith(cause, code, "rule "+a.Rule().Name)
		return
	case limit.Drop:
		c.hit(a, limit.Dropped)
	default:
		c.hit(a, limit.Rejected)
	}
	c.refuseMessage(p, cause, mqtt.QuotaExceeded)
}

// refuseMessage drops a PUBLISH that Begin counted in: with a reason code where the version has one. What is acknowledged as if it had been
// taken is told to observers and entered in the journal.
func (c *connection) refuseMessage(p *mqtt.Publish, cause plugin.Cause, code mqtt.ReasonCode) {
	switch {
	case p.QoS == 0:
		c.sh.tally.dropped[cause].Add(1)
	case c.version == mqtt.V5:
		c.sh.tally.dropped[cause].Add(1)
		c.accepted(p.QoS, p.ID, code)
	default:
		c.sh.drop(c.client.ID, c.message(p), cause)
		c.accepted(p.QoS, p.ID, mqtt.Success)
	}
}

// shaped says that rules limit what goes out.
func (c *connection) shaped() bool { return c.bound != nil && len(c.bound.out) > 0 }

// mayWrite says whether a delivery of so many bytes, on a connection that is shaped, may be written now. Where it may not, its tokens are
// reserved, and the queue is worked off from when they are there.
func (c *connection) mayWrite(size int) bool {
	r := c.bound
	if r.waiting {
		return false
	}
	if r.writePaid {
		r.writePaid = false
		return true
	}
	now, n := c.sh.loop.Now(), int64(size)
	wait := time.Duration(0)
	var by *limit.Account
	for _, a := range r.out {
		if w := max(waitFor(&a.MessagesOut, now, 1), waitFor(&a.BytesOut, now, n)); w > wait {
			wait, by = w, a
		}
	}
	if wait == 0 {
		return true
	}
	r.waiting, r.writeOwed = true, n
	c.hit(by, limit.Shaped)
	c.sh.loop.At(&r.writer, now+int64(wait), (*writerTurn)(r))
	return false
}

// writerTurn goes on with the delivery whose turn has come.
type writerTurn bound

func (t *writerTurn) Run(*loop.Loop) {
	r := (*bound)(t)
	r.waiting, r.writePaid = false, true
	r.connection.pump()
}

// publishSize is the bytes of the PUBLISH that delivers a message; an alias would make it smaller.
func (c *connection) publishSize(m *mqtt.Message, q mqtt.QoS) int {
	props := 0
	if c.version == mqtt.V5 {
		props = len(m.Properties)
	}
	return mqtt.PublishSize(len(m.Topic), q, c.version, props, len(m.Payload))
}

// lengthOf is the bytes of a variable byte integer.
func lengthOf(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// hit counts what a rule did, and logs it now and then.
func (c *connection) hit(a *limit.Account, k limit.Kind) {
	if tell, times := a.Hit(k, c.sh.loop.Now()); tell {
		c.sh.b.log.Warn("a limit was reached", "rule", a.Rule().Name, "action", k.String(), "client", c.client.ID, "key", a.Key(), "times", times)
	}
}

// offering is what the connection is offered under its limits.
func (c *connection) offering(cfg *config) *session.Offer {
	if c.bound != nil && c.bound.limits != nil {
		o := c.bound.limits.offer()
		return &o
	}
	return &cfg.offer
}
