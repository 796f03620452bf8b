// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
)

var windowRules = []rule{
	{name: "the window comes back with its messages, in the order of first sending", test: func(d *driver) { // [MQTT-4.4.0-1]
		o := d.attach("c")
		d.ok(d.subscribe(o, 2, "t").Err)
		one, two := d.publish("t", "1"), d.publish("t", "2")
		three := d.publish("t", "3")
		d.ok(d.window(o,
			store.Inflight{ID: 9, QoS: 2, Ref: one.Ref, Identifiers: []uint32{5, 6}},
			store.Inflight{ID: 2, QoS: 2, Retain: true, Message: d.message("r", "retained")},
			store.Inflight{ID: 5, QoS: 2, Ref: two.Ref}).Err)
		d.ok(d.window(o, store.Inflight{ID: 9, QoS: 2, State: store.Released, Ref: one.Ref}).Err)
		c := d.claim(store.Claim{ClientID: "c"})
		w := c.Session.Window
		d.equal(len(w), 3)
		d.equal([]uint16{w[0].ID, w[1].ID, w[2].ID}, []uint16{9, 2, 5})
		d.equal(w[0].State, store.Released)
		d.equal(w[0].Message == nil, true)
		d.equal(string(w[1].Message.Payload), "retained")
		d.equal(w[1].Retain, true)
		d.equal(string(w[2].Message.Payload), "2")
		d.equal(w[2].Ref, two.Ref)
		d.equal(c.Session.NextID, 9)
		list := d.queue(c.Owner)
		d.want(list, "3")
		d.equal(list[0].Ref, three.Ref)
		d.ok(d.acknowledge(store.Ack{Owner: c.Owner, Refs: []store.Ref{two.Ref, three.Ref}, IDs: []uint16{9, 2, 5}}).Err)
		d.equal(len(d.claim(store.Claim{ClientID: "c"}).Session.Window), 0)
		d.equal(d.s.Stats().Messages, 0)
	}},
	{name: "detaching hands in the whole window", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 2, "t").Err)
		one, two, three := d.publish("t", "1"), d.publish("t", "2"), d.publish("t", "3")
		d.ok(d.window(o, store.Inflight{ID: 1, QoS: 2, Ref: one.Ref}, store.Inflight{ID: 3, QoS: 2, Ref: three.Ref}).Err)
		d.ok(d.detach(store.Detach{Owner: o, Expiry: 60, NextID: 44, Acked: []store.Ref{one.Ref},
			Window: []store.Inflight{{ID: 2, QoS: 1, Ref: two.Ref}, {ID: 3, QoS: 2, Ref: three.Ref}}}).Err)
		c := d.claim(store.Claim{ClientID: "c"})
		w := c.Session.Window
		d.equal(len(w), 2)
		d.equal([]uint16{w[0].ID, w[1].ID}, []uint16{2, 3})
		d.equal(string(w[0].Message.Payload), "2")
		d.equal(c.Session.NextID, 44)
		d.want(d.queue(c.Owner))
		d.equal(d.s.Stats().Messages, 2)
	}},
	{name: "deliveries begun outlive the subscription", test: func(d *driver) { // [MQTT-3.10.4-3]
		o := d.attach("c")
		d.ok(d.subscribe(o, 2, "t").Err)
		p := d.publish("t", "1")
		d.ok(d.window(o, store.Inflight{ID: 1, QoS: 2, Ref: p.Ref}).Err)
		d.unsubscribe(o, "t")
		c := d.claim(store.Claim{ClientID: "c"})
		d.equal(string(c.Session.Window[0].Message.Payload), "1")
		d.equal(d.s.Stats().Messages, 1)
		d.acknowledge(store.Ack{Owner: c.Owner, Refs: []store.Ref{p.Ref}, IDs: []uint16{1}})
		d.equal(d.s.Stats().Messages, 0)
	}},
	{name: "an entry without its message is left out, unless it is handed in", options: store.Options{Limits: store.Limits{MaxQueueMessages: 1}}, test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "t").Err)
		one := d.publish("t", "1")
		two := d.publish("t", "2")
		d.publish("t", "3")
		d.ok(d.detach(store.Detach{Owner: o, Expiry: 60, Window: []store.Inflight{
			{ID: 1, QoS: 1, Ref: one.Ref}, {ID: 2, QoS: 1, Ref: two.Ref, Message: d.message("t", "2")}}}).Err)
		c := d.claim(store.Claim{ClientID: "c"})
		d.equal(len(c.Session.Window), 1)
		d.equal(c.Session.Window[0].ID, 2)
		d.equal(string(c.Session.Window[0].Message.Payload), "2")
		d.want(d.queue(c.Owner), "3")
	}},
	{name: "entries that cannot be are refused", test: func(d *driver) {
		o := d.attach("c")
		m := d.message("t", "x")
		d.is(d.window(o, store.Inflight{ID: 0, QoS: 1, Message: m}).Err, store.ErrInvalid)
		d.is(d.window(o, store.Inflight{ID: 1, QoS: 0, Message: m}).Err, store.ErrInvalid)
		d.is(d.window(o, store.Inflight{ID: 1, QoS: 2, State: 2, Message: m}).Err, store.ErrInvalid)
		d.equal(len(d.claim(store.Claim{ClientID: "c"}).Session.Window), 0)
	}},
}

const shared = "$share/g/t/+"

// members attaches sessions that share a subscription.
func (d *driver) members(names ...string) (owners []store.Owner) {
	for _, name := range names {
		o := d.attach(name)
		d.ok(d.subscribe(o, 2, shared).Err)
		owners = append(owners, o)
	}
	return owners
}

var shareRules = []rule{
	{name: "members share one queue", test: func(d *driver) {
		d.equal(d.s.HasShare(shared), false)
		m := d.members("a", "b")
		d.equal(d.s.HasShare(shared), true)
		d.equal(d.s.Matches([]byte("t/1")), true)
		one, two := d.publish("t/1", "1"), d.publish("t/2", "2")
		list := d.share(shared)
		d.want(list, "1", "2")
		d.equal(list[0].Filters, []string{shared})
		d.want(d.queue(m[0]))
		d.acknowledge(store.Ack{Owner: m[1], Share: []store.Shared{{Filter: shared, Ref: two.Ref}}})
		d.want(d.share(shared), "1")
		d.acknowledge(store.Ack{Owner: m[0], Share: []store.Shared{{Filter: shared, Ref: one.Ref}}})
		d.want(d.share(shared))
		d.equal(d.s.Stats().Messages, 0)
	}},
	{name: "the queue is there while a persistent member is", test: func(d *driver) {
		m := d.members("a", "b")
		d.publish("t/1", "1")
		d.unsubscribe(m[0], shared)
		d.want(d.share(shared), "1")
		d.drop(store.Drop{ClientID: "b"})
		d.equal(d.s.HasShare(shared), false)
		d.want(d.share(shared))
		d.equal(d.s.Stats().Messages, 0)
		d.equal(d.publish("t/1", "2").Matched, false)
	}},
	{name: "share names are apart", test: func(d *driver) {
		d.members("a")
		o := d.attach("b")
		d.ok(d.subscribe(o, 1, "$share/h/t/+", "t/1").Err)
		p := d.publish("t/1", "1")
		d.want(d.share(shared), "1")
		d.want(d.share("$share/h/t/+"), "1")
		d.want(d.queue(o), "1")
		d.acknowledge(store.Ack{Owner: o, Share: []store.Shared{{Filter: "$share/h/t/+", Ref: p.Ref}}})
		d.want(d.share(shared), "1")
		d.want(d.queue(o), "1")
		d.equal(d.s.Stats().Messages, 1)
	}},
	{name: "a stored window takes messages out, the session's end gives QoS 1 back", test: func(d *driver) { // [MQTT-4.8.2-4], [MQTT-4.8.2-5]
		ends := map[string]func(o store.Owner) []store.Shared{
			"drop":        func(store.Owner) []store.Shared { return d.drop(store.Drop{ClientID: "a"}).Freed },
			"clean start": func(store.Owner) []store.Shared { return d.claim(store.Claim{ClientID: "a", CleanStart: true}).Freed },
			"detach": func(store.Owner) []store.Shared {
				c := d.claim(store.Claim{ClientID: "a"})
				return d.detach(store.Detach{Owner: c.Owner, Window: c.Session.Window}).Freed
			},
			"tick": func(store.Owner) []store.Shared {
				d.now += 100 * second
				return d.tick().Ended[0].Freed
			},
		}
		d.members("b")
		for _, how := range []string{"drop", "clean start", "detach", "tick"} {
			m := d.members("a")
			refs := map[string]store.Ref{}
			for _, p := range []string{"qos1", "qos2", "released", "left"} {
				refs[p] = d.publish("t/1", p).Ref
			}
			d.ok(d.detach(store.Detach{Owner: m[0], Expiry: 50, Window: []store.Inflight{
				{ID: 1, QoS: 1, Ref: refs["qos1"], Share: shared},
				{ID: 2, QoS: 2, Ref: refs["qos2"], Share: shared},
				{ID: 3, QoS: 2, Ref: refs["released"], Share: shared, State: store.Released},
			}}).Err)
			d.want(d.share(shared), "left")
			c := d.claim(store.Claim{ClientID: "a"})
			d.equal(len(c.Session.Window), 3)
			d.equal(string(c.Session.Window[1].Message.Payload), "qos2")
			d.equal(c.Session.Window[1].Share, shared)
			d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 50, Window: c.Session.Window}).Err)
			d.equal(ends[how](c.Owner), []store.Shared{{Filter: shared, Ref: refs["qos1"]}})
			list := d.share(shared)
			d.want(list, "qos1", "left")
			o := d.attach("b")
			for _, e := range list {
				d.acknowledge(store.Ack{Owner: o, Share: []store.Shared{{Filter: shared, Ref: e.Ref}}})
			}
			d.equal(d.s.Stats().Messages, 0)
			d.drop(store.Drop{ClientID: "a"})
		}
	}},
	{name: "detaching acknowledges shared messages", test: func(d *driver) {
		m := d.members("a")
		p := d.publish("t/1", "1")
		d.ok(d.detach(store.Detach{Owner: m[0], Expiry: 9, AckedShare: []store.Shared{{Filter: shared, Ref: p.Ref}}}).Err)
		d.want(d.share(shared))
	}},
	{name: "shared messages expire", test: func(d *driver) {
		d.members("a")
		m := d.message("t/1", "short")
		m.Expiry = d.now + second
		d.propose(store.Publish{Message: m})
		d.now += second + 1
		d.want(d.share(shared))
		d.barrier()
		d.equal(d.s.Stats().Messages, 0)
		d.equal(d.s.Stats().Expired, 1)
	}},
}

var willRules = []rule{
	{name: "a will is due after its delay", test: func(d *driver) { // [MQTT-3.1.2-8]
		c := d.withWill("c", 5, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 60, KeepWill: true}).Err)
		d.equal(d.s.NextDue(), d.now+5*second)
		d.now += 5*second - 1
		d.equal(len(d.tick().Wills), 0)
		d.now++
		w := d.tick().Wills
		d.equal(len(w), 1)
		d.equal(w[0].ClientID, "c")
		d.equal(string(w[0].Message.Payload), "gone")
		d.equal(len(d.tick().Wills), 0)
		d.publishWill(w[0], true)
		d.publishWill(w[0], false)
		d.equal(d.claim(store.Claim{ClientID: "c"}).Present, true)
	}},
	{name: "a will is due at the session's end if that is first", test: func(d *driver) {
		c := d.withWill("c", 50, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 10, KeepWill: true}).Err)
		d.now += 10 * second
		t := d.tick()
		d.equal(len(t.Ended), 1)
		d.equal(len(t.Wills), 1)
		d.publishWill(t.Wills[0], true)
	}},
	{name: "a will without delay is due at once", test: func(d *driver) {
		c := d.withWill("c", 0, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 10, KeepWill: true}).Err)
		d.equal(d.s.NextDue() <= d.now, true)
		d.publishWill(d.tick().Wills[0], true)
	}},
	{name: "the end by expiry 0 leaves the will to the tick", test: func(d *driver) {
		c := d.withWill("c", 50, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, KeepWill: true}).Err)
		d.equal(d.s.NextDue() <= d.now && d.s.NextDue() != 0, true)
		d.publishWill(d.tick().Wills[0], true)
		d.equal(d.s.NextDue(), 0)
	}},
	{name: "a will is dropped by a normal disconnect", test: func(d *driver) { // [MQTT-3.1.2-10]
		c := d.withWill("c", 0, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 10}).Err)
		d.equal(len(d.tick().Wills), 0)
		c = d.withWill("c", 0, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner}).Err)
		d.equal(len(d.tick().Wills), 0)
	}},
	{name: "resuming cancels a will whose delay runs", test: func(d *driver) { // [MQTT-3.1.3-9]
		c := d.withWill("c", 5, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 60, KeepWill: true}).Err)
		d.equal(len(d.claim(store.Claim{ClientID: "c"}).Wills), 0)
		d.now += 60 * second
		d.equal(len(d.tick().Wills), 0)
	}},
	{name: "resuming too late does not cancel it", test: func(d *driver) {
		c := d.withWill("c", 5, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 60, KeepWill: true}).Err)
		d.now += 5 * second
		w := d.claim(store.Claim{ClientID: "c"}).Wills
		d.equal(len(w), 1)
		d.publishWill(w[0], true)
	}},
	{name: "a clean start makes a will due", test: func(d *driver) {
		c := d.withWill("c", 50, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 60, KeepWill: true}).Err)
		next := d.withWill("c", 7, true)
		d.equal(len(next.Wills), 1)
		d.equal(next.Wills[0].ID, c.Owner.ID)
		d.publishWill(next.Wills[0], true)
		d.ok(d.detach(store.Detach{Owner: next.Owner, Expiry: 60, KeepWill: true}).Err)
		w := d.drop(store.Drop{ClientID: "c"}).Wills
		d.equal(len(w), 1)
		d.publishWill(w[0], true)
	}},
	{name: "a takeover publishes a will without delay only", test: func(d *driver) {
		d.withWill("c", 0, false)
		two := d.withWill("c", 5, false)
		d.equal(len(two.Wills), 1)
		d.publishWill(two.Wills[0], true)
		d.equal(len(d.claim(store.Claim{ClientID: "c"}).Wills), 0)
	}},
	{name: "a will can be published while its session lives", test: func(d *driver) {
		c := d.withWill("c", 5, false)
		due := store.DueWill{ClientID: "c", ID: c.Owner.ID, Message: d.message("w", "gone")}
		d.publishWill(due, true)
		d.publishWill(due, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, Expiry: 60, KeepWill: true}).Err)
		d.now += 10 * second
		d.equal(len(d.tick().Wills), 0)
	}},
	{name: "a will can be given up", test: func(d *driver) {
		sub := d.attach("sub")
		d.ok(d.subscribe(sub, 1, "w").Err)
		c := d.withWill("c", 0, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, KeepWill: true}).Err)
		w := d.tick().Wills[0]
		p := d.propose(store.Publish{Message: w.Message, WillOf: w.ID, IdentifierOnly: true})
		d.ok(p.Err)
		d.equal(p.Duplicate, false)
		d.publishWill(w, false)
		d.want(d.queue(sub))
	}},
	{name: "a will is queued and retained like any message", test: func(d *driver) {
		sub := d.attach("sub")
		d.ok(d.subscribe(sub, 1, "w").Err)
		c := d.withWill("c", 0, false)
		d.ok(d.detach(store.Detach{Owner: c.Owner, KeepWill: true}).Err)
		w := d.tick().Wills[0]
		m := *w.Message
		m.Retain = true
		w.Message = &m
		d.publishWill(w, true)
		d.publishWill(w, false)
		d.want(d.queue(sub), "gone")
		d.equal(d.retained("w"), []string{"w"})
	}},
}

// withWill claims a session with a will.
func (d *driver) withWill(clientID string, delay uint32, clean bool) *store.Claim {
	d.Helper()
	m := &mqtt.Message{Topic: "w", Payload: []byte("gone"), QoS: 1}
	c := d.claim(store.Claim{ClientID: clientID, CleanStart: clean, Will: &store.Will{Message: m, Delay: delay}})
	d.ok(c.Err)
	return c
}

func (d *driver) publishWill(w store.DueWill, first bool) {
	d.Helper()
	p := d.propose(store.Publish{Message: w.Message, WillOf: w.ID})
	d.ok(p.Err)
	d.equal(p.Duplicate, !first)
}
