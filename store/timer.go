// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "cmp"

// timer is when a session has something to do. It is part of the session.
type timer struct {
	due     int64
	place   int // in the heap, -1 if not there
	session *session
}

// compare orders timers that are due at the same time, too, so that one log has one result.
func (t *timer) compare(u *timer) int {
	return cmp.Or(cmp.Compare(t.due, u.due), cmp.Compare(t.session.id, u.session.id))
}

// timers is a heap of timers that know their places.
type timers []*timer

// set puts t in its place for a new time; 0 takes it out.
func (h *timers) set(t *timer, due int64) {
	if due == 0 {
		h.remove(t)
		return
	}
	t.due = due
	if t.place < 0 {
		t.place = len(*h)
		*h = append(*h, t)
	}
	h.up(t)
	h.down(t)
}

func (h *timers) remove(t *timer) {
	if t.place < 0 {
		return
	}
	n := len(*h) - 1
	last := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	if last != t {
		last.place = t.place
		(*h)[last.place] = last
		h.up(last)
		h.down(last)
	}
	t.place = -1
}

// next is the earliest time, 0 if there is none.
func (h timers) next() int64 {
	if len(h) == 0 {
		return 0
	}
	return h[0].due
}

func (h timers) swap(a, b *timer) {
	a.place, b.place = b.place, a.place
	h[a.place], h[b.place] = a, b
}

func (h timers) up(t *timer) {
	for t.place > 0 {
		p := h[(t.place-1)/2]
		if p.compare(t) <= 0 {
			return
		}
		h.swap(p, t)
	}
}

func (h timers) down(t *timer) {
	for {
		i := 2*t.place + 1
		if i >= len(h) {
			return
		}
		if i+1 < len(h) && h[i+1].compare(h[i]) < 0 {
			i++
		}
		if t.compare(h[i]) <= 0 {
			return
		}
		h.swap(t, h[i])
	}
}

// schedule sets a session's timer to its will or its end, whichever is first.
func (m *machine) schedule(s *session) {
	due := s.expires
	if s.will != nil && s.will.due != 0 && (due == 0 || s.will.due < due) {
		due = s.will.due
	}
	m.timers.set(&s.timer, due)
}

// nextDue is the time of the next Tick that has something to do, 0 if there is none.
func (m *machine) nextDue() int64 {
	due := sooner(m.timers.next(), m.expiries.first)
	if len(m.unhanded) > 0 {
		due = sooner(due, m.unhanded[0].due)
	}
	return due
}

// sooner is the earlier of two times, of which 0 is none.
func sooner(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (t *Tick) apply(m *machine) {
	n := 0
	for n < MaxDue && n < len(m.unhanded) && m.unhanded[n].due <= t.Now {
		t.Wills = m.handOut(t.Wills, m.unhanded[n])
		n++
	}
	m.unhanded = append(m.unhanded[:0], m.unhanded[n:]...)
	for ; n < MaxDue; n++ {
		session := m.timers.next()
		due := sooner(session, m.expiries.first)
		if due == 0 || due > t.Now {
			break
		}
		if due == session { // before a message that expires at the same time
			m.sessionDue(t, m.timers[0].session)
			continue
		}
		_, name := m.expiries.next()
		m.unretain(name)
		m.stats.Expired++
	}
	due := m.nextDue()
	t.More = due != 0 && due <= t.Now
}

// sessionDue ends a session, or makes its will due.
func (m *machine) sessionDue(t *Tick, s *session) {
	if !s.expired(t.Now) {
		t.Wills = m.handOut(t.Wills, m.willDue(s, t.Now))
		m.schedule(s)
		return
	}
	freed, due := m.endSession(s, t.Now)
	t.Ended = append(t.Ended, Ended{s.clientID, s.id, freed})
	t.Wills = m.handOut(t.Wills, due)
}
