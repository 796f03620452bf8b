// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import "time"

// presence is what is known of something that the broker keeps: nothing, that it is there, or that it is not.
type presence byte

const (
	unknown presence = iota
	there
	gone
)

// greeted judges session present of a CONNACK. There is none after Clean Start [MQTT-3.2.2-2], whatever was there before.
func (l *ledger) greeted(client string, at time.Duration, clean bool, want presence, present bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := Violation{Client: client}
	switch {
	case clean:
		if l.check(SessionEnded, 1); present {
			v.What = "session present is 1 after a clean start"
			l.violate(SessionEnded, at, v)
		}
	case want == there:
		if l.check(SessionKept, 1); !present {
			v.What = "session present is 0" + l.after(at)
			l.violate(SessionKept, at, v)
		}
	case want == gone:
		if l.check(SessionEnded, 1); present {
			v.What = "session present is 1, but its session has ended" + l.after(at)
			l.violate(SessionEnded, at, v)
		}
	}
}

// after says which kill was the last one. The caller holds mu.
func (l *ledger) after(at time.Duration) string {
	if len(l.deaths) == 0 {
		return ""
	}
	return ", " + (at - l.deaths[len(l.deaths)-1]).Round(time.Millisecond).String() + " after the kill"
}

// settled is how long before a kill something has to be that the broker does not acknowledge, if it is to know of it afterwards.
const settled = time.Second

// outlived says whether a session with an expiry interval is still there. The client left it at left; the broker was killed first at
// death after that, and has taken connections again since ready. If it may not have noticed before it died that the client had
// left, the interval runs from its return at the latest.
func outlived(expiry, left, death, ready, now, tolerance time.Duration) presence {
	ended := left
	if death != 0 && death-left < settled {
		ended = ready
	}
	switch {
	case now-left < expiry-tolerance:
		return there
	case now-ended >= expiry+tolerance:
		return gone
	}
	return unknown
}

// A subscribed is what a client knows of one of its subscriptions.
type subscribed struct {
	presence presence
	qos      byte // as granted
}

// A probe tests subscriptions: a message is published to each filter while they do not change.
type probe struct {
	number  uint64
	states  []subscribed // before
	acked   []bool
	arrived []bool
}

// probed judges a delivery of a probe's message to the client under test.
func (l *ledger) probed(p *probe, topics []string, d delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.identify(d, kindProbe)
	if !ok {
		return
	}
	v := Violation{Client: d.client, Topic: d.topic, Sequence: t.seq}
	if t.seq == 0 || t.seq > p.number || int(t.number) >= len(topics) || topics[t.number] != d.topic {
		v.What = "this was never published"
		l.violate(NoPhantom, d.at, v)
		return
	}
	if t.seq != p.number {
		return // of a probe that the kill cut short
	}
	k := int(t.number)
	again := p.arrived[k]
	p.arrived[k] = true
	switch s := p.states[k]; {
	case s.presence == gone:
		v.What = "UNSUBACK was received, and messages still come" + l.after(d.at)
		l.violate(SubscriptionEnded, d.at, v)
	case s.presence == there && byte(d.qos) != s.qos:
		v.What = "it comes with another QoS than SUBACK granted last" + l.after(d.at)
		l.violate(SubscriptionKept, d.at, v)
	case again && d.qos == 2:
		v.What = "it came again" + flagged(d)
		l.violate(ExactlyOnce, d.at, v)
	}
}

// judgeProbe judges a probe after both connections stood long enough for everything to arrive.
func (l *ledger) judgeProbe(client string, p *probe, topics []string, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, s := range p.states {
		switch {
		case s.presence == gone:
			l.check(SubscriptionEnded, 1) // arrivals were judged when they came
		case s.presence == there && p.acked[k]:
			if l.check(SubscriptionKept, 1); !p.arrived[k] {
				l.violate(SubscriptionKept, at, Violation{Client: client, Topic: topics[k], Sequence: p.number,
					What: "SUBACK was received, and no message comes" + l.after(at)})
			}
		}
	}
}

// unsubscribed judges the reason code of an UNSUBACK (5.0).
func (l *ledger) unsubscribed(client, filter string, before presence, existed bool, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before != there {
		return
	}
	if l.check(SubscriptionKept, 1); !existed {
		l.violate(SubscriptionKept, at, Violation{Client: client, Topic: filter,
			What: "SUBACK was received, and UNSUBACK says that there is no such subscription"})
	}
}
