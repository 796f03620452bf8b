// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"
	"sort"
	"strings"
)

// filter is a topic filter, or a shared subscription, with at least one persistent reader: all its readers share its
// queue. The queue is in parts, one per topic group with messages waiting.
type filter struct {
	id      uint64
	name    string // whole, with $share and share name
	inner   string // what is matched
	share   bool
	home    uint16   // group of its row
	readers int      // subscriptions with QoS > 0; at 0 no more messages enter
	queues  []*queue // by group; none is empty
	count   int      // messages in all of them
	bytes   int64
	members []*sub // of the sessions that read it, in no order; none for a shared subscription
	// What limit.go needs: all that ever entered; up to where no session of a member can come to owe too much; what enters
	// with the commands that are being committed; and the publish for which the filter was last looked at.
	in    tally
	due   tally
	ahead tally
	mark  uint64
	// assigned are the messages of a shared subscription in sessions' stored windows.
	assigned map[Ref]SessionID
}

// part returns the queue of one group, nil if it is empty.
func (f *filter) part(group uint16) *queue {
	for _, q := range f.queues { // at most one per group, usually one or two
		if q.group == group {
			return q
		}
	}
	return nil
}

// oldest returns the part with the oldest message.
func (f *filter) oldest() *queue {
	var o *queue
	for _, q := range f.queues {
		if o == nil || q.firstPos < o.firstPos {
			o = q
		}
	}
	return o
}

// queue is the part of a filter's queue in one topic group. Its rows are numbered in sequence from 0; the numbers let a
// cursor count and join ranges without looking at rows.
//
// How far a reader has come is known in one of two ways. A reader without cursor has acknowledged nothing that is still
// here. The only reader of a queue, and all members of a shared subscription together, need no cursor: what is
// acknowledged is deleted. In a queue with several readers, a reader gets a cursor with its first acknowledgement, and
// what all have acknowledged is deleted. A queue that becomes empty vanishes with its cursors.
type queue struct {
	f        *filter
	group    uint16
	readers  int // 0 for a shared subscription
	count    int
	bytes    int64
	first    uint64 // sequence number of the first row
	next     uint64 // and of the next one to come
	firstPos Position
	lastPos  Position
	in       tally // all that ever entered, or was there when it was loaded
	cursors  map[SessionID]*cursor
	lowest   []*cursor // heap by low
}

// tally is a number of messages and of their bytes.
type tally struct{ messages, bytes int64 }

func (t tally) plus(u tally) tally  { return tally{t.messages + u.messages, t.bytes + u.bytes} }
func (t tally) minus(u tally) tally { return tally{t.messages - u.messages, t.bytes - u.bytes} }
func (t tally) least(u tally) tally { return tally{min(t.messages, u.messages), min(t.bytes, u.bytes)} }

// one is a message.
func one(size int64) tally { return tally{1, size} }

// here is what is in the queue.
func (q *queue) here() tally { return tally{int64(q.count), q.bytes} }

// queued is a queue row.
type queued struct {
	pos    Position
	seq    uint64
	size   int64
	expiry int64 // Unix nanoseconds, 0 = never
}

func appendQueued(dst []byte, e queued) []byte {
	dst = appendUint(append(dst, rowVersion), e.seq)
	return appendInt(appendInt(dst, e.size), e.expiry)
}

func decodeQueued(key, value []byte) (queued, error) {
	d := rowDecoder(value)
	e := queued{pos: Position(keyNumber2(key)), seq: d.uint(), size: d.int(), expiry: d.int()}
	return e, d.end()
}

// mustQueued is decodeQueued for rows that load has seen or the machine has written.
func mustQueued(key, value []byte) queued {
	e, err := decodeQueued(key, value)
	if err != nil {
		panic("store: queue row: " + err.Error())
	}
	return e
}

// solo says that acknowledged rows can be deleted at once.
func (q *queue) solo() bool { return q.f.share || q.readers == 1 && len(q.cursors) == 0 }

// waiting is the number of readers without cursor.
func (q *queue) waiting() int { return q.readers - len(q.cursors) }

// enqueue appends a message to a filter's queue.
func (m *machine) enqueue(f *filter, ref Ref, size, expiry int64) {
	q := f.part(ref.Group)
	if q == nil {
		q = m.newQueue(f, ref.Group)
		q.firstPos = ref.Position
	}
	m.value = appendQueued(m.value[:0], queued{seq: q.next, size: size, expiry: expiry})
	m.rows.Insert(m.keys.numbers(q.group, kindQueue, f.id, uint64(ref.Position)), m.value)
	q.next++
	q.lastPos = ref.Position
	q.count++
	f.count++
	q.bytes += size
	f.bytes += size
	q.in = q.in.plus(one(size))
	f.in = f.in.plus(one(size))
}

func (m *machine) newQueue(f *filter, group uint16) *queue {
	var q *queue
	if n := len(m.spare); n > 0 {
		q, m.spare = m.spare[n-1], m.spare[:n-1]
	} else {
		q = &queue{}
	}
	*q = queue{f: f, group: group, cursors: q.cursors, lowest: q.lowest}
	if !f.share {
		q.readers = f.readers
	}
	i := sort.Search(len(f.queues), func(i int) bool { return f.queues[i].group >= group })
	f.queues = slices.Insert(f.queues, i, q)
	return q
}

// dropOldest removes the first message of a queue, and counts it for every reader that has not acknowledged it.
func (m *machine) dropOldest(q *queue) {
	m.scan(q, q.firstPos, q.firstPos, 1)
	e := m.entries[0]
	d := Dropped{Cause: FilterOldest, Filter: q.f.name, Ref: Ref{q.group, e.pos}, Size: e.size}
	switch {
	case !q.f.share:
		d.ClientID = m.onlyReader(q, e.seq)
		d.Readers = q.waiting() + q.forgo(0, e)
	case q.f.assigned[d.Ref] == 0:
		d.Readers = 1
	}
	if d.Readers > 0 {
		m.drop(d, nil)
	}
	m.removeRows(q)
}

// scan fills m.entries with at most max rows of q from position first to last, both inclusive.
func (m *machine) scan(q *queue, first, last Position, max int) {
	m.entries = m.entries[:0]
	from, to := m.keys.queue(q.group, q.f.id, first, last)
	m.rows.Scan(from, to, func(key, value []byte) bool {
		m.entries = append(m.entries, mustQueued(key, value))
		return len(m.entries) < max
	})
}

// removeRows deletes the rows in m.entries from q, and lets go of their messages. It reports whether q is still there.
func (m *machine) removeRows(q *queue) bool {
	front, back := false, false
	for _, e := range m.entries {
		m.rows.Delete(m.keys.numbers(q.group, kindQueue, q.f.id, uint64(e.pos)))
		m.release(Ref{q.group, e.pos}, e.size)
		q.count--
		q.f.count--
		q.bytes -= e.size
		q.f.bytes -= e.size
		front = front || e.pos == q.firstPos
		back = back || e.pos == q.lastPos
	}
	if q.count == 0 {
		m.endQueue(q)
		return false
	}
	if front {
		m.scan(q, q.firstPos, q.lastPos, 1)
		q.firstPos, q.first = m.entries[0].pos, m.entries[0].seq
	}
	if back {
		key, value, _ := m.rows.Last(m.keys.queue(q.group, q.f.id, q.firstPos, q.lastPos))
		e := mustQueued(key, value)
		q.lastPos, q.next = e.pos, e.seq+1
		for _, c := range q.lowest {
			q.next = max(q.next, c.highest()) // so that nothing acknowledged is numbered again
		}
	}
	return true
}

// endQueue forgets an empty queue and its cursors, and its filter with the last queue if nobody reads it.
func (m *machine) endQueue(q *queue) {
	f := q.f
	for _, c := range q.lowest {
		m.rows.Delete(m.keys.numbers(q.group, kindCursor, f.id, uint64(c.s.id)))
	}
	i := slices.Index(f.queues, q)
	f.queues = slices.Delete(f.queues, i, i+1)
	clear(q.cursors)
	clear(q.lowest)
	q.lowest = q.lowest[:0]
	q.f = nil
	if len(m.spare) < 64 {
		m.spare = append(m.spare, q)
	}
	if f.readers == 0 && len(f.queues) == 0 {
		m.endFilter(f)
	}
}

// purge deletes all rows of q.
func (m *machine) purge(q *queue) {
	for {
		m.scan(q, q.firstPos, q.lastPos, 256)
		if !m.removeRows(q) {
			return
		}
	}
}

// addReader makes a session a reader of a filter from now on.
func (m *machine) addReader(name, inner string, share bool, s *session) *filter {
	f := m.filters[name]
	if f == nil {
		f = &filter{name: name, inner: inner, share: share}
		if !strings.ContainsAny(inner, "+#") {
			f.home = m.topicGroup(inner)
		}
		m.lastFID++
		f.id = m.lastFID
		m.saveFilter(f)
		m.filtersByID[f.id] = f
		m.names.Lock()
		m.filters[name] = f
		m.names.Unlock()
	}
	if f.readers++; f.readers == 1 {
		m.index.Add(inner, 0, f)
	}
	if share {
		return f
	}
	for i := len(f.queues) - 1; i >= 0; i-- { // from behind: a queue may vanish
		q := f.queues[i]
		if c := q.cursors[s.id]; c != nil { // it drains what was queued before it changed to QoS 0
			c.ack(c.until, q.next)
			c.settled = c.settled.plus(q.in.minus(c.end))
			c.until = 0
			q.down(c)
			m.saveCursor(q, c)
			m.trim(q)
			continue
		}
		q.readers++
		m.saveCursor(q, q.addCursor(s, q.next, tally{}))
	}
	return f
}

func (m *machine) saveFilter(f *filter) {
	m.value = appendUint(append(m.value[:0], rowVersion), f.id)
	m.rows.Set(m.keys.name(f.home, kindFilter, f.name), m.value)
}

// removeReader takes a session's subscription away, and what only it was to read.
func (m *machine) removeReader(f *filter, s *session, draining bool) {
	if !draining {
		m.stopReader(f)
	}
	if f.share {
		if f.readers == 0 {
			m.purgeAll(f)
		}
		return
	}
	for i := len(f.queues) - 1; i >= 0; i-- {
		q := f.queues[i]
		c := q.cursors[s.id]
		if c != nil {
			q.removeCursor(c)
			m.rows.Delete(m.keys.numbers(q.group, kindCursor, f.id, uint64(s.id)))
		} else if draining {
			continue
		}
		q.readers--
		m.trim(q)
	}
	m.endFilterIfIdle(f)
}

// stopReader ends the flow of new messages for one reader.
func (m *machine) stopReader(f *filter) {
	if f.readers--; f.readers == 0 {
		m.index.Remove(f.inner, 0, f)
	}
}

// drainReader lets a session read on what is queued, and nothing that comes later: its subscription was replaced by one
// of QoS 0, and that must not lose messages [MQTT-3.8.4-4].
func (m *machine) drainReader(f *filter, s *session) {
	if f.share {
		m.removeReader(f, s, false)
		return
	}
	m.stopReader(f)
	for i := len(f.queues) - 1; i >= 0; i-- {
		q := f.queues[i]
		c := q.cursors[s.id]
		if c == nil {
			c = q.addCursor(s, q.first, q.here())
		}
		c.until, c.end = q.next, q.in
		m.saveCursor(q, c)
		m.leaveIfDrained(q, c)
	}
	m.endFilterIfIdle(f)
}

func (m *machine) purgeAll(f *filter) {
	for i := len(f.queues) - 1; i >= 0; i-- {
		m.purge(f.queues[i])
	}
	m.endFilterIfIdle(f)
}

func (m *machine) endFilterIfIdle(f *filter) {
	if f.readers == 0 && len(f.queues) == 0 && m.filters[f.name] == f {
		m.endFilter(f)
	}
}

func (m *machine) endFilter(f *filter) {
	m.rows.Delete(m.keys.name(f.home, kindFilter, f.name))
	delete(m.filtersByID, f.id)
	m.names.Lock()
	delete(m.filters, f.name)
	m.names.Unlock()
}
