// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"
	"sort"

	"github.com/noctule/noctule/mqtt"
)

// session is the mirror of a persistent session's rows.
type session struct {
	id       SessionID
	epoch    uint64
	clientID string
	username string
	created  int64
	attached bool
	group    uint16 // client group, of its rows
	nextID   uint16
	expiry   uint32 // seconds
	expires  int64  // Unix nanoseconds; 0 while attached, or never
	will     *will
	subs     []*sub // by filter
	window   map[uint16]*held
	inQueue  map[Ref]struct{} // messages of its own queue in the window that are still needed
	order    uint64           // of the last window entry
	received []uint16         // sorted
	timer    timer
	mark     uint64 // of the last publish for which limit.go turned it away
}

// will is a session's will that is not due yet.
type will struct {
	message *mqtt.Message
	delay   uint32
	due     int64 // Unix nanoseconds, 0 while attached
}

// sub is a subscription of a persistent session.
type sub struct {
	Subscription
	f *filter // nil if the QoS is 0 and nothing is left to drain
	// draining says that the QoS is 0 now, but was greater when what is still queued came.
	draining bool
	s        *session // whose it is
	place    int      // among the members of f
}

// held is an entry of the stored outbound window.
type held struct {
	Inflight        // Message is set where the row holds it, for want of a Ref
	order    uint64 // of first sending
	size     int64  // of the message that Ref names
}

// createSession makes a session, attached by its first claim.
func (m *machine) createSession(c *Claim) *session {
	s := &session{id: SessionID(m.applied), clientID: c.ClientID, username: c.Username, created: c.Now, group: m.clientGroup(c.ClientID)}
	m.byID[s.id] = s
	m.names.Lock()
	m.byClient[s.clientID] = s
	m.names.Unlock()
	m.stats.Sessions++
	return s
}

// attach gives the session to a new owner.
func (m *machine) attach(s *session, c *Claim) {
	if !s.attached {
		m.stats.Attached++
	}
	s.epoch = uint64(m.applied)
	s.attached, s.expiry, s.expires = true, c.Expiry, 0
	var w *will
	if c.Will != nil && c.Will.Message != nil {
		w = &will{message: c.Will.Message, delay: c.Will.Delay}
	}
	m.setWill(s, w)
	m.saveSession(s)
	m.schedule(s)
}

// detach lets the session wait for its next owner, until it expires.
func (m *machine) detach(s *session, expiry uint32, now int64) {
	if s.attached {
		m.stats.Attached--
	}
	s.attached, s.expiry, s.expires = false, expiry, 0
	if expiry != Never {
		s.expires = later(now, expiry)
	}
	if s.will != nil {
		s.will.due = later(now, s.will.delay)
		m.setWill(s, s.will)
	}
	m.saveSession(s)
	m.schedule(s)
}

// expired reports whether the session's time was over before anybody noticed.
func (s *session) expired(now int64) bool { return s.expires != 0 && s.expires <= now }

// later is now and some seconds, never 0.
func later(now int64, seconds uint32) int64 {
	const most = 1<<63 - 1
	d := int64(seconds) * 1e9
	if now > most-d {
		return most
	}
	if now+d == 0 {
		return 1
	}
	return now + d
}

// endSession ends a session. It returns the shared messages that become free, and moves its will to those that are due.
func (m *machine) endSession(s *session, now int64) (freed []Shared, due *dueWill) {
	if s.will != nil {
		due = m.willDue(s, now)
	}
	for _, h := range m.windowOf(s) {
		if h.Share != "" && h.QoS == 2 {
			m.ackShared(h.Share, h.Ref) // begun with this session, so for no other one [MQTT-4.8.2-5]
		} else if h.Share != "" && h.State == Sent {
			freed = append(freed, Shared{h.Share, h.Ref})
		}
		m.unhold(s, h)
	}
	for _, sub := range s.subs {
		m.unsubscribe(s, sub)
	}
	for _, id := range s.received {
		m.rows.Delete(m.keys.numberID(s.group, kindReceived, uint64(s.id), id))
	}
	m.rows.Delete(m.keys.name(s.group, kindSession, s.clientID))
	delete(m.byID, s.id)
	m.names.Lock()
	delete(m.byClient, s.clientID)
	m.names.Unlock()
	m.timers.remove(s)
	m.stats.Sessions--
	if s.attached {
		m.stats.Attached--
	}
	return slices.DeleteFunc(freed, func(f Shared) bool { return !m.waits(f) }), due
}

// waits reports whether a shared message is still in its queue.
func (m *machine) waits(sh Shared) bool {
	f := m.filters[sh.Filter]
	if f == nil || !f.share {
		return false
	}
	_, ok := m.rows.Get(m.keys.numbers(sh.Ref.Group, kindQueue, f.id, uint64(sh.Ref.Position)))
	return ok
}

func (m *machine) saveSession(s *session) {
	v := append(m.value[:0], rowVersion)
	v = appendUint(appendUint(v, uint64(s.id)), s.epoch)
	v = appendInt(appendString(v, s.username), s.created)
	v = appendUint(appendBool(v, s.attached), uint64(s.expiry))
	v = appendUint(appendInt(v, s.expires), uint64(s.nextID))
	v = appendUint(v, s.order)
	m.value = v
	m.rows.Set(m.keys.name(s.group, kindSession, s.clientID), v)
}

func decodeSession(key, value []byte) (*session, error) {
	d := rowDecoder(value)
	s := &session{
		clientID: keyName(key),
		id:       SessionID(d.uint()),
		epoch:    d.uint(),
		username: d.string(),
		created:  d.int(),
		attached: d.bool(),
		expiry:   d.uint32(),
		expires:  d.int(),
		nextID:   d.uint16(),
		order:    d.uint(),
	}
	return s, d.end()
}

// findSub returns the place of a filter among the subscriptions, and whether it is there.
func (s *session) findSub(filter string) (int, bool) {
	i := sort.Search(len(s.subs), func(i int) bool { return s.subs[i].Filter >= filter })
	return i, i < len(s.subs) && s.subs[i].Filter == filter
}

// unsubscribe takes the reader and the row of a subscription away.
func (m *machine) unsubscribe(s *session, sub *sub) {
	if sub.f != nil {
		if !sub.draining {
			sub.f.leave(sub)
		}
		m.removeReader(sub.f, s, sub.draining)
	}
	m.rows.Delete(m.keys.numberName(s.group, kindSub, uint64(s.id), sub.Filter))
	m.stats.Subscriptions--
}

func (m *machine) saveSub(s *session, sub *sub) {
	v := appendBool(append(m.value[:0], rowVersion), sub.draining)
	m.value = appendSubscription(v, &sub.Subscription)
	m.rows.Set(m.keys.numberName(s.group, kindSub, uint64(s.id), sub.Filter), m.value)
}

func decodeSub(value []byte) (*sub, error) {
	d := rowDecoder(value)
	sb := &sub{draining: d.bool(), Subscription: d.subscription()}
	return sb, d.end()
}
