// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
)

// What waits for the store is bounded three times: each client by the Receive Maximum (older clients, and retained messages of
// QoS 0, are not read beyond it), all clients by marks far below the limits at which the store refuses, and by those limits. Only
// who publishes what must be kept is paused; the rest flows, however long the disk hangs.

// Marks of what waits for the store, and how often the paused look again.
const (
	markCommands = 100_000
	markBytes    = 64 << 20
	lookInterval = 10_000_000 // nanoseconds
	roomInterval = 200_000_000
)

// pressure is what a shard has paused for the store's sake.
type pressure struct {
	paused  []*connection // until less waits for the store
	look    loop.Timer
	held    []*connection // with messages that wait for room on the disk
	again   loop.Timer
	looking bool // again is set
}

// keepingFrom pauses a client that has much on its way to the store, or that would add to too much of it. While the disk is full a client has
// one message on its way: a later one would find the room that comes back when the one before has been refused, and overtake it, for
// that one is sent again.
func (sh *shard) keepingFrom(c *connection, m *mqtt.Message) {
	if m.QoS == 0 {
		r := c.rarely()
		r.unanswered++
		if r.unanswered >= int(c.sess.Limits().OwnMaximum) {
			c.stop(holdUnanswered)
		}
	} else if sh.b.diskFull() {
		c.stop(holdOne)
	}
	if c.hold&holdStore != 0 || !sh.b.storeBusy(1) {
		return
	}
	c.stop(holdStore)
	sh.press.paused = append(sh.press.paused, c)
	if len(sh.press.paused) == 1 {
		sh.lookLater()
	}
}

// keptFrom counts a message that the store is done with.
func (c *connection) keptFrom(m *mqtt.Message) {
	if m.QoS > 0 {
		c.resume(holdOne)
		return
	}
	c.rare.unanswered--
	if c.rare.unanswered <= int(c.sess.Limits().OwnMaximum)/2 {
		c.resume(holdUnanswered)
	}
}

// storeBusy says whether more than the marks, or a part of them, waits for the store.
func (b *Broker) storeBusy(part int) bool {
	commands, bytes := b.store.Pending()
	return commands > markCommands/part || bytes > markBytes/int64(part)
}

func (sh *shard) lookLater() {
	sh.loop.At(&sh.press.look, sh.loop.Now()+lookInterval, loop.Func(func(*loop.Loop) {
		if sh.b.storeBusy(2) {
			sh.lookLater()
			return
		}
		for i, c := range sh.press.paused {
			sh.press.paused[i] = nil
			c.resume(holdStore)
		}
		sh.press.paused = sh.press.paused[:0]
	}))
}

// holdBack keeps a message for which the disk has no room, and says whether it may: its publisher is not answered and not read until
// it is kept. Those that were on their way with it when the disk became full follow in their order. One of them may be kept
// before the first is, where room appears in between: it was received later, but its acknowledgement comes first.
func (sh *shard) holdBack(k *keeping) bool {
	c := k.c
	if c == nil || c.state != open || k.Message.QoS == 0 || !sh.b.diskFull() || sh.b.config.Load().policy.WhenFull != HoldWhenFull {
		return false
	}
	r := c.rarely()
	r.heldBack = append(r.heldBack, k)
	c.stop(holdFull)
	sh.tryLater(c)
	return true
}

// tryLater sees to it that the messages of a client are proposed again.
func (sh *shard) tryLater(c *connection) {
	if r := c.rarely(); !r.waitsForRoom {
		r.waitsForRoom = true
		sh.press.held = append(sh.press.held, c)
	}
	sh.lookForRoom()
}

func (sh *shard) lookForRoom() {
	if sh.press.looking {
		return
	}
	sh.press.looking = true
	sh.loop.At(&sh.press.again, sh.loop.Now()+roomInterval, loop.Func(func(*loop.Loop) {
		sh.press.looking = false
		sh.tryAgain()
	}))
}

// tryAgain proposes the first message of each client again once there is room; the next follows when it is kept.
func (sh *shard) tryAgain() {
	if sh.b.diskFull() && len(sh.press.held) > 0 {
		sh.lookForRoom()
		return
	}
	held := sh.press.held
	sh.press.held = nil
	for _, c := range held {
		c.rare.waitsForRoom = false
		c.heldKept()
	}
}

// proposeHeld proposes the first message that was held back.
func (c *connection) proposeHeld() {
	r := c.rare
	k := r.heldBack[0]
	r.heldBack[0] = nil
	r.heldBack = r.heldBack[1:]
	k.wasHeld = true
	c.sh.b.store.ProposePublish(&k.Publish)
}

// holdAgain puts a message back to where it stood: the disk is full again.
func (sh *shard) holdAgain(k *keeping) bool {
	c := k.c
	if c.state != open || !sh.b.diskFull() {
		return false
	}
	r := c.rarely()
	r.heldBack = append([]*keeping{k}, r.heldBack...)
	sh.tryLater(c)
	return true
}

// heldKept goes on with what is held back, after the message before it is done with.
func (c *connection) heldKept() {
	switch r := c.rarely(); {
	case c.state != open: // whoever sent them was not answered, and sends them again
		for _, k := range r.heldBack {
			k.Err = store.ErrFull
			k.notTaken()
		}
		r.heldBack = nil
	case r.waitsForRoom:
	case len(r.heldBack) > 0:
		c.proposeHeld()
	default:
		c.resume(holdFull)
	}
}
