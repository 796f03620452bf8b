// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"sync"

	"github.com/noctule/noctule/store"
)

var publishRules = []rule{
	{name: "a received identifier makes a duplicate until its release", test: func(d *driver) { // [MQTT-4.3.3-2]
		pub, sub := d.attach("pub"), d.attach("sub")
		d.ok(d.subscribe(sub, 2, "t").Err)
		send := func(payload string, id uint16) *store.Publish {
			m := d.message("t", payload)
			m.QoS = 2
			return d.propose(store.Publish{Message: m, Publisher: pub, PacketID: id})
		}
		d.equal(send("1", 7).Duplicate, false)
		d.equal(send("1 again", 7).Duplicate, true)
		d.equal(send("2", 3).Duplicate, false)
		c := d.claim(store.Claim{ClientID: "pub"})
		pub = c.Owner
		d.equal(c.Session.Received, []uint16{3, 7})
		d.equal(send("1 again", 7).Duplicate, true)
		d.equal(d.release(pub, 7).Found, true)
		d.equal(d.release(pub, 7).Found, false)
		d.equal(send("3", 7).Duplicate, false)
		d.want(d.queue(sub), "1", "2", "3")
	}},
	{name: "an identifier can be kept alone", test: func(d *driver) {
		pub := d.attach("pub")
		p := d.propose(store.Publish{Publisher: pub, PacketID: 4, IdentifierOnly: true})
		d.ok(p.Err)
		d.equal(d.propose(store.Publish{Publisher: pub, PacketID: 4, IdentifierOnly: true}).Duplicate, true)
		d.equal(d.claim(store.Claim{ClientID: "pub"}).Session.Received, []uint16{4})
		d.equal(d.s.Stats().Messages, 0)
	}},
	{name: "what is refused changes nothing", options: store.Options{Limits: store.Limits{MaxRetained: 1}}, test: func(d *driver) {
		pub := d.attach("pub")
		d.ok(d.subscribe(pub, 1, "#").Err)
		first := d.message("a", "x")
		first.Retain = true
		d.ok(d.propose(store.Publish{Message: first}).Err)
		m := d.message("b", "y")
		m.QoS, m.Retain = 2, true
		d.is(d.propose(store.Publish{Message: m, Publisher: pub, PacketID: 5}).Err, store.ErrFull)
		d.want(d.queue(pub), "x")
		d.equal(d.release(pub, 5).Found, false)
		d.equal(d.s.Stats().Messages, 1)
		bad := d.message("a/+", "not a name")
		d.is(d.propose(store.Publish{Message: bad, Publisher: pub, PacketID: 5}).Err, store.ErrInvalid)
		d.equal(d.release(pub, 5).Found, false)
	}},
	{name: "a message is stored once for many sessions", test: func(d *driver) {
		var owners []store.Owner
		for i := range 20 {
			o := d.attach(fmt.Sprint("c", i))
			d.ok(d.subscribe(o, 1, "a/#", []string{"#", "a/b"}[i%2]).Err)
			owners = append(owners, o)
		}
		m := d.message("a/b", "x")
		m.Retain = true
		p := d.propose(store.Publish{Message: m})
		d.equal(d.s.Stats().Messages, 1)
		d.equal(d.s.Stats().MessageBytes, 4)
		for i, o := range owners {
			d.want(d.queue(o), "x")
			d.ack(o, p.Ref)
			d.want(d.queue(o))
			if i < len(owners)-1 {
				d.equal(d.s.Stats().Messages, 1)
			}
		}
		d.equal(d.s.Stats().Messages, 1) // retained
		none := d.message("a/b", "")
		none.Retain, none.QoS = true, 0
		d.propose(store.Publish{Message: none})
		d.equal(d.s.Stats().Messages, 0)
	}},
}

var retainedRules = []rule{
	{name: "a retained message replaces the one before", test: func(d *driver) { // [MQTT-3.3.1-5], [MQTT-3.3.1-8]
		m := d.message("a/b", "1")
		m.Retain = true
		d.ok(d.propose(store.Publish{Message: m}).Err)
		d.publish("a/b", "not retained")
		list, _, err := d.s.RetainedPage("a/+", "", 9, 99, d.now, nil)
		d.ok(err)
		d.equal(len(list), 1)
		d.equal(string(list[0].Message.Payload), "1")
		d.equal(list[0].Message.Received, d.now)
		d.equal(list[0].Message.ClientID, "publisher")
		m = d.message("a/b", "two")
		m.Retain, m.QoS = true, 0
		d.ok(d.propose(store.Publish{Message: m}).Err)
		list, _, _ = d.s.RetainedPage("a/b", "", 9, 99, d.now, list[:0])
		d.equal(string(list[0].Message.Payload), "two")
		d.equal(d.s.Stats().Retained, 1)
		d.equal(d.s.Stats().RetainedBytes, 6)
		d.equal(d.s.Stats().Messages, 1)
	}},
	{name: "an empty payload removes it", test: func(d *driver) { // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "a").Err)
		for _, payload := range []string{"x", "", ""} {
			m := d.message("a", payload)
			m.Retain = true
			d.ok(d.propose(store.Publish{Message: m}).Err)
		}
		d.equal(len(d.retained("#")), 0)
		d.equal(d.s.Stats().Retained, 0)
		d.equal(d.s.Stats().RetainedBytes, 0)
		d.want(d.queue(o), "x", "", "") // passed on all the same
	}},
	{name: "it outlives the session", test: func(d *driver) { // 3.1.1: [MQTT-3.1.2.7]
		o := d.attach("c")
		m := d.message("a", "x")
		m.Retain, m.QoS = true, 2
		d.ok(d.propose(store.Publish{Message: m, Publisher: o, PacketID: 1}).Err)
		d.drop(store.Drop{ClientID: "c"})
		d.equal(d.retained("a"), []string{"a"})
	}},
	{name: "pages find what a filter matches", test: func(d *driver) {
		for _, name := range []string{"b/1", "a", "a/1", "a/1/x", "$sys/a", "a/2"} {
			m := d.message(name, "0123456789")
			m.Retain = true
			d.ok(d.propose(store.Publish{Message: m}).Err)
		}
		for filter, want := range map[string]int{"#": 5, "a/#": 4, "a/+": 2, "+": 1, "$sys/#": 1, "none": 0, "a/1": 1} {
			seen := map[string]bool{}
			after := ""
			for more := true; more; {
				var list []store.Retained
				var err error
				list, more, err = d.s.RetainedPage(filter, after, 2, 1<<20, d.now, nil)
				d.ok(err)
				for _, r := range list {
					seen[r.Topic], after = true, r.Topic
				}
				if len(list) > 2 {
					d.Fatal("too many in a page")
				}
			}
			if len(seen) != want {
				d.Fatalf("%s found %v, want %d", filter, seen, want)
			}
		}
		list, more, err := d.s.RetainedPage("#", "", 9, 25, d.now, nil)
		d.ok(err)
		d.equal(len(list), 2)
		d.equal(more, true)
		list, more, err = d.s.RetainedPage("#", "", 9, 1, d.now, nil)
		d.ok(err)
		d.equal(len(list), 1)
		d.equal(more, true)
	}},
	{name: "it expires", test: func(d *driver) { // [MQTT-3.3.2-5]
		for i, name := range []string{"a", "b"} {
			m := d.message(name, "x")
			m.Retain, m.Expiry = true, d.now+int64(1+i)*second
			d.ok(d.propose(store.Publish{Message: m}).Err)
		}
		d.equal(len(d.retained("#")), 2)
		d.now += second + 1
		d.equal(d.retained("#"), []string{"b"})
		d.equal(d.s.Stats().Retained, 2)
		d.equal(d.s.NextDue() <= d.now, true)
		d.tick()
		d.equal(d.s.Stats().Retained, 1)
		d.equal(d.s.Stats().Expired, 1)
		m := d.message("b", "stays")
		m.Retain = true
		d.ok(d.propose(store.Publish{Message: m}).Err)
		d.equal(d.s.NextDue(), 0)
	}},
	{name: "limits refuse", options: store.Options{Limits: store.Limits{MaxRetained: 2, MaxRetainedBytes: 20, MaxRetainedPerWrite: 12}}, test: func(d *driver) {
		put := func(name, payload string) error {
			m := d.message(name, payload)
			m.Retain = true
			return d.propose(store.Publish{Message: m}).Err
		}
		d.is(put("a", "1234567890123"), store.ErrFull)
		d.ok(put("a", "123456789012"))
		d.is(put("b", "1234567"), store.ErrFull)
		d.ok(put("b", "123456"))
		d.is(put("c", "1"), store.ErrFull)
		d.ok(put("b", "12"))
		d.ok(put("c", "")) // takes nothing
		d.ok(put("a", ""))
		d.ok(put("c", "1"))
		d.equal(d.retained("#"), []string{"b", "c"})
	}},
}

var engineRules = []rule{
	{name: "done functions come in the order of the proposals", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "#").Err)
		var mu sync.Mutex
		var got []int
		var last store.Position
		const n = 2000
		for i := range n {
			note := func() { mu.Lock(); got = append(got, i); mu.Unlock() }
			switch i % 3 {
			case 0:
				d.s.ProposePublish(&store.Publish{Message: d.message("t", fmt.Sprint(i)), Done: func(p *store.Publish) {
					if p.Ref.Position <= last {
						d.Errorf("position %d after %d", p.Ref.Position, last)
					}
					last = p.Ref.Position
					note()
				}})
			case 1:
				d.s.ProposeAck(&store.Ack{Owner: o, Done: func(*store.Ack) { note() }})
			default:
				d.s.Barrier(note)
			}
		}
		d.barrier()
		mu.Lock()
		defer mu.Unlock()
		d.equal(len(got), n)
		for i, j := range got {
			if i != j {
				d.Fatalf("place %d was %d", i, j)
			}
		}
		list := d.queue(o)
		for i, e := range list {
			d.equal(string(e.Message.Payload), 3*i)
		}
	}},
	{name: "publishers beside each other keep the order of each topic", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "+").Err)
		var wg sync.WaitGroup
		for p := range 8 {
			wg.Go(func() {
				for i := range 200 {
					d.s.ProposePublish(&store.Publish{Message: d.message(fmt.Sprint(p), fmt.Sprint(i))})
				}
			})
		}
		wg.Wait()
		d.barrier()
		next := map[string]int{}
		for _, e := range d.queue(o) {
			d.equal(string(e.Message.Payload), next[e.Message.Topic])
			next[e.Message.Topic]++
		}
		d.equal(len(next), 8)
		d.equal(next["3"], 200)
	}},
	{name: "readers run beside the committer", test: func(d *driver) {
		o := d.attach("c")
		d.ok(d.subscribe(o, 1, "#").Err)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				q, after := d.s.OpenQueue(o), make([]store.Position, d.s.Groups())
				for next := 0; next < 500; {
					list, _, err := q.Read(after, 50, 1000, d.now, nil)
					if err != nil {
						d.Error(err)
						return
					}
					for _, e := range list {
						if string(e.Message.Payload) != fmt.Sprint(next) {
							d.Errorf("read %s, want %d", e.Message.Payload, next)
							return
						}
						next++
					}
					d.s.Matches([]byte("x"))
					d.s.Has("c")
					d.s.Stats()
					_, _ = d.s.Sessions("", 5)
					_, _, _ = d.s.RetainedPage("#", "", 5, 500, d.now, nil)
				}
			})
		}
		for i := range 500 {
			d.s.ProposePublish(&store.Publish{Message: d.message(fmt.Sprint(i%5), fmt.Sprint(i))})
		}
		wg.Wait()
	}},
	{name: "a command can be used again", test: func(d *driver) {
		o := d.attach("c")
		c := &store.Subscribe{Owner: o, Subscriptions: []store.Subscription{{Filter: "#/"}}}
		await(d, c, &c.Done, d.s.ProposeSubscribe)
		d.is(c.Err, store.ErrInvalid)
		c.Subscriptions[0] = store.Subscription{Filter: "#", QoS: 1}
		for _, existed := range []bool{false, true} {
			await(d, c, &c.Done, d.s.ProposeSubscribe)
			d.ok(c.Err)
			d.equal(c.Existed, []bool{existed})
		}
	}},
	{name: "a done function may propose", test: func(d *driver) {
		ch := make(chan bool)
		d.s.ProposeClaim(&store.Claim{ClientID: "c", Expiry: 1, Done: func(c *store.Claim) {
			d.s.ProposeDrop(&store.Drop{ClientID: "c", Done: func(r *store.Drop) { ch <- r.Existed }})
		}})
		d.equal(<-ch, true)
	}},
	{name: "a barrier without anything pending is at once", test: func(d *driver) {
		d.attach("c")
		for n := 1; n > 0; n, _ = d.s.Pending() {
			d.barrier() // Done is called a moment before its command stops counting
		}
		called := false
		d.s.Barrier(func() { called = true })
		d.equal(called, true)
	}},
	{name: "close commits, and refuses what comes after", test: func(d *driver) {
		n := 0
		for range 100 {
			d.s.ProposePublish(&store.Publish{Message: d.message("t", "x"), Done: func(p *store.Publish) {
				if p.Err == nil {
					n++
				}
			}})
		}
		d.ok(d.s.Close())
		d.equal(n, 100)
		called := false
		d.s.ProposeTick(&store.Tick{Done: func(t *store.Tick) { called = t.Err == store.ErrClosed }})
		d.equal(called, true)
		called = false
		d.s.Barrier(func() { called = true })
		d.equal(called, true)
	}},
	{name: "groups are fixed by the topic", options: store.Options{Groups: 7}, test: func(d *driver) {
		d.equal(d.s.Groups(), 7)
		seen := map[int]bool{}
		for i := range 200 {
			g := d.s.GroupOf(fmt.Sprint("t/", i))
			if g < 0 || g >= 7 || g != d.s.GroupOf(fmt.Sprint("t/", i)) {
				d.Fatal(g)
			}
			seen[g] = true
		}
		d.equal(len(seen), 7)
	}},
}
