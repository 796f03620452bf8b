// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
)

// patience is for what takes no time at all, unless it is never done.
const patience = 5 * time.Second

// waiting is a publish whose Done was not awaited.
type waiting chan *store.Publish

// begin proposes a publish.
func (d *driver) begin(c store.Publish) waiting {
	ch := make(waiting, 1)
	c.Done = func(p *store.Publish) { ch <- p }
	d.s.ProposePublish(&c)
	return ch
}

// hold proposes a message of QoS 1 that must be held.
func (d *driver) hold(topic, payload string) waiting {
	d.Helper()
	before := d.s.Stats().Held
	ch := d.begin(store.Publish{Message: d.message(topic, payload)})
	d.barrier()
	d.isHeld(ch)
	d.equal(d.s.Stats().Held, before+1)
	return ch
}

// done waits for a publish that is not, or no longer, to be held.
func (d *driver) done(ch waiting) *store.Publish {
	d.Helper()
	select {
	case p := <-ch:
		return p
	case <-time.After(patience):
		d.Fatalf("a publish that has room is still held")
		return nil
	}
}

// isHeld wants publishes not to be done. It may be called behind a barrier.
func (d *driver) isHeld(list ...waiting) {
	d.Helper()
	for _, ch := range list {
		select {
		case p := <-ch:
			d.Fatalf("%s was not held: %v", p.Message.Payload, p.Err)
		default:
		}
	}
}

func blocking(l store.Limits) store.Options {
	l.Policy = store.Block
	return store.Options{Limits: l}
}

var blockRules = []rule{
	{name: "block holds a publish until there is room", options: blocking(store.Limits{MaxQueueMessages: 2}), test: func(d *driver) {
		a, b := d.attach("a"), d.attach("b")
		d.ok(d.subscribe(a, 1, "t").Err)
		d.ok(d.subscribe(b, 1, "t", "u").Err)
		d.numbers("t", 1, 2)
		three, four := d.hold("t", "3"), d.hold("t", "4")
		d.ok(d.publish("u", "other").Err) // other topics go on
		commands, bytes := d.s.Pending()
		d.equal(commands, 0)
		d.equal(bytes, 0)
		d.equal(d.s.Stats().HeldBytes, 4)
		d.ack(a, d.queue(a)[0].Ref)
		d.barrier()
		d.isHeld(three, four) // b has not acknowledged it
		d.ack(b, d.queue(b)[0].Ref)
		d.ok(d.done(three).Err)
		d.barrier()
		d.isHeld(four)
		d.want(d.queue(a), "2", "3")
		d.unsubscribe(a, "t")
		d.drop(store.Drop{ClientID: "b", AnyUser: true})
		p := d.done(four)
		d.ok(p.Err)
		d.equal(p.Matched, false)
		d.equal(d.s.Stats().Held, 0)
		d.equal(d.s.Stats().Dropped, 0)
		d.equal(len(d.told()), 0)
	}},
	{name: "block keeps the order of a topic", options: blocking(store.Limits{MaxSessionBytes: 20}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t", "u").Err)
		d.publish("t", "1234567890123456") // 17 bytes
		big := d.hold("t", "1234567890")
		small := d.hold("t", "1") // it would fit
		m := d.message("t", "2")
		m.QoS, m.Retain = 0, true // it needs no room
		retained := d.begin(store.Publish{Message: m})
		d.barrier()
		d.isHeld(big, small, retained)
		d.ok(d.publish("u", "x").Err)
		d.ack(a, d.queue(a)[0].Ref)
		for _, ch := range []waiting{big, small, retained} {
			d.ok(d.done(ch).Err)
		}
		d.want(d.queue(a), "x", "1234567890", "1")
		d.equal(d.retained("#"), []string{"t"})
	}},
	{name: "block lets the oldest go first", options: blocking(store.Limits{MaxQueueMessages: 1}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "#").Err)
		d.publish("first", "0")
		var held []waiting
		for i := range 9 {
			held = append(held, d.hold(fmt.Sprint("t/", i*2%5), fmt.Sprint(i)))
		}
		for i, ch := range held {
			d.isHeld(held[i:]...)
			d.ack(a, d.queue(a)[0].Ref)
			d.ok(d.done(ch).Err)
			d.barrier()
			d.want(d.queue(a), fmt.Sprint(i))
		}
	}},
	{name: "block refuses what will never find room, and holds no will", options: blocking(store.Limits{MaxQueueMessages: 1, MaxQueueBytes: 10}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t").Err)
		d.is(d.publish("t", "1234567890").Err, store.ErrFull)
		d.ok(d.publish("t", "1").Err)
		w := d.claim(store.Claim{ClientID: "w", Will: &store.Will{Message: d.message("t", "will")}})
		held := d.hold("t", "2")
		d.ok(d.propose(store.Publish{Message: d.message("t", "will"), WillOf: w.Owner.ID}).Err)
		d.want(d.queue(a), "will")
		d.wantDrops(`rejected  "" 0 t`, `filter-oldest t "a" 1 t`)
		d.isHeld(held)
		d.ack(a, d.queue(a)[0].Ref)
		d.ok(d.done(held).Err)
	}},
	{name: "a publisher that was claimed anew is fenced while it is held", options: blocking(store.Limits{MaxQueueMessages: 1}), test: func(d *driver) {
		a, p := d.attach("a"), d.attach("p")
		d.ok(d.subscribe(a, 1, "t").Err)
		d.publish("t", "1")
		m := &mqtt.Message{Topic: "t", Payload: []byte("2"), QoS: 2, Received: d.now, ClientID: "p"}
		old := d.begin(store.Publish{Message: m, Publisher: p, PacketID: 5})
		d.barrier()
		d.isHeld(old)
		p = d.attach("p")
		d.is((<-old).Err, store.ErrFenced)
		again := d.begin(store.Publish{Message: m, Publisher: p, PacketID: 5})
		d.barrier()
		d.isHeld(again)
		d.ack(a, d.queue(a)[0].Ref)
		d.ok(d.done(again).Err)
		d.want(d.queue(a), "2")
		d.equal(d.release(p, 5).Found, true)
	}},
	{name: "held publishes are bounded", options: store.Options{Limits: store.Limits{MaxQueueMessages: 1, Policy: store.Block}, MaxPending: 2}, test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t").Err)
		d.publish("t", "1")
		two, three := d.hold("t", "2"), d.hold("t", "3")
		d.is(d.publish("t", "4").Err, store.ErrFull)
		d.ok(d.publish("u", "5").Err)
		d.drop(store.Drop{ClientID: "a", AnyUser: true})
		d.ok(d.done(two).Err)
		d.ok(d.done(three).Err)
	}},
	{name: "a session that expires makes room", options: blocking(store.Limits{MaxSessionMessages: 1}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "t").Err)
		d.ok(d.detach(store.Detach{Owner: a, Expiry: 60}).Err)
		d.publish("t", "1")
		held := d.hold("t", "2")
		d.now += 61 * second
		d.tick()
		d.ok(d.done(held).Err)
	}},
	{name: "closing ends what is held", options: blocking(store.Limits{MaxQueueMessages: 1}), test: func(d *driver) {
		a := d.attach("a")
		d.ok(d.subscribe(a, 1, "+").Err)
		d.publish("t", "1")
		two, three := d.hold("t", "2"), d.hold("u", "3")
		d.ok(d.s.Close())
		d.is((<-two).Err, store.ErrClosed)
		d.is((<-three).Err, store.ErrClosed)
		d.equal(d.s.Stats().Held, 0)
	}},
}
