// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "slices"

func (c *Claim) apply(m *machine) {
	s := m.byClient[c.ClientID]
	over := s != nil && s.expired(c.Now)
	switch {
	case s == nil:
		if m.limits.MaxSessions > 0 && m.stats.Sessions >= m.limits.MaxSessions {
			c.Err = ErrFull
			return
		}
	case !over && s.username != c.Username:
		c.Err = ErrNotOwner
		return
	case over || c.CleanStart:
		freed, due := m.endSession(s, c.Now)
		c.Freed = freed
		c.Wills = m.handOut(c.Wills, due)
		s = nil
	}
	if c.Present = s != nil; c.Present {
		m.cut(s)
		c.Wills = m.handOut(c.Wills, m.willAtClaim(s, c.Now))
	} else {
		s = m.createSession(c)
	}
	m.attach(s, c)
	c.Owner = Owner{s.id, s.epoch}
	c.Session = m.describe(s)
}

// willAtClaim decides about the will of the connection before: it is due if there was to be no delay or the delay is
// over, and cancelled otherwise [MQTT-3.1.3-9].
func (m *machine) willAtClaim(s *session, now int64) *dueWill {
	if s.will == nil {
		return nil
	}
	if s.attached && s.will.delay == 0 || !s.attached && s.will.due <= now {
		return m.willDue(s, now)
	}
	return nil
}

// describe gathers what a new owner must know.
func (m *machine) describe(s *session) Session {
	d := Session{Created: s.created, NextID: s.nextID}
	if len(s.subs) > 0 {
		d.Subscriptions = make([]Subscription, 0, len(s.subs))
		for _, sub := range s.subs {
			d.Subscriptions = append(d.Subscriptions, sub.Subscription)
		}
	}
	d.Received = append(d.Received, s.received...)
	for _, h := range m.windowOf(s) {
		e := h.Inflight
		if e.State == Sent && e.Ref != (Ref{}) {
			message, err := m.bodies.Get(e.Ref)
			if err != nil { // the engine proposes to lose it
				m.unreadable = append(m.unreadable, unreadable{s.id, s.clientID, e.Ref, err})
				continue
			}
			e.Message = message
		}
		d.Window = append(d.Window, e)
	}
	return d
}

func (d *Drop) apply(m *machine) {
	s := m.byClient[d.ClientID]
	if s == nil {
		return
	}
	over := s.expired(d.Now)
	if !over && !d.AnyUser && s.username != d.Username {
		d.Err = ErrNotOwner
		return
	}
	d.Existed, d.ID = !over, s.id
	freed, due := m.endSession(s, d.Now)
	d.Freed = freed
	d.Wills = m.handOut(d.Wills, due)
}

func (d *Detach) apply(m *machine) {
	s, err := m.owned(d.Owner)
	if err == nil {
		err = checkWindow(d.Window)
	}
	if err != nil {
		d.Err = err
		return
	}
	m.setWindow(s, d.Window)
	m.refs = append(m.refs[:0], d.Acked...)
	m.ack(s, m.refs)
	for _, sh := range d.AckedShare {
		m.ackShared(sh.Filter, sh.Ref)
	}
	s.nextID = d.NextID
	if !d.KeepWill {
		m.setWill(s, nil)
	}
	if d.Expiry == 0 {
		freed, due := m.endSession(s, d.Now)
		d.Freed = freed
		m.handLater(due)
		return
	}
	m.detach(s, d.Expiry, d.Now)
}

func (s *Subscribe) apply(m *machine) {
	owner, err := m.owned(s.Owner)
	if err == nil {
		err = checkSubscriptions(s.Subscriptions)
	}
	if err != nil {
		s.Err = err
		return
	}
	for i := range s.Subscriptions {
		s.Existed = append(s.Existed, m.subscribe(owner, s.Subscriptions[i]))
	}
}

func (u *Unsubscribe) apply(m *machine) {
	s, err := m.owned(u.Owner)
	if err != nil {
		u.Err = err
		return
	}
	for _, filter := range u.Filters {
		i, ok := s.findSub(filter)
		if ok {
			m.unsubscribe(s, s.subs[i])
			s.subs = slices.Delete(s.subs, i, i+1)
		}
		u.Existed = append(u.Existed, ok)
	}
}

func (w *Window) apply(m *machine) {
	s, err := m.owned(w.Owner)
	if err == nil {
		err = checkWindow(w.Entries)
	}
	if err != nil {
		w.Err = err
		return
	}
	for i := range w.Entries {
		m.hold(s, &w.Entries[i], false)
	}
	s.nextID = w.NextID
	m.saveSession(s)
}

func (a *Ack) apply(m *machine) {
	for _, sh := range a.Share {
		m.ackShared(sh.Filter, sh.Ref)
	}
	if a.Owner == (Owner{}) {
		return // for members of shared subscriptions whose sessions are not stored
	}
	s, err := m.owned(a.Owner)
	if err != nil {
		a.Err = err
		return
	}
	m.refs = append(m.refs[:0], a.Refs...)
	m.ack(s, m.refs)
	for _, id := range a.IDs {
		if h := s.window[id]; h != nil {
			m.unhold(s, h)
		}
	}
}

// expire acknowledges what a reader found expired. It needs no owner: who comes later finds it expired too.
type expire struct {
	Session SessionID // the reader of its own queue, or
	Share   string    // a shared subscription, whole
	Refs    []Ref

	Err error
}

func (e *expire) apply(m *machine) {
	if e.Share != "" {
		for _, ref := range e.Refs {
			d := Dropped{Cause: Expired, Filter: e.Share, Readers: 1, Ref: ref}
			if message := m.reported(ref); m.ackShared(e.Share, ref) {
				m.drop(d, message)
			}
		}
		return
	}
	if s := m.byID[e.Session]; s != nil {
		for _, ref := range e.Refs { // one by one: a message in several of its queues counts once
			d := Dropped{Cause: Expired, Filter: m.filterOf(s, ref), ClientID: s.clientID, Readers: 1, Ref: ref}
			message := m.reported(ref)
			if m.refs = append(m.refs[:0], ref); m.ack(s, m.refs) > 0 {
				m.drop(d, message)
			}
		}
	}
}
