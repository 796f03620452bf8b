// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"slices"

	"github.com/noctule/noctule/mqtt"
)

// dueWill is a will that is to be published: handed out to the caller once, and kept until its Publish is committed.
type dueWill struct {
	id       SessionID
	group    uint16
	number   uint64 // of this session's wills; row key
	due      int64
	handed   bool
	clientID string
	message  *mqtt.Message
}

// setWill replaces a session's will; nil takes it away.
func (m *machine) setWill(s *session, w *will) {
	if w == nil && s.will == nil {
		return
	}
	s.will = w
	key := m.keys.number(s.group, kindWill, uint64(s.id))
	if w == nil {
		m.rows.Delete(key)
		return
	}
	v := appendUint(append(m.value[:0], rowVersion), uint64(w.delay))
	m.value = appendMessage(appendInt(v, w.due), w.message)
	m.rows.Set(key, m.value)
}

func decodeWill(value []byte) (*will, error) {
	d := rowDecoder(value)
	w := &will{delay: d.uint32(), due: d.int(), message: d.message()}
	if w.message == nil {
		d.fault()
	}
	return w, d.end()
}

// willDue moves a session's will to those that are due.
func (m *machine) willDue(s *session, now int64) *dueWill {
	d := &dueWill{id: s.id, group: s.group, due: now, clientID: s.clientID, message: s.will.message}
	if list := m.dueWills[s.id]; len(list) > 0 {
		d.number = list[len(list)-1].number + 1
	}
	m.dueWills[s.id] = append(m.dueWills[s.id], d)
	m.setWill(s, nil)
	return d
}

// handOut gives a due will, if there is one, to the caller of the command.
func (m *machine) handOut(list []DueWill, d *dueWill) []DueWill {
	if d == nil {
		return list
	}
	d.handed = true
	m.saveDue(d)
	return append(list, DueWill{d.clientID, d.id, d.message})
}

// handLater leaves a due will, if there is one, to the next Tick.
func (m *machine) handLater(d *dueWill) {
	if d != nil {
		d.handed = false
		m.saveDue(d)
		m.awaitTick(d)
	}
}

func (m *machine) awaitTick(d *dueWill) {
	i, _ := slices.BinarySearchFunc(m.unhanded, d, func(a, b *dueWill) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.id, b.id), cmp.Compare(a.number, b.number))
	})
	m.unhanded = slices.Insert(m.unhanded, i, d)
}

func (m *machine) saveDue(d *dueWill) {
	v := appendBool(append(m.value[:0], rowVersion), d.handed)
	v = appendString(appendInt(v, d.due), d.clientID)
	m.value = appendMessage(v, d.message)
	m.rows.Set(m.keys.numbers(d.group, kindDue, uint64(d.id), d.number), m.value)
}

func decodeDue(group uint16, key, value []byte) (*dueWill, error) {
	d := rowDecoder(value)
	w := &dueWill{
		id:       SessionID(keyNumber(key)),
		group:    group,
		number:   keyNumber2(key),
		handed:   d.bool(),
		due:      d.int(),
		clientID: d.string(),
		message:  d.message(),
	}
	if w.message == nil {
		d.fault()
	}
	return w, d.end()
}

// takeWill removes the will that a Publish brings: the oldest one that is due, or that of the living session. It reports
// whether there was one.
func (m *machine) takeWill(id SessionID) bool {
	if list := m.dueWills[id]; len(list) > 0 {
		d := list[0]
		m.rows.Delete(m.keys.numbers(d.group, kindDue, uint64(d.id), d.number))
		if len(list) == 1 {
			delete(m.dueWills, id)
		} else {
			m.dueWills[id] = list[1:]
		}
		if i := slices.Index(m.unhanded, d); i >= 0 {
			m.unhanded = slices.Delete(m.unhanded, i, i+1)
		}
		return true
	}
	s := m.byID[id]
	if s == nil || s.will == nil {
		return false
	}
	m.setWill(s, nil)
	m.schedule(s)
	return true
}

// recoverWills lets the next Tick hand out again what may not have been published before the store closed.
func (m *machine) recoverWills() {
	for g := range m.groups {
		var list []*dueWill
		from, to := m.keys.all(uint16(g), kindDue)
		m.rows.Scan(from, to, func(key, _ []byte) bool {
			for _, d := range m.dueWills[SessionID(keyNumber(key))] {
				if d.number == keyNumber2(key) && d.handed {
					list = append(list, d)
				}
			}
			return true
		})
		for _, d := range list {
			m.handLater(d)
		}
	}
}
