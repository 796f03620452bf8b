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

// expiringBatch is how many messages an expirer publishes in each life of the broker.
const expiringBatch = 10

// An expirer publishes messages with an expiry interval (5.0) while their subscriber is away, who fetches them after the next return
// of the broker.
type expirer struct {
	recipient
	rng     *rand.Rand
	topic   string
	helpers int
}

func newExpirer(c client, rng *rand.Rand) *expirer {
	e := &expirer{recipient: recipient{client: c, inbox: inbox{}}, rng: rng, topic: fmt.Sprintf("%s/expiring/%s", c.root, c.id)}
	e.deliver = func(d delivery) {
		left, had := d.properties.Uint32(mqtt.PropMessageExpiryInterval)
		e.ledger.expiringArrived(d, time.Duration(left)*time.Second, had)
	}
	return e
}

func (e *expirer) subs() []mqtt.Subscription {
	return []mqtt.Subscription{{Filter: []byte(e.topic), QoS: 1}}
}

func (e *expirer) prepare(ctx context.Context) error {
	n, _, err := e.join(ctx, false)
	if err != nil {
		return err
	}
	defer n.disconnect()
	return errGrant(e.subs(), e.subscribe(n, e.subs()...))
}

func (e *expirer) live(ctx context.Context, l *life) {
	if e.fetch(ctx) && l.phase == working {
		e.publish(ctx)
	}
}

// fetch reads what is there, judges it and leaves. It gives false if the connection was lost.
func (e *expirer) fetch(ctx context.Context) bool {
	n, ack, err := e.join(ctx, false)
	if err != nil {
		return false
	}
	defer n.close()
	if !ack.SessionPresent && e.subscribe(n, e.subs()...) == nil {
		return false
	}
	connected := e.now()
	for quiet := false; !quiet; quiet = !e.ledger.expiringAwaited(connected) || e.now()-connected > e.quiet {
		if !e.linger(n, lull) {
			return false
		}
	}
	e.ledger.judgeExpiring(e.id, connected, e.now())
	n.disconnect()
	return true
}

// publish publishes a batch.
func (e *expirer) publish(ctx context.Context) {
	e.helpers++
	h := client{env: e.env, id: fmt.Sprintf("%s-helper-%d", e.id, e.helpers), v: e.v, holds: gone}
	n, _, err := h.connect(ctx, true, nil)
	if err != nil {
		return
	}
	defer n.close()
	box := outbox[uint16]{}
	for range expiringBatch {
		expiry := expiries[e.rng.IntN(len(expiries))]
		number := e.ledger.addExpiring(e.topic, time.Duration(expiry)*time.Second, e.now())
		p := mqtt.Publish{
			QoS: 1, Topic: []byte(e.topic), ID: box.add(1, number), Payload: payload(e.runID, token{kind: kindExpiring, number: number, seq: 1}, 0),
			Properties: mqtt.AppendPropUint32(nil, mqtt.PropMessageExpiryInterval, expiry),
		}
		e.tell("PUBLISH %s %d expiry=%d", e.topic, number+1, expiry)
		n.write(p.Append(nil, e.v))
		for len(box.flights) > 0 {
			p, ok := <-n.in
			if !ok {
				return
			}
			if a, is := p.(*mqtt.Ack); is {
				if number, f, _ := box.take(a, e.v); f&accepted != 0 {
					e.ledger.expiringAcked(number, e.now())
				}
			}
		}
	}
	n.disconnect()
}
