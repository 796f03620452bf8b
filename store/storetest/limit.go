// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/noctule/noctule/store"
)

// drops collects what a store tells of dropped messages.
type drops struct {
	mu   sync.Mutex
	list []store.Dropped
}

func (l *drops) add(d store.Dropped) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, d)
}

// told returns what was dropped since the last call. Drops are told behind the Done functions of their batch, by the one
// who commits the next one.
func (d *driver) told() []store.Dropped {
	d.Helper()
	d.tick()
	d.drops.mu.Lock()
	defer d.drops.mu.Unlock()
	list := d.drops.list
	d.drops.list = nil
	return list
}

// wantDrops compares what was dropped since, in any order: cause, filter, client identifier, readers and topic.
func (d *driver) wantDrops(want ...string) {
	d.Helper()
	got := []string{}
	for _, e := range d.told() {
		got = append(got, fmt.Sprintf("%s %s %q %d %s", e.Cause, e.Filter, e.ClientID, e.Readers, e.Topic))
		if e.Publisher != "publisher" || e.Size == 0 || e.Time == 0 {
			d.Fatalf("incomplete: %+v", e)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		d.Fatalf("dropped %q, want %q", got, want)
	}
}

// numbers publishes messages whose payloads are their numbers.
func (d *driver) numbers(topic string, from, to int) {
	d.Helper()
	for i := from; i <= to; i++ {
		d.ok(d.publish(topic, fmt.Sprint(i)).Err)
	}
}

// counts is a range of numbers as payloads.
func counts(from, to int) (payloads []string) {
	for i := from; i <= to; i++ {
		payloads = append(payloads, fmt.Sprint(i))
	}
	return payloads
}

func limited(l store.Limits) store.Options { return store.Options{Limits: l} }

var limitRules = []rule{
	{name: "drop-oldest tells which message of a filter was dropped", options: limited(store.Limits{MaxQueueMessages: 2}), test: func(d *driver) {
		a, b := d.attach("a"), d.attach("b")
		d.ok(d.subscribe(a, 1, "t/+").Err)
		d.ok(d.subscribe(b, 1, "t/+", "$share/g/t/2").Err)
		d.numbers("t/1", 1, 2)
		d.ack(a, d.queue(a)[0].Ref)
		first := d.queue(b)[0].Ref
		d.publish("t/1", "3")
		d.wantDrops(`filter-oldest t/+ "b" 1 t/1`)
		d.publish("t/1", "4")
		list := d.told()
		d.equal(len(list), 1)
		d.equal(list[0].Readers, 2)
		d.equal(list[0].ClientID, "")
		d.equal(list[0].Ref.Position > first.Position, true)
		d.numbers("t/2", 1, 3)
		d.wantDrops(`filter-oldest t/+ "" 2 t/1`, `filter-oldest t/+ "" 2 t/1`, `filter-oldest t/+ "" 2 t/2`, `filter-oldest $share/g/t/2 "" 1 t/2`)
		st := d.s.Stats()
		d.equal(st.Dropped, 10)
		d.equal(st.Drops[store.FilterOldest], 10)
	}},
	{name: "drop-newest keeps what waits in a filter's queue", options: limited(store.Limits{MaxQueueMessages: 2, Policy: store.DropNewest}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t", "#").Err)
		d.numbers("t", 1, 2)
		p := d.publish("t", "3")
		d.ok(p.Err)
		d.equal(p.Matched, true)
		d.equal(p.Ref, store.Ref{})
		d.want(d.queue(a), "1", "2")
		d.wantDrops(`filter-newest t "a" 1 t`, `filter-newest # "a" 1 t`)
		d.equal(d.s.Stats().Dropped, 2)
		d.equal(d.s.Stats().Messages, 2)
		d.ack(a, d.queue(a)[0].Ref)
		d.publish("t", "4")
		d.want(d.queue(a), "2", "4")
	}},
	{name: "drop-newest refuses what is larger than a queue", options: limited(store.Limits{MaxQueueBytes: 10, Policy: store.DropNewest}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t").Err)
		d.publish("t", "far too long for it")
		d.want(d.queue(a))
		d.publish("t", "123456789")
		d.want(d.queue(a), "123456789")
	}},
	{name: "a session that is away gets the last messages", options: limited(store.Limits{MaxSessionMessages: 10}), test: func(d *driver) {
		a, b := d.attach("a"), d.attach("b")
		d.ok(d.subscribe(a, 1, "t/#", "$share/g/t/#").Err)
		d.ok(d.detach(store.Detach{Owner: a, Expiry: 60}).Err)
		d.ok(d.subscribe(b, 1, "t/#").Err)
		for i := 1; i <= 20; i++ {
			p := d.publish(fmt.Sprint("t/", i%3), fmt.Sprint(i))
			if i > 5 {
				d.ack(b, p.Ref) // out of order, and in time
			}
		}
		d.want(d.queue(d.attach("a")), counts(11, 20)...)
		d.want(d.queue(b), counts(1, 5)...)
		d.want(d.share("$share/g/t/#"), counts(1, 20)...)
		list := d.told()
		d.equal(len(list), 10)
		for i, e := range list {
			d.equal(e.Cause, store.SessionOldest)
			d.equal(e.ClientID, "a")
			d.equal(e.Topic, fmt.Sprint("t/", (i+1)%3))
		}
		d.equal(d.s.Stats().Drops[store.SessionOldest], 10)
	}},
	{name: "a session's claim cuts what it is owed to the limit", options: limited(store.Limits{MaxSessionMessages: 100}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t").Err)
		for n := 100; n < 260; n += 7 {
			d.numbers("t", n, n+6)
			if got := len(d.queue(a)); got > 106 {
				d.Fatalf("%d messages wait", got)
			}
			a = d.attach("a")
			d.want(d.queue(a), counts(max(100, n+7-100), n+6)...)
		}
	}},
	{name: "the session's limit holds for all its filters together", options: limited(store.Limits{MaxSessionMessages: 6}), test: func(d *driver) {
		a, b := d.attach("a"), d.attach("b")
		d.ok(d.subscribe(a, 1, "s", "t", "u").Err)
		d.ok(d.subscribe(b, 1, "t").Err)
		d.numbers("t", 1, 4)
		d.numbers("u", 5, 6)
		d.numbers("s", 7, 8)
		d.want(d.queue(a), counts(3, 8)...)
		d.want(d.queue(b), counts(1, 4)...)
		d.numbers("t", 9, 12)
		d.want(d.queue(a), counts(7, 12)...)
		d.want(d.queue(b), "3", "4", "9", "10", "11", "12")
		d.ok(d.subscribe(a, 1, "#").Err) // from now on messages count twice
		d.numbers("s", 13, 14)
		d.want(d.queue(a), "11", "12", "13", "14")
		d.numbers("other", 15, 16)
		d.want(d.queue(a), "13", "14", "15", "16")
	}},
	{name: "a session is limited in bytes but keeps its newest", options: limited(store.Limits{MaxSessionBytes: 12}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "+").Err)
		d.publish("t", "1234")
		d.publish("u", "5678")
		d.want(d.queue(a), "1234", "5678")
		d.publish("t", "9abc")
		d.want(d.queue(a), "5678", "9abc")
		d.publish("t", "far too long for it")
		d.want(d.queue(a), "far too long for it")
		d.publish("t", "x")
		d.want(d.queue(a), "x")
	}},
	{name: "what is in a session's window is not dropped", options: limited(store.Limits{MaxSessionMessages: 2}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t").Err)
		p := d.publish("t", "1")
		d.ok(d.window(a, store.Inflight{ID: 1, QoS: 2, Ref: p.Ref}).Err)
		d.numbers("t", 2, 4)
		d.want(d.queue(a), "3", "4")
		d.wantDrops(`session-oldest t "a" 1 t`)
		window := d.claim(store.Claim{ClientID: "a"}).Session.Window
		d.equal(len(window), 1)
		d.equal(string(window[0].Message.Payload), "1")
	}},
	{name: "drop-newest lets a full session skip a message", options: limited(store.Limits{MaxSessionMessages: 2, Policy: store.DropNewest}), test: func(d *driver) {
		a, b, c := d.attach("a"), d.attach("b"), d.attach("c")
		d.ok(d.subscribe(a, 1, "t/+").Err)
		d.ok(d.subscribe(b, 1, "t/+", "u").Err)
		d.ok(d.subscribe(c, 1, "t/1").Err)
		d.numbers("t/1", 1, 2)
		d.ack(b, d.queue(b)[0].Ref)
		d.publish("t/2", "3")
		d.wantDrops(`session-newest t/+ "a" 1 t/2`)
		d.want(d.queue(a), "1", "2")
		d.want(d.queue(b), "2", "3")
		p := d.publish("t/1", "4") // all are full: it is stored nowhere
		d.equal(p.Matched, true)
		d.equal(p.Ref, store.Ref{})
		d.wantDrops(`session-newest t/+ "a" 1 t/1`, `session-newest t/+ "b" 1 t/1`, `session-newest t/1 "c" 1 t/1`)
		d.equal(d.s.Stats().Messages, 3)
		for _, o := range []store.Owner{a, b, c} {
			for _, e := range d.queue(o) {
				d.ack(o, e.Ref)
			}
		}
		d.equal(d.s.Stats().Messages, 0)
		d.publish("t/1", "5")
		d.want(d.queue(a), "5")
	}},
	{name: "reject refuses whole", options: limited(store.Limits{MaxQueueMessages: 2, Policy: store.Reject}), test: func(d *driver) {
		a, b := d.attach("a"), d.attach("b")
		d.ok(d.subscribe(a, 1, "t").Err)
		d.ok(d.subscribe(b, 1, "+").Err)
		d.numbers("u", 1, 1)
		d.numbers("t", 2, 2)
		m := d.message("t", "3")
		m.QoS, m.Retain = 2, true
		p := d.propose(store.Publish{Message: m, Publisher: a, PacketID: 7})
		d.is(p.Err, store.ErrFull)
		d.equal(d.release(a, 7).Found, false)
		d.equal(len(d.retained("#")), 0)
		d.want(d.queue(a), "2")
		d.want(d.queue(b), "1", "2")
		d.wantDrops(`rejected  "" 0 t`)
		d.equal(d.s.Stats().Drops[store.Rejected], 1)
		d.equal(d.s.Stats().Dropped, 0)
		d.ack(b, d.queue(b)[0].Ref)
		d.ok(d.propose(store.Publish{Message: m, Publisher: a, PacketID: 7}).Err)
		d.equal(d.propose(store.Publish{Message: m, Publisher: a, PacketID: 7}).Duplicate, true) // it needs no room
		d.want(d.queue(a), "2", "3")
		m0 := d.message("t", "unqueued")
		m0.QoS, m0.Retain = 0, true
		d.ok(d.propose(store.Publish{Message: m0}).Err)
	}},
	{name: "reject refuses for one full session", options: limited(store.Limits{MaxSessionMessages: 3, MaxSessionBytes: 30, Policy: store.Reject}), test: func(d *driver) {
		a, b := d.attach("a"), d.attach("b")
		d.ok(d.subscribe(a, 1, "t", "u").Err)
		d.ok(d.subscribe(b, 1, "t", "#").Err)
		d.numbers("u", 1, 2) // b owes 2
		d.is(d.publish("t", "3").Err, store.ErrFull)
		d.ack(b, d.queue(b)[0].Ref)
		d.numbers("t", 3, 3)
		d.is(d.publish("u", "4").Err, store.ErrFull)
		d.want(d.queue(a), "1", "2", "3")
		d.want(d.queue(b), "2", "3")
		d.unsubscribe(b, "#")
		d.is(d.publish("t", "5").Err, store.ErrFull) // a is full
		d.drop(store.Drop{ClientID: "a", AnyUser: true})
		d.is(d.publish("t", "thirty bytes, or are they more?").Err, store.ErrFull)
		d.numbers("t", 6, 6)
		d.want(d.queue(b), "3", "6")
	}},
	{name: "a will is not refused", options: limited(store.Limits{MaxQueueMessages: 2, MaxSessionMessages: 2, Policy: store.Reject}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t").Err)
		w := d.claim(store.Claim{ClientID: "w", Will: &store.Will{Message: d.message("t", "will")}})
		d.numbers("t", 1, 2)
		d.ok(d.propose(store.Publish{Message: d.message("t", "will"), WillOf: w.Owner.ID}).Err)
		d.want(d.queue(a), "2", "will")
		d.wantDrops(`filter-oldest t "a" 1 t`)
		d.is(d.publish("t", "3").Err, store.ErrFull)
	}},
	{name: "expired messages are told", options: limited(store.Limits{MaxRetained: 9}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t", "$share/g/t").Err)
		m := d.message("t", "short")
		m.Expiry, m.Retain = d.now+second, true
		d.propose(store.Publish{Message: m})
		d.now += second + 1
		d.want(d.queue(a))
		d.want(d.share("$share/g/t"))
		d.barrier()
		d.wantDrops(`expired t "a" 1 t`, `expired $share/g/t "" 1 t`, `expired  "" 0 t`)
		d.equal(d.s.Stats().Expired, 3)
		d.equal(d.s.Stats().Drops[store.Expired], 3)
	}},
}
