// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"math/rand/v2"
	"time"
)

// Backoff is a growing pause between attempts to connect, with jitter so that many clients do not come back in step.
type Backoff struct {
	Min    time.Duration  // before the first attempt; 0 is 1 s
	Max    time.Duration  // 0 is 2 min
	Factor float64        // from one attempt to the next; 0 is 2
	Random func() float64 // of [0, 1); nil is math/rand/v2
}

// Wait is made for Options.Reconnect. It returns between half and all of Min times Factor to the power of attempt-1, at
// most Max, and never gives up.
func (b Backoff) Wait(attempt int, _ error) (time.Duration, bool) {
	setDefault(&b.Min, time.Second)
	setDefault(&b.Max, 2*time.Minute)
	setDefault(&b.Factor, 2)
	if b.Random == nil {
		b.Random = rand.Float64
	}
	wait := float64(b.Min)
	for range attempt - 1 {
		wait *= b.Factor
		if wait >= float64(b.Max) {
			break
		}
	}
	wait = min(wait, float64(b.Max))
	return time.Duration(wait/2 + wait/2*b.Random()), true
}
