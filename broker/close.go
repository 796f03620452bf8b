// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/transport"
)

// closeWith ends an open connection, telling a 5.0 client why [MQTT-4.13.2-1].
func (c *connection) closeWith(cause plugin.Cause, code mqtt.ReasonCode, detail string) {
	if c.state != open {
		c.refuse(cause, code, detail)
		return
	}
	if c.version == mqtt.V5 {
		p := mqtt.Disconnect{Code: code}
		if c.rare != nil && c.rare.reference != "" {
			p.Properties = mqtt.AppendPropString(p.Properties, mqtt.PropServerReference, c.rare.reference)
		} else {
			words := detail
			if words == "" {
				words = cause.String()
			}
			p.Properties = c.reason(words, p.Append(nil, c.version))
		}
		c.write(p.Append(nil, c.version))
	}
	c.close(cause, detail)
}

// close ends a connection in whatever state it is. What was queued for writing is still written. An end that the client did not ask for, or for
// which it asked for the will, publishes the will.
func (c *connection) close(cause plugin.Cause, detail string) {
	if c.state >= ending {
		return
	}
	was := c.state
	c.cause, c.state = cause, ending
	c.willed = c.will != nil && was == open && cause != plugin.ClientDisconnected
	c.sh.loop.Cancel(&c.timer)
	if c.rare != nil {
		c.sh.loop.Cancel(&c.rare.loginEnd)
	}
	c.tc.Close(transport.CloseAfterFlush)
	c.unbind()
	sh := c.sh
	if was != open {
		sh.tally.refused[cause].Add(1)
		sh.b.events.refused(c, detail)
		if c.login == nil || !c.login.waiting {
			c.finish()
		}
		return
	}
	sh.b.connected.Add(-1)
	sh.tally.connected.Add(-1)
	sh.tally.add(ConnectionsClosed, 1)
	sh.tally.closed[cause].Add(1)
	sh.b.events.closed(c, detail)
	c.sh.b.log.Debug("connection closed", "client", c.client.ID, "reason", cause.String(), "err", detail)
	c.leaveTopics()
	c.dropQueue()
	if c.kept == nil {
		c.endClean()
		return
	}
	c.handOver()
}

// leaveTopics takes the subscriptions out of the index, and the members out of their shared subscriptions.
func (c *connection) leaveTopics() {
	for _, s := range c.subs {
		c.detachSubscriber(s)
	}
	c.subs = nil
	if c.rare != nil {
		c.rare.streams = nil
	}
}

// dropQueue counts what waited in memory and is in no store.
func (c *connection) dropQueue() {
	sh := c.sh
	for {
		d, ok := c.popQueue()
		if !ok {
			return
		}
		switch {
		case d.Tag.member != nil:
			d.Tag.member.giveBack(sh, d)
		case c.kept == nil || d.QoS == 0:
			sh.drop(c.client.ID, d.Message, plugin.SessionEnded)
		}
	}
}

// endClean ends a session that lives as long as its connection: what shared subscriptions assigned to it goes back (QoS 1, or QoS 2 that was
// not begun [MQTT-4.8.2-5]), the rest of the window is dropped, the will is published.
func (c *connection) endClean() {
	sh := c.sh
	for e := range c.sess.Out.Window {
		switch {
		case e.Tag.member != nil && (e.QoS == 1 || e.State == session.Reserved):
			e.Tag.member.giveBack(sh, e.Delivery)
		case e.Tag.member != nil:
			e.Tag.member.done(sh, e.Tag)
		case e.Message != nil:
			sh.drop(c.client.ID, e.Message, plugin.SessionEnded)
		}
	}
	sh.b.events.session(sh, sessionEnded, c.client.ID, c.cause)
	switch {
	case c.willed && sh.draining: // or else the store might be closed before the will is there
		c.willed = false
		sh.fireWill(c.client, c.will.Message, 0, c.finish)
		return
	case c.willed: // the next connection of the client need not wait for a disk
		sh.fireWill(c.client, c.will.Message, 0, nil)
	}
	c.finish()
}

// handOver gives a persistent session back to the store: first a will that is due at once, then the window.
func (c *connection) handOver() {
	now := c.willed && (c.will.Delay == 0 || c.kept.expiry == 0)
	if now {
		c.sh.fireWill(c.client, c.will.Message, c.kept.owner.ID, c.detach)
		c.willed = false
		return
	}
	c.detach()
}

// detach proposes the hand-over; finish follows its commit.
func (c *connection) detach() {
	k, sh := c.kept, c.sh
	if k.reading { // nobody may read while the session is handed over: readEnded goes on
		k.handing = true
		return
	}
	c.proposeAck()
	if c.willed {
		sh.absent[c.client.ID] = c.client
	} else {
		delete(sh.absent, c.client.ID)
	}
	window := c.windowToKeep()
	sh.b.store.ProposeDetach(&store.Detach{Owner: k.owner, Expiry: k.expiry, KeepWill: c.willed, Window: window,
		NextID: c.nextID(), Now: sh.loop.Now(), Context: c, Done: func(d *store.Detach) {
			sh.loop.Post(loop.Func(func(*loop.Loop) { c.detached(d) }))
		}})
}

// readEnded goes on with a hand-over that waited for a read.
func (c *connection) readEnded() {
	k := c.kept
	k.reading = false
	if k.handing {
		c.detach()
	}
}

func (c *connection) nextID() uint16 {
	if c.sess == nil {
		return 0
	}
	return c.sess.Out.NextID()
}

func (c *connection) detached(d *store.Detach) {
	b := c.sh.b
	if d.Err != nil && !errors.Is(d.Err, store.ErrFenced) && !errors.Is(d.Err, store.ErrNoSession) && b.storeError(d.Err) {
		b.log.Error("a session could not be handed to the store", "client", c.client.ID, "err", d.Err)
	}
	b.freed(d.Freed)
	if c.kept.expiry == 0 {
		b.events.session(c.sh, sessionEnded, c.client.ID, c.cause)
	}
	b.keeper.wake()
	c.kept = nil
	c.finish()
}

// windowToKeep is the outbound window as the store keeps it. What was not sent and is in a queue of the store stays there.
func (c *connection) windowToKeep() []store.Inflight {
	if c.sess == nil { // claimed, but never opened
		return c.kept.window
	}
	redeliver := c.sh.b.config.Load().policy.SharedRedeliver
	var window []store.Inflight
	for e := range c.sess.Out.Window {
		m := e.Tag.member
		switch {
		case m != nil && e.QoS < 2 && redeliver, m != nil && e.State == session.Reserved:
			m.giveBack(c.sh, e.Delivery)
			continue
		case e.State == session.Reserved && e.Tag.ref != (store.Ref{}):
			continue
		}
		window = append(window, storedInflight(e))
		if m != nil {
			m.parked(c.sh, e.Tag)
		}
	}
	return window
}

// finish ends what is left once nothing is with the store any more, and lets the next connection claim.
func (c *connection) finish() {
	if c.state == gone {
		return
	}
	sh := c.sh
	if c.kept != nil && c.state == ending { // claimed, then closed before it was open
		c.willed = false
		c.handOver()
		return
	}
	c.state = gone
	c.depart()
	if c.client == nil {
		return
	}
	id := sh.identities[c.client.ID]
	switch {
	case id == nil:
	case id.next == c:
		id.next = nil
	case id.holder == c && id.next != nil:
		id.holder, id.next = id.next, nil
		id.holder.claim()
	case id.holder == c:
		delete(sh.identities, c.client.ID)
	}
}
