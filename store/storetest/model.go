// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"cmp"
	"maps"
	"slices"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
)

// model is a store in the plainest words: for each session the list of what it is owed. It has no commits, no limits,
// and a caller who makes no mistakes but late ones.
type model struct {
	sessions map[string]*modelSession
	shares   map[string][]modelOwed // by whole filter, while it has a member
	retained map[string]*mqtt.Message
	dueWills map[store.SessionID][]store.DueWill
	later    []modelDue // wills that the next Tick hands out
	expired  int64
}

type modelSession struct {
	clientID string
	username string
	owner    store.Owner
	attached bool
	expires  int64 // 0 = not
	subs     map[string]store.Subscription
	queue    []modelOwed // in order of position
	window   []store.Inflight
	received []uint16
	nextID   uint16
	will     *store.Will
	willDue  int64
}

// modelOwed is a message in a queue.
type modelOwed struct {
	ref     store.Ref
	message *mqtt.Message
	filters []string // sorted
}

type modelDue struct {
	at   int64
	will store.DueWill
}

func newModel() *model {
	return &model{
		sessions: map[string]*modelSession{},
		shares:   map[string][]modelOwed{},
		retained: map[string]*mqtt.Message{},
		dueWills: map[store.SessionID][]store.DueWill{},
	}
}

func (m *model) bySession(id store.SessionID) *modelSession {
	for _, s := range m.sessions {
		if s.owner.ID == id {
			return s
		}
	}
	return nil
}

// isShared reports whether a filter is that of a shared subscription, and what it matches.
func isShared(filter string) (inner string, shared bool) {
	f, err := topic.ParseFilter(filter, 0)
	return f.Filter, err == nil && f.Share != ""
}

// publish returns whether a queue took the message.
func (m *model) publish(ref store.Ref, msg *mqtt.Message) (matched bool) {
	if msg.Retain {
		if len(msg.Payload) == 0 {
			delete(m.retained, msg.Topic)
		} else {
			m.retained[msg.Topic] = msg
		}
	}
	if msg.QoS == 0 {
		return false
	}
	for _, s := range m.sessions {
		var filters []string
		for f, sub := range s.subs {
			if inner, shared := isShared(f); !shared && sub.QoS > 0 && topic.Match(inner, msg.Topic) {
				filters = append(filters, f)
			}
		}
		if slices.Sort(filters); len(filters) > 0 {
			s.queue = append(s.queue, modelOwed{ref, msg, filters})
			matched = true
		}
	}
	for f := range m.shares {
		if inner, _ := isShared(f); topic.Match(inner, msg.Topic) {
			m.shares[f] = append(m.shares[f], modelOwed{ref, msg, []string{f}})
			matched = true
		}
	}
	return matched
}

// members counts the sessions that keep a share's queue alive.
func (m *model) members(share string) (n int) {
	for _, s := range m.sessions {
		if s.subs[share].QoS > 0 {
			n++
		}
	}
	return n
}

func (m *model) subscribe(s *modelSession, sub store.Subscription) {
	s.subs[sub.Filter] = sub
	m.tidyShares(sub.Filter)
}

func (m *model) unsubscribe(s *modelSession, filter string) {
	delete(s.subs, filter)
	var queue []modelOwed
	for _, e := range s.queue {
		e.filters = slices.DeleteFunc(slices.Clone(e.filters), func(f string) bool { return f == filter })
		if len(e.filters) > 0 {
			queue = append(queue, e)
		}
	}
	s.queue = queue
	m.tidyShares(filter)
}

// tidyShares makes a share's queue if it has a member, and forgets it if not.
func (m *model) tidyShares(filter string) {
	if _, shared := isShared(filter); !shared {
		return
	}
	_, have := m.shares[filter]
	if want := m.members(filter) > 0; want && !have {
		m.shares[filter] = nil
	} else if !want {
		delete(m.shares, filter)
	}
}

func without(queue []modelOwed, ref store.Ref) []modelOwed {
	return slices.DeleteFunc(slices.Clone(queue), func(e modelOwed) bool { return e.ref == ref })
}

func (m *model) ackShared(filter string, ref store.Ref) {
	if queue, ok := m.shares[filter]; ok {
		m.shares[filter] = without(queue, ref)
	}
}

// hold writes a window entry.
func (m *model) hold(s *modelSession, e store.Inflight) {
	if e.State == store.Released {
		e.Message = nil
		if e.Share != "" {
			m.ackShared(e.Share, e.Ref)
		} else {
			s.queue = without(s.queue, e.Ref)
		}
	}
	if i := slices.IndexFunc(s.window, func(w store.Inflight) bool { return w.ID == e.ID }); i >= 0 {
		s.window[i] = e
	} else {
		s.window = append(s.window, e)
	}
}

// readable is what a session's queue gives at a time; what has expired goes.
func (m *model) readable(s *modelSession, now int64) (list []modelOwed) {
	inWindow := func(ref store.Ref) bool {
		return slices.ContainsFunc(s.window, func(e store.Inflight) bool { return e.Ref == ref && e.Share == "" && e.State == store.Sent })
	}
	for _, e := range s.queue {
		switch {
		case inWindow(e.ref):
		case e.message.Expired(now):
			s.queue = without(s.queue, e.ref)
			m.expired++
		default:
			list = append(list, e)
		}
	}
	return list
}

// readableShare is likewise for a shared subscription.
func (m *model) readableShare(filter string, now int64) (list []modelOwed) {
	for _, e := range m.shares[filter] {
		switch {
		case m.assigned(filter, e.ref):
		case e.message.Expired(now):
			m.ackShared(filter, e.ref)
			m.expired++
		default:
			list = append(list, e)
		}
	}
	return list
}

func (m *model) assigned(filter string, ref store.Ref) bool {
	for _, s := range m.sessions {
		for _, e := range s.window {
			if e.Share == filter && e.Ref == ref && e.State == store.Sent {
				return true
			}
		}
	}
	return false
}

// end ends a session, and says what becomes free. Its will becomes due.
func (m *model) end(s *modelSession) (freed []store.Shared, wills []store.DueWill) {
	delete(m.sessions, s.clientID)
	for _, e := range s.window {
		if e.Share != "" && e.QoS == 2 {
			m.ackShared(e.Share, e.Ref)
		}
	}
	for f := range s.subs {
		m.tidyShares(f)
	}
	for _, e := range s.window {
		waits := slices.ContainsFunc(m.shares[e.Share], func(o modelOwed) bool { return o.ref == e.Ref })
		if e.Share != "" && e.QoS == 1 && e.State == store.Sent && waits {
			freed = append(freed, store.Shared{Filter: e.Share, Ref: e.Ref})
		}
	}
	return freed, m.will(s)
}

// will makes a session's will due, if it has one.
func (m *model) will(s *modelSession) []store.DueWill {
	if s.will == nil {
		return nil
	}
	w := store.DueWill{ClientID: s.clientID, ID: s.owner.ID, Message: s.will.Message}
	s.will = nil
	m.dueWills[w.ID] = append(m.dueWills[w.ID], w)
	return []store.DueWill{w}
}

// takeWill reports whether there is a will to publish for a session.
func (m *model) takeWill(id store.SessionID) bool {
	if list := m.dueWills[id]; len(list) > 0 {
		m.dueWills[id] = list[1:]
		m.later = slices.DeleteFunc(m.later, func(d modelDue) bool { return d.will.Message == list[0].Message })
		return true
	}
	if s := m.bySession(id); s != nil && s.will != nil {
		s.will = nil
		return true
	}
	return false
}

func (m *model) claim(c *store.Claim) (present bool, wills []store.DueWill, freed []store.Shared, err error) {
	s := m.sessions[c.ClientID]
	over := s != nil && s.expires != 0 && s.expires <= c.Now
	if s != nil && !over && s.username != c.Username {
		return false, nil, nil, store.ErrNotOwner
	}
	if s != nil && (over || c.CleanStart) {
		freed, wills = m.end(s)
		s = nil
	}
	if present = s != nil; !present {
		s = &modelSession{clientID: c.ClientID, username: c.Username, subs: map[string]store.Subscription{}}
		m.sessions[c.ClientID] = s
	} else if s.will != nil && (s.attached && s.will.Delay == 0 || !s.attached && s.willDue <= c.Now) {
		wills = m.will(s)
	}
	s.attached, s.expires, s.will, s.willDue = true, 0, c.Will, 0
	return present, wills, freed, nil
}

func (m *model) detach(d *store.Detach, s *modelSession) (freed []store.Shared) {
	var window []store.Inflight
	for _, e := range d.Window {
		if i := slices.IndexFunc(s.window, func(w store.Inflight) bool { return w.ID == e.ID }); e.Message == nil && i >= 0 {
			e.Message = s.window[i].Message
		}
		window = append(window, e)
	}
	s.window = nil
	for _, e := range window {
		m.hold(s, e)
	}
	for _, ref := range d.Acked {
		s.queue = without(s.queue, ref)
	}
	for _, sh := range d.AckedShare {
		m.ackShared(sh.Filter, sh.Ref)
	}
	s.nextID = d.NextID
	if !d.KeepWill {
		s.will = nil
	}
	if d.Expiry == 0 {
		freed, wills := m.end(s)
		for _, w := range wills {
			m.later = append(m.later, modelDue{d.Now, w})
		}
		return freed
	}
	s.attached, s.expires = false, 0
	if d.Expiry != store.Never {
		s.expires = d.Now + int64(d.Expiry)*second
	}
	if s.will != nil {
		s.willDue = d.Now + int64(s.will.Delay)*second
	}
	return nil
}

// tick returns who ends and whose wills are due, in order of client identifier.
func (m *model) tick(now int64) (ended []string, wills []store.DueWill) {
	for _, d := range m.later { // all of them were due when they were made
		wills = append(wills, d.will)
	}
	m.later = nil
	for _, id := range slices.Sorted(maps.Keys(m.sessions)) {
		switch s := m.sessions[id]; {
		case s.attached:
		case s.expires != 0 && s.expires <= now:
			_, due := m.end(s)
			ended, wills = append(ended, id), append(wills, due...)
		case s.will != nil && s.willDue <= now:
			wills = append(wills, m.will(s)...)
		}
	}
	for name, msg := range m.retained {
		if msg.Expired(now) {
			delete(m.retained, name)
			m.expired++
		}
	}
	sortWills(wills)
	return ended, wills
}

func sortWills(wills []store.DueWill) {
	slices.SortStableFunc(wills, func(a, b store.DueWill) int {
		return cmp.Or(cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.ID, b.ID))
	})
}
