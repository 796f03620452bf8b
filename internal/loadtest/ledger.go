// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"github.com/noctule/noctule/internal/load"
	"github.com/noctule/noctule/mqtt"
)

// maxSources bounds the publishers that one receiver tells apart.
const maxSources = 1 << 16

// source is a publisher of a run, as it stands in a stamp.
type source struct{ run, publisher uint32 }

// track is what one receiver has of one publisher.
type track struct {
	load.Tracker
	qos  mqtt.QoS // of the last message
	came uint64
}

// ledger is what came to one receiver, or to the members of a shared subscription together.
type ledger struct {
	shared bool // no order is promised
	late   bool // it need not have been there for the first message
	tracks map[source]*track

	lastSource source // whose track is last
	last       *track
}

func newLedger(shared, late bool) *ledger {
	return &ledger{shared: shared, late: late, tracks: make(map[source]*track)}
}

// see enters a message. fresh is false if it has come before, and ok if there is no room for another publisher.
func (l *ledger) see(s stamp, qos mqtt.QoS) (fresh, ok bool) {
	from := source{s.run, s.publisher}
	if l.last == nil || l.lastSource != from {
		t := l.tracks[from]
		if t == nil {
			if len(l.tracks) == maxSources {
				return false, false
			}
			t = &track{}
			if l.late {
				t.Begin(s.seq)
			}
			l.tracks[from] = t
		}
		l.last, l.lastSource = t, from
	}
	t := l.last
	twice := t.Duplicated
	t.See(s.seq)
	t.qos = qos
	t.came++
	return t.Duplicated == twice, true
}

// Checks are what receivers found, of messages that carry a stamp.
type Checks struct {
	Lost       uint64 `json:"lost"`
	Duplicated uint64 `json:"duplicated"`
	Reordered  uint64 `json:"reordered"`
	Misrouted  uint64 `json:"misrouted"` // came where nobody had subscribed to their topic
}

// expectation is what a receiver has to have of a publisher.
type expectation struct {
	sent   uint64
	excuse uint64 // of those, messages that the broker has refused, or not acknowledged
}

// judge sums up what is wrong, by QoS. expected has what the receiver has to have; nil: what it has no gap in.
func (l *ledger) judge(expected map[source]expectation, qos mqtt.QoS) (byQoS [3]Checks) {
	for from, t := range l.tracks {
		c := &byQoS[t.qos]
		want, known := expected[from]
		c.Duplicated += t.Duplicated
		if !l.shared {
			c.Reordered += t.Reordered
		}
		lost := t.Lost(want.sent) // with nothing expected: the gaps
		if known {
			lost -= min(lost, want.excuse)
		}
		if expected != nil && !known {
			c.Misrouted += t.came
			continue
		}
		c.Lost += lost
	}
	for from, want := range expected {
		if l.tracks[from] == nil {
			byQoS[qos].Lost += want.sent - min(want.sent, want.excuse)
		}
	}
	return byQoS
}

// add adds more of them.
func (c *Checks) add(more Checks) {
	c.Lost += more.Lost
	c.Duplicated += more.Duplicated
	c.Reordered += more.Reordered
	c.Misrouted += more.Misrouted
}
