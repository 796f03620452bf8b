// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"math/rand/v2"

	"github.com/noctule/noctule/mqtt"
)

// A publication is a topic with one publisher and one QoS, by its number in the ledger.
type publication struct {
	number uint16
	topic  string
	qos    mqtt.QoS
}

// A message is one message of a stream.
type message struct {
	publication
	seq uint64
}

// newPublisher makes a sender of numbered messages to some streams.
func newPublisher(c client, rng *rand.Rand, streams []publication, perSecond float64) *sender[message] {
	s := &sender[message]{client: c, pace: pace{perSecond: perSecond}, forget: func() {}}
	s.next = func() (mqtt.QoS, message, bool) {
		m := message{publication: streams[rng.IntN(len(streams))]}
		m.seq = s.ledger.publish(m.number)
		return m.qos, m, true
	}
	s.encode = func(dst []byte, f flight[message], dup bool) []byte {
		m := f.item
		t := token{kind: kindData, number: m.number, seq: m.seq}
		s.tell("PUBLISH %s %d qos=%d id=%d dup=%t", m.topic, m.seq, m.qos, f.id, dup)
		p := payload(s.runID, t, sizeOf(s.runID, t, s.ledger.limit))
		return (&mqtt.Publish{Dup: dup, QoS: m.qos, Topic: []byte(m.topic), ID: f.id, Payload: p}).Append(dst, s.v)
	}
	s.learn = func(m message, f fate) {
		if f&accepted != 0 {
			s.ledger.acknowledge(m.number, m.seq, s.now())
		}
	}
	return s
}
