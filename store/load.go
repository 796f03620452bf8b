// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/noctule/noctule/topic"
)

// errGroups refuses rows that were written with another number of groups.
var errGroups = errors.New("store: the number of groups cannot be changed")

// badRow is a row that makes no sense, alone or beside the others.
type badRow struct {
	key, value []byte
	err        error
}

// String names what the row was for.
func (b badRow) String() string { return fmt.Sprintf("%s: %v", describeKey(b.key), b.err) }

// load rebuilds the mirrors from rows, all of which must make sense.
func (m *machine) load() error {
	bad, err := m.loadAll()
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("store: load: %s: %w", describeKey(bad[0].key), bad[0].err)
	}
	return err
}

// loadAll rebuilds the mirrors from rows. It is called once, before the first command, and finds a machine that behaves as
// the one that wrote the rows; what is counted since start begins anew. Rows that make no sense are removed,
// and returned.
func (m *machine) loadAll() (bad []badRow, err error) {
	counted, err := m.findCounters()
	if err != nil {
		return nil, err
	}
	steps := []func(group uint16) error{
		m.loadFilters, m.loadSessions, m.loadWills, m.loadSubs, m.loadQueues, m.loadCursors, m.loadWindows, m.loadReceived,
		m.loadRetained, m.loadDue, m.loadRefs,
	}
	for _, step := range steps {
		for g := range m.groups {
			if err := step(uint16(g)); err != nil {
				return nil, fmt.Errorf("store: load group %d: %w", g, err)
			}
		}
	}
	if !counted {
		m.guessCounters()
	}
	for _, f := range m.replaced {
		m.saveFilter(f)
	}
	m.replaced = nil
	bad, m.badRows = m.badRows, nil
	return bad, nil
}

// findCounters reads the counters from either place. It reports false if there are none to be read; without rows they are
// zero.
func (m *machine) findCounters() (found bool, err error) {
	for _, group := range []uint16{metaGroup, 0} {
		key := m.keys.begin(group, kindMeta)
		v, ok := m.rows.Get(key)
		if !ok {
			continue
		}
		err := m.loadCounters(v)
		if errors.Is(err, errGroups) {
			return true, err
		}
		if found = found || err == nil; err != nil {
			m.bad(key, v, err)
		}
	}
	if _, _, some := m.rows.Last(allRows()); found || !some {
		return true, nil
	}
	m.bad(nil, nil, fmt.Errorf("the row of counters is missing: %w", errCorrupt))
	return false, nil
}

// guessCounters makes up for counters that are lost: no number that is in a row is given again. The rest is counted anew.
func (m *machine) guessCounters() {
	from, to := allRows()
	m.rows.Scan(from, to, func(key, value []byte) bool {
		switch kind := key[2]; {
		case kind == kindQueue && len(key) >= prefixLen+16:
			m.lastFID = max(m.lastFID, keyNumber(key))
			m.applied = max(m.applied, Position(keyNumber2(key)))
		case kind == kindBody && len(key) >= prefixLen+8:
			m.applied = max(m.applied, Position(keyNumber(key)))
		case kind == kindRetained:
			if r, err := decodeRetained(keyGroup(key), value); err == nil {
				m.applied = max(m.applied, r.position)
			}
		}
		return true
	})
	for _, f := range m.filtersByID { // the order does not show
		m.lastFID = max(m.lastFID, f.id)
	}
	for _, s := range m.byID {
		m.applied = max(m.applied, Position(s.id), Position(s.epoch))
	}
	m.volatile = true
}

// bad notes a row that makes no sense.
func (m *machine) bad(key, value []byte, err error) {
	m.badRows = append(m.badRows, badRow{bytes.Clone(key), bytes.Clone(value), err})
}

func (m *machine) loadCounters(v []byte) error {
	d := rowDecoder(v)
	groups := d.uint()
	applied, fid := Position(d.uint()), d.uint()
	shared, messages, size := d.int(), d.int(), d.int()
	limits, volatile := d.limits(), d.bool()
	if err := d.end(); err != nil {
		return err
	}
	m.applied, m.lastFID, m.shared, m.limits, m.volatile = applied, fid, shared, limits, volatile
	m.stats.Messages, m.stats.MessageBytes = messages, size
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

// each calls f for all rows of one kind, and notes and removes those that it finds bad.
func (m *machine) each(group uint16, kind byte, least int, f func(key, value []byte) error) error {
	from, to := m.keys.all(group, kind)
	from, to = bytes.Clone(from), bytes.Clone(to)
	before := len(m.badRows)
	m.rows.Scan(from, to, func(key, value []byte) bool {
		err := errCorrupt
		if len(key) >= prefixLen+least {
			err = f(key, value)
		}
		if err != nil {
			m.bad(key, value, err)
		}
		return true
	})
	for _, b := range m.badRows[before:] { // what comes later must not meet them
		if b.key != nil {
			m.rows.Delete(b.key)
		}
	}
	return nil
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
			if sub.f, err = m.replaceFilter(sub.Filter); err != nil {
				return err
			}
		}
		sub.Filter = sub.f.name // one string for all
		if sub.f.readers++; sub.f.readers == 1 {
			m.index.Add(sub.f.inner, 0, sub.f)
		}
		sub.f.join(s, sub)
		return nil
	})
}

// replaceFilter makes a filter whose row is lost anew, and empty: its number is beyond all that queue rows may have. A
// subscription is worth more than what waited for it.
func (m *machine) replaceFilter(name string) (*filter, error) {
	parsed, err := topic.ParseFilter(name, 0)
	if err != nil {
		return nil, err
	}
	m.lastFID += 1 << 40
	f := &filter{name: name, inner: parsed.Filter, share: parsed.Share != "", id: m.lastFID}
	if !strings.ContainsAny(f.inner, "+#") {
		f.home = m.topicGroup(f.inner)
	}
	m.filters[name], m.filtersByID[f.id] = f, f
	m.replaced = append(m.replaced, f)
	m.bad(nil, nil, fmt.Errorf("filter %q: its row is missing, and what waited for it is lost", name))
	return f, nil
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
		q.in = q.here()
		f.count++
		f.bytes += e.size
		return nil
	})
}

func (m *machine) loadCursors(group uint16) error {
	var l ledger
	return m.each(group, kindCursor, 16, func(key, value []byte) error {
		f, s := m.filtersByID[keyNumber(key)], m.byID[SessionID(keyNumber2(key))]
		if f == nil || s == nil || f.part(group) == nil {
			return errCorrupt
		}
		d := rowDecoder(value)
		q := f.part(group)
		c := q.addCursor(s, d.uint(), tally{})
		if c.until = d.uint(); c.until != 0 {
			q.readers++ // it is none of the filter's any more
		}
		for range d.count() {
			c.ahead = append(c.ahead, span{d.uint(), d.uint()})
		}
		if l.q != q {
			m.openLedger(&l, q)
		}
		l.settle(c)
		q.next = max(q.next, c.highest())
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

// loadRefs reads the reference counts, which have no mirror: what is damaged of them must be found now, and not by a command.
func (m *machine) loadRefs(group uint16) error {
	return m.each(group, kindRefs, 8, func(_, value []byte) error {
		d := rowDecoder(value)
		if n := d.uint(); d.err == nil && n > 1 {
			return nil
		}
		return errCorrupt
	})
}
