// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"sync"

	"github.com/noctule/noctule/internal/invariants"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
	"github.com/noctule/noctule/transport"
)

// subscriber is what the topic index holds: one subscription of an online session, a shared subscription with
// online members, or a function in this process. Its fields belong to the loop that the index knows as its owner.
type subscriber struct {
	c       *connection
	share   *share
	inline  *inline
	member  *member // of the shared subscription, where the filter of the connection is shared
	qos     mqtt.QoS
	noLocal bool
	asIs    bool // retain as published
	ids     []uint32
	filter  string           // as matched, without $share and share name
	whole   string           // with them
	streams int              // of retained messages, under way or waiting
	both    map[string]int64 // while there are streams: retained messages that came live or by a stream, by topic, with their time of receipt
	leaving bool             // an UNSUBSCRIBE waits for the store
	turn    int              // grows with each SUBSCRIBE for it
	shape   *shape           // nil where every message is wanted
}

// sliceSize is how many deliveries a loop makes for one message before it looks after others. A delivery costs some
// 0.1 us, and the write that may follow it 2 us: a slice holds a loop up for 20 ms at most. In one slice the messages of a burst share
// their writes; cut into several, each message is written by itself: bursts to 2 500 subscribers of a loop cost 7.2 us a
// delivery with slices of 2 048, and 0.6 us with these.
const sliceSize = 8192

// fanout is one message on its way to the receivers of one loop.
type fanout struct {
	m       *mqtt.Message // nil for a QoS 0 message that nobody has cloned yet
	topic   []byte
	payload []byte
	props   mqtt.Properties
	from    string // client identifier of the publisher
	qos     mqtt.QoS
	retain  bool
	now     int64
	ref     store.Ref
	// committed: this is the second way of a stored message, to persistent sessions; stored: there is such a second way.
	// failed: the store did not take it, which only shared subscriptions want to know.
	committed, stored, failed bool

	lists   [][]*subscriber
	filters int // different filters that matched for this loop
	size    int // what it counts against the loop's handover limit
	sh      *shard

	list, at int           // progress
	touched  []*connection // where filters overlap: the receivers, merged
	gathered bool

	block *transport.Block // holds the payload where it is large and goes to many; nil otherwise
	refs  int              // to block that are ours

	enc     [6]encoding // by version (5.0 or not) and QoS
	encoded byte        // which of them are made, a bit each
	buf     []byte      // owns topic, payload and props of a handed-over QoS 0 message
}

// encoding is the packet as it goes to many: only flags and packet identifier differ.
type encoding struct {
	b  []byte
	id int // where the packet identifier stands
}

var fanouts = sync.Pool{New: func() any { return new(fanout) }}

// fan gives the scratch fanout of a packet that is routed at once.
func (sh *shard) fan() *fanout {
	sh.fans.now.reset()
	return &sh.fans.now
}

// blockSize is the payload size, in bytes, from which receivers refer to one block instead of each having a copy in its out-queue.
const blockSize = session.RefSize

// shareLarge puts a large payload that is still lent into a block, unless it has but one receiver, on this loop: that gets the only copy there is.
func (sh *shard) shareLarge(f *fanout) {
	total := 0
	for i := range sh.b.shards {
		total += sh.matches.Count(i)
	}
	if total > 1 || sh.matches.Count(sh.n) == 0 {
		f.block, f.refs = transport.NewBlock(f.payload), 1
		f.payload = f.block.Bytes()
	}
}

// unshare gives the references back that nobody took.
func (f *fanout) unshare() {
	if f.block != nil {
		f.block.Release(f.refs)
		f.block, f.refs = nil, 0
	}
}

// takeRef gives one reference to the block away. They are counted by the dozen: the count may be contended by several loops.
func (f *fanout) takeRef() *transport.Block {
	if f.refs == 1 {
		const dozen = 64
		f.block.Hold(dozen)
		f.refs += dozen
	}
	f.refs--
	return f.block
}

// spread hands a message to the loops of its receivers. f is the shard's scratch; c is the publisher's connection, nil
// if there is none.
func (sh *shard) spread(f *fanout, c *connection) {
	if f.m == nil && len(f.payload) >= blockSize {
		sh.shareLarge(f)
		sh.send(f, c)
		f.unshare()
		return
	}
	sh.send(f, c)
}

func (sh *shard) send(f *fanout, c *connection) {
	ms := sh.matches
	for i, to := range sh.b.shards {
		if i == sh.n || ms.Count(i) == 0 {
			continue
		}
		k := &sh.packing[i]
		k.add(f, ms)
		if c != nil && k.onWay() > int64(sh.b.config.Load().limits.MaxHandover) {
			sh.stall(c, to)
		}
	}
	if n := ms.Count(sh.n); n > 0 {
		if n > sliceSize || !sh.fans.idle() {
			sh.fans.add(f.forOwner(sh, ms, sh.n))
			if c != nil && sh.handed.Load() > int64(sh.b.config.Load().limits.MaxHandover) {
				sh.stall(c, sh)
			}
			return
		}
		f.sh = sh
		f.lists = ms.AppendOwner(f.lists[:0], sh.n)
		f.filters = ms.OwnerFilters(sh.n)
		f.run(n)
	}
}

// forOwner makes a fanout that outlives the packet, for the receivers of one loop.
func (f *fanout) forOwner(to *shard, ms *topic.Matches[*subscriber], owner int) *fanout {
	g := f.copyFor(to)
	g.lists = ms.AppendOwner(g.lists[:0], owner)
	g.filters = ms.OwnerFilters(owner)
	return g
}

// rest makes a fanout of what is left of one.
func (f *fanout) rest() *fanout {
	g := f.copyFor(f.sh)
	g.lists, g.touched = append(g.lists[:0], f.lists...), append(g.touched[:0], f.touched...)
	g.filters, g.gathered, g.list, g.at = f.filters, f.gathered, f.list, f.at
	return g
}

// copyFor makes a fanout of the same message, without receivers, that is counted as being on its way to a loop.
func (f *fanout) copyFor(to *shard) *fanout {
	g := fanouts.Get().(*fanout)
	g.m, g.qos, g.retain, g.from, g.now = f.m, f.qos, f.retain, f.from, f.now
	g.ref, g.committed, g.stored, g.failed = f.ref, f.committed, f.stored, f.failed
	g.sh = to
	switch {
	case f.m != nil:
		g.topic, g.payload, g.props = f.topic, f.payload, f.props
	default:
		payload := f.payload
		if f.block != nil {
			g.block, g.refs = f.takeRef(), 1
			payload = nil
		}
		invariants.CheckPoison(g.buf[:cap(g.buf)], "the copy of a message for another loop")
		b := append(append(append(g.buf[:0], f.topic...), f.props...), payload...)
		t, p := len(f.topic), len(f.topic)+len(f.props)
		g.buf, g.topic, g.props, g.payload = b, b[:t:t], mqtt.Properties(b[t:p:p]), b[p:]
		if f.block != nil {
			g.payload = g.block.Bytes()
		}
	}
	g.size = f.weight()
	to.handed.Add(int64(g.size))
	return g
}

// weight is what a message counts against the handover limit.
func (f *fanout) weight() int { return len(f.topic) + len(f.props) + len(f.payload) + 64 }

// Run takes a fanout on the loop of its receivers.
func (f *fanout) Run(*loop.Loop) { f.sh.fans.add(f) }

// free gives a fanout of forOwner back.
func (f *fanout) free() {
	f.sh.handed.Add(-int64(f.size))
	f.unshare()
	f.reset()
	fanouts.Put(f)
}

// reset empties a fanout, and keeps its buffers. Field by field: copying the whole costs more than all else in routing.
func (f *fanout) reset() {
	clear(f.lists)
	clear(f.touched)
	f.lists, f.touched = f.lists[:0], f.touched[:0]
	f.m, f.topic, f.payload, f.props, f.from = nil, nil, nil, nil, ""
	f.qos, f.retain, f.now, f.ref = 0, false, 0, store.Ref{}
	f.committed, f.stored, f.failed, f.gathered = false, false, false, false
	f.filters, f.size, f.sh, f.list, f.at = 0, 0, nil, 0, 0
	f.encoded = 0
	invariants.Poison(f.buf[:cap(f.buf)])
	if cap(f.buf) > 64<<10 {
		f.buf = nil
	}
}

// run makes up to budget deliveries; it says whether all are made.
func (f *fanout) run(budget int) bool {
	if f.filters > 1 {
		return f.runMerged(budget)
	}
	for f.list < len(f.lists) {
		l := f.lists[f.list]
		for f.at < len(l) {
			if budget == 0 {
				return false
			}
			budget--
			s := l[f.at]
			f.at++
			f.sh.deliver(s, f)
		}
		f.list, f.at = f.list+1, 0
	}
	return true
}

// merged is what the overlapping subscriptions of one session ask for together: one copy, with the highest QoS and all
// identifiers [MQTT-3.3.4-2, MQTT-3.3.4-4].
type merged struct {
	subscriber
}

// runMerged is run where a session may stand in several lists.
func (f *fanout) runMerged(budget int) bool {
	if !f.gathered {
		f.gather()
	}
	for f.at < len(f.touched) {
		if budget == 0 {
			return false
		}
		budget--
		c := f.touched[f.at]
		f.at++
		m := c.merge
		c.merge = nil
		f.sh.deliver(&m.subscriber, f)
	}
	return true
}

// gather merges the subscriptions of each session, in one go: it costs some 20 ns a subscription.
func (f *fanout) gather() {
	f.gathered = true
	for _, l := range f.lists {
		for _, s := range l {
			if s.c == nil {
				f.sh.deliver(s, f) // shared subscriptions and functions get a copy for each filter
				continue
			}
			if f.failed || s.noLocal && s.c.client.ID == f.from || !f.firstTime(s) {
				continue
			}
			m := s.c.merge
			if m == nil {
				m = &merged{subscriber: *s}
				m.noLocal, m.streams = false, 0 // both are looked at here
				s.c.merge = m
				f.touched = append(f.touched, s.c)
				continue
			}
			m.qos = max(m.qos, s.qos)
			if s.shape == nil {
				m.shape = nil // one of them wants every message
			}
			m.asIs = m.asIs || s.asIs
			if len(s.ids) > 0 {
				m.ids = append(m.ids[:len(m.ids):len(m.ids)], s.ids...)
			}
		}
	}
}

// message gives the message itself, cloning it where it is still lent.
func (f *fanout) message() *mqtt.Message {
	if f.m == nil {
		p := mqtt.Publish{Topic: f.topic, Payload: f.payload, Properties: f.props, QoS: f.qos, Retain: f.retain}
		f.m = p.Message(f.now)
		f.m.ClientID = f.from
	}
	return f.m
}

// packet gives the encoding for a version and QoS, made at first use.
func (f *fanout) packet(v5 bool, q mqtt.QoS) *encoding {
	n, v, props := 0, mqtt.V311, mqtt.Properties(nil)
	if v5 {
		n, v, props = 1, mqtt.V5, f.props
	}
	n = 3*n + int(q)
	e := &f.enc[n]
	if f.encoded&(1<<n) != 0 {
		return e
	}
	f.encoded |= 1 << n
	id := uint16(0)
	if q > 0 {
		id = 1
	}
	b := mqtt.AppendPublishHeader(e.b[:0], byte(q)<<1, view(f.topic), id, v, props, len(f.payload))
	e.id = 0
	if q > 0 { // the identifier stands behind the topic
		n := 2
		for b[n-1]&0x80 != 0 {
			n++
		}
		e.id = n + 2 + len(f.topic)
	}
	e.b = append(b, f.payload...)
	return e
}

// fanQueue keeps the fan-outs of one loop in order, and works long ones off in slices.
type fanQueue struct {
	shard  *shard
	items  []*fanout
	head   int
	queued bool // the queue itself is deferred

	now  fanout // scratch of the packet at hand
	mail fanout // scratch of the parcel at hand
}

func (q *fanQueue) idle() bool { return q.head == len(q.items) }

// add runs a fanout, behind those that are under way.
func (q *fanQueue) add(f *fanout) {
	if q.idle() {
		if f.run(sliceSize) {
			f.free()
			q.shard.relieve()
			return
		}
	}
	q.items = append(q.items, f)
	q.again()
}

// accept makes up to budget deliveries of a scratch fanout, behind those that are under way, and keeps the rest for later. It returns how
// many it made.
func (q *fanQueue) accept(f *fanout, budget int) int {
	n := f.left()
	if q.idle() && budget > 0 && f.run(budget) {
		return n
	}
	q.items = append(q.items, f.rest())
	q.again()
	return min(n, max(budget, 0))
}

func (q *fanQueue) again() {
	if !q.queued {
		q.queued = true
		q.shard.loop.Defer(q)
	}
}

// Run works a slice off.
func (q *fanQueue) Run(*loop.Loop) {
	q.queued = false
	for budget := sliceSize; budget > 0 && !q.idle(); {
		f := q.items[q.head]
		left := f.left()
		if !f.run(budget) {
			break
		}
		budget -= max(1, left)
		q.items[q.head] = nil
		q.head++
		f.free()
	}
	if q.idle() {
		q.items, q.head = q.items[:0], 0
	} else {
		q.again()
	}
	q.shard.relieve()
}

// left is about how many deliveries remain.
func (f *fanout) left() int {
	if f.gathered {
		return len(f.touched) - f.at
	}
	n := -f.at
	for _, l := range f.lists[f.list:] {
		n += len(l)
	}
	return n
}

// stall pauses a publisher until another loop has worked its messages off. The loop itself goes on.
func (sh *shard) stall(c *connection, to *shard) {
	if c.hold&holdHandover != 0 {
		return
	}
	c.stop(holdHandover)
	to.loop.Post(loop.Func(func(*loop.Loop) {
		to.stalled = append(to.stalled, c)
		to.relieve()
	}))
}

// relieve lets paused publishers go on once half of the handover limit is free.
func (sh *shard) relieve() {
	if len(sh.stalled) == 0 || sh.handed.Load() > int64(sh.b.config.Load().limits.MaxHandover/2) {
		return
	}
	for i, c := range sh.stalled {
		sh.stalled[i] = nil
		c.sh.loop.Post(loop.Func(func(*loop.Loop) { c.resume(holdHandover) }))
	}
	sh.stalled = sh.stalled[:0]
}
