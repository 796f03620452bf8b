// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "cmp"

// timer is when a session has something to do.
type timer struct {
	due   int64 // Unix nanoseconds
	place int32 // in the heap, from 1; 0 if not there
}

// timers is a heap of sessions that know their places in it.
type timers []*session

// before orders sessions that are due at the same time, too, so that one log has one result.
func (s *session) before(o *session) bool {
	return cmp.Or(cmp.Compare(s.timer.due, o.timer.due), cmp.Compare(s.id, o.id)) < 0
}

// set puts s in its place for a new time; 0 takes it out.
func (h *timers) set(s *session, due int64) {
	if due == 0 {
		h.remove(s)
		return
	}
	s.timer.due = due
	if s.timer.place == 0 {
		*h = append(*h, s)
		s.timer.place = int32(len(*h))
	}
	h.up(s)
	h.down(s)
}

func (h *timers) remove(s *session) {
	if s.timer.place == 0 {
		return
	}
	n := len(*h) - 1
	last := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	if last != s {
		last.timer.place = s.timer.place
		(*h)[last.timer.place-1] = last
		h.up(last)
		h.down(last)
	}
	s.timer.place = 0
}

// next is the earliest time, 0 if there is none.
func (h timers) next() int64 {
	if len(h) == 0 {
		return 0
	}
	return h[0].timer.due
}

func (h timers) swap(a, b *session) {
	a.timer.place, b.timer.place = b.timer.place, a.timer.place
	h[a.timer.place-1], h[b.timer.place-1] = a, b
}

func (h timers) up(s *session) {
	for s.timer.place > 1 {
		parent := h[s.timer.place/2-1]
		if !s.before(parent) {
			return
		}
		h.swap(parent, s)
	}
}

func (h timers) down(s *session) {
	for {
		i := 2*int(s.timer.place) - 1
		if i >= len(h) {
			return
		}
		if i+1 < len(h) && h[i+1].before(h[i]) {
			i++
		}
		if !h[i].before(s) {
			return
		}
		h.swap(s, h[i])
	}
}

// schedule sets a session's timer to its will or its end, whichever is first.
func (m *machine) schedule(s *session) {
	due := s.expires
	if s.will != nil && s.will.due != 0 && (due == 0 || s.will.due < due) {
		due = s.will.due
	}
	m.timers.set(s, due)
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
			m.sessionDue(t, m.timers[0])
			continue
		}
		_, name := m.expiries.next()
		m.dropRetained(name, t.Now)
		m.unretain(name)
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
