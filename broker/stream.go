// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"slices"
	"strings"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
)

// stream is the retained messages of one new subscription on their way to it: page by page, as the client takes them.
type stream struct {
	sub   *subscriber
	after string // the last topic sent
	state streamState
}

type streamState byte

const (
	streamNew     streamState = iota
	streamWaiting             // for publishes that were proposed before it
	streamReady
	streamReading
)

// Bounds of one page.
const (
	pageMessages = 64
	pageBytes    = 256 << 10
)

// startStream sends the retained messages for a subscription, behind those for earlier ones.
func (c *connection) startStream(s *subscriber) {
	if strings.HasPrefix(s.filter, "$SYS") {
		c.sh.b.sys.deliver(c, s)
		return
	}
	if s.streams == 2 {
		return // the one that has not begun will bring it all
	}
	s.streams++
	r := c.rarely()
	r.streams = append(r.streams, &stream{sub: s})
	r.streams[0].next(c)
}

// next goes on as far as there is room.
func (s *stream) next(c *connection) {
	switch {
	case s.state == streamNew:
		s.state = streamWaiting
		l := c.sh.loop
		c.sh.b.store.Barrier(func() { l.Post(loop.Func(func(*loop.Loop) { s.ready(c) })) })
	case s.state == streamReady && c.room() && c.queue.Len() <= c.sh.b.config.Load().limits.MaxPendingRetained:
		s.read(c)
	}
}

func (s *stream) ready(c *connection) {
	s.state = streamReady
	if c.state == open {
		s.next(c)
	}
}

func (s *stream) read(c *connection) {
	s.state = streamReading
	p := &page{s: s, c: c, after: s.after, now: c.sh.loop.Now()}
	if !c.sh.loop.Async(p.read, p) {
		s.state = streamReady
		c.sh.loop.Defer(loop.Func(func(*loop.Loop) { c.pump() }))
	}
}

// page is one read of retained messages.
type page struct {
	s     *stream
	c     *connection
	after string
	now   int64
	got   []store.Retained
	more  bool
	err   error
}

func (p *page) read(context.Context) {
	p.got, p.more, p.err = p.c.sh.b.store.RetainedPage(p.s.sub.filter, p.after, pageMessages, pageBytes, p.now, nil)
}

// Run sends what was read, on the loop.
func (p *page) Run(*loop.Loop) {
	c, s := p.c, p.s
	if c.state != open {
		return
	}
	s.state = streamReady
	if p.err != nil {
		c.sh.b.log.Error("retained messages could not be read", "filter", s.sub.whole, "err", p.err)
		p.got, p.more = nil, false
	}
	current := c.subs[s.sub.whole] == s.sub
	for _, r := range p.got {
		s.after = r.Topic
		if current {
			c.offerRetained(s.sub, r)
		}
	}
	if !p.more || !current {
		c.endStream(s)
	}
	c.pump()
}

func (c *connection) endStream(s *stream) {
	for i, x := range c.rare.streams {
		if x == s {
			c.rare.streams = slices.Delete(c.rare.streams, i, i+1)
			s.sub.streams--
			s.sub.both = nil
			c.tidy()
			return
		}
	}
}

// maxBoth bounds what a subscription remembers while retained messages are on their way to it.
const maxBoth = 10_000

// once says whether a retained message is new to a subscription to which retained messages are on their way: one that is published
// meanwhile must not come live and as a retained one too.
func (s *subscriber) once(m *mqtt.Message) bool {
	if at, ok := s.both[m.Topic]; ok && at == m.Received {
		return false
	}
	if s.both == nil {
		s.both = make(map[string]int64)
	}
	if len(s.both) < maxBoth {
		s.both[strings.Clone(m.Topic)] = m.Received
	}
	return true
}

// firstTime is once for a fan-out, asked on that of its two ways that reaches the subscriber.
func (f *fanout) firstTime(s *subscriber) bool {
	if !f.retain || s.streams == 0 {
		return true
	}
	second := s.c.kept != nil && f.stored && min(s.qos, f.qos) > 0
	return f.committed != second || s.once(f.m)
}

// offerRetained sends one retained message because of a new subscription: with RETAIN set [MQTT-3.3.1-8].
func (c *connection) offerRetained(s *subscriber, r store.Retained) {
	if s.noLocal && r.Message.ClientID == c.client.ID || !s.once(r.Message) {
		return
	}
	d := session.Delivery[tag]{Message: r.Message, QoS: min(s.qos, r.Message.QoS), Retain: true, Identifiers: s.ids}
	if d.QoS == 0 {
		c.sendQoS0(&d)
		return
	}
	c.offer(d)
}
