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

// probedFilters is how many subscriptions come and go.
const probedFilters = 30

// A prober makes and ends subscriptions, and after each return of the broker tries which are in force, before it goes on.
type prober struct {
	recipient
	rng    *rand.Rand
	topics []string
	states []subscribed
	probe  *probe
}

func newProber(c client, rng *rand.Rand) *prober {
	p := &prober{recipient: recipient{client: c, inbox: inbox{}}, rng: rng, states: make([]subscribed, probedFilters), probe: &probe{}}
	for i := range p.states {
		p.topics = append(p.topics, fmt.Sprintf("%s/probe/%s/%d", c.root, c.id, i))
		p.states[i].presence = gone
	}
	p.begin()
	p.deliver = func(d delivery) { p.ledger.probed(p.probe, p.topics, d) }
	return p
}

// begin starts a probe.
func (p *prober) begin() {
	n := len(p.topics)
	p.probe = &probe{number: p.probe.number + 1, states: append([]subscribed(nil), p.states...), acked: make([]bool, n), arrived: make([]bool, n)}
}

func (p *prober) prepare(ctx context.Context) error {
	n, _, err := p.join(ctx, false)
	if err == nil {
		n.disconnect()
	}
	return err
}

func (p *prober) live(ctx context.Context, l *life) {
	for first := true; ctx.Err() == nil; first = false {
		n, ack, err := p.join(ctx, false)
		if err != nil {
			return
		}
		if !first {
			p.ledger.disconnected()
		}
		if !ack.SessionPresent {
			for i := range p.states {
				p.states[i] = subscribed{presence: gone}
			}
		}
		alive := p.try(ctx, n)
		if alive && l.phase == working {
			p.change(n)
			alive = false
		}
		if alive {
			n.disconnect()
			return
		}
		n.close()
	}
}

// try probes all filters. It gives false if a connection was lost; then nothing is judged.
func (p *prober) try(ctx context.Context, n *conn) bool {
	p.begin()
	h := client{env: p.env, id: fmt.Sprintf("%s-helper-%d", p.id, p.probe.number), v: p.v, holds: gone}
	hn, _, err := h.connect(ctx, true, nil)
	if err != nil {
		return false
	}
	defer hn.close()
	box := outbox[int]{}
	for k, topic := range p.topics {
		t := token{kind: kindProbe, number: uint16(k), seq: p.probe.number}
		pub := mqtt.Publish{QoS: 2, Topic: []byte(topic), ID: box.add(2, k), Payload: payload(p.runID, t, 0)}
		hn.write(pub.Append(nil, p.v))
		if !p.settle(hn, n, &box) {
			return false
		}
	}
	for began := p.now(); p.awaits() && p.now()-began < p.quiet; {
		if !p.linger(n, lull) {
			return false
		}
	}
	if !p.linger(n, lull) {
		return false
	}
	p.ledger.judgeProbe(p.id, p.probe, p.topics, p.now())
	hn.disconnect()
	return true
}

// settle completes what the helper has on its way, taking what comes to the client under test meanwhile.
func (p *prober) settle(hn, n *conn, box *outbox[int]) bool {
	timeout := time.NewTimer(answerPatience)
	defer timeout.Stop()
	for len(box.flights) > 0 {
		select {
		case packet, ok := <-hn.in:
			if !ok {
				return false
			}
			if a, is := packet.(*mqtt.Ack); is {
				k, f, answer := box.take(a, p.v)
				if f&accepted != 0 {
					p.probe.acked[k] = true
				}
				hn.write(answer)
			}
		case packet, ok := <-n.in:
			if !ok {
				return false
			}
			n.write(p.take(packet))
		case <-timeout.C:
			return false
		}
	}
	return true
}

// awaits says whether a message that must come has not.
func (p *prober) awaits() bool {
	for k, s := range p.probe.states {
		if s.presence == there && p.probe.acked[k] && !p.probe.arrived[k] {
			return true
		}
	}
	return false
}

// change makes and ends subscriptions until the connection ends. While a request is on its way its outcome is unknown.
func (p *prober) change(n *conn) {
	for {
		k, q := p.rng.IntN(len(p.topics)), byte(1+p.rng.IntN(2))
		before := p.states[k]
		p.states[k].presence = unknown
		if before.presence == there && p.rng.IntN(2) == 0 {
			code, acked := p.unsubscribe(n, p.topics[k])
			if !acked {
				return
			}
			p.ledger.unsubscribed(p.id, p.topics[k], before.presence, code != mqtt.NoSubscriptionExisted, p.now())
			if !code.IsError() {
				p.states[k] = subscribed{presence: gone}
			}
		} else {
			codes := p.subscribe(n, mqtt.Subscription{Filter: []byte(p.topics[k]), QoS: mqtt.QoS(q)})
			if len(codes) != 1 {
				return
			}
			if !codes[0].IsError() {
				p.states[k] = subscribed{presence: there, qos: byte(codes[0])}
			}
		}
		if !p.linger(n, time.Duration(1+p.rng.IntN(15))*time.Millisecond) {
			return
		}
	}
}
