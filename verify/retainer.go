// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// Figures of a retainer: topics, settings in a second, how many of a hundred clear, the largest payload, and for how long nothing more
// has to come before a reading counts as complete.
const (
	retainedTopics    = 40
	retainedPerSecond = 100
	clearPercent      = 20
	maxRetained       = 8 << 10
	lull              = 250 * time.Millisecond
)

// A retainer sets and clears retained messages, and reads them as a new client after each return of the broker, before it goes on.
type retainer struct {
	*sender[setting]
	rng     *rand.Rand
	topics  []publication
	busy    map[uint16]bool // topics with a setting on its way
	filter  string
	readers int
}

// A setting is one version of a retained message.
type setting struct {
	publication
	n     uint64
	clear bool
}

func newRetainer(c client, rng *rand.Rand) *retainer {
	r := &retainer{
		sender: &sender[setting]{client: c, pace: pace{perSecond: retainedPerSecond}},
		rng:    rng, busy: map[uint16]bool{}, filter: fmt.Sprintf("%s/retained/%s/#", c.root, c.id),
	}
	for i := range retainedTopics {
		name, q := fmt.Sprintf("%s/retained/%s/%d", c.root, c.id, i), mqtt.QoS(1+i%2)
		r.topics = append(r.topics, publication{number: c.ledger.addRetained(name, q), topic: name, qos: q})
	}
	r.next, r.sender.encode, r.learn = r.set, r.encode, r.settled
	r.forget = func() { clear(r.busy) }
	return r
}

func (r *retainer) live(ctx context.Context, l *life) {
	r.read(ctx)
	if l.phase != resting {
		r.sender.live(ctx, l)
	}
}

// read subscribes as a new client and judges what it gets. A reading that is cut short is not judged.
func (r *retainer) read(ctx context.Context) {
	r.readers++
	reader := recipient{client: r.client}
	reader.id, reader.expiry, reader.holds = fmt.Sprintf("%s-reader-%d", r.id, r.readers), 0, gone
	got, heard := reading{}, r.now()
	reader.deliver = func(d delivery) {
		r.ledger.read(got, d)
		heard = d.at
	}
	n, _, err := reader.join(ctx, true)
	if err != nil {
		return
	}
	defer n.close()
	if reader.subscribe(n, mqtt.Subscription{Filter: []byte(r.filter), QoS: 2}) == nil {
		return
	}
	for quiet := time.Duration(0); quiet < lull || quiet < r.quiet && r.ledger.awaited(r.topics, got); quiet = r.now() - heard {
		if !reader.linger(n, lull) {
			return
		}
	}
	r.ledger.judgeReading(reader.id, r.topics, got, r.now())
	n.disconnect()
}

// set makes a new setting of a topic that has none on its way, or passes.
func (r *retainer) set() (mqtt.QoS, setting, bool) {
	s := setting{publication: r.topics[r.rng.IntN(len(r.topics))], clear: r.rng.IntN(100) < clearPercent}
	if r.busy[s.number] {
		return 0, s, false
	}
	r.busy[s.number] = true
	s.n = r.ledger.retain(s.number, s.clear)
	return s.qos, s, true
}

// settled learns of an acknowledgement.
func (r *retainer) settled(s setting, f fate) {
	switch {
	case f&completed != 0:
		r.ledger.retainAcked(s.number, s.n, r.now())
	case f&doubtful != 0: // it may be in force or not
	case f&refused != 0:
		r.ledger.retainRefused(s.number, s.n)
	default:
		return
	}
	delete(r.busy, s.number)
}

func (r *retainer) encode(dst []byte, f flight[setting], dup bool) []byte {
	s := f.item
	p := mqtt.Publish{Dup: dup, QoS: s.qos, Retain: true, Topic: []byte(s.topic), ID: f.id}
	if !s.clear {
		t := token{kind: kindRetained, number: s.number, seq: s.n}
		p.Payload = payload(r.runID, t, sizeOf(r.runID, t, min(r.ledger.limit, maxRetained)))
	}
	r.tell("PUBLISH %s %d qos=%d id=%d dup=%t retain clear=%t", s.topic, s.n, s.qos, f.id, dup, s.clear)
	return p.Append(dst, r.v)
}
