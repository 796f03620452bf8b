// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"fmt"
	"slices"
)

// sessionQueue is the Queue of one session: all filters it subscribes to, merged.
type sessionQueue struct {
	e     *engine
	owner Owner
	merge merge
}

func (q *sessionQueue) Read(after []Position, most, mostBytes int, now int64, dst []Delivery) ([]Delivery, bool, error) {
	q.e.state.RLock()
	m := q.e.machine
	s, err := m.owned(q.owner)
	if q.e.ended {
		err = ErrClosed
	}
	if err != nil {
		q.e.state.RUnlock()
		return dst, false, err
	}
	q.merge.begin(m, after, most, mostBytes, now)
	q.merge.addSession(s)
	dst, more := q.merge.read(dst, func(ref Ref) bool { _, ok := s.inQueue[ref]; return ok })
	q.e.state.RUnlock()
	q.e.giveUp(fmt.Sprintf("client %q", s.clientID), &lose{Session: q.owner.ID, Refs: q.merge.unreadable}, q.merge.err)
	if len(q.merge.expired) > 0 {
		q.e.submit(&expire{Session: q.owner.ID, Refs: slices.Clone(q.merge.expired)})
	}
	return dst, more, nil
}

// shareQueue is the Queue of a shared subscription.
type shareQueue struct {
	e      *engine
	filter string
	merge  merge
}

func (q *shareQueue) Read(after []Position, most, mostBytes int, now int64, dst []Delivery) ([]Delivery, bool, error) {
	q.e.state.RLock()
	if q.e.ended {
		q.e.state.RUnlock()
		return dst, false, ErrClosed
	}
	m := q.e.machine
	q.merge.begin(m, after, most, mostBytes, now)
	taken := func(Ref) bool { return false }
	if f := m.filters[q.filter]; f != nil && f.share {
		for _, part := range f.queues {
			q.merge.add(&run{q: part, filter: q.filter})
		}
		taken = func(ref Ref) bool { return f.assigned[ref] != 0 }
	}
	dst, more := q.merge.read(dst, taken)
	q.e.state.RUnlock()
	q.e.giveUp(fmt.Sprintf("shared subscription %q", q.filter), &lose{Share: q.filter, Refs: q.merge.unreadable}, q.merge.err)
	if len(q.merge.expired) > 0 {
		q.e.submit(&expire{Share: q.filter, Refs: slices.Clone(q.merge.expired)})
	}
	return dst, more, nil
}

// run reads one queue in order of position, some rows at a time.
type run struct {
	q      *queue
	c      *cursor // nil if the reader has none
	sub    int     // place of the subscription
	filter string
	names  []string // the filter alone, once it is needed
	from   Position
	rows   []queued
	chunk  int
}

// merge reads several queues as one. Positions of one store are numbers of one log, so the order is that of the commits
// over all groups too.
type merge struct {
	m         *machine
	after     []Position
	most      int
	mostBytes int
	now       int64
	runs      []*run // heap by next row
	same      []*run // those at the row in hand
	expired   []Ref
	// unreadable are messages that are skipped because of err.
	unreadable []Ref
	err        error
	keys       keys
}

func (g *merge) begin(m *machine, after []Position, most, mostBytes int, now int64) {
	clear(g.runs)
	clear(g.same)
	*g = merge{m: m, after: after, most: most, mostBytes: mostBytes, now: now,
		runs: g.runs[:0], same: g.same[:0], expired: g.expired[:0], unreadable: g.unreadable[:0], keys: g.keys}
}

// addSession takes part in all queues of a session's own.
func (g *merge) addSession(s *session) {
	for i, sub := range s.subs {
		if sub.f == nil || sub.f.share {
			continue
		}
		for _, q := range sub.f.queues {
			if c := q.cursors[s.id]; c != nil || !sub.draining {
				g.add(&run{q: q, c: c, sub: i, filter: sub.Filter})
			}
		}
	}
}

// add takes part in a queue, if it has anything behind the start.
func (g *merge) add(r *run) {
	r.from, r.chunk = g.after[r.q.group]+1, 16
	if r.c != nil {
		r.from = max(r.from, r.c.start)
	}
	if r.from <= r.q.lastPos && g.fill(r) {
		g.push(r)
	}
}

// fill reads the next rows of a run.
func (g *merge) fill(r *run) bool {
	r.rows = r.rows[:0]
	from, to := g.keys.queue(r.q.group, r.q.f.id, max(r.from, r.q.firstPos), r.q.lastPos)
	g.m.rows.Scan(from, to, func(key, value []byte) bool {
		r.rows = append(r.rows, mustQueued(key, value))
		return len(r.rows) < r.chunk
	})
	r.chunk = min(r.chunk*4, 256)
	if len(r.rows) == 0 {
		return false
	}
	r.from = r.rows[len(r.rows)-1].pos + 1
	return true
}

func (r *run) ref() Ref { return Ref{r.q.group, r.rows[0].pos} }

func (r *run) before(o *run) bool {
	a, b := r.ref(), o.ref()
	return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.Group, b.Group), cmp.Compare(r.sub, o.sub)) < 0
}

func (g *merge) push(r *run) {
	g.runs = append(g.runs, r)
	for i := len(g.runs) - 1; i > 0 && g.runs[i].before(g.runs[(i-1)/2]); i = (i - 1) / 2 {
		g.runs[i], g.runs[(i-1)/2] = g.runs[(i-1)/2], g.runs[i]
	}
}

func (g *merge) pop() *run {
	r, n := g.runs[0], len(g.runs)-1
	g.runs[0], g.runs[n] = g.runs[n], nil
	g.runs = g.runs[:n]
	for i := 0; ; {
		j := 2*i + 1
		if j >= n {
			return r
		}
		if j+1 < n && g.runs[j+1].before(g.runs[j]) {
			j++
		}
		if !g.runs[j].before(g.runs[i]) {
			return r
		}
		g.runs[i], g.runs[j] = g.runs[j], g.runs[i]
		i = j
	}
}

// read appends what is owed. taken says which messages are in a window.
func (g *merge) read(dst []Delivery, taken func(Ref) bool) (_ []Delivery, more bool) {
	given := 0
	bodies := g.m.bodies.Reader()
	defer bodies.Close()
	for len(g.runs) > 0 {
		ref, row := g.take()
		switch {
		case len(g.same) == 0 || taken(ref):
		case row.expiry != 0 && g.now > row.expiry:
			g.expired = append(g.expired, ref)
		default:
			message, err := bodies.Get(ref)
			if err != nil {
				g.unreadable, g.err = append(g.unreadable, ref), err
				break
			}
			if more = given > 0 && len(message.Payload) > g.mostBytes || given >= g.most; more {
				g.settle(ref.Group)
				return dst, true
			}
			g.mostBytes -= len(message.Payload)
			given++
			dst = append(dst, Delivery{Ref: ref, Message: message, Filters: g.names(dst)})
		}
		g.after[ref.Group] = ref.Position
	}
	g.settle(metaGroup)
	return dst, false
}

// take takes the next row off all runs that have it, and leaves in same those to which it is owed.
func (g *merge) take() (Ref, queued) {
	ref, row := g.runs[0].ref(), g.runs[0].rows[0]
	g.same = g.same[:0]
	for len(g.runs) > 0 && g.runs[0].ref() == ref {
		r := g.pop()
		if r.c == nil || !r.c.acked(r.rows[0].seq) {
			g.same = append(g.same, r)
		}
		r.rows = r.rows[1:]
		if len(r.rows) > 0 || g.fill(r) {
			g.push(r)
		}
	}
	return ref, row
}

// names are the filters of the runs in same. Neighbours in a queue mostly have the same, and share the slice.
func (g *merge) names(dst []Delivery) []string {
	if len(g.same) == 1 {
		r := g.same[0]
		if r.names == nil {
			r.names = []string{r.filter}
		}
		return r.names
	}
	if len(dst) > 0 {
		last := dst[len(dst)-1].Filters
		if slices.EqualFunc(last, g.same, func(f string, r *run) bool { return f == r.filter }) {
			return last
		}
	}
	names := make([]string, 0, len(g.same))
	for _, r := range g.same { // runs at one row come in order of their subscriptions, which are sorted
		names = append(names, r.filter)
	}
	return names
}

// settle moves on the positions of the groups where all was read: not the one given, nor those of the runs left.
func (g *merge) settle(unread uint16) {
	for i := range g.after {
		group := uint16(i)
		if group == unread || slices.ContainsFunc(g.runs, func(r *run) bool { return r.q.group == group }) {
			continue
		}
		g.after[i] = max(g.after[i], g.m.applied)
	}
}
