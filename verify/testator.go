// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// willsEach is how many wills a testator makes in each life of the broker, and willExpiry the session expiry interval of their
// clients in seconds, longer than any delay.
const (
	willsEach  = 4
	willExpiry = 600
)

// willDelays are the will delay intervals that are tried, in seconds.
var willDelays = []uint32{3, 4, 5, 6}

// A testator makes clients with delayed wills (5.0) and cuts them off: some stay away, some come back, some are cut off by the kill. Its
// own client, with a persistent session, receives the wills.
type testator struct {
	recipient
	rng     *rand.Rand
	topic   string
	returns []heir // who comes back in the next life
}

// An heir is a client with a will.
type heir struct {
	client
	number uint16
}

func newTestator(c client, rng *rand.Rand) *testator {
	t := &testator{recipient: recipient{client: c, inbox: inbox{}}, rng: rng, topic: fmt.Sprintf("%s/will/%s", c.root, c.id)}
	t.deliver = t.ledger.willArrived
	return t
}

func (t *testator) subs() []mqtt.Subscription {
	return []mqtt.Subscription{{Filter: []byte(t.topic), QoS: 2}}
}

func (t *testator) prepare(ctx context.Context) error {
	n, _, err := t.join(ctx, false)
	if err != nil {
		return err
	}
	defer n.disconnect()
	return errGrant(t.subs(), t.subscribe(n, t.subs()...))
}

func (t *testator) live(ctx context.Context, l *life) {
	var parts sync.WaitGroup
	if l.phase == working {
		parts.Go(func() { t.scatter(ctx) })
	}
	defer parts.Wait()
	for first := true; ctx.Err() == nil; first = false {
		n, ack, err := t.join(ctx, false)
		if err != nil {
			return
		}
		if !first {
			t.ledger.disconnected()
		}
		done := (ack.SessionPresent || t.subscribe(n, t.subs()...) != nil) && t.listen(n, l)
		n.close()
		if done {
			return
		}
	}
}

// listen receives wills until the connection ends (false), or at the end of the run until all have come that must (true).
func (t *testator) listen(n *conn, l *life) bool {
	joined := t.now()
	for {
		if !t.linger(n, lull) {
			return false
		}
		until, pending := t.ledger.willsPending(l.ready)
		switch {
		case l.phase == draining && (!pending || t.now() > until+t.quiet) && len(t.inbox) == 0,
			l.phase == resting && t.now()-joined > rest:
			n.disconnect()
			return true
		}
	}
}

// scatter lets those come back who were to, and makes new clients with wills. It returns when their connections have ended.
func (t *testator) scatter(ctx context.Context) {
	for _, h := range t.returns {
		t.ledger.willReturns(h.number)
		if n, _, err := h.connect(ctx, false, nil); err == nil {
			t.ledger.willResumed(h.number, t.now())
			n.disconnect()
		}
	}
	t.returns = t.returns[:0]
	var standing sync.WaitGroup
	defer standing.Wait()
	for i := 0; i < willsEach && ctx.Err() == nil; i++ {
		h, n := t.bequeath(ctx)
		switch {
		case n == nil:
		case i == 0: // stands until the kill
			standing.Go(func() {
				for range n.in { // nothing is subscribed
				}
				t.ledger.willCut(h.number, t.now())
				n.close()
			})
		default:
			sleep(ctx, time.Duration(t.rng.IntN(150))*time.Millisecond)
			t.ledger.willCut(h.number, t.now())
			n.close()
			if i == 1 {
				t.returns = append(t.returns, h)
			}
		}
		sleep(ctx, time.Duration(t.rng.IntN(300))*time.Millisecond)
	}
}

// bequeath connects a new client with a will; the connection is nil if that was not granted.
func (t *testator) bequeath(ctx context.Context) (heir, *conn) {
	delay := willDelays[t.rng.IntN(len(willDelays))]
	h := heir{client: client{env: t.env, v: t.v}} // not a copy of all: the listener changes what it holds
	h.number, h.id = t.ledger.addWill(t.id, time.Duration(delay)*time.Second)
	h.expiry, h.holds = willExpiry, gone
	n, _, err := h.connect(ctx, false, &mqtt.Will{
		Topic: []byte(t.topic), QoS: 2, Payload: payload(t.runID, token{kind: kindWill, number: h.number, seq: 1}, 0),
		Properties: mqtt.AppendPropUint32(nil, mqtt.PropWillDelayInterval, delay),
	})
	if err != nil {
		return h, nil
	}
	t.ledger.willKnown(h.number)
	return h, n
}
