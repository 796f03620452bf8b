// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/noctule/noctule/topic"
)

// errGroups refuses rows that were written with another number of groups.
var errGroups = errors.New("store: the number of groups cannot be changed")

// load rebuilds the mirrors from rows. It is called once, before the first command, and finds a machine that behaves as
// the one that wrote the rows; what is counted since start begins anew.
func (m *machine) load() error {
	v, ok := m.rows.Get(m.keys.begin(metaGroup, kindMeta))
	if !ok {
		if _, _, found := m.rows.Last(allRows()); found {
			return fmt.Errorf("store: load: %w: rows without counters", errCorrupt)
		}
		return nil
	}
	if err := m.loadCounters(v); err != nil {
		return err
	}
	steps := []func(group uint16) error{
		m.loadFilters, m.loadSessions, m.loadWills, m.loadSubs, m.loadQueues, m.loadCursors, m.loadWindows, m.loadReceived,
		m.loadRetained, m.loadDue,
	}
	for _, step := range steps {
		for g := range m.groups {
			if err := step(uint16(g)); err != nil {
				return fmt.Errorf("store: load group %d: %w", g, err)
			}
		}
	}
	return nil
}

func (m *machine) loadCounters(v []byte) error {
	d := rowDecoder(v)
	groups := d.uint()
	m.applied, m.lastFID = Position(d.uint()), d.uint()
	m.shared, m.stats.Messages, m.stats.MessageBytes = d.int(), d.int(), d.int()
	if err := d.end(); err != nil {
		return err
	}
	if groups != uint64(m.groups) {
		return fmt.Errorf("%w from %d to %d", errGroups, groups, m.groups)
	}
	return nil
}

// rowDecoder begins a row value, which must be of a version that is known.
func rowDecoder(value []byte) decoder {
	d := decoder{b: value}
	if d.byte() != rowVersion {
		d.fault()
	}
	return d
}

// each calls f for all rows of one kind until it fails.
func (m *machine) each(group uint16, kind byte, least int, f func(key, value []byte) error) (err error) {
	from, to := m.keys.all(group, kind)
	m.rows.Scan(from, to, func(key, value []byte) bool {
		if len(key) < prefixLen+least {
			err = errCorrupt
			return false
		}
		if err = f(key, value); err != nil {
			err = fmt.Errorf("row %q: %w", key, err)
		}
		return err == nil
	})
	return err
}

func (m *machine) loadFilters(group uint16) error {
	return m.each(group, kindFilter, 1, func(key, value []byte) error {
		d := rowDecoder(value)
		f := &filter{name: keyName(key), home: group, id: d.uint()}
		if err := d.end(); err != nil {
			return err
		}
		parsed, err := topic.ParseFilter(f.name, 0)
		if err != nil {
			return err
		}
		f.inner, f.share = parsed.Filter, parsed.Share != ""
		m.filters[f.name] = f
		m.filtersByID[f.id] = f
		return nil
	})
}

func (m *machine) loadSessions(group uint16) error {
	return m.each(group, kindSession, 0, func(key, value []byte) error {
		s, err := decodeSession(key, value)
		if err != nil {
			return err
		}
		s.group = group
		m.byClient[s.clientID], m.byID[s.id] = s, s
		m.stats.Sessions++
		if s.attached {
			m.stats.Attached++
		}
		m.schedule(s)
		return nil
	})
}

func (m *machine) loadWills(group uint16) error {
	return m.each(group, kindWill, 8, func(key, value []byte) error {
		s := m.byID[SessionID(keyNumber(key))]
		w, err := decodeWill(value)
		if s == nil || err != nil {
			return cmp.Or(err, errCorrupt)
		}
		s.will = w
		m.schedule(s)
		return nil
	})
}

func (m *machine) loadSubs(group uint16) error {
	return m.each(group, kindSub, 8, func(key, value []byte) error {
		s := m.byID[SessionID(keyNumber(key))]
		sub, err := decodeSub(value)
		if s == nil || err != nil {
			return cmp.Or(err, errCorrupt)
		}
		s.subs = append(s.subs, sub) // rows are in order of filter
		m.stats.Subscriptions++
		if sub.QoS == 0 && !sub.draining {
			return nil
		}
		if sub.f = m.filters[sub.Filter]; sub.draining {
			return nil
		}
		if sub.f == nil {
			return errCorrupt
		}
		sub.Filter = sub.f.name // one string for all
		if sub.f.readers++; sub.f.readers == 1 {
			m.index.Add(sub.f.inner, 0, sub.f)
		}
		return nil
	})
}

func (m *machine) loadQueues(group uint16) error {
	var q *queue
	return m.each(group, kindQueue, 16, func(key, value []byte) error {
		e, err := decodeQueued(key, value)
		f := m.filtersByID[keyNumber(key)]
		if f == nil || err != nil {
			return cmp.Or(err, errCorrupt)
		}
		if q == nil || q.f != f {
			q = m.newQueue(f, group)
			q.firstPos, q.first = e.pos, e.seq
		}
		q.lastPos, q.next = e.pos, e.seq+1
		q.count++
		q.bytes += e.size
		f.count++
		f.bytes += e.size
		return nil
	})
}

func (m *machine) loadCursors(group uint16) error {
	return m.each(group, kindCursor, 16, func(key, value []byte) error {
		f, s := m.filtersByID[keyNumber(key)], m.byID[SessionID(keyNumber2(key))]
		if f == nil || s == nil || f.part(group) == nil {
			return errCorrupt
		}
		d := rowDecoder(value)
		q := f.part(group)
		c := q.addCursor(s, d.uint())
		if c.until = d.uint(); c.until != 0 {
			q.readers++ // it is none of the filter's any more
		}
		for range d.count() {
			c.ahead = append(c.ahead, span{d.uint(), d.uint()})
		}
		return d.end()
	})
}

func (m *machine) loadWindows(group uint16) error {
	return m.each(group, kindWindow, 10, func(key, value []byte) error {
		s := m.byID[SessionID(keyNumber(key))]
		h, err := decodeHeld(value)
		if s == nil || err != nil || h.ID != keyID(key) {
			return cmp.Or(err, errCorrupt)
		}
		if s.window == nil {
			s.window = map[uint16]*held{}
		}
		s.window[h.ID] = h
		m.link(s, h)
		return nil
	})
}

func (m *machine) loadReceived(group uint16) error {
	return m.each(group, kindReceived, 10, func(key, _ []byte) error {
		s := m.byID[SessionID(keyNumber(key))]
		if s == nil {
			return errCorrupt
		}
		s.received = append(s.received, keyID(key)) // rows are in order of identifier
		return nil
	})
}

func (m *machine) loadDue(group uint16) error {
	return m.each(group, kindDue, 16, func(key, value []byte) error {
		d, err := decodeDue(group, key, value)
		if err != nil {
			return err
		}
		m.dueWills[d.id] = append(m.dueWills[d.id], d) // rows are in order of number
		if !d.handed {
			m.awaitTick(d)
		}
		return nil
	})
}

// recovery is the first command after a store was opened: the connections that had sessions are gone, as on a network
// failure, and wills that were handed out may not have been published.
type recovery struct {
	Now int64

	Err error
}

func (r *recovery) apply(m *machine) {
	for g := range m.groups {
		var attached []*session
		from, to := m.keys.all(uint16(g), kindSession)
		m.rows.Scan(from, to, func(key, _ []byte) bool {
			if s := m.byClient[keyName(key)]; s.attached {
				attached = append(attached, s)
			}
			return true
		})
		for _, s := range attached {
			m.recoverSession(s, r.Now)
		}
	}
	m.recoverWills()
}

func (m *machine) recoverSession(s *session, now int64) {
	if s.expiry == 0 {
		_, due := m.endSession(s, now)
		m.handLater(due)
		return
	}
	m.detach(s, s.expiry, now)
}
