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
			if left := sub.f.due.minus(sub.f.in); left.messages > 0 && left.bytes > 0 {
				sum = sum.plus(left)
			}
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

// One op is a message that waits for 1000 sessions with the same filter, none of which has a cursor at first: without a
// limit, with one that is far away, and with one that all have reached.
func BenchmarkPublishThousandLimitedSessions(b *testing.B) {
	for _, c := range []struct {
		name   string
		limits Limits
	}{
		{"none", Limits{}},
		{"far", Limits{MaxSessionMessages: 1_000_000, MaxSessionBytes: 256 << 20}},
		{"reached drop-oldest", Limits{MaxSessionMessages: 1000}},
		{"reached drop-newest", Limits{MaxSessionMessages: 1000, Policy: DropNewest}},
		{"reached reject", Limits{MaxSessionMessages: 1000, Policy: Reject}},
	} {
		b.Run(c.name, func(b *testing.B) {
			m, _ := benchMachine(b, 1000, func(int) string { return "devices/#" })
			m.setLimits(c.limits)
			p := &Publish{Message: benchMessage()}
			publish := func() {
				p.reset()
				m.matched = m.matched[:0]
				m.match(p.Message.Topic)
				if c.limits.Policy == Reject && m.admit(p.size()) != roomNow {
					return
				}
				m.apply(m.applied+1, p)
			}
			for range 1100 {
				publish()
			}
			b.ReportAllocs()
			for b.Loop() {
				if m.stats.Messages == 10_000 {
					b.StopTimer()
					m.purgeAll(m.filters["devices/#"])
					b.StartTimer()
				}
				publish()
			}
		})
	}
}

func TestPoliciesHaveWords(t *testing.T) {
	for p := DropOldest; p <= Block; p++ {
		var q QueuePolicy
		if err := q.Set(p.String()); err != nil || q != p {
			t.Errorf("%v became %v: %v", p, q, err)
		}
	}
	var q QueuePolicy
	if err := q.Set("drop"); err == nil || q != DropOldest {
		t.Errorf("drop became %v", q)
	}
	for c := range DropCause(DropCauses) {
		if c.String() == "" || c.String() != causes[c] {
			t.Errorf("cause %d has no word", c)
		}
	}
}

// Reports are bounded; counts are not.
func TestReportsOfDropsAreBounded(t *testing.T) {
	m := testMachine(Limits{MaxSessionMessages: 1})
	var told []Dropped
	m.drops = drops{tell: func(d Dropped) { told = append(told, d) }, now: func() int64 { return 7 }}
	for i := range MaxDropReports + 10 {
		c := &Claim{ClientID: fmt.Sprint(i), Expiry: 60}
		m.apply(m.applied+1, c)
		m.apply(m.applied+1, &Subscribe{Owner: c.Owner, Subscriptions: []Subscription{{Filter: "t", QoS: 1}}})
	}
	for range 2 {
		m.apply(m.applied+1, &Publish{Message: &mqtt.Message{Topic: "t", QoS: 1, ClientID: "p"}})
	}
	m.drops.pass()
	if len(told) != MaxDropReports || m.stats.Dropped != MaxDropReports+10 {
		t.Fatalf("%d told, %d counted", len(told), m.stats.Dropped)
	}
	if d := told[0]; d.Time != 7 || d.Topic != "t" || d.Publisher != "p" || d.Size != 1 || d.Cause != SessionOldest {
		t.Fatalf("%+v", d)
	}
	m.drops.pass()
	if len(told) != MaxDropReports {
		t.Fatal("told twice")
	}
}

// A load in between must not change which messages are dropped.
func TestLimitsAreTheSameAfterLoad(t *testing.T) {
	for seed := range uint64(24) {
		v := newInventor(seed)
		limits := []Limits{{MaxSessionMessages: 6}, {MaxSessionBytes: 90, Policy: DropNewest},
			{MaxSessionMessages: 32, MaxQueueMessages: 12}, {MaxSessionMessages: 7, MaxQueueBytes: 70, Policy: DropNewest}}[seed%4]
		one, two := testMachine(limits), testMachine(limits)
		for at := Position(1); at <= 1200; at++ {
			c := v.next()
			if r, ok := c.(*recovery); ok {
				r.Limits = limits
			}
			d := again(t, c)
			one.apply(at, c)
			two.apply(at, d)
			v.learn(c)
			if at%23 != 0 {
				continue
			}
			if one.hash() != two.hash() {
				t.Fatalf("seed %d: state differs after %d commands", seed, at)
			}
			if two = newMachine(two.rows, two.bodies, limits, two.groups); two.load() != nil {
				t.Fatal(two.load())
			}
			if err := two.limitMistake(); err != nil {
				t.Fatalf("seed %d: after %d, loaded: %v", seed, at, err)
			}
		}
	}
}
