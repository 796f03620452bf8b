// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"math/rand/v2"

	"github.com/noctule/noctule/mqtt"
)

// sessionExpiry is how long sessions outlive their connections (5.0), in seconds: longer than any run.
const sessionExpiry = 24 * 3600

// A cast is all actors of a run.
type cast struct {
	publishers []actor
	others     []actor
	shared     []actor // not among others; their filters may be refused
}

// A caster makes actors.
type caster struct {
	*env
	v    mqtt.Version
	seed uint64
	made uint64
}

// rng gives each actor chances of its own, so that the order in which they run does not matter.
func (c *caster) rng() *rand.Rand {
	c.made++
	return rand.New(rand.NewPCG(c.seed, uint64(c.v)<<32|c.made))
}

func (c *caster) client(role string) client {
	cl := client{env: c.env, id: fmt.Sprintf("nv-%08x-%s-%d", uint32(c.runID), role, c.v), v: c.v, holds: gone}
	if c.v == mqtt.V5 {
		cl.expiry = sessionExpiry
	}
	return cl
}

// newCast makes the actors of all protocols. Streams come first: receivers are made for all of them.
func newCast(e *env, o *Options) *cast {
	all := &cast{}
	casters := make([]*caster, len(o.Protocols))
	rate := float64(o.Rate) / float64(o.Publishers*len(o.Protocols))
	for i, v := range o.Protocols {
		c := &caster{env: e, v: v, seed: o.Seed}
		casters[i] = c
		for p := range o.Publishers {
			all.publishers = append(all.publishers, newPublisher(c.client(fmt.Sprintf("pub%d", p)), c.rng(), c.streams(p), rate))
		}
	}
	for _, c := range casters {
		all.others = append(all.others, c.subscribers()...)
		all.others = append(all.others,
			newRetainer(c.client("retain"), c.rng()), newProber(c.client("probe"), c.rng()), &leaver{client: c.client("leave"), rng: c.rng()})
		if c.v == mqtt.V5 {
			all.others = append(all.others, newExpirer(c.client("expire"), c.rng()), newTestator(c.client("will"), c.rng()))
			all.shared = append(all.shared, c.members()...)
		}
	}
	return all
}

// streams makes a stream of each QoS for a publisher.
func (c *caster) streams(publisher int) []publication {
	var ps []publication
	for q := range mqtt.QoS(3) {
		topic := fmt.Sprintf("%s/data/%d-%d/q%d", c.root, c.v, publisher, q)
		ps = append(ps, publication{number: c.ledger.addStream(topic, q), topic: topic, qos: q})
	}
	return ps
}

// filter is a filter below the topics of all streams.
func (c *caster) filter(rest string, q mqtt.QoS) mqtt.Subscription {
	return mqtt.Subscription{Filter: []byte(c.root + "/data/" + rest), QoS: q}
}

// subscribers makes a persistent subscriber of each kind.
func (c *caster) subscribers() []actor {
	var as []actor
	for _, k := range []struct {
		role  string
		class Promise
		habit habit
		subs  []mqtt.Subscription
	}{
		{"online1", DeliveredOnline, online, []mqtt.Subscription{c.filter("#", 1)}},
		{"online2", DeliveredOnline, online, []mqtt.Subscription{c.filter("#", 2)}},
		{"away1", DeliveredOffline, sometimes, []mqtt.Subscription{c.filter("+/q1", 1), c.filter("+/q2", 1)}},
		{"away2", DeliveredOffline, late, []mqtt.Subscription{c.filter("#", 2)}},
		{"flap1", DeliveredFlapping, flapping, []mqtt.Subscription{c.filter("#", 1)}},
		{"flap2", DeliveredFlapping, flapping, []mqtt.Subscription{c.filter("+/q1", 2), c.filter("+/q2", 2)}},
		{"slow2", DeliveredSlow, slow, []mqtt.Subscription{c.filter(fmt.Sprintf("%d-0/+", c.v), 2)}},
		{"over", DeliveredOverlapping, online, []mqtt.Subscription{c.filter("#", 1), c.filter("+/q2", 2)}},
	} {
		cl := c.client(k.role)
		r := &receiver{client: cl.id, class: k.class, once: ExactlyOnce, ordered: true, copies: len(k.subs) > 1 && k.class == DeliveredOverlapping}
		as = append(as, c.subscriber(cl, k.habit, k.subs, c.ledger.addReceiver(r, wanted(k.subs))))
	}
	return as
}

// members makes two members of a shared subscription for each QoS, one of them flapping.
func (c *caster) members() []actor {
	var as []actor
	for q := mqtt.QoS(1); q <= 2; q++ {
		sub := c.filter("#", q)
		sub.Filter = fmt.Appendf(nil, "$share/nv-%08x-%d/%s", uint32(c.runID), q, sub.Filter)
		subs := []mqtt.Subscription{sub}
		r := c.ledger.addReceiver(&receiver{client: string(sub.Filter), class: DeliveredShared, once: ExactlyOnceShared}, wanted(subs))
		for i, h := range []habit{online, flapping} {
			as = append(as, c.subscriber(c.client(fmt.Sprintf("share%d-%d", q, i)), h, subs, r))
		}
	}
	return as
}

func (c *caster) subscriber(cl client, h habit, subs []mqtt.Subscription, r *receiver) actor {
	s := &subscriber{recipient: recipient{client: cl, inbox: inbox{}}, rng: c.rng(), habit: h, subs: subs, receiver: r}
	s.deliver = func(d delivery) { s.ledger.receive(r, d) }
	return s
}
