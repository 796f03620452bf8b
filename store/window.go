// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"slices"
)

// hold stores one window entry. An entry that is known keeps its place in the order of first sending unless last is set.
func (m *machine) hold(s *session, e *Inflight, last bool) {
	h := &held{Inflight: *e}
	h.Identifiers = slices.Clone(e.Identifiers)
	before := s.window[e.ID]
	if before != nil && !last {
		h.order = before.order
	} else {
		s.order++
		h.order = s.order
	}
	needed := m.secure(s, h, before)
	if before != nil {
		m.unhold(s, before)
	}
	if !needed {
		return
	}
	if s.window == nil {
		s.window = map[uint16]*held{}
	}
	s.window[h.ID] = h
	m.link(s, h)
	v := appendUint(append(m.value[:0], rowVersion), h.order)
	v = appendInt(v, h.size)
	m.value = appendInflight(v, &h.Inflight)
	m.rows.Insert(m.keys.numberID(s.group, kindWindow, uint64(s.id), h.ID), m.value) // unhold has taken the one before away
}

func decodeHeld(value []byte) (*held, error) {
	d := rowDecoder(value)
	h := &held{order: d.uint(), size: d.int(), Inflight: d.inflight()}
	return h, d.end()
}

// secure makes sure that the message of a window entry stays as long as the entry needs it. It reports whether the
// entry is worth keeping: without its message a PUBLISH cannot be repeated.
func (m *machine) secure(s *session, h, before *held) bool {
	if h.State == Released {
		h.Message = nil
		m.refs = append(m.refs[:0], h.Ref)
		if h.Share != "" {
			m.ackShared(h.Share, h.Ref)
		} else if h.Ref != (Ref{}) {
			m.ack(s, m.refs)
		}
		return true
	}
	if h.Ref == (Ref{}) {
		if h.Message == nil && before != nil {
			h.Message = before.Message
		}
		return h.Message != nil
	}
	if before != nil && before.State == Sent && before.Ref == h.Ref {
		h.size = before.size
	} else if size, ok := m.waiting(s, h.Ref, h.Share); ok {
		h.size = size
	} else {
		h.Ref, h.Share = Ref{}, ""
		return h.Message != nil
	}
	h.Message = nil
	m.addRef(h.Ref)
	return true
}

// waiting finds the size of a message in a session's own queue, or in that of a shared subscription.
func (m *machine) waiting(s *session, ref Ref, share string) (size int64, ok bool) {
	if share != "" {
		f := m.filters[share]
		if f == nil || !f.share {
			return 0, false
		}
		return m.sizeIn(f, ref)
	}
	for _, sub := range s.subs {
		if sub.f == nil || sub.f.share {
			continue
		}
		if size, ok := m.sizeIn(sub.f, ref); ok {
			return size, true
		}
	}
	return 0, false
}

func (m *machine) sizeIn(f *filter, ref Ref) (size int64, ok bool) {
	q := f.part(ref.Group)
	if q == nil || ref.Position < q.firstPos || ref.Position > q.lastPos {
		return 0, false
	}
	key := m.keys.numbers(ref.Group, kindQueue, f.id, uint64(ref.Position))
	v, ok := m.rows.Get(key)
	if !ok {
		return 0, false
	}
	return mustQueued(key, v).size, true
}

// link notes where a window entry's message must not be read from a queue again.
func (m *machine) link(s *session, h *held) {
	if h.State != Sent || h.Ref == (Ref{}) {
		return
	}
	if h.Share == "" {
		if s.inQueue == nil {
			s.inQueue = map[Ref]struct{}{}
		}
		s.inQueue[h.Ref] = struct{}{}
		return
	}
	if f := m.filters[h.Share]; f != nil {
		if f.assigned == nil {
			f.assigned = map[Ref]SessionID{}
		}
		f.assigned[h.Ref] = s.id
	}
}

// unhold removes a window entry, and gives up its message.
func (m *machine) unhold(s *session, h *held) {
	m.rows.Delete(m.keys.numberID(s.group, kindWindow, uint64(s.id), h.ID))
	delete(s.window, h.ID)
	if h.State != Sent || h.Ref == (Ref{}) {
		return
	}
	m.release(h.Ref, h.size)
	if h.Share == "" {
		delete(s.inQueue, h.Ref)
	} else if f := m.filters[h.Share]; f != nil && f.assigned[h.Ref] == s.id {
		delete(f.assigned, h.Ref)
	}
}

// windowOf returns the window in the order of first sending.
func (m *machine) windowOf(s *session) []*held {
	if len(s.window) == 0 {
		return nil
	}
	window := make([]*held, 0, len(s.window))
	from, to := m.keys.below(s.group, kindWindow, uint64(s.id))
	m.rows.Scan(from, to, func(key, _ []byte) bool {
		window = append(window, s.window[keyID(key)])
		return true
	})
	slices.SortFunc(window, func(a, b *held) int { return cmp.Compare(a.order, b.order) })
	return window
}

// setWindow replaces the whole window.
func (m *machine) setWindow(s *session, entries []Inflight) {
	ids := make([]uint16, 0, len(entries))
	for i := range entries {
		ids = append(ids, entries[i].ID)
	}
	slices.Sort(ids)
	for _, h := range m.windowOf(s) {
		if _, ok := slices.BinarySearch(ids, h.ID); !ok {
			m.unhold(s, h)
		}
	}
	for i := range entries {
		m.hold(s, &entries[i], true)
	}
}

func checkWindow(entries []Inflight) error {
	for i := range entries {
		e := &entries[i]
		if e.ID == 0 || e.QoS != 1 && e.QoS != 2 || e.State > Released {
			return ErrInvalid
		}
	}
	return nil
}
