// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"container/heap"
	"slices"
	"strings"
	"sync/atomic"
)

// admission turns away publishes that find no room, before they are committed, where the policy is Reject or Block. The
// committer asks it, and is the only one that changes the machine, so that the answer is exact: what the same batch brings
// beside is counted (filter.ahead), and where the batch has commands that may make room, or bring subscriptions, the
// publish is set aside until they are applied, and decided then.
//
// With Block a publish that finds no room is held. So are later ones of its topic, in order; other topics go on. After
// each batch in which room may have been made, held ones are tried again, oldest first, before newer ones. A small message
// may find room where a larger one of another topic, held before it, still waits.
type admission struct {
	m         *machine
	policy    QueuePolicy
	most      int64 // bounds of what is held
	mostBytes int64

	topics   map[string]*heldTopic
	oldest   heldTopics // heap: all of them, by the oldest publish of each
	number   uint64     // of the last publish set aside
	fresh    []*heldPublish
	barriers []command // that came after fresh ones
	ahead    []*filter // with something ahead
	others   bool      // the batch has other commands than publishes
	joins    bool      // and subscriptions
	retry    bool      // there is reason to look again at what is set aside
	passed   []command
	waiting  heldTopics // scratch

	count, bytes, rejected atomic.Int64
}

// heldPublish is a publish set aside. It is fresh until it was tried against a state with nothing ahead; only then is it
// held, and counts as such.
type heldPublish struct {
	*Publish
	number uint64
	held   bool
	gone   bool // it went on
}

// heldTopic has the publishes of one topic that are set aside, in order. It is never empty.
type heldTopic struct {
	name string
	list []*heldPublish
}

// heldTopics is a heap.
type heldTopics []*heldTopic

func (h heldTopics) Len() int           { return len(h) }
func (h heldTopics) Less(i, j int) bool { return h[i].list[0].number < h[j].list[0].number }
func (h heldTopics) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heldTopics) Push(t any)        { *h = append(*h, t.(*heldTopic)) }
func (h *heldTopics) Pop() any {
	n := len(*h) - 1
	t := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return t
}

// newAdmission makes one, or none where nothing is to be turned away.
func newAdmission(m *machine, o Options) *admission {
	if !o.Limits.Policy.admits() || !o.Limits.filters() && !o.Limits.sessions() {
		return nil
	}
	return &admission{m: m, policy: o.Limits.Policy, most: int64(o.MaxPending), mostBytes: o.MaxPendingBytes,
		topics: map[string]*heldTopic{}}
}

// stats adds what is known of refused and held publishes.
func (a *admission) stats(s *Stats) {
	if a == nil {
		return
	}
	s.Held, s.HeldBytes = int(a.count.Load()), a.bytes.Load()
	s.Drops[Rejected] = a.rejected.Load()
}

// admit returns the commands of a batch that are to be committed now; the slice is the batch's.
func (e *engine) admit(batch []command) []command {
	a := e.admission
	if a == nil {
		return batch
	}
	a.others, a.joins = false, false
	n := 0
	for _, c := range batch {
		if a.defers(e, c) {
			continue
		}
		batch[n] = c
		n++
	}
	clear(batch[n:])
	a.forgetAhead()
	if n == 0 {
		return e.readmit()
	}
	return batch[:n]
}

// defers reports whether a command is not to be committed with its batch.
func (a *admission) defers(e *engine, c command) bool {
	p, ok := c.(*Publish)
	switch {
	case c.failed():
	case ok:
		if a.setAside(p) {
			return true
		}
		if p.failed() {
			e.pendingBytes.Add(-p.weight()) // commit does it for the others
		}
	case c.kind() == 0:
		if len(a.fresh) > 0 {
			a.barriers = append(a.barriers, c)
			return true
		}
	default:
		a.others, a.retry = true, true
		_, joins := c.(*Subscribe)
		a.joins = a.joins || joins
	}
	return false
}

// setAside decides about a publish that is proposed. It reports whether it is set aside; if not, it goes on, or has failed.
func (a *admission) setAside(p *Publish) bool {
	if p.WillOf != 0 || p.IdentifierOnly || !a.sensible(p) {
		return false
	}
	if a.topics[p.Message.Topic] == nil {
		if p.Message.QoS == 0 {
			return false // it can only be retained
		}
		switch v := a.find(p); {
		case v == roomNow && !a.joins:
			a.expect(p)
			return false
		case v == roomNever || v == roomLater && !a.others && a.policy == Reject:
			a.reject(p)
			return false
		}
	}
	if n := a.count.Load(); n > 0 && (n >= a.most || a.bytes.Load()+p.size() > a.mostBytes) {
		a.reject(p)
		return false
	}
	a.keep(p)
	return true
}

// sensible says that the publish changes something. One that does not is left to apply.
func (a *admission) sensible(p *Publish) bool {
	s, err := a.m.publisher(p)
	if err != nil {
		return false
	}
	if s != nil {
		if _, known := slices.BinarySearch(s.received, p.PacketID); known {
			return false
		}
	}
	return !p.Message.Retain || a.m.retainable(p.Message) == nil
}

// find looks for room for a message.
func (a *admission) find(p *Publish) admissible {
	a.m.matched = a.m.matched[:0]
	a.m.match(p.Message.Topic)
	return a.m.admit(p.size())
}

// expect notes that a message enters the filters in machine.matched when its batch is applied.
func (a *admission) expect(p *Publish) {
	for _, f := range a.m.matched {
		if f.ahead == (tally{}) {
			a.ahead = append(a.ahead, f)
		}
		f.ahead = f.ahead.plus(one(p.size()))
	}
}

// forgetAhead ends a batch: it is committed and applied before anything else is decided.
func (a *admission) forgetAhead() {
	for _, f := range a.ahead {
		f.ahead = tally{}
	}
	clear(a.ahead)
	a.ahead = a.ahead[:0]
}

// reject refuses a publish.
func (a *admission) reject(p *Publish) {
	p.Err = ErrFull
	a.rejected.Add(1)
	a.m.drops.add(Dropped{Cause: Rejected}, p.Message)
}

// keep sets a publish aside.
func (a *admission) keep(p *Publish) {
	a.number++
	h := &heldPublish{Publish: p, number: a.number}
	a.fresh = append(a.fresh, h)
	a.retry = true
	t := a.topics[p.Message.Topic]
	if t == nil {
		t = &heldTopic{name: strings.Clone(p.Message.Topic)} // the message's own shares memory with its payload
		a.topics[t.name] = t
		t.list = append(t.list, h)
		heap.Push(&a.oldest, t)
		return
	}
	t.list = append(t.list, h)
}

// readmit returns what is set aside and is to be committed now, or has failed, oldest first, then barriers that waited for it.
func (e *engine) readmit() []command {
	a := e.admission
	if a == nil || !a.retry && len(a.barriers) == 0 {
		return nil
	}
	a.retry = false
	clear(a.passed)
	a.passed = a.passed[:0]
	for len(a.oldest) > 0 {
		t := heap.Pop(&a.oldest).(*heldTopic)
		h := t.list[0]
		if !a.decide(h.Publish) {
			a.waiting = append(a.waiting, t)
			continue
		}
		e.letGo(h)
		a.passed = append(a.passed, h.Publish)
		a.retry = true // it may fail yet, and leave its room to another one
		if t.list[0] = nil; len(t.list) == 1 {
			delete(a.topics, t.name)
			continue
		}
		t.list = t.list[1:]
		heap.Push(&a.oldest, t)
	}
	for _, t := range a.waiting {
		heap.Push(&a.oldest, t)
	}
	clear(a.waiting)
	a.waiting = a.waiting[:0]
	a.forgetAhead()
	e.holdFresh()
	a.passed = append(a.passed, a.barriers...)
	clear(a.barriers)
	a.barriers = a.barriers[:0]
	return a.passed
}

// decide looks again at a publish that was set aside. It reports whether it goes on, or has failed.
func (a *admission) decide(p *Publish) bool {
	if !a.sensible(p) || p.Message.QoS == 0 {
		return true
	}
	switch v := a.find(p); {
	case v == roomNow:
		a.expect(p)
	case v == roomNever || a.policy == Reject:
		a.reject(p)
	default:
		return false
	}
	return true
}

// letGo counts a publish that goes on as pending.
func (e *engine) letGo(h *heldPublish) {
	a, weight := e.admission, h.weight()
	h.gone = true
	if h.held {
		a.count.Add(-1)
		a.bytes.Add(-weight)
		e.pendingCommands.Add(1)
		e.pendingBytes.Add(weight)
	}
	if h.failed() {
		e.pendingBytes.Add(-weight)
	}
}

// holdFresh counts as held, and no more as pending, what was tried and has to wait.
func (e *engine) holdFresh() {
	a := e.admission
	for _, h := range a.fresh {
		if !h.gone {
			h.held = true
			a.count.Add(1)
			a.bytes.Add(h.weight())
			e.pendingCommands.Add(-1)
			e.pendingBytes.Add(-h.weight())
		}
	}
	clear(a.fresh)
	a.fresh = a.fresh[:0]
}

// close gives ErrClosed to what is held, oldest first.
func (a *admission) close() {
	if a == nil {
		return
	}
	for len(a.oldest) > 0 {
		t := a.oldest[0]
		h := t.list[0]
		if t.list = t.list[1:]; len(t.list) == 0 {
			heap.Pop(&a.oldest)
		} else {
			heap.Fix(&a.oldest, 0)
		}
		h.fail(ErrClosed)
		h.finish()
	}
	clear(a.topics)
	a.count.Store(0)
	a.bytes.Store(0)
}
