// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"slices"
	"sync"

	"github.com/noctule/noctule/topic"
)

// Handler takes a received message. It runs on the client's goroutine for handlers: the next message waits until it
// returns. ctx ends when the client does. When it returns the message is acknowledged, unless the subscription has ManualAck.
type Handler func(ctx context.Context, m *Message)

// item is what the goroutine of the handlers works on: one of its fields.
type item struct {
	message      *Message
	connected    *Connected
	disconnected *Disconnected
}

// inbox is what waits for the goroutine of the handlers. Client.mu guards it.
type inbox struct {
	items   []item
	head    int
	changed *sync.Cond
	stopped bool
}

func (b *inbox) init(mu *sync.Mutex) { b.changed = sync.NewCond(mu) }

func (b *inbox) len() int { return len(b.items) - b.head }

func (b *inbox) put(i item) {
	if b.head > 64 && b.head > len(b.items)/2 {
		n := copy(b.items, b.items[b.head:])
		clear(b.items[n:])
		b.items, b.head = b.items[:n], 0
	}
	b.items = append(b.items, i)
	b.changed.Broadcast()
}

func (b *inbox) take() item {
	i := b.items[b.head]
	b.items[b.head] = item{}
	b.head++
	if b.head == len(b.items) {
		b.items, b.head = b.items[:0], 0
	}
	b.changed.Broadcast()
	return i
}

// stir has those who wait look again.
func (b *inbox) stir() { b.changed.Broadcast() }

// stop drops the messages, which nobody has acknowledged; events are still told.
func (b *inbox) stop() {
	b.stopped = true
	b.items = slices.DeleteFunc(b.items[b.head:], func(i item) bool { return i.message != nil })
	b.head = 0
	b.changed.Broadcast()
}

// dispatch is the goroutine of the handlers.
func (c *Client) dispatch() {
	for {
		c.mu.Lock()
		for c.inbox.len() == 0 && !c.inbox.stopped {
			c.inbox.changed.Wait()
		}
		if c.inbox.len() == 0 {
			c.mu.Unlock()
			return
		}
		i := c.inbox.take()
		c.mu.Unlock()
		switch {
		case i.message != nil:
			c.deliver(i.message)
		case i.connected != nil && c.opt.OnConnected != nil:
			c.opt.OnConnected(*i.connected)
		case i.disconnected != nil && c.opt.OnDisconnected != nil:
			c.opt.OnDisconnected(*i.disconnected)
		}
	}
}

// deliver calls the handlers of a message.
func (c *Client) deliver(m *Message) {
	if c.replies.take(m) {
		m.Ack()
		return
	}
	handlers, manual := c.handlers(m)
	for _, h := range handlers {
		h(c.ctx, m)
	}
	if !manual {
		m.Ack()
	}
}

// handlers finds those that a message is for. Where the server says by identifier which of the subscriptions that match
// it has sent the message for, it is only those: it may send one copy for each [MQTT-3.3.4-2].
func (c *Client) handlers(m *Message) (handlers []Handler, manual bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var match []*subscribed
	named := false
	for _, s := range c.subs {
		if topic.Match(s.matches, m.Topic) {
			match = append(match, s)
			named = named || s.named(m)
		}
	}
	for _, s := range match {
		if (!named || s.named(m)) && s.Handler != nil {
			handlers = append(handlers, s.Handler)
			manual = manual || s.ManualAck
		}
	}
	if len(handlers) == 0 {
		if c.opt.Handler == nil {
			c.stats.Unhandled++
			return nil, false
		}
		handlers = append(handlers, c.opt.Handler)
	}
	return handlers, manual
}

func (s *subscribed) named(m *Message) bool {
	return s.ident != 0 && slices.Contains(m.Identifiers, s.ident)
}
