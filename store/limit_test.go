// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"testing"

	"github.com/noctule/noctule/mqtt"
)

// owedRows counts from the rows what the session's own queues owe it.
func (m *machine) owedRows(s *session) (t tally) {
	for _, sub := range s.subs {
		if sub.f == nil || sub.f.share {
			continue
		}
		for _, q := range sub.f.queues {
			c := q.cursors[s.id]
			m.scan(q, q.firstPos, q.lastPos, 1<<30)
			for _, e := range m.entries {
				if c == nil && !sub.draining || c != nil && !c.acked(e.seq) {
					t = t.plus(one(e.size))
				}
			}
		}
	}
	return t
}

// limitMistake finds out whether what is known of sessions is true, and whether one owes more than its limit.
func (m *machine) limitMistake() error {
	for _, s := range m.byID {
		owed := s.owed()
		if rows := m.owedRows(s); rows != owed {
			return fmt.Errorf("session %d is owed %v, not %v", s.id, rows, owed)
		}
		if m.limits.sessions() && owed.messages > 1 && owed.exceeds(m.limits.slack(m.limits.forSession())) && !m.limits.Policy.admits() {
			return fmt.Errorf("session %d is owed %v", s.id, owed)
		}
		if err := s.duesMistake(m); err != nil {
			return err
		}
	}
	return nil
}

// duesMistake wants that a session cannot come to owe too much before one of its filters is due.
func (s *session) duesMistake(m *machine) error {
	room := m.limits.slack(m.limits.forSession()).minus(s.owed())
	var sum tally
	for _, sub := range s.subs {
		if sub.reads() {
			left := sub.f.due.minus(sub.f.in)
			sum = sum.plus(tally{max(left.messages, 0), max(left.bytes, 0)})
		}
	}
	if sum.messages > max(room.messages, 0) || sum.bytes > max(room.bytes, 0) {
		return fmt.Errorf("session %d has room for %v, its filters take %v before they are due", s.id, room, sum)
	}
	return nil
}

func TestWhatSessionsAreOwedIsKnown(t *testing.T) {
	for seed := range uint64(60) {
		v := newInventor(seed)
		m := testMachine([]Limits{
			{MaxSessionMessages: 40},
			{MaxSessionMessages: 6, MaxQueueMessages: 20},
			{MaxSessionBytes: 90, Policy: DropNewest},
			{MaxSessionMessages: 8, MaxQueueMessages: 5, Policy: DropNewest},
		}[seed%4])
		for at := Position(1); at <= 1000; at++ {
			c := v.next()
			m.apply(at, c)
			v.learn(c)
			if err := m.limitMistake(); err != nil {
				t.Fatalf("seed %d: after %d (%T %+v): %v", seed, at, c, c, err)
			}
		}
	}
}

// A message that many sessions wait for looks at them only when one may have come to its limit.
func TestSessionsAreLookedAtRarely(t *testing.T) {
	m := testMachine(Limits{MaxSessionMessages: 1600})
	m.limits = Limits{MaxSessionMessages: 1600}
	claim := &Claim{ClientID: "c", Expiry: 60}
	m.apply(1, claim)
	m.apply(2, &Subscribe{Owner: claim.Owner, Subscriptions: []Subscription{{Filter: "#", QoS: 1}, {Filter: "other", QoS: 1}}})
	f, looks := m.filters["#"], 0
	for at := Position(3); at < 20_000; at++ {
		due := f.due
		m.apply(at, &Publish{Message: &mqtt.Message{Topic: "t", QoS: 1}})
		if f.due != due {
			looks++
		}
	}
	if looks < 100 || looks > 2000 {
		t.Fatalf("%d looks", looks)
	}
	if n := m.byID[claim.Owner.ID].owed().messages; n > 1700 || n < 1600 {
		t.Fatalf("%d messages wait", n)
	}
}
