// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"github.com/noctule/noctule/store"
)

var sessionRules = []rule{
	{name: "claim makes a session and resumes it", test: func(d *driver) { // [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.2-6]
		one := d.claim(store.Claim{ClientID: "c", Username: "u"})
		d.ok(one.Err)
		d.equal(one.Present, false)
		d.equal(d.s.Has("c"), true)
		d.ok(d.subscribe(one.Owner, 1, "b", "a").Err)
		two := d.claim(store.Claim{ClientID: "c", Username: "u"})
		d.ok(two.Err)
		d.equal(two.Present, true)
		d.equal(two.Owner.ID, one.Owner.ID)
		d.equal([]string{two.Session.Subscriptions[0].Filter, two.Session.Subscriptions[1].Filter}, []string{"a", "b"})
		d.equal(two.Session.Created, d.now)
		three := d.claim(store.Claim{ClientID: "c", Username: "u", CleanStart: true})
		d.ok(three.Err)
		d.equal(three.Present, false)
		d.equal(len(three.Session.Subscriptions), 0)
		if three.Owner.ID == one.Owner.ID {
			d.Fatal("a new session has the id of an ended one")
		}
		d.equal(d.s.Stats().Subscriptions, 0)
	}},
	{name: "subscription options are kept", test: func(d *driver) {
		o := d.attach("c")
		want := store.Subscription{Filter: "a/+", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Identifier: 77}
		c := &store.Subscribe{Owner: o, Subscriptions: []store.Subscription{want}}
		await(d, c, &c.Done, d.s.ProposeSubscribe)
		d.ok(c.Err)
		d.equal(d.claim(store.Claim{ClientID: "c"}).Session.Subscriptions, []store.Subscription{want})
	}},
	{name: "a later claim fences the earlier one", test: func(d *driver) {
		old := d.attach("c")
		now := d.attach("c")
		d.is(d.subscribe(old, 1, "a").Err, store.ErrFenced)
		d.is(d.unsubscribe(old, "a").Err, store.ErrFenced)
		d.is(d.detach(store.Detach{Owner: old, Expiry: 9}).Err, store.ErrFenced)
		d.is(d.acknowledge(store.Ack{Owner: old}).Err, store.ErrFenced)
		d.is(d.window(old).Err, store.ErrFenced)
		d.is(d.release(old, 1).Err, store.ErrFenced)
		d.is(d.propose(store.Publish{Message: d.message("a", "x"), Publisher: old, PacketID: 1}).Err, store.ErrFenced)
		_, _, err := d.s.OpenQueue(old).Read(make([]store.Position, d.s.Groups()), 1, 1, d.now, nil)
		d.is(err, store.ErrFenced)
		d.ok(d.subscribe(now, 1, "a").Err)
	}},
	{name: "an ended session refuses its owner", test: func(d *driver) {
		o := d.attach("c")
		r := d.drop(store.Drop{ClientID: "c"})
		d.ok(r.Err)
		d.equal(r.Existed, true)
		d.equal(r.ID, o.ID)
		d.equal(d.s.Has("c"), false)
		d.is(d.subscribe(o, 1, "a").Err, store.ErrNoSession)
		_, _, err := d.s.OpenQueue(o).Read(make([]store.Position, d.s.Groups()), 1, 1, d.now, nil)
		d.is(err, store.ErrNoSession)
		d.equal(d.drop(store.Drop{ClientID: "c"}).Existed, false)
	}},
	{name: "a session belongs to its user", test: func(d *driver) {
		d.ok(d.claim(store.Claim{ClientID: "c", Username: "u"}).Err)
		d.is(d.claim(store.Claim{ClientID: "c", Username: "v"}).Err, store.ErrNotOwner)
		d.is(d.claim(store.Claim{ClientID: "c", Username: "v", CleanStart: true}).Err, store.ErrNotOwner)
		d.is(d.drop(store.Drop{ClientID: "c", Username: "v"}).Err, store.ErrNotOwner)
		d.equal(d.s.Has("c"), true)
		d.ok(d.drop(store.Drop{ClientID: "c", AnyUser: true}).Err)
		d.ok(d.claim(store.Claim{ClientID: "c", Username: "v"}).Err)
	}},
	{name: "a session expires", test: func(d *driver) { // [MQTT-4.1.0-2]
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "a").Err)
		d.publish("a", "x")
		d.equal(d.s.NextDue(), 0)
		d.ok(d.detach(store.Detach{Owner: o, Expiry: 10}).Err)
		d.equal(d.s.NextDue(), d.now+10*second)
		d.now += 10*second - 1
		d.equal(len(d.tick().Ended), 0)
		d.now++
		d.equal(d.tick().Ended, []store.Ended{{ClientID: "c", ID: o.ID}})
		d.equal(d.s.Has("c"), false)
		d.equal(d.s.NextDue(), 0)
		d.equal(d.s.Stats().Messages, 0)
	}},
	{name: "an expired session is not resumed before the tick either", test: func(d *driver) {
		d.ok(d.detach(store.Detach{Owner: d.attach("c"), Expiry: 10}).Err)
		d.now += 10 * second
		d.equal(d.claim(store.Claim{ClientID: "c", Username: "somebody else"}).Present, false)
	}},
	{name: "a session that never expires stays", test: func(d *driver) { // 3.1.2.11.2
		d.ok(d.detach(store.Detach{Owner: d.attach("c"), Expiry: store.Never}).Err)
		d.equal(d.s.NextDue(), 0)
		d.now += 1 << 61
		d.equal(len(d.tick().Ended), 0)
		d.equal(d.claim(store.Claim{ClientID: "c"}).Present, true)
	}},
	{name: "a claim stops the expiry", test: func(d *driver) {
		d.ok(d.detach(store.Detach{Owner: d.attach("c"), Expiry: 10}).Err)
		d.attach("c")
		d.equal(d.s.NextDue(), 0)
		d.now += 100 * second
		d.equal(len(d.tick().Ended), 0)
	}},
	{name: "detaching with expiry 0 ends the session", test: func(d *driver) {
		d.ok(d.detach(store.Detach{Owner: d.attach("c")}).Err)
		d.equal(d.s.Has("c"), false)
	}},
	{name: "a tick takes a bounded number, earliest first", test: func(d *driver) {
		for i := range store.MaxDue + 5 {
			d.ok(d.detach(store.Detach{Owner: d.attach(string(rune(0x4e00 + i))), Expiry: uint32(1 + i)}).Err)
		}
		d.now += 10_000 * second
		one := d.tick()
		d.equal(len(one.Ended), store.MaxDue)
		d.equal(one.More, true)
		d.equal(one.Ended[0].ClientID, string(rune(0x4e00)))
		two := d.tick()
		d.equal(len(two.Ended), 5)
		d.equal(two.More, false)
	}},
	{name: "too many sessions are refused", options: store.Options{Limits: store.Limits{MaxSessions: 2}}, test: func(d *driver) {
		d.attach("a")
		d.attach("b")
		d.is(d.claim(store.Claim{ClientID: "c"}).Err, store.ErrFull)
		d.ok(d.claim(store.Claim{ClientID: "b"}).Err)
		d.ok(d.claim(store.Claim{ClientID: "b", CleanStart: true}).Err)
		d.drop(store.Drop{ClientID: "a"})
		d.attach("c")
	}},
	{name: "sessions are listed in order", test: func(d *driver) {
		for _, id := range []string{"e", "b", "a", "d", "c"} {
			o := d.claim(store.Claim{ClientID: id, Username: "u" + id}).Owner
			d.ok(d.subscribe(o, 1, "t", "x").Err)
			if id == "b" {
				d.ok(d.detach(store.Detach{Owner: o, Expiry: 60}).Err)
			}
		}
		d.publish("t", "1")
		d.publish("t", "2")
		got := ""
		for after := ""; ; {
			list, err := d.s.Sessions(after, 2)
			d.ok(err)
			if len(list) == 0 {
				break
			}
			for _, i := range list {
				got += i.ClientID
				after = i.ClientID
				d.equal(i.Username, "u"+i.ClientID)
				d.equal(i.Queued, 2)
				d.equal(i.Subscriptions, 2)
				d.equal(i.Attached, i.ClientID != "b")
				d.equal(i.ExpiresAt != 0, i.ClientID == "b")
			}
		}
		d.equal(got, "abcde")
		d.equal(d.s.Stats().Attached, 4)
	}},
}
