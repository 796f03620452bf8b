// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
)

// deliver gives the message of a fan-out to one subscriber of this loop.
func (sh *shard) deliver(s *subscriber, f *fanout) {
	switch {
	case s.share != nil:
		s.share.take(s, f)
		return
	case s.inline != nil:
		if !f.committed {
			s.inline.take(sh, f.message())
		}
		return
	}
	c := s.c
	if f.failed || c.state != open || s.noLocal && c.client.ID == f.from {
		return
	}
	if !f.firstTime(s) {
		return
	}
	q := min(s.qos, f.qos)
	if q > 0 && c.kept != nil {
		switch {
		case f.committed:
			c.pushed(s, q, f)
			return
		case f.stored:
			return // the store brings it
		}
		q = 0 // the store does not know the subscription so far, nor does the client know that it was granted
	}
	if f.committed {
		return // it came the first way
	}
	retain := f.retain && s.asIs // [MQTT-3.3.1-12, MQTT-3.3.1-13]
	if q == 0 {
		if s.shape != nil {
			s.shape.take(f, retain, s.ids)
			return
		}
		c.deliverQoS0(f, retain, s.ids)
		return
	}
	c.offer(session.Delivery[tag]{Message: f.message(), QoS: q, Retain: retain, Identifiers: s.ids})
}

// deliverQoS0 writes a message of QoS 0, by the shared encoding where nothing in it is this client's own.
func (c *connection) deliverQoS0(f *fanout, retain bool, ids []uint32) {
	sh, b := c.sh, c.sh.b
	out := c.tc.Out()
	if c.tooSlow(f.m) {
		return
	}
	l := c.sess.Limits()
	own := c.version == mqtt.V5 && (len(ids) > 0 || l.AliasesOut > 0 || f.m != nil && f.m.Expiry != 0)
	if own || len(b.hooks.deliverers) > 0 || len(f.payload) >= blockSize && c.shaped() {
		d := session.Delivery[tag]{Message: f.message(), Retain: retain, Identifiers: ids}
		c.sendQoS0(&d)
		return
	}
	if b.hooks.receives(c.client) {
		a := &sh.delivery
		*a = plugin.Access{Topic: view(f.topic), Retain: f.retain}
		if !c.mayReceive(a) {
			sh.drop(c.client.ID, f.m, plugin.DeliveryRefused)
			return
		}
	}
	if len(f.payload) >= blockSize {
		c.deliverLarge(f, retain)
		return
	}
	e := f.packet(c.version == mqtt.V5, 0)
	if l.MaxPacket != 0 && len(e.b) > int(l.MaxPacket) {
		sh.drop(c.client.ID, f.m, plugin.ReceiverTooSmall)
		return
	}
	if c.shaped() && (c.queue.Len() > 0 || !c.mayWrite(len(e.b))) {
		c.enqueue(session.Delivery[tag]{Message: f.message(), Retain: retain, Identifiers: ids})
		return
	}
	buf := out.Buf()
	n := len(buf)
	buf = append(buf, e.b...)
	if retain {
		buf[n] |= 1
	}
	out.Set(buf)
	sh.sent(c, f.m, len(e.b), len(f.payload))
}

// deliverLarge writes a large message of QoS 0: a header of this client's own, and the payload by reference where more than one has it.
func (c *connection) deliverLarge(f *fanout, retain bool) {
	props := mqtt.Properties(nil)
	if c.version == mqtt.V5 {
		props = f.props
	}
	size := mqtt.PublishSize(len(f.topic), 0, c.version, len(props), len(f.payload))
	if l := c.sess.Limits(); l.MaxPacket != 0 && size > int(l.MaxPacket) {
		c.sh.drop(c.client.ID, f.m, plugin.ReceiverTooSmall)
		return
	}
	out := c.tc.Out()
	b := mqtt.AppendPublishHeader(out.Buf(), mqtt.PublishFlags(false, 0, retain), view(f.topic), 0, c.version, props, len(f.payload))
	switch {
	case f.block != nil:
		out.Set(b)
		out.RefBlock(f.takeRef())
	case f.m != nil:
		out.Set(b)
		out.Ref(f.m.Payload)
	default:
		out.Set(append(b, f.payload...))
	}
	c.sh.sent(c, f.m, size, len(f.payload))
}

// sent counts a PUBLISH that was written.
func (sh *shard) sent(c *connection, m *mqtt.Message, size, payload int) {
	sh.count(PacketsSent, 1)
	sh.count(BytesSent, size)
	sh.count(PublishSent, 1)
	sh.count(PublishBytesSent, payload)
	c.tc.Dirty()
	if m != nil {
		sh.b.events.message(sh, messageDelivered, c.client.ID, m, plugin.NoCause)
	}
}

// tooSlow drops a message of QoS 0 for a client that does not take what it is sent.
func (c *connection) tooSlow(m *mqtt.Message) bool {
	if c.tc.Out().Len() <= c.sh.b.config.Load().limits.MaxOutBytes {
		return false
	}
	c.sh.drop(c.client.ID, m, plugin.ReceiverSlow)
	return true
}

// sendQoS0 writes a delivery of QoS 0, or queues it where a rule says that it is not its turn.
func (c *connection) sendQoS0(d *session.Delivery[tag]) {
	if c.shaped() && (c.queue.Len() > 0 || !c.mayWrite(c.publishSize(d.Message, 0))) {
		d.Tag = tag{} // a shared subscription is done with it
		c.enqueue(*d)
		return
	}
	c.writeQoS0(d)
}

func (c *connection) writeQoS0(d *session.Delivery[tag]) {
	if c.tooSlow(d.Message) || !c.passHooks(d) {
		return
	}
	before := c.tc.Out().Len()
	switch c.sess.SendQoS0(d, c.sh.loop.Now(), c.tc.Out()) {
	case session.TooLarge:
		c.sh.drop(c.client.ID, d.Message, plugin.ReceiverTooSmall)
	case session.TooOld:
		c.sh.drop(c.client.ID, d.Message, plugin.MessageExpired)
	default:
		c.sh.sent(c, d.Message, c.tc.Out().Len()-before, len(d.Message.Payload))
	}
}

// passHooks asks the plug-ins that see each delivery; false: it is refused.
func (c *connection) passHooks(d *session.Delivery[tag]) bool {
	b := c.sh.b
	if b.hooks.receives(c.client) && !c.mayReceiveMessage(d.Message) {
		c.sh.drop(c.client.ID, d.Message, plugin.DeliveryRefused)
		return false
	}
	if len(b.hooks.deliverers) > 0 {
		m := b.interceptDeliver(c.client, d.Message)
		if m == nil {
			c.sh.drop(c.client.ID, d.Message, plugin.DeliveryRefused)
			return false
		}
		d.Message = m
	}
	return true
}

// room says whether a delivery of QoS 1 or 2 may be sent now: the window has room, and the client reads what it gets.
func (c *connection) room() bool { return c.sess.Out.Free() > 0 && c.outRoom() }

// outRoom says that the client reads what it gets.
func (c *connection) outRoom() bool {
	return (c.bound == nil || !c.bound.waiting) && c.tc.Out().Len() < c.sh.b.config.Load().limits.MaxOutBytes/2
}

// lookAgain pumps after the next flush. Where that can write all at once, nothing blocks and Drained does not come. Where it cannot,
// Drained does, and to look again and again until then would keep the loop busy for as long as the client does not read.
func (c *connection) lookAgain() {
	if c.looking || c.state != open || c.tc.Out().Len() == 0 || c.tc.Blocked() {
		return
	}
	c.looking = true
	c.sh.loop.Defer(loop.Func(func(*loop.Loop) {
		c.looking = false
		if c.state == open && c.tc.Out().Len() < c.sh.b.config.Load().limits.MaxOutBytes/2 {
			c.resume(holdOut)
			c.pump()
		}
	}))
}

// offer sends a delivery of QoS 1 or 2, or queues it. What a session without a store cannot take is dropped and counted.
func (c *connection) offer(d session.Delivery[tag]) {
	if c.queue.Len() == 0 && c.room() && (!c.shaped() || c.mayWrite(c.publishSize(d.Message, d.QoS))) {
		c.send(d)
		return
	}
	c.lookAgain()
	if c.kept != nil && d.Tag.ref != (storeRef{}) {
		c.pushQueue(d) // it is in the store: what is read ahead has a bound of its own
		return
	}
	c.enqueue(d)
}

// enqueue queues a delivery that no store has, or gives it up.
func (c *connection) enqueue(d session.Delivery[tag]) {
	l := c.lim(c.sh.b.config.Load())
	if c.queue.Len() >= l.MaxQueueMessages || c.queue.Bytes()+d.Message.Size() > c.sh.b.queueBudget(l) {
		c.giveUp(&d, plugin.QueueFull)
		return
	}
	c.pushQueue(d)
}

// queueBudget is how many bytes one connection's queue may hold now: less when all of them hold much.
func (b *Broker) queueBudget(l *Limits) int {
	switch total := b.queuedBytes.Load(); {
	case b.over.dire.Load():
		return 0
	case b.over.on[MemoryStrain].Load():
		return l.MaxQueueBytes / 8
	case l.MaxTotalQueueBytes <= 0 || total < l.MaxTotalQueueBytes/2:
		return l.MaxQueueBytes
	case total < l.MaxTotalQueueBytes:
		return l.MaxQueueBytes / 8
	}
	return 0
}

func (c *connection) pushQueue(d session.Delivery[tag]) {
	before := c.queue.Bytes()
	c.queue.Push(d)
	c.sh.tally.queued.Add(1)
	c.sh.tally.queuedBytes.Add(int64(c.queue.Bytes() - before))
	c.sh.b.queuedBytes.Add(int64(c.queue.Bytes() - before))
}

func (c *connection) popQueue() (session.Delivery[tag], bool) {
	before := c.queue.Bytes()
	d, ok := c.queue.Pop()
	if ok {
		c.sh.tally.queued.Add(-1)
		c.sh.tally.queuedBytes.Add(int64(c.queue.Bytes() - before))
		c.sh.b.queuedBytes.Add(int64(c.queue.Bytes() - before))
	}
	return d, ok
}

// send puts a delivery of QoS 1 or 2 into the window and writes it, or has it kept first where a crash must not give its
// packet identifier to another message.
func (c *connection) send(d session.Delivery[tag]) {
	if !c.passHooks(&d) {
		c.settle(&session.Inflight[tag]{Delivery: d})
		return
	}
	id := c.sess.Out.Add(d)
	if c.kept != nil {
		first := d.QoS == 2 || d.Tag.ref == (storeRef{})
		if first || len(c.kept.line) > 0 {
			c.kept.line = append(c.kept.line, inLine{id: id, ready: !first})
			if first {
				c.keepWindow(id)
			}
			return
		}
	}
	c.openEntry(id, d.Message)
}

// openEntry writes the PUBLISH of a window entry.
func (c *connection) openEntry(id uint16, m *mqtt.Message) {
	e := c.sess.Out.Find(id)
	if e == nil {
		return
	}
	entry := *e
	before := c.tc.Out().Len()
	cause := plugin.NoCause
	switch c.sess.Open(id, c.sh.loop.Now(), c.tc.Out()) {
	case session.TooLarge:
		cause = plugin.ReceiverTooSmall
	case session.TooOld:
		cause = plugin.MessageExpired
	}
	if cause != plugin.NoCause {
		c.sh.dropOf(c.client.ID, entry.Tag.share, entry.Tag.ref, m, cause)
		c.settle(&entry)
		return
	}
	c.sh.sent(c, m, c.tc.Out().Len()-before, len(m.Payload))
}

// giveUp drops a delivery that never went out.
func (c *connection) giveUp(d *session.Delivery[tag], cause plugin.Cause) {
	c.sh.dropOf(c.client.ID, d.Tag.share, d.Tag.ref, d.Message, cause)
	c.settle(&session.Inflight[tag]{Delivery: *d})
}

// settle ends a delivery that needs no acknowledgement of the client: it counts as delivered.
func (c *connection) settle(e *session.Inflight[tag]) {
	if c.kept != nil {
		c.sh.acks.add(c, e)
	}
	if m := e.Tag.member; m != nil {
		m.done(c.sh, e.Tag)
	}
}

// pumpRare goes on with retained messages for new subscriptions, and tells shared subscriptions of room.
func (c *connection) pumpRare() {
	if r := c.rare; r != nil && len(r.streams) > 0 {
		r.streams[0].next(c)
	}
	for c.rare != nil && len(c.rare.full) > 0 && c.queue.Len() == 0 && c.room() {
		m := c.rare.full[0]
		c.rare.full = c.rare.full[1:]
		m.roomAgain(c.sh)
	}
}

// pump moves what waits, as far as window and out-queue have room: the queue in memory, then the store, then retained
// messages for new subscriptions.
func (c *connection) pump() {
	if c.state != open {
		return
	}
	if c.kept != nil {
		c.resendMore()
	}
	for c.queue.Len() > 0 {
		next := c.queue.Front()
		if next.QoS == 0 && !c.outRoom() || next.QoS > 0 && !c.room() || c.shaped() && !c.mayWrite(c.publishSize(next.Message, next.QoS)) {
			break
		}
		d, _ := c.popQueue()
		if d.QoS == 0 {
			c.writeQoS0(&d)
			continue
		}
		c.send(d)
	}
	if c.leaving {
		c.leaveIfIdle()
		return
	}
	if c.kept != nil && c.kept.behind {
		c.readStore()
	}
	c.pumpRare()
	if c.queue.Len() > 0 || c.rare != nil && len(c.rare.streams)+len(c.rare.full) > 0 || c.kept != nil && c.kept.behind {
		c.lookAgain()
	}
}
