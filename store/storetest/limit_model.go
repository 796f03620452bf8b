// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
)

// someLimits are small enough to be reached, and to be exact with DropOldest. DropNewest is not played with both kinds of
// limits: what a full session skips stays in the queue of a filter until the session has read what came before, and counts
// there, which this model does not know.
var someLimits = []store.Limits{
	{MaxQueueMessages: 3},
	{MaxQueueBytes: 12},
	{MaxSessionMessages: 4},
	{MaxSessionBytes: 15},
	{MaxQueueMessages: 5, MaxSessionMessages: 6},
	{MaxQueueBytes: 30, MaxSessionMessages: 7, MaxSessionBytes: 15},
}

func runLimits(t *testing.T, open Open) {
	for i, limits := range someLimits {
		for policy := store.DropOldest; policy <= store.Block; policy++ {
			both := limits.MaxQueueMessages+int(limits.MaxQueueBytes) > 0 && limits.MaxSessionMessages > 0
			if policy == store.DropNewest && both {
				continue
			}
			limits.Policy = policy
			t.Run(fmt.Sprintf("%d %s", i, policy), func(t *testing.T) {
				rapid.Check(t, func(r *rapid.T) { playLimits(r, t, open, limits) })
			})
		}
	}
}

func playLimits(r *rapid.T, t *testing.T, open Open, limits store.Limits) {
	p := &limitPlayer{player: player{T: r, m: newModel(), filters: playFilters, topics: playTopics[:3],
		d: &driver{reporter: r, now: 1_000_000 * second}}, limits: limits}
	p.d.s = open(t, store.Options{Groups: 2, Limits: limits, OnDrop: p.d.drops.add})
	defer p.d.s.Close()
	steps := []func(){p.player.claim, p.player.drop, p.join, p.join, p.leave, p.send, p.send, p.send, p.send, p.send, p.acknowledge, p.acknowledge, p.ackShare}
	for range modelSteps {
		steps[p.int(len(steps))]()
		p.retry()
		p.compare()
		p.d.equal(p.d.s.Stats().Held, len(p.held))
		p.compareOwed()
		p.compareDrops()
	}
}

// limitPlayer plays with limits. All acknowledge in order, so that a queue has just what somebody is owed.
type limitPlayer struct {
	player
	limits  store.Limits
	held    []modelHeld // in order
	dropped []string
}

type modelHeld struct {
	message *mqtt.Message
	done    waiting
}

func (p *limitPlayer) join() {
	if s := p.session(); s != nil {
		sub := store.Subscription{Filter: p.filters[p.int(len(p.filters))], QoS: mqtt.QoS(1 + p.int(2))}
		c := &store.Subscribe{Owner: s.owner, Subscriptions: []store.Subscription{sub}}
		await(p.d, c, &c.Done, p.d.s.ProposeSubscribe)
		p.m.subscribe(s, sub)
	}
}

func (p *limitPlayer) leave() {
	if p.chance(2) {
		p.unsubscribe()
	}
}

// acknowledge acknowledges the first messages of a session.
func (p *limitPlayer) acknowledge() {
	s := p.session()
	if s == nil || len(s.queue) == 0 {
		return
	}
	n := p.int(len(s.queue)) + 1
	c := store.Ack{Owner: s.owner}
	for _, e := range s.queue[:n] {
		c.Refs = append(c.Refs, e.ref)
	}
	p.d.ok(p.d.acknowledge(c).Err)
	s.queue = slices.Clone(s.queue[n:])
}

func (p *limitPlayer) send() {
	p.n++
	msg := &mqtt.Message{Topic: p.topics[p.int(len(p.topics))], Payload: []byte(fmt.Sprint(p.n%10, "--"[:p.int(3)])), QoS: 1, ClientID: "publisher"}
	refuse := p.limits.Policy == store.Reject || p.limits.Policy == store.Block
	room, ever := p.room(msg)
	behind := slices.ContainsFunc(p.held, func(h modelHeld) bool { return h.message.Topic == msg.Topic })
	done := p.d.begin(store.Publish{Message: msg})
	switch {
	case refuse && !behind && (!ever || !room && p.limits.Policy == store.Reject):
		p.d.is(p.d.done(done).Err, store.ErrFull)
		p.dropped = append(p.dropped, dropLine("rejected ", "", msg))
	case refuse && (behind || !room):
		p.d.barrier()
		p.held = append(p.held, modelHeld{msg, done})
	default:
		p.enter(p.d.done(done))
	}
}

// enter follows a publish that was committed.
func (p *limitPlayer) enter(got *store.Publish) {
	p.d.ok(got.Err)
	msg := got.Message
	if p.limits.Policy == store.DropNewest {
		p.d.equal(got.Matched, len(p.wanted(msg)) > 0)
		p.enterNewest(got.Ref, msg)
		return
	}
	p.d.equal(got.Matched, p.m.publish(got.Ref, msg))
	if p.limits.Policy == store.DropOldest {
		p.cutFilters(msg)
		p.cutSessions()
	}
}

// wanted are the filters with a queue that match.
func (p *limitPlayer) wanted(msg *mqtt.Message) (filters []string) {
	for _, s := range p.m.sessions {
		for f := range s.subs {
			if inner, shared := isShared(f); !shared && topic.Match(inner, msg.Topic) && !slices.Contains(filters, f) {
				filters = append(filters, f)
			}
		}
	}
	for f := range p.m.shares {
		if inner, _ := isShared(f); topic.Match(inner, msg.Topic) {
			filters = append(filters, f)
		}
	}
	return filters
}

// inQueue is what is in the queue of a filter, in order.
func (p *limitPlayer) inQueue(f string) (list []modelOwed) {
	list = slices.Clone(p.m.shares[f])
	for _, s := range p.m.sessions {
		for _, e := range s.queue {
			if slices.Contains(e.filters, f) && !slices.ContainsFunc(list, func(o modelOwed) bool { return o.ref == e.ref }) {
				list = append(list, e)
			}
		}
	}
	slices.SortFunc(list, func(a, b modelOwed) int { return int(a.ref.Position) - int(b.ref.Position) })
	return list
}

func (p *limitPlayer) overFilter(messages, bytes int) bool {
	l := p.limits
	return l.MaxQueueMessages > 0 && messages > l.MaxQueueMessages || l.MaxQueueBytes > 0 && bytes > int(l.MaxQueueBytes)
}

func (p *limitPlayer) overSession(messages, bytes int) bool {
	l := p.limits
	return l.MaxSessionMessages > 0 && messages > l.MaxSessionMessages || l.MaxSessionBytes > 0 && bytes > int(l.MaxSessionBytes)
}

func total(list []modelOwed) (messages, bytes int) {
	for _, e := range list {
		messages, bytes = messages+1, bytes+e.message.Size()
	}
	return messages, bytes
}

// owed is the same for a session, where a message counts for each of its filters.
func owed(s *modelSession) (messages, bytes int) {
	for _, e := range s.queue {
		messages, bytes = messages+len(e.filters), bytes+len(e.filters)*e.message.Size()
	}
	return messages, bytes
}

func (p *limitPlayer) matching(s *modelSession, filters []string) (n int) {
	for _, f := range filters {
		if _, shared := isShared(f); !shared && s.subs[f].Filter == f {
			n++
		}
	}
	return n
}

// room says whether a message finds room everywhere, and whether it would if nothing waited.
func (p *limitPlayer) room(msg *mqtt.Message) (room, ever bool) {
	room, ever = true, true
	filters, size := p.wanted(msg), msg.Size()
	for _, f := range filters {
		n, bytes := total(p.inQueue(f))
		room = room && !p.overFilter(n+1, bytes+size)
		ever = ever && !p.overFilter(1, size)
	}
	for _, s := range p.m.sessions {
		n, bytes := owed(s)
		k := p.matching(s, filters)
		if k == 0 {
			continue
		}
		room = room && !p.overSession(n+k, bytes+k*size)
		ever = ever && !p.overSession(k, k*size)
	}
	return room, ever
}

// leaveQueue takes a message out of the queue of one filter.
func (p *limitPlayer) leaveQueue(f string, ref store.Ref) (readers []string) {
	if _, shared := isShared(f); shared {
		p.m.ackShared(f, ref)
		return []string{""}
	}
	for id, s := range p.m.sessions {
		i := slices.IndexFunc(s.queue, func(e modelOwed) bool { return e.ref == ref && slices.Contains(e.filters, f) })
		if i < 0 {
			continue
		}
		readers = append(readers, id)
		s.queue = slices.Clone(s.queue)
		e := &s.queue[i]
		e.filters = slices.DeleteFunc(slices.Clone(e.filters), func(o string) bool { return o == f })
		if len(e.filters) == 0 {
			s.queue = slices.Delete(s.queue, i, i+1)
		}
	}
	return readers
}

func (p *limitPlayer) cutFilters(msg *mqtt.Message) {
	for _, f := range p.wanted(msg) {
		for {
			list := p.inQueue(f)
			if n, bytes := total(list); n < 2 || !p.overFilter(n, bytes) {
				break
			}
			readers := p.leaveQueue(f, list[0].ref)
			p.drop("filter-oldest "+f, readers, list[0].message)
		}
	}
}

func (p *limitPlayer) drop(what string, readers []string, msg *mqtt.Message) {
	id := ""
	if len(readers) == 1 {
		id = readers[0]
	}
	p.dropped = append(p.dropped, dropLine(what, id, msg))
}

func (p *limitPlayer) cutSessions() {
	for id, s := range p.m.sessions {
		for len(s.queue) > 1 && p.overSession(owed(s)) {
			p.drop("session-oldest "+s.queue[0].filters[0], []string{id}, s.queue[0].message)
			s.queue = slices.Clone(s.queue[1:])
		}
	}
}

// enterNewest lets a message into the queues that have room.
func (p *limitPlayer) enterNewest(ref store.Ref, msg *mqtt.Message) {
	var filters []string
	for _, f := range p.wanted(msg) {
		n, bytes := total(p.inQueue(f))
		if !p.overFilter(n+1, bytes+msg.Size()) {
			filters = append(filters, f)
			continue
		}
		var readers []string
		for id, s := range p.m.sessions {
			if s.subs[f].Filter == f {
				readers = append(readers, id)
			}
		}
		if _, shared := isShared(f); shared {
			readers = nil
		}
		p.drop("filter-newest "+f, readers, msg)
	}
	for id, s := range p.m.sessions {
		n, bytes := owed(s)
		k := p.matching(s, filters)
		if k == 0 {
			continue
		}
		if p.overSession(n+k, bytes+k*msg.Size()) {
			p.drop("session-newest", []string{id}, msg)
			continue
		}
		own := slices.DeleteFunc(slices.Clone(filters), func(f string) bool { _, shared := isShared(f); return shared || s.subs[f].Filter != f })
		slices.Sort(own)
		s.queue = append(s.queue, modelOwed{ref, msg, own})
	}
	for _, f := range filters {
		if _, shared := isShared(f); shared {
			p.m.shares[f] = append(p.m.shares[f], modelOwed{ref, msg, []string{f}})
		}
	}
}

// retry looks again at what is held, oldest first.
func (p *limitPlayer) retry() {
	var left []modelHeld
	for _, h := range p.held {
		behind := slices.ContainsFunc(left, func(o modelHeld) bool { return o.message.Topic == h.message.Topic })
		room, ever := p.room(h.message)
		switch {
		case behind || !room && ever:
			left = append(left, h)
		case !ever:
			p.d.is(p.d.done(h.done).Err, store.ErrFull)
			p.dropped = append(p.dropped, dropLine("rejected ", "", h.message))
		default:
			p.enter(p.d.done(h.done))
		}
	}
	p.held = left
	for _, h := range p.held {
		p.d.isHeld(h.done)
	}
}

// compareOwed wants what is listed of each session to be exact.
func (p *limitPlayer) compareOwed() {
	list, err := p.d.s.Sessions("", 100)
	p.d.ok(err)
	for _, info := range list {
		n, _ := owed(p.m.sessions[info.ClientID])
		p.d.equal(info.Queued, n)
	}
}

// dropLine is what a drop should be told as.
func dropLine(what, clientID string, msg *mqtt.Message) string {
	return fmt.Sprintf("%s %s %s %d", what, clientID, msg.Topic, msg.Size())
}

// compareDrops wants each drop to be told once.
func (p *limitPlayer) compareDrops() {
	var got []string
	for _, e := range p.d.told() {
		what := fmt.Sprint(e.Cause, " ", e.Filter, " ", e.ClientID)
		if e.Cause == store.SessionNewest { // of several filters it is any
			what = fmt.Sprint(e.Cause, " ", e.ClientID)
		}
		got = append(got, fmt.Sprintf("%s %s %d", what, e.Topic, e.Size))
	}
	slices.Sort(got)
	slices.Sort(p.dropped)
	p.d.equal(got, p.dropped)
	p.dropped = nil
}
