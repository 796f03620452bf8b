// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"sync"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
)

// origin says whom a routed message is answered to: a client's connection, or whoever waits in process.
type origin struct {
	c    *connection
	id   uint16              // packet identifier
	will store.SessionID     // the message is that session's will
	then func(*shard, error) // called on the shard's loop once the message is accepted; nil = nobody waits
}

// routeView routes a message of QoS 0 that is still in the read buffer. Nothing is allocated.
func (sh *shard) routeView(c *connection, p *mqtt.Publish) {
	if sh.matches = sh.known; sh.matches == nil {
		sh.match(p.Topic)
		c.vouch()
	}
	if sh.matches.Empty() {
		return
	}
	f := sh.fan()
	f.topic, f.payload, f.props, f.from, f.now = p.Topic, p.Payload, p.Properties, c.client.ID, sh.loop.Now()
	if len(p.Properties) > 0 && p.Properties.Has(mqtt.PropTopicAlias) { // it belongs to the publisher's connection
		sh.props = p.Properties.Without(sh.props[:0], mqtt.PropTopicAlias)
		f.props = sh.props
	}
	sh.spread(f, c)
}

// vouch says that the topic name at hand keeps to the limits, if they are those of all clients.
func (c *connection) vouch() {
	if c.bound == nil || c.bound.limits == nil {
		c.sh.topics.Vouch()
	}
}

// route hands a message to all who are to have it: online receivers at once, persistent sessions and the retained
// messages by way of the store. The answer follows when all that must be kept is kept.
func (sh *shard) route(m *mqtt.Message, o origin) {
	b := sh.b
	sh.match(bytesOf(m.Topic))
	if o.c != nil && o.will == 0 {
		o.c.vouch()
	}
	durable := m.QoS > 0 && b.store.Matches(bytesOf(m.Topic))
	if !sh.matches.Empty() {
		f := sh.fan()
		f.of(m)
		f.stored, f.now = durable, sh.loop.Now()
		sh.spread(f, o.c)
	}
	keepID := o.c != nil && o.c.kept != nil && m.QoS == 2
	if durable || keepID || m.Retain || o.will != 0 {
		sh.keep(m, o, durable, durable || m.Retain, keepID)
		return
	}
	code := mqtt.Success
	if sh.matches.Empty() {
		code = mqtt.NoMatchingSubscribers
	}
	sh.answer(m, o, code, nil)
}

// answer tells the origin what became of its message.
func (sh *shard) answer(m *mqtt.Message, o origin, code mqtt.ReasonCode, err error) {
	if o.then != nil {
		o.then(sh, err)
	}
	if o.c == nil || o.c.state != open || m.QoS == 0 {
		return
	}
	if err != nil {
		o.c.notKept(m.QoS, o.id, err)
		return
	}
	o.c.accepted(m.QoS, o.id, code)
}

// notKept answers a message that the store did not take. Only for want of room may a client be told to forget it: any acknowledgement, and
// one with a reason code for an error too, ends its responsibility [MQTT-4.3.2-3].
func (c *connection) notKept(q mqtt.QoS, id uint16, err error) {
	switch {
	case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrNoSession):
		// taken over: the end of the connection is on its way
	case !errors.Is(err, store.ErrFull):
		c.closeWith(plugin.StoreFailed, mqtt.ServerUnavailable, "")
	case c.version != mqtt.V5:
		c.closeWith(plugin.QuotaExceeded, mqtt.QuotaExceeded, "") // an acknowledgement would be a lie
	default:
		c.accepted(q, id, mqtt.QuotaExceeded)
	}
}

// keeping is a message on its way through the store.
type keeping struct {
	store.Publish
	origin
	sh      *shard
	class   store.Durability // what the store makes of Publish.Durability
	empty   bool             // nobody online matched
	durable bool             // a persistent session matched when it was proposed
	wasHeld bool             // the disk was full when it was proposed before
}

var keepings = sync.Pool{New: func() any { return new(keeping) }}

// keep proposes a message to the store. durable: a persistent session matches; body: the message is wanted, not only its packet
// identifier.
func (sh *shard) keep(m *mqtt.Message, o origin, durable, body, keepID bool) {
	k := keepings.Get().(*keeping)
	k.origin, k.sh, k.empty, k.durable = o, sh, sh.matches.Empty(), durable
	class := sh.b.classOf(m.Topic)
	k.Publish = store.Publish{Message: m, WillOf: o.will, Durability: class, IdentifierOnly: !body, Done: committed, Context: k}
	if keepID {
		k.Publisher, k.PacketID = o.c.kept.owner, o.id
	}
	if (keepID || o.will != 0) && sh.b.opts.Durability != store.InMemory {
		class = min(class, store.Interval) // as the store does
	}
	k.class = class
	sh.b.store.ProposePublish(&k.Publish)
	if o.c != nil {
		sh.keepingFrom(o.c, m)
	}
}

// committed runs on a goroutine of the store, in commit order: the message is pushed to persistent sessions, then its publisher is
// answered.
func committed(p *store.Publish) {
	k := p.Context.(*keeping)
	if k.kept() && (p.Matched || k.durable) {
		k.sh.b.push(p, true)
	}
	k.sh.loop.Post(k)
}

// kept says that the store took the message, and did so just now.
func (k *keeping) kept() bool { return k.Err == nil && !k.Duplicate }

// notTaken tells shared subscriptions of a message that does not come the second way.
func (k *keeping) notTaken() {
	if k.durable && !k.kept() {
		k.sh.b.push(&k.Publish, false)
	}
}

// Run answers on the publisher's loop.
func (k *keeping) Run(*loop.Loop) {
	sh, m, o := k.sh, k.Message, k.origin
	code := mqtt.Success
	if k.empty && !k.Matched {
		code = mqtt.NoMatchingSubscribers
	}
	held := k.wasHeld
	if k.Err != nil && errors.Is(k.Err, store.ErrFull) && (held && sh.holdAgain(k) || !held && sh.holdBack(k)) {
		return
	}
	k.notTaken()
	err, duplicate, class, body, ref := k.Err, k.Duplicate, k.class, !k.IdentifierOnly, k.Ref
	*k = keeping{}
	keepings.Put(k)
	if err != nil {
		sh.keepFailed(m, err)
		if m.Retain {
			sh.b.holders.recall(sh, m.Topic)
		}
	} else if body {
		sh.tally.kept[class].Add(1)
	}
	if err == nil && m.Retain && !duplicate {
		sh.retainedChanged(m)
		sh.b.holders.changed(m, uint64(ref.Position))
		if m.Expiry != 0 {
			sh.b.keeper.wake()
		}
	}
	if o.c != nil {
		o.c.keptFrom(m)
	}
	sh.answer(m, o, code, err)
	if held {
		o.c.heldKept()
	}
}

func (sh *shard) keepFailed(m *mqtt.Message, err error) {
	worthLogging := sh.b.storeError(err)
	switch {
	case errors.Is(err, store.ErrFull) && m.Retain && !sh.b.diskFull():
		sh.drop(m.ClientID, m, plugin.RetainedLimit)
	case errors.Is(err, store.ErrFull):
		sh.drop(m.ClientID, m, plugin.StoreFull)
	case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrNoSession), errors.Is(err, store.ErrClosed):
	default:
		sh.drop(m.ClientID, m, plugin.StoreFailed)
		if worthLogging {
			sh.b.log.Error("a message could not be kept", "client", m.ClientID, "name", m.Topic, "err", err)
		}
	}
}

func (sh *shard) retainedChanged(m *mqtt.Message) {
	kind := retainedSet
	if len(m.Payload) == 0 {
		kind = retainedCleared
	}
	sh.b.events.message(sh, kind, m.ClientID, m, plugin.NoCause)
}

var matchPool = sync.Pool{New: func() any { return new(topic.Matches[*subscriber]) }}

// push hands a committed message to the loops of the persistent sessions that are online; where the store has not taken it, shared
// subscriptions that have it from the live way are told so. On any goroutine.
func (b *Broker) push(p *store.Publish, taken bool) {
	ms := matchPool.Get().(*topic.Matches[*subscriber])
	defer matchPool.Put(ms)
	ms.Reset()
	m := p.Message
	b.index.Match(bytesOf(m.Topic), ms)
	if ms.Empty() {
		return
	}
	f := fanouts.Get().(*fanout)
	f.of(m)
	f.ref, f.committed, f.stored, f.failed, f.now = p.Ref, true, true, !taken, b.opts.Now().UnixNano()
	for i, sh := range b.shards {
		if ms.Count(i) > 0 {
			sh.loop.Post(f.forOwner(sh, ms, i))
		}
	}
	f.reset()
	fanouts.Put(f)
	ms.Reset()
}

// forgetID has the store forget a received packet identifier, and answers PUBCOMP then.
func (c *connection) forgetID(id uint16) {
	c.sh.b.store.ProposeRelease(&store.Release{Owner: c.kept.owner, PacketID: id, Context: c, Done: func(r *store.Release) {
		c.sh.loop.Post(loop.Func(func(*loop.Loop) {
			if c.state != open {
				return
			}
			if r.Err != nil {
				c.storeFailed(r.Err)
				return
			}
			c.writeAck(mqtt.PUBCOMP, r.PacketID, mqtt.Success)
		}))
	}})
}

// storeFailed ends a connection whose session cannot be kept.
func (c *connection) storeFailed(err error) {
	switch {
	case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrNoSession):
		c.closeWith(plugin.TakenOver, mqtt.SessionTakenOver, "")
		return
	case errors.Is(err, store.ErrFull):
		c.closeWith(plugin.QuotaExceeded, mqtt.QuotaExceeded, "no room for the session")
		return
	}
	if c.sh.b.storeError(err) {
		c.sh.b.log.Error("the store failed a session", "client", c.client.ID, "err", err)
	}
	c.closeWith(plugin.StoreFailed, mqtt.ServerUnavailable, "")
}

// of fills a fanout with a message.
func (f *fanout) of(m *mqtt.Message) {
	f.m, f.topic, f.payload, f.props = m, bytesOf(m.Topic), m.Payload, m.Properties
	f.qos, f.retain, f.from = m.QoS, m.Retain, m.ClientID
}
