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

// departures is how many sessions a leaver leaves behind in each life of the broker.
const departures = 6

// A leaver leaves sessions behind: some that stay, some that expire (5.0), some that it ends. After each return of the broker it looks
// which are still there.
type leaver struct {
	client // the template of all
	rng    *rand.Rand
	left   []departure
	count  int
}

// A departure is one session left behind.
type departure struct {
	client
	expiry time.Duration
	at     time.Duration
}

// expiries are the session expiry intervals that are tried, in seconds.
var expiries = []uint32{1, 2, 4, 6, 3600}

func (v *leaver) prepare(context.Context) error { return nil }

func (v *leaver) live(ctx context.Context, l *life) {
	for _, d := range v.left {
		v.look(ctx, d, l)
	}
	v.left = v.left[:0]
	for i := 0; i < departures && l.phase == working; i++ {
		if i%3 == 0 {
			v.end(ctx)
		} else {
			v.leave(ctx)
		}
		sleep(ctx, time.Duration(v.rng.IntN(200))*time.Millisecond)
	}
}

// look resumes a session for the last time. What to expect is worked out when the CONNECT leaves.
func (v *leaver) look(ctx context.Context, d departure, l *life) {
	c := d.client
	if d.expiry != 0 {
		c.holds = outlived(d.expiry, d.at, v.ledger.deathAfter(d.at), l.ready, v.now(), v.ledger.tolerance)
	}
	c.expiry = 0
	n, _, err := c.attempt(ctx, false, nil)
	if err != nil {
		return
	}
	n.disconnect()
	if c.v != mqtt.V5 { // in 5.0 the session has ended with the connection
		if n, _, err := c.attempt(ctx, true, nil); err == nil {
			n.disconnect()
		}
	}
}

// fresh is a client that was never there.
func (v *leaver) fresh() client {
	v.count++
	c := v.client
	c.id, c.holds = fmt.Sprintf("%s-%d", v.id, v.count), gone
	return c
}

// leave makes a session that outlives its connection, and cuts the connection.
func (v *leaver) leave(ctx context.Context) {
	d := departure{client: v.fresh()}
	if c := &d.client; c.expiry != 0 {
		c.expiry = expiries[v.rng.IntN(len(expiries))]
		d.expiry = time.Duration(c.expiry) * time.Second
	}
	n, _, err := d.connect(ctx, false, nil)
	if err != nil {
		return
	}
	d.at = v.now()
	n.close()
	v.left = append(v.left, d)
}

// end makes a session that outlives its connection, and ends it with a clean start.
func (v *leaver) end(ctx context.Context) {
	d := departure{client: v.fresh()}
	n, _, err := d.connect(ctx, false, nil)
	if err != nil {
		return
	}
	n.disconnect()
	d.client.expiry = 0
	if n, _, err = d.connect(ctx, true, nil); err != nil {
		return
	}
	n.close()
	v.left = append(v.left, d)
}
