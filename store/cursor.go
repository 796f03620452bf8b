// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"slices"
	"sort"
)

// cursor is how far one of several readers of a queue has come. Sequence numbers below low, and those in ahead, are
// acknowledged.
type cursor struct {
	s     *session
	low   uint64
	ahead []span // sorted, apart from each other and from low
	until uint64 // if not 0, the reader owes nothing from this number on
	place int    // in the heap
	// Mirrors of rows: settled is that part of queue.in which the reader owes no acknowledgement for, so that what it
	// owes is known without a step for each message that enters; end is queue.in when until was set; and all that it
	// owes is at start or behind.
	settled tally
	end     tally
	start   Position
}

// owed is what the reader has not acknowledged of q.
func (c *cursor) owed(q *queue) tally {
	if c.until != 0 {
		return c.end.minus(c.settled)
	}
	return q.in.minus(c.settled)
}

// span is a range of sequence numbers.
type span struct{ from, to uint64 } // from <= n < to

// acked reports whether the reader owes no acknowledgement for seq.
func (c *cursor) acked(seq uint64) bool {
	if seq < c.low || c.until != 0 && seq >= c.until {
		return true
	}
	i := sort.Search(len(c.ahead), func(i int) bool { return c.ahead[i].to > seq })
	return i < len(c.ahead) && c.ahead[i].from <= seq
}

// ack acknowledges from <= n < to.
func (c *cursor) ack(from, to uint64) {
	if from >= to {
		return
	}
	if from <= c.low {
		c.lift(to)
		return
	}
	i := sort.Search(len(c.ahead), func(i int) bool { return c.ahead[i].to >= from })
	j := i
	for ; j < len(c.ahead) && c.ahead[j].from <= to; j++ {
		from, to = min(from, c.ahead[j].from), max(to, c.ahead[j].to)
	}
	c.ahead = slices.Replace(c.ahead, i, j, span{from, to})
}

// lift acknowledges everything below low.
func (c *cursor) lift(low uint64) {
	c.low = max(c.low, low)
	n := 0
	for ; n < len(c.ahead) && c.ahead[n].from <= c.low; n++ {
		c.low = max(c.low, c.ahead[n].to)
	}
	c.ahead = slices.Delete(c.ahead, 0, n)
}

// highest is above all sequence numbers that the cursor speaks of.
func (c *cursor) highest() uint64 {
	n := max(c.low, c.until)
	if len(c.ahead) > 0 {
		n = max(n, c.ahead[len(c.ahead)-1].to)
	}
	return n
}

// cursorOf finds a reader's cursor in a queue with several readers, or gives it one.
func (q *queue) cursorOf(s *session) *cursor {
	if c := q.cursors[s.id]; c != nil {
		return c
	}
	return q.addCursor(s, q.first, q.here())
}

// addCursor gives a reader a cursor. owed is what is left for it from low on.
func (q *queue) addCursor(s *session, low uint64, owed tally) *cursor {
	c := &cursor{s: s, low: low, place: len(q.lowest), settled: q.in.minus(owed)}
	if q.cursors == nil {
		q.cursors = map[SessionID]*cursor{}
	}
	q.cursors[s.id] = c
	q.lowest = append(q.lowest, c)
	q.up(c)
	return c
}

func (q *queue) removeCursor(c *cursor) {
	delete(q.cursors, c.s.id)
	last := q.lowest[len(q.lowest)-1]
	q.lowest[len(q.lowest)-1] = nil
	q.lowest = q.lowest[:len(q.lowest)-1]
	if last != c {
		q.put(last, c.place)
		q.up(last)
		q.down(last)
	}
}

// forgo counts the cursors in the heap from place i on that have not acknowledged a message. It is about to be removed.
func (q *queue) forgo(i int, e queued) int {
	if i >= len(q.lowest) || q.lowest[i].low > e.seq {
		return 0
	}
	n := q.forgo(2*i+1, e) + q.forgo(2*i+2, e)
	if c := q.lowest[i]; !c.acked(e.seq) {
		c.settled = c.settled.plus(one(e.size))
		n++
	}
	return n
}

func (q *queue) put(c *cursor, place int) { q.lowest[place], c.place = c, place }

func (q *queue) up(c *cursor) {
	for c.place > 0 {
		p := q.lowest[(c.place-1)/2]
		if p.low <= c.low {
			return
		}
		pp, cp := p.place, c.place
		q.put(c, pp)
		q.put(p, cp)
	}
}

func (q *queue) down(c *cursor) {
	for {
		i := 2*c.place + 1
		if i >= len(q.lowest) {
			return
		}
		if i+1 < len(q.lowest) && q.lowest[i+1].low < q.lowest[i].low {
			i++
		}
		d := q.lowest[i]
		if c.low <= d.low {
			return
		}
		dp, cp := d.place, c.place
		q.put(c, dp)
		q.put(d, cp)
	}
}

// ack acknowledges messages for a session in all its queues. It may reorder refs.
func (m *machine) ack(s *session, refs []Ref) (n int) {
	if len(refs) == 0 {
		return 0
	}
	slices.SortFunc(refs, func(a, b Ref) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Position, b.Position))
	})
	for len(refs) > 0 {
		g := refs[0].Group
		end := sort.Search(len(refs), func(i int) bool { return refs[i].Group > g })
		for _, sub := range s.subs {
			if sub.f == nil || sub.f.share {
				continue
			}
			if q := sub.f.part(g); q != nil && (!sub.draining || q.cursors[s.id] != nil) {
				n += m.ackQueue(q, s, refs[:end])
			}
		}
		refs = refs[end:]
	}
	return n
}

// ackQueue acknowledges for one reader of q what q has of refs, which are sorted and of its group. It returns how many
// of them the reader had not acknowledged before.
func (m *machine) ackQueue(q *queue, s *session, refs []Ref) (n int) {
	if !m.pick(q, refs) {
		return 0
	}
	if q.solo() {
		n = len(m.entries)
		m.removeRows(q)
		return n
	}
	c := q.cursorOf(s)
	for _, e := range m.entries {
		if !c.acked(e.seq) {
			c.ack(e.seq, e.seq+1)
			c.settled = c.settled.plus(one(e.size))
			n++
		}
		if e.seq < c.low {
			c.start = max(c.start, e.pos+1)
		}
	}
	q.down(c)
	m.saveCursor(q, c)
	if !m.leaveIfDrained(q, c) {
		m.trim(q)
	}
	return n
}

// pick fills m.entries with the rows of q that refs name.
func (m *machine) pick(q *queue, refs []Ref) bool {
	m.entries = m.entries[:0]
	first, last := max(refs[0].Position, q.firstPos), min(refs[len(refs)-1].Position, q.lastPos)
	if first > last {
		return false
	}
	if len(refs) == 1 {
		key := m.keys.numbers(q.group, kindQueue, q.f.id, uint64(first))
		if v, ok := m.rows.Get(key); ok {
			m.entries = append(m.entries, mustQueued(key, v))
		}
		return len(m.entries) > 0
	}
	from, to := m.keys.queue(q.group, q.f.id, first, last)
	m.rows.Scan(from, to, func(key, value []byte) bool {
		for len(refs) > 0 && uint64(refs[0].Position) < keyNumber2(key) {
			refs = refs[1:]
		}
		if len(refs) > 0 && uint64(refs[0].Position) == keyNumber2(key) {
			m.entries = append(m.entries, mustQueued(key, value))
		}
		return len(refs) > 0
	})
	return len(m.entries) > 0
}

// leaveIfDrained ends the reading of a session that has read all that it still was to read.
func (m *machine) leaveIfDrained(q *queue, c *cursor) bool {
	if c.until == 0 || max(c.low, q.first) < c.until {
		return false
	}
	q.removeCursor(c)
	m.rows.Delete(m.keys.numbers(q.group, kindCursor, q.f.id, uint64(c.s.id)))
	q.readers--
	m.trim(q)
	return true
}

// trim deletes what no reader needs any more.
func (m *machine) trim(q *queue) {
	switch {
	case q.readers == 0:
		m.purge(q)
		return
	case q.readers == 1 && len(q.lowest) == 1 && q.lowest[0].until == 0:
		m.collapse(q, q.lowest[0])
		return
	}
	for q.waiting() == 0 {
		c := q.lowest[0]
		if c.low < q.first { // what a single reader acknowledged out of order left gaps
			c.lift(q.first)
			q.down(c)
			m.saveCursor(q, c)
			if m.leaveIfDrained(q, c) {
				return
			}
			continue
		}
		if c.low == q.first {
			return
		}
		m.scan(q, q.firstPos, q.lastPos, 256)
		i := sort.Search(len(m.entries), func(i int) bool { return m.entries[i].seq >= c.low })
		m.entries = m.entries[:i]
		if !m.removeRows(q) {
			return
		}
	}
}

// collapse makes a queue one with a single reader, by deleting what its last cursor has acknowledged.
func (m *machine) collapse(q *queue, c *cursor) {
	q.removeCursor(c)
	m.rows.Delete(m.keys.numbers(q.group, kindCursor, q.f.id, uint64(c.s.id)))
	for at := q.firstPos; at <= q.lastPos; {
		m.scan(q, at, q.lastPos, 256)
		if len(m.entries) == 0 {
			return
		}
		at = m.entries[len(m.entries)-1].pos + 1
		m.entries = slices.DeleteFunc(m.entries, func(e queued) bool { return !c.acked(e.seq) })
		if len(m.entries) > 0 && !m.removeRows(q) {
			return
		}
	}
}

func (m *machine) saveCursor(q *queue, c *cursor) {
	v := append(m.value[:0], rowVersion)
	v = appendUint(appendUint(v, c.low), c.until)
	v = appendUint(v, uint64(len(c.ahead)))
	for _, a := range c.ahead {
		v = appendUint(appendUint(v, a.from), a.to)
	}
	m.value = v
	m.rows.Set(m.keys.numbers(q.group, kindCursor, q.f.id, uint64(c.s.id)), v)
}

// ackShared acknowledges a message of a shared subscription.
func (m *machine) ackShared(whole string, ref Ref) bool {
	f := m.filters[whole]
	if f == nil || !f.share {
		return false
	}
	q := f.part(ref.Group)
	if q == nil || !m.pick(q, []Ref{ref}) {
		return false
	}
	m.removeRows(q)
	return true
}

// ledger has what is in a queue up to each of its rows, so that load finds out what many cursors owe without a look at
// all rows for each.
type ledger struct {
	q     *queue
	rows  []queued
	until []tally // before rows[i]
}

func (m *machine) openLedger(l *ledger, q *queue) {
	*l = ledger{q: q, rows: make([]queued, 0, q.count), until: make([]tally, 1, q.count+1)}
	from, to := m.keys.queue(q.group, q.f.id, q.firstPos, q.lastPos)
	m.rows.Scan(from, to, func(key, value []byte) bool {
		e := mustQueued(key, value)
		l.rows = append(l.rows, e)
		l.until = append(l.until, l.until[len(l.until)-1].plus(one(e.size)))
		return true
	})
}

// below is what is in the queue with sequence numbers below seq.
func (l *ledger) below(seq uint64) (t tally, row int) {
	row = sort.Search(len(l.rows), func(i int) bool { return l.rows[i].seq >= seq })
	return l.until[row], row
}

// settle sets the mirrors of a cursor that was read from its row.
func (l *ledger) settle(c *cursor) {
	var row int
	c.settled, row = l.below(c.low)
	if row < len(l.rows) {
		c.start = l.rows[row].pos
	} else {
		c.start = l.q.lastPos + 1
	}
	for _, a := range c.ahead {
		to, _ := l.below(a.to)
		from, _ := l.below(a.from)
		c.settled = c.settled.plus(to.minus(from))
	}
	if c.until != 0 {
		c.end, _ = l.below(c.until)
	}
}
