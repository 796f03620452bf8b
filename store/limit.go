// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"slices"

	"github.com/noctule/noctule/mqtt"
)

// QueuePolicy is what happens to a message for which a queue has no room: that of a filter, or all those together that
// owe one session.
type QueuePolicy byte

// Policies. DropOldest is the default: a client that comes back wants the latest, and no publisher suffers for one that does
// not come back.
const (
	DropOldest QueuePolicy = iota // room is made by dropping what has waited longest
	DropNewest                    // the message does not enter; what waits is kept
	Reject                        // the Publish is refused whole with ErrFull
	Block                         // the Publish is held until there is room; its Done is called then
)

var policies = [...]string{DropOldest: "drop-oldest", DropNewest: "drop-newest", Reject: "reject", Block: "block"}

// String is the word of the policy: drop-oldest, drop-newest, reject or block.
func (p QueuePolicy) String() string {
	if int(p) < len(policies) {
		return policies[p]
	}
	return fmt.Sprintf("policy %d", byte(p))
}

// Set takes the word of a policy.
func (p *QueuePolicy) Set(word string) error {
	for i, w := range policies {
		if w == word {
			*p = QueuePolicy(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no queue policy: drop-oldest, drop-newest, reject or block", word)
}

// admits says that a Publish which finds no room is turned away before it is committed. What is committed is never turned
// away, so that what was acknowledged is kept when the log is applied again, whatever the limits are then and whichever
// acknowledgements were lost.
func (p QueuePolicy) admits() bool { return p == Reject || p == Block }

// How limits of sessions are kept without a look at a thousand sessions for each message
//
// A filter may take so many messages, and bytes, before any session that reads it can come to owe too much: up to
// filter.due. When it has taken them, all its sessions are looked at (apportion), and each gives each of its filters an
// equal part of the room that it has left. No filter of a session is ever due later than its part of the session's room
// at that look: a look through one filter lowers due of the others, and a new subscription does.
//
// So a look costs a step for each session of the filter times the filters of that session, and is needed once in as many
// messages as the fullest of these sessions has room for, divided by the number of its filters. Where a session has no
// room it is each message; with DropOldest it is one in a sixteenth of the limit, since that much is dropped at a time.
// With DropNewest, a session that is full beside others that are not has its cursor moved on by each message.

// noLimit is room without a limit.
const noLimit = 1 << 61

func (l *Limits) filters() bool  { return l.MaxQueueMessages > 0 || l.MaxQueueBytes > 0 }
func (l *Limits) sessions() bool { return l.MaxSessionMessages > 0 || l.MaxSessionBytes > 0 }

// forFilter and forSession are the limits as tallies.
func (l *Limits) forFilter() tally  { return limitOf(int64(l.MaxQueueMessages), l.MaxQueueBytes) }
func (l *Limits) forSession() tally { return limitOf(int64(l.MaxSessionMessages), l.MaxSessionBytes) }

func limitOf(messages, bytes int64) tally {
	if messages <= 0 {
		messages = noLimit
	}
	if bytes <= 0 {
		bytes = noLimit
	}
	return tally{messages, bytes}
}

// slack is how far above a limit a session may come before what is too much is dropped.
func (l *Limits) slack(limit tally) tally {
	if l.Policy == DropOldest {
		return tally{limit.messages + limit.messages/16, limit.bytes + limit.bytes/16}
	}
	return limit
}

// setLimits changes the limits. All sessions are looked at anew.
func (m *machine) setLimits(l Limits) {
	m.limits = l
	for _, f := range m.filters { // each for itself: the order does not show
		f.due = tally{}
	}
}

// exceeds reports whether t is too much.
func (t tally) exceeds(limit tally) bool { return t.messages > limit.messages || t.bytes > limit.bytes }

// owed is what the session's own queues owe it.
func (s *session) owed() (t tally) {
	for _, sub := range s.subs {
		if sub.f == nil || sub.f.share {
			continue
		}
		for _, q := range sub.f.queues {
			if c := q.cursors[s.id]; c != nil {
				t = t.plus(c.owed(q))
			} else if !sub.draining {
				t = t.plus(q.here())
			}
		}
	}
	return t
}

// coming is what the commands that are being committed add to it.
func (s *session) coming() (t tally) {
	for _, sub := range s.subs {
		if sub.reads() {
			t = t.plus(sub.f.ahead)
		}
	}
	return t
}

// reads says that new messages of the filter's own queue are for the subscription.
func (s *sub) reads() bool { return s.f != nil && !s.f.share && !s.draining }

// taken is what has entered the filter, or is about to.
func (f *filter) taken() tally { return f.in.plus(f.ahead) }

// entering is what a message of a size adds to a filter: nothing if the filter is not marked.
func (m *machine) entering(f *filter, size int64) tally {
	if size > 0 && f.mark == m.mark {
		return one(size)
	}
	return tally{}
}

// apportion divides the room of a session that owes something between its filters, and returns the part of each. size is
// that of a message which is about to enter the filters marked and is part of what is owed, 0 if there is none.
func (m *machine) apportion(s *session, owed tally, size int64) tally {
	room := m.limits.slack(m.limits.forSession()).minus(owed)
	n := int64(0)
	for _, sub := range s.subs {
		if sub.reads() {
			n++
		}
	}
	n = max(n, 1)
	part := tally{max(room.messages, 0) / n, max(room.bytes, 0) / n}
	for _, sub := range s.subs {
		if sub.reads() {
			sub.f.due = sub.f.due.least(sub.f.taken().plus(m.entering(sub.f, size)).plus(part))
		}
	}
	return part
}

// joined lowers due where a session begins to read a filter that may take messages before it is looked at. A filter that
// is due as it is takes nothing of the session's room.
func (m *machine) joined(s *session, f *filter) {
	if !f.share && m.limits.sessions() && f.due.messages > f.taken().messages {
		m.apportion(s, s.owed(), 0)
	}
}

// look apportions the room of all sessions of a filter, and finds out when the filter is due next. size is as for
// apportion; sessions that skip the message do not owe it.
func (m *machine) look(f *filter, size int64) {
	part := tally{noLimit, noLimit}
	for _, sub := range f.members {
		if s := sub.s; size > 0 && s.mark != m.mark {
			owed, _ := m.with(s, size)
			part = part.least(m.apportion(s, owed, size))
		} else {
			part = part.least(m.apportion(s, s.owed().plus(s.coming()), 0))
		}
	}
	f.due = f.taken().plus(m.entering(f, size)).plus(part)
}

// makeRoom drops the oldest messages of the filters in m.matched, which have just taken a message, and of their sessions.
// The newest always stays. For a will no session may be left above its limit: nobody looks at it again where a policy
// is to refuse.
func (m *machine) makeRoom(will bool) {
	limit := m.limits.forFilter()
	for _, f := range m.matched {
		for f.count > 1 && f.here().exceeds(limit) {
			m.dropOldest(f.oldest())
		}
	}
	if !m.limits.sessions() {
		return
	}
	for _, f := range m.matched {
		if f.share || !will && !f.in.exceeds(f.due) {
			continue
		}
		for _, sub := range f.members {
			if owed := sub.s.owed(); owed.exceeds(m.limits.slack(m.limits.forSession())) {
				m.skipOldest(sub.s, owed)
			}
		}
		m.look(f, 0)
	}
}

// cut brings what a session is owed down to the limit, for a new owner.
func (m *machine) cut(s *session) {
	if m.limits.Policy != DropOldest || !m.limits.sessions() {
		return
	}
	if owed := s.owed(); owed.exceeds(m.limits.forSession()) {
		m.skipOldest(s, owed)
	}
}

// skipOldest acknowledges for a session the oldest messages that it is owed, but never the newest, until it is within the
// limit. Those in the session's window are delivered all the same.
func (m *machine) skipOldest(s *session, owed tally) {
	limit := m.limits.forSession()
	g := &m.oldest
	if len(m.origin) == 0 {
		m.origin = make([]Position, m.groups)
	}
	g.begin(m, m.origin, 0, 0, 0)
	g.addSession(s)
	skipped := m.skipped[:0]
	var first Dropped
	for n := int64(0); owed.exceeds(limit) && len(g.runs) > 0; {
		ref, row := g.take()
		if len(g.same) == 0 {
			continue
		}
		if n > 0 {
			skipped = append(skipped, first.Ref)
			owed = owed.minus(tally{n, n * first.Size})
			if _, ok := s.inQueue[first.Ref]; !ok {
				m.drop(first, nil)
			}
		}
		n = int64(len(g.same))
		first = Dropped{Cause: SessionOldest, Filter: g.same[0].q.f.name, ClientID: s.clientID, Readers: 1, Ref: ref, Size: row.size}
	}
	m.ack(s, skipped)
	m.skipped = skipped[:0]
}

// here is what is in the filter's queue.
func (f *filter) here() tally { return tally{int64(f.count), f.bytes} }

// with is what a session owes with a message that enters the filters marked, and what the message adds to it.
func (m *machine) with(s *session, size int64) (owed, added tally) {
	for _, sub := range s.subs {
		if sub.reads() && sub.f.mark == m.mark {
			added = added.plus(one(size))
		}
	}
	return s.owed().plus(s.coming()).plus(added), added
}

// turnAway takes from m.matched the filters that a message does not enter because they are full, or because all their
// sessions are; m.full are the sessions that are to skip it in what is left.
func (m *machine) turnAway(msg *mqtt.Message, size int64) {
	limit := m.limits.forFilter()
	m.matched = slices.DeleteFunc(m.matched, func(f *filter) bool {
		full := f.here().plus(one(size)).exceeds(limit)
		if full {
			m.drop(Dropped{Cause: FilterNewest, Filter: f.name, ClientID: f.onlyMember(), Readers: max(len(f.members), 1), Size: size}, msg)
		}
		return full
	})
	m.full = m.full[:0]
	if !m.limits.sessions() {
		return
	}
	due := m.dueFilters(size)
	for _, f := range due {
		m.findFull(f, msg, size)
	}
	if len(m.full) > 0 {
		m.matched = slices.DeleteFunc(m.matched, func(f *filter) bool {
			if f.share || slices.ContainsFunc(f.members, func(sub *sub) bool { return sub.s.mark != m.mark }) {
				return false
			}
			f.mark = 0
			return true
		})
	}
	for _, f := range due {
		m.look(f, size)
	}
}

// dueFilters marks the filters in m.matched, and returns those whose sessions are to be looked at before a message enters.
func (m *machine) dueFilters(size int64) (due []*filter) {
	m.mark++
	for _, f := range m.matched {
		f.mark = m.mark
		if !f.share && f.taken().plus(one(size)).exceeds(f.due) {
			due = append(due, f)
		}
	}
	return due
}

// findFull adds those sessions of a filter to m.full that have no room for a message.
func (m *machine) findFull(f *filter, msg *mqtt.Message, size int64) {
	for _, sub := range f.members {
		s := sub.s
		if s.mark == m.mark {
			continue
		}
		if owed, _ := m.with(s, size); owed.exceeds(m.limits.forSession()) {
			s.mark = m.mark
			m.full = append(m.full, s)
			m.drop(Dropped{Cause: SessionNewest, Filter: f.name, ClientID: s.clientID, Readers: 1, Size: size}, msg)
		}
	}
}

// skipNewest acknowledges a message for the sessions that have no room for it.
func (m *machine) skipNewest(ref Ref) {
	for _, s := range m.full {
		m.refs = append(m.refs[:0], ref)
		m.ack(s, m.refs)
	}
}

// admissible says whether a message may enter all queues that want it.
type admissible byte

const (
	roomNow   admissible = iota
	roomLater            // there is none now
	roomNever            // there would be none if nothing else waited
)

// admit finds out whether there is room for a message in the filters in m.matched and for their sessions, beside what is
// being committed.
func (m *machine) admit(size int64) admissible {
	limit := m.limits.forFilter()
	if len(m.matched) > 0 && one(size).exceeds(limit) {
		return roomNever
	}
	found := roomNow
	for _, f := range m.matched {
		if f.here().plus(f.ahead).plus(one(size)).exceeds(limit) {
			found = roomLater
			break
		}
	}
	if !m.limits.sessions() {
		return found
	}
	due := m.dueFilters(size)
	for _, f := range due { // also if a filter is full: what no session can ever take is not to be held
		v := m.admitSessions(f, size)
		if v == roomNever {
			return v
		}
		found = max(found, v)
	}
	if found == roomNow {
		for _, f := range due {
			m.look(f, size)
		}
	}
	return found
}

// admitSessions is admit for the sessions of one filter.
func (m *machine) admitSessions(f *filter, size int64) admissible {
	limit := m.limits.forSession()
	found := roomNow
	for _, sub := range f.members {
		owed, added := m.with(sub.s, size)
		if added.exceeds(limit) {
			return roomNever
		}
		if owed.exceeds(limit) {
			found = roomLater
		}
	}
	return found
}
