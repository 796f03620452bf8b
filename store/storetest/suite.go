// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package storetest is the suite that every engine of store passes, and Gate, which holds back the commits of any of
// them.
//
// The suite knows the contract only. Its rules are tested one by one, and all together against a model: maps and slices
// that a reader can check by eye, driven through thousands of random sequences of commands.
package storetest

import (
	"fmt"
	"testing"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
)

// Open makes an empty store with the given options; the suite closes it.
type Open func(t testing.TB, o store.Options) store.Store

// Run runs the whole suite.
func Run(t *testing.T, open Open) {
	for _, group := range [][]rule{sessionRules, queueRules, publishRules, windowRules, shareRules, willRules, retainedRules, engineRules,
		limitRules, blockRules} {
		for _, r := range group {
			t.Run(r.name, func(t *testing.T) {
				d := &driver{reporter: t, now: 1_000_000_000_000}
				r.options.OnDrop = d.drops.add
				s := open(t, r.options)
				d.s = s
				r.test(d)
				if err := s.Close(); err != nil {
					t.Fatalf("Close: %v", err)
				}
			})
		}
	}

	t.Run("model", func(t *testing.T) { runModel(t, open) })
	t.Run("limits", func(t *testing.T) { runLimits(t, open) })
}

// rule is one test.
type rule struct {
	name    string
	options store.Options
	test    func(d *driver)
}

// reporter is what testing.T and rapid.T have in common and the suite needs.
type reporter interface {
	Helper()
	Error(...any)
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
}

// driver proposes commands and waits for them.
type driver struct {
	reporter
	s     store.Store
	now   int64
	drops drops
}

const second = 1_000_000_000

// await proposes a command and waits until its Done is called with it.
func await[C any](d *driver, c *C, done *func(*C), propose func(*C)) *C {
	d.Helper()
	ch := make(chan *C, 1)
	*done = func(c *C) { ch <- c }
	propose(c)
	if got := <-ch; got != c {
		d.Fatalf("Done was called with another %T", c)
	}
	return c
}

func (d *driver) claim(c store.Claim) *store.Claim {
	d.Helper()
	if c.Expiry == 0 {
		c.Expiry = store.Never
	}
	c.Now = d.now
	return await(d, &c, &c.Done, d.s.ProposeClaim)
}

// attach claims a session that must be granted.
func (d *driver) attach(clientID string) store.Owner {
	d.Helper()
	c := d.claim(store.Claim{ClientID: clientID})
	d.ok(c.Err)
	return c.Owner
}

func (d *driver) drop(c store.Drop) *store.Drop {
	d.Helper()
	c.Now = d.now
	return await(d, &c, &c.Done, d.s.ProposeDrop)
}

func (d *driver) detach(c store.Detach) *store.Detach {
	d.Helper()
	c.Now = d.now
	return await(d, &c, &c.Done, d.s.ProposeDetach)
}

func (d *driver) subscribe(o store.Owner, qos mqtt.QoS, filters ...string) *store.Subscribe {
	d.Helper()
	c := &store.Subscribe{Owner: o}
	for _, f := range filters {
		c.Subscriptions = append(c.Subscriptions, store.Subscription{Filter: f, QoS: qos})
	}
	return await(d, c, &c.Done, d.s.ProposeSubscribe)
}

func (d *driver) unsubscribe(o store.Owner, filters ...string) *store.Unsubscribe {
	d.Helper()
	c := &store.Unsubscribe{Owner: o, Filters: filters}
	return await(d, c, &c.Done, d.s.ProposeUnsubscribe)
}

func (d *driver) propose(c store.Publish) *store.Publish {
	d.Helper()
	return await(d, &c, &c.Done, d.s.ProposePublish)
}

// publish keeps a message of QoS 1.
func (d *driver) publish(topic, payload string) *store.Publish {
	d.Helper()
	return d.propose(store.Publish{Message: d.message(topic, payload)})
}

func (d *driver) message(topic, payload string) *mqtt.Message {
	return &mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Received: d.now, ClientID: "publisher", Username: "p"}
}

func (d *driver) release(o store.Owner, id uint16) *store.Release {
	d.Helper()
	c := &store.Release{Owner: o, PacketID: id}
	return await(d, c, &c.Done, d.s.ProposeRelease)
}

func (d *driver) window(o store.Owner, entries ...store.Inflight) *store.Window {
	d.Helper()
	c := &store.Window{Owner: o, Entries: entries, NextID: 9}
	return await(d, c, &c.Done, d.s.ProposeWindow)
}

func (d *driver) acknowledge(c store.Ack) *store.Ack {
	d.Helper()
	return await(d, &c, &c.Done, d.s.ProposeAck)
}

func (d *driver) ack(o store.Owner, refs ...store.Ref) {
	d.Helper()
	d.ok(d.acknowledge(store.Ack{Owner: o, Refs: refs}).Err)
}

func (d *driver) tick() *store.Tick {
	d.Helper()
	c := &store.Tick{Now: d.now}
	return await(d, c, &c.Done, d.s.ProposeTick)
}

// barrier waits until all that was proposed is applied.
func (d *driver) barrier() {
	ch := make(chan struct{})
	d.s.Barrier(func() { close(ch) })
	<-ch
}

// read reads all of a queue from its beginning.
func (d *driver) read(q store.Queue) []store.Delivery {
	d.Helper()
	list, more, err := q.Read(make([]store.Position, d.s.Groups()), 1<<30, 1<<30, d.now, nil)
	d.ok(err)
	if more {
		d.Fatal("there is more, though there was room for all")
	}
	return list
}

func (d *driver) queue(o store.Owner) []store.Delivery { d.Helper(); return d.read(d.s.OpenQueue(o)) }

func (d *driver) share(filter string) []store.Delivery {
	d.Helper()
	return d.read(d.s.OpenShare(filter))
}

// wantQueue compares payloads.
func (d *driver) want(list []store.Delivery, payloads ...string) {
	d.Helper()
	got := []string{}
	for _, e := range list {
		got = append(got, string(e.Message.Payload))
	}
	if fmt.Sprint(got) != fmt.Sprint(payloads) {
		d.Fatalf("read %q, want %q", got, payloads)
	}
}

func (d *driver) retained(filter string) (topics []string) {
	d.Helper()
	list, more, err := d.s.RetainedPage(filter, "", 1<<30, 1<<30, d.now, nil)
	d.ok(err)
	if more {
		d.Fatal("there is more, though there was room for all")
	}
	for _, r := range list {
		topics = append(topics, r.Topic)
	}
	return topics
}

func (d *driver) ok(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d *driver) is(err, want error) {
	d.Helper()
	if err != want {
		d.Fatalf("got %v, want %v", err, want)
	}
}

// equal compares what prints alike.
func (d *driver) equal(got, want any) {
	d.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		d.Fatalf("got %v, want %v", got, want)
	}
}
