// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// A retainedTopic is one topic whose retained message is set and cleared, in numbered versions.
type retainedTopic struct {
	name  string
	qos   mqtt.QoS
	sent  uint64    // the last version
	acked version   // the last one acknowledged in full
	open  []version // sent after it: they may be in force or not
}

// A version is one setting of a retained message; n = 0 is the state before the first.
type version struct {
	n       uint64
	cleared bool
	at      time.Duration // of the acknowledgement
}

func (v version) empty() bool { return v.cleared || v.n == 0 }

func (v version) String() string {
	switch {
	case v.n == 0:
		return "nothing"
	case v.cleared:
		return fmt.Sprintf("version %d, cleared", v.n)
	}
	return fmt.Sprintf("version %d", v.n)
}

// addRetained makes a topic and gives its number.
func (l *ledger) addRetained(name string, qos mqtt.QoS) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retained = append(l.retained, retainedTopic{name: name, qos: qos})
	return uint16(len(l.retained) - 1)
}

// retain takes the next version of a topic; it is called before it is sent. One topic has one version on its way at most.
func (l *ledger) retain(number uint16, clear bool) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.retained[number]
	t.sent++
	t.open = append(t.open, version{n: t.sent, cleared: clear})
	l.totals.Published++
	return t.sent
}

// retainAcked notes PUBACK, or PUBCOMP: before that, a broker may wait with what it took over.
func (l *ledger) retainAcked(number uint16, n uint64, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.retained[number]
	for i, v := range t.open {
		if v.n == n {
			t.acked, t.open = v, t.open[i+1:]
			t.acked.at = at
			l.totals.Acknowledged++
			return
		}
	}
}

// retainRefused forgets a version that the broker did not take.
func (l *ledger) retainRefused(number uint16, n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.retained[number]
	for i, v := range t.open {
		if v.n == n {
			t.open = append(t.open[:i:i], t.open[i+1:]...)
			return
		}
	}
}

// A reading is what a new subscriber got: for each topic, by its number, the version; those that it did not get are missing.
type reading map[uint16]uint64

// read judges a retained message on its way into a reading.
func (l *ledger) read(r reading, d delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.identify(d, kindRetained)
	if !ok {
		return
	}
	v := Violation{Client: d.client, Topic: d.topic, Sequence: t.seq}
	switch {
	case int(t.number) >= len(l.retained) || t.seq == 0 || t.seq > l.retained[t.number].sent:
		v.What = "this was never published"
		l.violate(NoPhantom, d.at, v)
	case l.retained[t.number].name != d.topic:
		v.What = "it was published on " + l.retained[t.number].name
		l.violate(Intact, d.at, v)
	default:
		r[t.number] = t.seq
	}
}

// awaited says whether a reading still lacks one of the topics that has to have a message.
func (l *ledger) awaited(topics []publication, r reading) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range topics {
		if r[t.number] == 0 && !l.retained[t.number].mayBeEmpty() {
			return true
		}
	}
	return false
}

func (t *retainedTopic) mayBeEmpty() bool {
	for _, v := range t.open {
		if v.empty() {
			return true
		}
	}
	return t.acked.empty()
}

// judgeReading compares a reading of some topics with what was set and acknowledged. Nothing may be published to them meanwhile.
func (l *ledger) judgeReading(client string, topics []publication, r reading, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, topic := range topics {
		t, n := &l.retained[topic.number], r[topic.number]
		p := RetainedKept
		if t.acked.cleared {
			p = RetainedCleared
		}
		l.check(p, 1)
		if t.allows(n) {
			continue
		}
		got := "there is none"
		if n != 0 {
			got = fmt.Sprintf("it is version %d", n)
		}
		l.violate(p, at, Violation{Client: client, Topic: t.name, Sequence: t.acked.n,
			What: fmt.Sprintf("%s, but %v was acknowledged at %.3f s%s", got, t.acked, t.acked.at.Seconds(), l.before(t.acked.at))})
	}
}

// allows says whether version n (0 is none) may be in force.
func (t *retainedTopic) allows(n uint64) bool {
	if n == 0 {
		return t.mayBeEmpty()
	}
	if t.acked.n == n {
		return !t.acked.cleared
	}
	for _, v := range t.open {
		if v.n == n {
			return !v.cleared
		}
	}
	return false
}
