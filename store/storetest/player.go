// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
)

// modelSteps is the length of a random sequence; rapid.checks (100) times modelRounds sequences are played.
const (
	modelSteps  = 80
	modelRounds = 20
)

func runModel(t *testing.T, open Open) {
	for round := range modelRounds {
		rapid.Check(t, func(r *rapid.T) {
			p := &player{T: r, m: newModel(), filters: playFilters, topics: playTopics, d: &driver{reporter: r, s: open(t, store.Options{Groups: 1 + round%4}), now: 1_000_000 * second}}
			if round%2 == 0 { // many readers of few queues
				p.filters, p.topics = playFilters[round%len(playFilters):][:1], playTopics[:3]
			}
			defer p.d.s.Close()
			for range modelSteps {
				p.step()
				p.compare()
			}
			p.clear()
		})
	}
}

// player plays the same commands to a store and to the model.
type player struct {
	*rapid.T
	d *driver
	m *model
	n int // messages published

	filters, topics []string // to choose from
}

var (
	playFilters = []string{"a", "b", "a/b", "a/+", "#", "+/b", "$share/g/a", "$share/g/#", "$share/h/+/b"}
	playTopics  = []string{"a", "b", "a/b", "a/c", "d"}
)

func (p *player) int(below int) int  { return rapid.IntRange(0, below-1).Draw(p.T, "n") }
func (p *player) chance(of int) bool { return p.int(of) == 0 }
func (p *player) client() string     { return fmt.Sprint("c", p.int(4)) }
func (p *player) session() *modelSession {
	if len(p.m.sessions) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(p.m.sessions))
	return p.m.sessions[ids[p.int(len(ids))]]
}

func (p *player) step() {
	steps := []func(){p.claim, p.drop, p.detach, p.tick, p.subscribe, p.subscribe, p.unsubscribe, p.publish, p.publish, p.publish,
		p.publish, p.release, p.begin, p.begin, p.ack, p.ack, p.ackShare, p.will}
	steps[p.int(len(steps))]()
}

func (p *player) message() *mqtt.Message {
	p.n++
	msg := &mqtt.Message{
		Topic:    p.topics[p.int(len(p.topics))],
		Payload:  []byte(fmt.Sprint(p.n)),
		QoS:      mqtt.QoS(p.int(3)),
		Retain:   p.chance(4),
		Received: p.d.now,
	}
	if msg.Retain && p.chance(3) {
		msg.Payload = nil
	}
	if p.chance(5) {
		msg.Expiry = p.d.now + int64(p.int(20))*second
	}
	return msg
}

func (p *player) claim() {
	c := store.Claim{ClientID: p.client(), Username: "u", CleanStart: p.chance(4), Expiry: 9}
	if p.chance(8) {
		c.Username = "v"
	}
	if p.chance(2) {
		c.Will = &store.Will{Message: p.message(), Delay: uint32(p.int(3) * 5)}
	}
	got := p.d.claim(c)
	c.Now = p.d.now
	present, wills, freed, err := p.m.claim(&c)
	p.d.is(got.Err, err)
	if err != nil {
		return
	}
	p.d.equal(got.Present, present)
	p.d.equal(got.Wills, wills)
	p.d.equal(got.Freed, freed)
	s := p.m.sessions[c.ClientID]
	if present && (got.Owner.ID != s.owner.ID || got.Owner.Epoch <= s.owner.Epoch) {
		p.Fatalf("owner %v after %v", got.Owner, s.owner)
	}
	s.owner = got.Owner
	p.sameSession(got.Session, s)
}

func (p *player) sameSession(got store.Session, s *modelSession) {
	var subs []store.Subscription
	for _, f := range slices.Sorted(maps.Keys(s.subs)) {
		subs = append(subs, s.subs[f])
	}
	p.d.equal(got.Subscriptions, subs)
	p.d.equal(got.Received, slices.Sorted(slices.Values(s.received)))
	p.d.equal(got.NextID, s.nextID)
	p.d.equal(len(got.Window), len(s.window))
	for i, e := range got.Window {
		want := s.window[i]
		if e.ID != want.ID || e.QoS != want.QoS || e.State != want.State || e.Ref != want.Ref || e.Share != want.Share || !sameMessage(e.Message, want.Message) {
			p.Fatalf("window entry %+v, want %+v", e, want)
		}
	}
}

func (p *player) drop() {
	c := store.Drop{ClientID: p.client(), Username: "u", AnyUser: p.chance(2)}
	got := p.d.drop(c)
	s := p.m.sessions[c.ClientID]
	if s == nil {
		p.d.equal(got.Existed, false)
		return
	}
	over := s.expires != 0 && s.expires <= p.d.now
	if !over && !c.AnyUser && s.username != c.Username {
		p.d.is(got.Err, store.ErrNotOwner)
		return
	}
	freed, wills := p.m.end(s)
	p.d.equal(got.Existed, !over)
	p.d.equal(got.Freed, freed)
	p.d.equal(got.Wills, wills)
}

func (p *player) detach() {
	s := p.session()
	if s == nil {
		return
	}
	c := store.Detach{Owner: s.owner, Expiry: uint32(p.int(4) * 6), KeepWill: p.chance(2), NextID: uint16(p.int(99))}
	for _, e := range s.window {
		if !p.chance(4) {
			c.Window = append(c.Window, e)
		}
	}
	for _, e := range p.m.readable(s, p.d.now) {
		if p.chance(3) {
			c.Acked = append(c.Acked, e.ref)
		} else if id := uint16(20 + p.int(5)); p.chance(3) && !hasID(c.Window, id) && !hasID(s.window, id) {
			c.Window = append(c.Window, store.Inflight{ID: id, QoS: 1, Ref: e.ref, Message: e.message})
		}
	}
	if !s.attached {
		c.Expiry = max(c.Expiry, 1)
	}
	got := p.d.detach(c)
	p.d.ok(got.Err)
	c.Now = p.d.now
	p.d.equal(got.Freed, p.m.detach(&c, s))
}

func hasID(window []store.Inflight, id uint16) bool {
	return slices.ContainsFunc(window, func(e store.Inflight) bool { return e.ID == id })
}

func (p *player) tick() {
	p.d.now += int64(p.int(8)) * second
	got := p.d.tick()
	ended, wills := p.m.tick(p.d.now)
	var ids []string
	for _, e := range got.Ended {
		ids = append(ids, e.ClientID)
	}
	slices.Sort(ids)
	sortWills(got.Wills)
	p.d.equal(ids, ended)
	p.d.equal(got.Wills, wills)
}

func (p *player) subscribe() {
	s := p.session()
	if s == nil {
		return
	}
	sub := store.Subscription{Filter: p.filters[p.int(len(p.filters))], QoS: mqtt.QoS(p.int(3)), Identifier: uint32(p.int(9))}
	c := &store.Subscribe{Owner: s.owner, Subscriptions: []store.Subscription{sub}}
	await(p.d, c, &c.Done, p.d.s.ProposeSubscribe)
	p.d.ok(c.Err)
	_, existed := s.subs[sub.Filter]
	p.d.equal(c.Existed, []bool{existed})
	p.m.subscribe(s, sub)
}

func (p *player) unsubscribe() {
	s := p.session()
	if s == nil {
		return
	}
	filter := p.filters[p.int(len(p.filters))]
	_, existed := s.subs[filter]
	p.d.equal(p.d.unsubscribe(s.owner, filter).Existed, []bool{existed})
	p.m.unsubscribe(s, filter)
}

func (p *player) publish() {
	c := store.Publish{Message: p.message()}
	var publisher *modelSession
	if c.Message.QoS == 2 {
		if publisher = p.session(); publisher != nil {
			c.Publisher, c.PacketID = publisher.owner, uint16(1+p.int(4))
		}
	}
	got := p.d.propose(c)
	p.d.ok(got.Err)
	if publisher != nil {
		known := slices.Contains(publisher.received, c.PacketID)
		p.d.equal(got.Duplicate, known)
		if known {
			return
		}
		publisher.received = append(publisher.received, c.PacketID)
	}
	p.d.equal(got.Matched, p.m.publish(got.Ref, c.Message))
}

func (p *player) release() {
	s := p.session()
	if s == nil {
		return
	}
	id := uint16(1 + p.int(4))
	i := slices.Index(s.received, id)
	p.d.equal(p.d.release(s.owner, id).Found, i >= 0)
	if i >= 0 {
		s.received = slices.Delete(s.received, i, i+1)
	}
}

// begin sends something of QoS 2, or goes on with it.
func (p *player) begin() {
	s := p.session()
	if s == nil {
		return
	}
	e := store.Inflight{ID: uint16(1 + p.int(6)), QoS: 2}
	if i := slices.IndexFunc(s.window, func(w store.Inflight) bool { return w.ID == e.ID }); i >= 0 {
		e = s.window[i]
		e.State = store.Released
	} else if !p.fill(&e, s) {
		return
	}
	s.nextID = 9
	given := e
	if e.Ref != (store.Ref{}) {
		given.Message = nil
	}
	p.d.ok(p.d.window(s.owner, given).Err)
	p.m.hold(s, e)
}

// fill chooses the message of a new window entry.
func (p *player) fill(e *store.Inflight, s *modelSession) bool {
	own := p.m.readable(s, p.d.now)
	switch p.int(3) {
	case 0:
		e.Message = p.message()
		return true
	case 1:
		for _, f := range slices.Sorted(maps.Keys(p.m.shares)) {
			if list := p.m.readableShare(f, p.d.now); len(list) > 0 {
				e.Ref, e.Share, e.Message = list[0].ref, f, list[0].message
				return true
			}
		}
	}
	if len(own) == 0 {
		return false
	}
	o := own[p.int(len(own))]
	e.Ref, e.Message = o.ref, o.message
	return true
}

func (p *player) ack() {
	s := p.session()
	if s == nil {
		return
	}
	c := store.Ack{Owner: s.owner}
	for _, e := range s.queue {
		if p.chance(2) {
			c.Refs = append(c.Refs, e.ref)
		}
	}
	if len(s.window) > 0 {
		c.IDs = []uint16{s.window[p.int(len(s.window))].ID}
	}
	p.d.ok(p.d.acknowledge(c).Err)
	for _, ref := range c.Refs {
		s.queue = without(s.queue, ref)
	}
	s.window = slices.DeleteFunc(slices.Clone(s.window), func(e store.Inflight) bool { return slices.Contains(c.IDs, e.ID) })
}

func (p *player) ackShare() {
	s := p.session()
	if s == nil {
		return
	}
	c := store.Ack{Owner: s.owner}
	for _, f := range slices.Sorted(maps.Keys(p.m.shares)) {
		for _, e := range p.m.shares[f] {
			if p.chance(2) {
				c.Share = append(c.Share, store.Shared{Filter: f, Ref: e.ref})
			}
		}
	}
	p.d.ok(p.d.acknowledge(c).Err)
	for _, sh := range c.Share {
		p.m.ackShared(sh.Filter, sh.Ref)
	}
}

// will publishes a will, due or not, or one that was published before.
func (p *player) will() {
	id := store.SessionID(1 + p.int(12))
	c := store.Publish{Message: p.message(), WillOf: id}
	got := p.d.propose(c)
	p.d.ok(got.Err)
	had := p.m.takeWill(id)
	p.d.equal(got.Duplicate, !had)
	if had {
		p.d.equal(got.Matched, p.m.publish(got.Ref, c.Message))
	}
}

// compare reads everything from both.
func (p *player) compare() {
	for _, id := range slices.Sorted(maps.Keys(p.m.sessions)) {
		s := p.m.sessions[id]
		p.same(p.d.queue(s.owner), p.m.readable(s, p.d.now))
		p.d.equal(p.d.s.Has(id), true)
	}
	for _, f := range playFilters[6:] {
		p.same(p.d.share(f), p.m.readableShare(f, p.d.now))
		_, have := p.m.shares[f]
		p.d.equal(p.d.s.HasShare(f), have)
	}
	p.d.barrier() // for the acknowledgements of what was found expired
	var names []string
	for name, msg := range p.m.retained {
		if !msg.Expired(p.d.now) {
			names = append(names, name)
		}
	}
	got := p.d.retained("#")
	slices.Sort(names)
	slices.Sort(got)
	p.d.equal(got, names)
	st := p.d.s.Stats()
	p.d.equal(st.Retained, len(p.m.retained))
	p.d.equal(st.Sessions, len(p.m.sessions))
	p.d.equal(st.Expired, p.m.expired)
	p.sameList()
}

func (p *player) same(got []store.Delivery, want []modelOwed) {
	if len(got) != len(want) {
		p.Fatalf("read %d messages %v, want %d %v", len(got), got, len(want), want)
	}
	for i, e := range got {
		if e.Ref != want[i].ref || !sameMessage(e.Message, want[i].message) || !slices.Equal(e.Filters, want[i].filters) {
			p.Fatalf("message %d is %v, want %v", i, e, want[i])
		}
	}
}

// sameMessage compares what messages say: a store may give another copy.
func sameMessage(a, b *mqtt.Message) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Topic == b.Topic && a.QoS == b.QoS && a.Retain == b.Retain && a.Received == b.Received && a.Expiry == b.Expiry &&
		a.ClientID == b.ClientID && a.Username == b.Username && bytes.Equal(a.Payload, b.Payload) && bytes.Equal(a.Properties, b.Properties)
}

func (p *player) sameList() {
	list, err := p.d.s.Sessions("", 100)
	p.d.ok(err)
	ids := slices.Sorted(maps.Keys(p.m.sessions))
	p.d.equal(len(list), len(ids))
	for i, info := range list {
		s := p.m.sessions[ids[i]]
		if info.ClientID != ids[i] || info.Attached != s.attached || info.ExpiresAt != s.expires ||
			info.Subscriptions != len(s.subs) || info.Queued < int64(len(s.queue)) {
			p.Fatalf("listed %+v, want %+v", info, s)
		}
	}
}

// clear acknowledges everything, and wants nothing to be left but retained messages; then it ends everything.
func (p *player) clear() {
	for _, s := range p.m.sessions {
		c := store.Ack{Owner: s.owner}
		for _, e := range s.queue {
			c.Refs = append(c.Refs, e.ref)
		}
		for f, queue := range p.m.shares {
			for _, e := range queue {
				c.Share = append(c.Share, store.Shared{Filter: f, Ref: e.ref})
			}
		}
		for _, e := range s.window {
			c.IDs = append(c.IDs, e.ID)
		}
		p.d.ok(p.d.acknowledge(c).Err)
	}
	if len(p.m.sessions) > 0 {
		p.d.equal(p.d.s.Stats().Messages, p.d.s.Stats().Retained)
		list, err := p.d.s.Sessions("", 100)
		p.d.ok(err)
		for _, info := range list {
			p.d.equal(info.Queued, 0)
		}
	}
	for id := range p.m.sessions {
		p.d.drop(store.Drop{ClientID: id, AnyUser: true})
	}
	for _, name := range playTopics {
		p.d.propose(store.Publish{Message: &mqtt.Message{Topic: name, Retain: true}})
	}
	st := p.d.s.Stats()
	if st.Sessions != 0 || st.Attached != 0 || st.Subscriptions != 0 || st.Messages != 0 || st.MessageBytes != 0 || st.Retained != 0 {
		p.Fatalf("left: %+v", st)
	}
	for _, name := range playTopics {
		p.d.equal(p.d.s.Matches([]byte(name)), false)
	}
}
