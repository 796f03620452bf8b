// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"slices"

	"github.com/noctule/noctule/topic"
)

func (p *Publish) apply(m *machine) {
	s, err := m.publisher(p)
	if err != nil {
		p.Err = err
		return
	}
	if s != nil && !m.receive(s, p) {
		return
	}
	if p.WillOf != 0 && !m.takeWill(p.WillOf) {
		p.Duplicate = true
		return
	}
	if p.IdentifierOnly {
		return
	}
	if p.Message.Retain {
		if p.Err = m.retainable(p.Message); p.Err != nil {
			if s != nil {
				m.forget(s, p.PacketID)
			}
			return
		}
	}
	m.keep(p)
}

// publisher checks a publish, and finds the session whose packet identifier it brings.
func (m *machine) publisher(p *Publish) (*session, error) {
	if !p.IdentifierOnly && (p.Message == nil || p.Message.QoS > 2 || !topic.ValidName(p.Message.Topic)) {
		return nil, ErrInvalid
	}
	if p.Publisher == (Owner{}) {
		return nil, nil
	}
	if p.PacketID == 0 {
		return nil, ErrInvalid
	}
	return m.owned(p.Publisher)
}

// receive notes a QoS 2 packet identifier. It reports whether it is new.
func (m *machine) receive(s *session, p *Publish) bool {
	i, ok := slices.BinarySearch(s.received, p.PacketID)
	if ok {
		p.Duplicate = true
		return false
	}
	s.received = slices.Insert(s.received, i, p.PacketID)
	m.rows.Insert(m.keys.numberID(s.group, kindReceived, uint64(s.id), p.PacketID), []byte{rowVersion})
	return true
}

// forget removes a QoS 2 packet identifier.
func (m *machine) forget(s *session, id uint16) bool {
	i, ok := slices.BinarySearch(s.received, id)
	if ok {
		s.received = slices.Delete(s.received, i, i+1)
		m.rows.Delete(m.keys.numberID(s.group, kindReceived, uint64(s.id), id))
	}
	return ok
}

func (r *Release) apply(m *machine) {
	s, err := m.owned(r.Owner)
	if err != nil {
		r.Err = err
		return
	}
	r.Found = m.forget(s, r.PacketID)
}

// keep stores the message once and refers to it from each matching queue and from the retained message.
func (m *machine) keep(p *Publish) {
	msg := p.Message
	m.matched = m.matched[:0]
	if msg.QoS > 0 {
		m.match(msg.Topic)
	}
	p.Matched = len(m.matched) > 0
	ref := Ref{m.topicGroup(msg.Topic), m.applied}
	size := messageSize(msg)
	if m.limits.Policy == DropNewest {
		m.turnAway(msg, size)
	}
	refs := uint64(len(m.matched))
	retain := msg.Retain && len(msg.Payload) > 0
	if retain {
		refs++
	}
	if refs > 0 {
		m.bodies.Put(ref, msg)
		m.stats.Messages++
		m.stats.MessageBytes += size
	}
	if refs > 1 {
		m.setRefs(ref, 1, refs)
	}
	if retain {
		m.retain(ref, msg, size)
	} else if msg.Retain {
		m.unretain(msg.Topic)
	}
	if len(m.matched) == 0 {
		return
	}
	p.Ref = ref
	for _, f := range m.matched {
		m.enqueue(f, ref, size, msg.Expiry)
	}
	switch {
	case m.limits.Policy == DropNewest:
		m.skipNewest(ref)
	case m.limits.Policy == DropOldest || p.WillOf != 0:
		m.makeRoom(p.WillOf != 0)
	}
}

// match fills m.matched with the filters that have a queue for a topic name, in order of filter id.
func (m *machine) match(name string) {
	m.matches.Reset()
	m.index.MatchString(name, &m.matches)
	m.lists = m.matches.AppendOwner(m.lists[:0], 0)
	for _, l := range m.lists {
		m.matched = append(m.matched, l...)
	}
	if len(m.matched) > 1 {
		slices.SortFunc(m.matched, func(a, b *filter) int { return cmp.Compare(a.id, b.id) })
	}
}
