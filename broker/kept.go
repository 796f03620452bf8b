// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"slices"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
)

// storeRef is short for comparisons with "in no queue".
type storeRef = store.Ref

// kept is what a connection holds of a persistent session: the right to it, and how far its queue was read.
//
// Committed messages are pushed, in order of position. While the session keeps up it takes them as they come. When it cannot,
// it falls behind: pushes are let go by, and the queue is read from where it stands, until all was read and no push was missed.
type kept struct {
	owner   store.Owner
	expiry  uint32 // session expiry interval, seconds
	queue   store.Queue
	pos     []store.Position // per topic group: read or pushed up to here
	behind  bool             // the queue holds what was neither read nor pushed
	reading bool
	missed  bool // a push went by while reading
	handing bool // the hand-over waits for the end of a read

	acked  []store.Ref      // not yet told to the store
	shared []store.Shared   // likewise, of shared subscriptions
	ids    []uint16         // window entries that the store may drop
	wins   []store.Inflight // to be kept before they are sent
	line   []inLine         // new entries that wait for it, and those behind them
	window []store.Inflight // as claimed, until the session is open
}

// inLine is a reserved window entry that must not be overtaken.
type inLine struct {
	id    uint16
	ready bool // it may be sent as soon as those before it are
}

// Pushes that find no room in the window wait in memory up to these, then the session falls behind.
const (
	aheadMessages = 256
	aheadBytes    = 256 << 10
)

func newKept(b *Broker, cl *store.Claim, expiry uint32) *kept {
	return &kept{owner: cl.Owner, expiry: expiry, queue: b.store.OpenQueue(cl.Owner), pos: make([]store.Position, b.store.Groups()),
		window: cl.Session.Window}
}

// restore goes on with a stored session: subscriptions, windows, and what waits in its queue.
func (c *connection) restore(s *store.Session) {
	for _, sub := range s.Subscriptions {
		c.subscribeStored(sub)
	}
	c.sess.In.Resume(s.Received)
	window := make([]session.Inflight[tag], 0, len(s.Window))
	var refused []session.Inflight[tag] // by plug-ins that see each delivery
	for i := range s.Window {
		e := c.liveInflight(&s.Window[i])
		if e.State == session.Sent && !c.passHooks(&e.Delivery) {
			refused = append(refused, e)
			continue
		}
		window = append(window, e)
	}
	c.kept.window = nil
	c.sess.Out.Resume(window, s.NextID)
	w := c.sink()
	c.flushed(w, c.sess.Resend(c.sh.loop.Now(), w.out, c.outRoom, c.tooLargeAgain))
	for i := range refused {
		c.settle(&refused[i])
	}
	c.kept.behind = true
}

// tooLargeAgain ends a delivery that this connection of the client does not take.
func (c *connection) tooLargeAgain(e session.Inflight[tag]) {
	c.sh.dropOf(c.client.ID, e.Tag.share, e.Tag.ref, e.Message, plugin.ReceiverTooSmall)
	c.settle(&e)
}

// resendMore goes on with what the Receive Maximum of a resumed session has left out.
func (c *connection) resendMore() {
	w := c.sink()
	if n := c.sess.ResendMore(c.sh.loop.Now(), w.out, c.outRoom, c.tooLargeAgain); n > 0 {
		c.flushed(w, n)
		c.lookAgain()
	}
}

// liveInflight makes a window entry of a stored one.
func (c *connection) liveInflight(s *store.Inflight) session.Inflight[tag] {
	e := session.Inflight[tag]{ID: s.ID, State: session.Sent, Delivery: session.Delivery[tag]{Message: s.Message,
		QoS: s.QoS, Retain: s.Retain, Identifiers: s.Identifiers, Tag: tag{ref: s.Ref, stored: true}}}
	if s.State == store.Released {
		e.State = session.Released
	}
	if s.Share != "" {
		e.Tag.share = s.Share
		if sub := c.subs[s.Share]; sub != nil && sub.member != nil {
			e.Tag.member = sub.member
			e.Tag.turn = sub.member.adopt(s.Ref)
		}
	}
	return e
}

// storedInflight makes a stored window entry of a live one.
func storedInflight(e *session.Inflight[tag]) store.Inflight {
	s := store.Inflight{ID: e.ID, QoS: e.QoS, Retain: e.Retain, Identifiers: e.Identifiers, Ref: e.Tag.ref, Share: e.Tag.share}
	if e.State == session.Received || e.State == session.Released {
		s.State = store.Released
	} else {
		s.Message = e.Message // where its queue has gone with the subscription, it is kept all the same [MQTT-3.10.4-3]
	}
	return s
}

// pushed takes a committed message as it comes, or notes that it has to be read.
func (c *connection) pushed(s *subscriber, q mqtt.QoS, f *fanout) {
	k := c.kept
	if k.behind || k.reading { // while it is read, the positions are the reader's
		k.behind, k.missed = true, true
		return
	}
	if f.ref.Position <= k.pos[f.ref.Group] {
		return
	}
	full := c.queue.Len() >= aheadMessages || c.queue.Bytes() >= aheadBytes
	if c.leaving || full && !c.room() {
		k.behind, k.missed = true, true
		return
	}
	k.pos[f.ref.Group] = f.ref.Position
	c.offer(session.Delivery[tag]{Message: f.message(), QoS: q, Retain: f.retain && s.asIs, Identifiers: s.ids,
		Tag: tag{ref: f.ref}})
}

// readStore reads the next part of the queue on a worker, as much as there is room for.
func (c *connection) readStore() {
	k := c.kept
	n := min(aheadMessages-c.queue.Len(), max(1, c.sess.Out.Free()+32))
	if k.reading || c.queue.Len() > aheadMessages/2 || !c.room() {
		return
	}
	k.reading, k.missed = true, false
	c.sh.tally.add(StoreReads, 1)
	r := &reading{c: c, now: c.sh.loop.Now(), max: n}
	if !c.sh.loop.Async(r.read, r) {
		k.reading = false
		c.sh.loop.Defer(loop.Func(func(*loop.Loop) { c.pump() })) // the workers are busy: try again
	}
}

// reading is one read of a session's queue.
type reading struct {
	c    *connection
	now  int64
	max  int
	got  []store.Delivery
	more bool
	err  error
}

func (r *reading) read(context.Context) {
	k := r.c.kept
	r.got, r.more, r.err = k.queue.Read(k.pos, r.max, aheadBytes, r.now, nil)
}

// Run takes what was read, on the loop.
func (r *reading) Run(*loop.Loop) {
	c := r.c
	if c.state != open {
		c.readEnded()
		return
	}
	k := c.kept
	k.reading = false
	if r.err != nil {
		c.storeFailed(r.err)
		return
	}
	k.behind = r.more || k.missed
	for i := range r.got {
		d := &r.got[i]
		q, ids, asIs, wanted := c.merged(d.Filters, d.Message)
		if !wanted {
			c.sh.acks.addRef(c, d.Ref)
			continue
		}
		delivery := session.Delivery[tag]{Message: d.Message, QoS: q, Retain: d.Message.Retain && asIs, Identifiers: ids,
			Tag: tag{ref: d.Ref}}
		if q == 0 {
			c.sendQoS0(&delivery)
			c.sh.acks.addRef(c, d.Ref)
			continue
		}
		c.offer(delivery)
	}
	c.pump()
}

// merged merges the options of the subscriptions that brought a stored message. A subscription that was replaced by one of QoS 0 still
// wants what was queued [MQTT-3.8.4-4].
func (c *connection) merged(filters []string, m *mqtt.Message) (q mqtt.QoS, ids []uint32, asIs, wanted bool) {
	add := func(s *subscriber) {
		if s == nil || s.noLocal && m.ClientID == c.client.ID {
			return
		}
		wanted = true
		q = max(q, min(s.qos, m.QoS))
		asIs = asIs || s.asIs
		ids = append(ids[:len(ids):len(ids)], s.ids...)
	}
	for _, filter := range filters {
		add(c.subs[filter])
	}
	if c.zero { // they have no queue, but belong to the one copy
		for whole, s := range c.subs {
			if s.qos == 0 && s.member == nil && !slices.Contains(filters, whole) && topic.Match(s.filter, m.Topic) {
				add(s)
			}
		}
	}
	slices.Sort(ids)
	return q, ids, asIs, wanted
}

// keepWindow has a window entry kept: a new one before its PUBLISH is sent, a received one before its PUBREL is.
func (c *connection) keepWindow(id uint16) {
	e := c.sess.Out.Find(id)
	if e == nil {
		return
	}
	e.Tag.stored = true
	c.kept.wins = append(c.kept.wins, storedInflight(e))
	if !c.opening {
		c.opening = true
		c.sh.wins.add(c)
	}
}

// windowBatch proposes the window entries of an iteration in one command for each session.
type windowBatch struct {
	loop.DirtyMark
	shard *shard
	conns []*connection
}

func (w *windowBatch) add(c *connection) {
	w.conns = append(w.conns, c)
	w.shard.loop.Dirty(w)
}

// Flush proposes at the end of the iteration.
func (w *windowBatch) Flush(*loop.Loop) {
	for i, c := range w.conns {
		w.conns[i] = nil
		c.opening = false
		if c.state == open {
			c.proposeWindow()
		}
	}
	w.conns = w.conns[:0]
}

func (c *connection) proposeWindow() {
	k := c.kept
	entries := k.wins
	k.wins = nil
	c.sh.b.store.ProposeWindow(&store.Window{Owner: k.owner, Entries: entries, NextID: c.sess.Out.NextID(), Done: func(w *store.Window) {
		c.sh.loop.Post(loop.Func(func(*loop.Loop) { c.windowKept(w) }))
	}})
}

// windowKept sends what may be sent now.
func (c *connection) windowKept(w *store.Window) {
	if c.state != open {
		return
	}
	if w.Err != nil {
		c.storeFailed(w.Err)
		return
	}
	k := c.kept
	for i := range w.Entries {
		e := c.sess.Out.Find(w.Entries[i].ID)
		switch {
		case e == nil:
		case e.State == session.Reserved:
			k.ready(e.ID)
		case e.State == session.Received:
			s := c.sink()
			c.sess.Release(e.ID, s.out)
			c.flushed(s, 1)
		}
	}
	n := 0
	for ; n < len(k.line) && k.line[n].ready; n++ {
		if e := c.sess.Out.Find(k.line[n].id); e != nil {
			c.openEntry(e.ID, e.Message)
		}
	}
	k.line = append(k.line[:0], k.line[n:]...)
	c.pump()
}

func (k *kept) ready(id uint16) {
	for i := range k.line {
		if k.line[i].id == id {
			k.line[i].ready = true
			return
		}
	}
}

// ackBatch tells the store lazily what clients have acknowledged: a crash repeats at most that much, with QoS 1.
type ackBatch struct {
	shard *shard
	conns []*connection
	timer loop.Timer
	armed bool
}

const (
	ackDelay = 100_000_000 // nanoseconds
	ackMost  = 1000
)

// add notes a finished delivery.
func (a *ackBatch) add(c *connection, e *session.Inflight[tag]) {
	k := c.kept
	if e.Tag.stored {
		k.ids = append(k.ids, e.ID)
		a.note(c)
	}
	switch {
	case e.Tag.ref == (storeRef{}):
	case e.Tag.share != "":
		k.shared = append(k.shared, store.Shared{Filter: e.Tag.share, Ref: e.Tag.ref})
		a.note(c)
	default:
		a.addRef(c, e.Tag.ref)
	}
}

func (a *ackBatch) addRef(c *connection, ref store.Ref) {
	c.kept.acked = append(c.kept.acked, ref)
	a.note(c)
}

func (a *ackBatch) note(c *connection) {
	k := c.kept
	n := len(k.acked) + len(k.shared) + len(k.ids)
	if n == 1 {
		a.conns = append(a.conns, c)
	}
	if n >= ackMost {
		c.proposeAck()
		return
	}
	if !a.armed {
		a.armed = true
		a.shard.loop.At(&a.timer, a.shard.loop.Now()+ackDelay, a)
	}
}

// Run proposes what has collected.
func (a *ackBatch) Run(*loop.Loop) {
	a.armed = false
	for i, c := range a.conns {
		a.conns[i] = nil
		if c.kept != nil {
			c.proposeAck()
		}
	}
	a.conns = a.conns[:0]
}

func (c *connection) proposeAck() {
	k := c.kept
	if len(k.acked)+len(k.shared)+len(k.ids) == 0 {
		return
	}
	a := &store.Ack{Owner: k.owner, Refs: k.acked, Share: k.shared, IDs: k.ids, Context: c.sh.b}
	if len(k.shared) > 0 {
		a.Done = sharedAcked
	}
	c.sh.b.store.ProposeAck(a)
	k.acked, k.shared, k.ids = nil, nil, nil
}
