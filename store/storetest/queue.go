// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"

	"github.com/noctule/noctule/store"
)

var queueRules = []rule{
	{name: "messages wait for a session", test: func(d *driver) { // [MQTT-4.5.0-1]
		o := d.attach("c")
		d.publish("a/b", "before")
		d.ok(d.subscribe(o, 1, "a/+").Err)
		p := d.publish("a/b", "1")
		d.equal(p.Matched, true)
		d.equal(p.Ref.Group, d.s.GroupOf("a/b"))
		d.publish("a/c", "2")
		d.equal(d.publish("b", "other").Matched, false)
		d.ok(d.detach(store.Detach{Owner: o, Expiry: 60}).Err)
		d.publish("a/b", "3")
		o = d.attach("c")
		list := d.queue(o)
		d.want(list, "1", "2", "3")
		d.equal(list[0].Ref, p.Ref)
		d.equal(list[0].Filters, []string{"a/+"})
		d.equal(list[0].Message.ClientID, "publisher")
		d.equal(list[0].Message.Username, "p")
	}},
	{name: "a subscription of QoS 0 has no queue", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 0, "a").Err)
		d.equal(d.s.Matches([]byte("a")), false)
		d.equal(d.publish("a", "x").Matched, false)
		d.want(d.queue(o))
	}},
	{name: "a message of QoS 0 enters no queue", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "a").Err)
		m := d.message("a", "x")
		m.QoS = 0
		d.equal(d.propose(store.Publish{Message: m}).Matched, false)
		d.want(d.queue(o))
	}},
	{name: "matches knows subscriptions from before Done", test: func(d *driver) {
		o := d.attach("c")
		d.equal(d.s.Matches([]byte("a/b")), false)
		seen := false
		c := &store.Subscribe{Owner: o, Subscriptions: []store.Subscription{{Filter: "a/#", QoS: 1}}}
		ch := make(chan struct{})
		c.Done = func(*store.Subscribe) { seen = d.s.Matches([]byte("a/b")); close(ch) }
		d.s.ProposeSubscribe(c)
		<-ch
		d.equal(seen, true)
		d.unsubscribe(o, "a/#")
		d.equal(d.s.Matches([]byte("a/b")), false)
	}},
	{name: "overlapping subscriptions deliver once and name all filters", test: func(d *driver) { // [MQTT-3.3.4-2]
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "#", "a/+", "a/b", "b").Err)
		d.publish("a/b", "1")
		d.publish("b", "2")
		list := d.queue(o)
		d.want(list, "1", "2")
		d.equal(list[0].Filters, []string{"#", "a/+", "a/b"})
		d.equal(list[1].Filters, []string{"#", "b"})
		d.ack(o, list[0].Ref)
		d.want(d.queue(o), "2")
		d.unsubscribe(o, "b")
		list = d.queue(o)
		d.equal(list[0].Filters, []string{"#"})
		d.ack(o, list[0].Ref)
		d.equal(d.s.Stats().Messages, 0)
	}},
	{name: "a filter that is not valid is refused", test: func(d *driver) {
		o := d.attach("c")
		for _, f := range []string{"", "a#", "a/#/b", "$share/g", "$share//a", "a+"} {
			d.is(d.subscribe(o, 1, "ok", f).Err, store.ErrInvalid)
		}
		d.equal(len(d.claim(store.Claim{ClientID: "c"}).Session.Subscriptions), 0)
	}},
	{name: "acknowledged messages do not come back", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "a/#").Err)
		for i := range 10 {
			d.publish(fmt.Sprint("a/", i%3), fmt.Sprint(i))
		}
		list := d.queue(o)
		d.ack(o, list[5].Ref, list[0].Ref, list[7].Ref)
		d.want(d.queue(o), "1", "2", "3", "4", "6", "8", "9")
		d.ack(o, list[0].Ref) // again
		o = d.attach("c")
		d.want(d.queue(o), "1", "2", "3", "4", "6", "8", "9")
		for _, e := range list {
			d.ack(o, e.Ref)
		}
		d.want(d.queue(o))
		d.equal(d.s.Stats().Messages, 0)
		d.equal(d.s.Stats().MessageBytes, 0)
	}},
	{name: "each of several readers has its own cursor", test: func(d *driver) {
		a, b := d.attach("a"), d.attach("b")
		d.ok(d.subscribe(a, 1, "t").Err)
		d.publish("t", "0")
		d.ok(d.subscribe(b, 1, "t").Err)
		d.publish("t", "1")
		d.publish("t", "2")
		list := d.queue(a)
		d.want(list, "0", "1", "2")
		d.want(d.queue(b), "1", "2")
		d.ack(a, list[1].Ref)
		d.want(d.queue(a), "0", "2")
		d.want(d.queue(b), "1", "2")
		d.ack(b, list[1].Ref, list[2].Ref)
		d.want(d.queue(b))
		d.equal(d.s.Stats().Messages, 3)
		d.unsubscribe(a, "t")
		d.equal(d.s.Stats().Messages, 0)
	}},
	{name: "unsubscribing forgets what is queued", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "a", "b").Err)
		d.publish("a", "1")
		d.publish("b", "2")
		d.equal(d.unsubscribe(o, "a", "x").Existed, []bool{true, false})
		d.want(d.queue(o), "2")
		d.equal(d.s.Stats().Messages, 1)
		d.ok(d.subscribe(o, 1, "a").Err)
		d.want(d.queue(o), "2")
	}},
	{name: "replacing a subscription loses nothing", test: func(d *driver) { // [MQTT-3.8.4-4]
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "a").Err)
		d.publish("a", "1")
		d.equal(d.subscribe(o, 2, "a").Existed, []bool{true})
		d.publish("a", "2")
		d.equal(d.subscribe(o, 0, "a").Existed, []bool{true})
		d.publish("a", "at QoS 0 not queued")
		d.want(d.queue(o), "1", "2")
		d.equal(d.s.Matches([]byte("a")), false)
		d.equal(d.subscribe(o, 1, "a").Existed, []bool{true})
		d.publish("a", "3")
		list := d.queue(o)
		d.want(list, "1", "2", "3")
		d.ack(o, list[0].Ref, list[1].Ref, list[2].Ref)
		d.equal(d.s.Stats().Messages, 0)
	}},
	{name: "pages follow each other", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "#", "t/+").Err)
		for i := range 50 {
			d.publish(fmt.Sprint("t/", i%7), fmt.Sprint(i))
		}
		q, after := d.s.OpenQueue(o), make([]store.Position, d.s.Groups())
		next, pages := 0, 0
		for more := true; more; pages++ {
			var list []store.Delivery
			var err error
			list, more, err = q.Read(after, 7, 1000, d.now, nil)
			d.ok(err)
			for _, e := range list {
				d.equal(string(e.Message.Payload), next)
				next++
			}
		}
		d.equal(next, 50)
		d.equal(pages, 8)
		p := d.publish("t/1", "later")
		for g, at := range after {
			if at >= p.Ref.Position {
				d.Fatalf("position of group %d is %d already, and a later message has %d", g, at, p.Ref.Position)
			}
		}
		list, _, err := q.Read(after, 7, 1000, d.now, nil)
		d.ok(err)
		d.want(list, "later")
	}},
	{name: "a page is bounded by bytes but never empty", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "t").Err)
		for _, p := range []string{"aaaaaaaa", "bb", "cc", "dddddddd"} {
			d.publish("t", p)
		}
		q, after := d.s.OpenQueue(o), make([]store.Position, d.s.Groups())
		for _, want := range [][]string{{"aaaaaaaa"}, {"bb", "cc"}, {"dddddddd"}} {
			list, more, err := q.Read(after, 9, 5, d.now, nil)
			d.ok(err)
			d.want(list, want...)
			d.equal(more, want[0][0] != 'd')
		}
	}},
	{name: "expired messages are skipped, counted and gone", test: func(d *driver) { // [MQTT-3.3.2-5]
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "t").Err)
		m := d.message("t", "short")
		m.Expiry = d.now + second
		d.propose(store.Publish{Message: m})
		d.publish("t", "long")
		d.now += second
		d.want(d.queue(o), "short", "long")
		d.now++
		d.want(d.queue(o), "long")
		d.barrier()
		d.equal(d.s.Stats().Expired, 1)
		d.equal(d.s.Stats().Messages, 1)
	}},
	{name: "a full queue drops its oldest", options: store.Options{Limits: store.Limits{MaxQueueMessages: 3}}, test: func(d *driver) {
		a, b, c := d.attach("a"), d.attach("b"), d.attach("c")
		d.ok(d.subscribe(a, 1, "t/+").Err)
		d.ok(d.subscribe(b, 1, "t/+").Err)
		d.ok(d.subscribe(c, 1, "other").Err)
		for i := range 3 {
			d.publish(fmt.Sprint("t/", i), fmt.Sprint(i))
		}
		d.ack(a, d.queue(a)[0].Ref)
		d.publish("t/1", "3") // drops 0, which only b misses
		d.equal(d.s.Stats().Dropped, 1)
		d.publish("t/1", "4") // drops 1, which both miss
		d.equal(d.s.Stats().Dropped, 3)
		d.want(d.queue(a), "2", "3", "4")
		d.want(d.queue(b), "2", "3", "4")
		d.equal(d.s.Stats().Messages, 3)
	}},
	{name: "a queue is limited in bytes but keeps its newest", options: store.Options{Limits: store.Limits{MaxQueueBytes: 10}}, test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "t").Err)
		d.publish("t", "1234")
		d.publish("t", "5678")
		d.want(d.queue(o), "1234", "5678")
		d.publish("t", "9")
		d.want(d.queue(o), "5678", "9")
		d.publish("t", "far too long for it")
		d.want(d.queue(o), "far too long for it")
		d.equal(d.s.Stats().Dropped, 3)
	}},
}
