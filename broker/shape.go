// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
)

// User properties of SUBSCRIBE that ask for less than every message.
const (
	propConflate = "noctule-conflate"  // newest: while the client is behind, the newest message of each topic waits, and no other
	propMaxRate  = "noctule-max-rate"  // so many messages a second at most; what is more waits likewise
	propOnChange = "noctule-on-change" // true: a message whose payload is that of the one before on its topic is left out
	propPrefix   = "noctule-"
)

// wish is what a client asks for.
type wish struct {
	conflate, onChange bool
	every              int64 // ns from one message to the next, at least; 0 = any
}

func (w *wish) any() bool { return w.conflate || w.onChange || w.every > 0 }

// wishOf reads the user properties of a SUBSCRIBE. The error is for the client.
func wishOf(p mqtt.Properties) (w wish, err error) {
	for name, value := range p.User() {
		if !bytes.HasPrefix(name, []byte(propPrefix)) {
			continue
		}
		ok := true
		switch v := string(value); string(name) {
		case propConflate:
			w.conflate, ok = true, v == "newest"
		case propOnChange:
			w.onChange, ok = v == "true", v == "true" || v == "false"
		case propMaxRate:
			n, bad := strconv.ParseFloat(v, 64)
			ok = bad == nil && n >= 0.001 && n <= 1e6
			if ok {
				w.every = int64(float64(time.Second) / n)
			}
		default:
			return w, fmt.Errorf("unknown user property %.40q: there are %s, %s and %s", name, propConflate, propMaxRate, propOnChange)
		}
		if !ok {
			return w, fmt.Errorf("user property %s cannot be %.40q", name, value)
		}
	}
	return w, nil
}

// Bounds of what one subscription remembers. A message of a topic more is dropped while it would have to wait, and passes where it is
// compared.
const (
	maxShapeTopics = 1000
	maxShapeBytes  = 1 << 20
	roomLook       = 20_000_000 // ns until a client that has no room is looked at again
)

// shape keeps a subscription to what its client wished. Its messages are of QoS 0: who leaves some out has no use for a promise that all
// arrive. It belongs to the loop of the connection.
type shape struct {
	wish
	c       *connection
	last    map[string]uint64 // hashes of payloads, by topic, if onChange
	seed    maphash.Seed
	waiting map[string]session.Delivery[tag] // the newest of each topic
	order   []string                         // topics that wait, in the order in which they began to
	bytes   int
	next    int64 // unix ns: no message before
	timer   loop.Timer
}

// reshape gives a subscription what its client wished with the last SUBSCRIBE.
func (s *subscriber) reshape(w wish) {
	s.shape.end()
	s.shape = nil
	if w.any() {
		s.shape = &shape{wish: w, c: s.c}
	}
}

// take sends a message, or lets it wait, or leaves it out.
func (p *shape) take(f *fanout, retain bool, ids []uint32) {
	c := p.c
	if p.onChange && p.same(f) {
		c.sh.drop(c.client.ID, f.m, plugin.Conflated)
		return
	}
	now := c.sh.loop.Now()
	if len(p.order) == 0 && now >= p.next && c.outRoom() {
		p.next = max(now, p.next) + p.every
		c.deliverQoS0(f, retain, ids)
		return
	}
	p.wait(session.Delivery[tag]{Message: f.message(), Retain: retain, Identifiers: ids})
}

// same says whether the message before on the topic had the same payload.
func (p *shape) same(f *fanout) bool {
	if p.last == nil {
		p.last, p.seed = map[string]uint64{}, maphash.MakeSeed()
	}
	sum := maphash.Bytes(p.seed, f.payload)
	was, known := p.last[string(f.topic)]
	if known && was == sum {
		return true
	}
	if known || len(p.last) < maxShapeTopics {
		p.last[string(f.topic)] = sum
	}
	return false
}

// wait puts a message in the place of the one that waits on its topic, or behind the others. Beyond the bound of bytes those that have
// waited longest are dropped.
func (p *shape) wait(d session.Delivery[tag]) {
	c, topic := p.c, d.Message.Topic
	was, replaces := p.waiting[topic]
	switch {
	case replaces:
		delete(p.waiting, topic) // its key is part of the message before
		p.bytes -= was.Message.Size()
		c.sh.drop(c.client.ID, was.Message, plugin.Conflated)
	case len(p.order) >= maxShapeTopics:
		c.sh.drop(c.client.ID, d.Message, plugin.QueueFull)
		return
	default:
		p.order = append(p.order, strings.Clone(topic)) // or else the message would stay as long as its topic waits
	}
	if p.waiting == nil {
		p.waiting = map[string]session.Delivery[tag]{}
	}
	p.waiting[topic] = d
	p.bytes += d.Message.Size()
	for p.bytes > maxShapeBytes && len(p.order) > 1 {
		c.sh.drop(c.client.ID, p.pop().Message, plugin.QueueFull)
	}
	if p.timer.When() == 0 {
		p.later()
	}
}

// pop takes what has waited longest.
func (p *shape) pop() session.Delivery[tag] {
	topic := p.order[0]
	p.order = p.order[1:]
	d := p.waiting[topic]
	delete(p.waiting, topic)
	p.bytes -= d.Message.Size()
	return d
}

func (p *shape) later() {
	now := p.c.sh.loop.Now()
	at := p.next
	if !p.c.outRoom() {
		at = max(at, now+roomLook)
	}
	p.c.sh.loop.At(&p.timer, at, p)
}

// Run sends what has waited longest, as far as it may.
func (p *shape) Run(*loop.Loop) {
	c := p.c
	now := c.sh.loop.Now()
	for len(p.order) > 0 && now >= p.next && c.state == open && c.outRoom() {
		d := p.pop()
		p.next = max(p.next, now-p.every) + p.every // a turn that came late by less than an interval is made up for
		c.sendQoS0(&d)
	}
	if len(p.order) > 0 && c.state == open {
		p.later()
	}
}

// end counts what waits no longer. A subscription that is not shaped has nothing.
func (p *shape) end() {
	if p == nil {
		return
	}
	p.c.sh.loop.Cancel(&p.timer)
	for _, topic := range p.order {
		p.c.sh.drop(p.c.client.ID, p.waiting[topic].Message, plugin.Conflated)
	}
	p.order, p.waiting, p.bytes = nil, nil, 0
}
