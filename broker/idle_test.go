// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/mqtt"
)

// Clients that are cut off at the end of Drain's time have time of their own to end, however long that was.
func TestDrainWaitsForThoseItCutOff(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			b := brokertest.New(t, broker.Options{Loops: 1})
			s := clean(t, b, mqtt.V5, "s")
			s.Subscribe(1, 1, "a")
			clean(t, b, mqtt.V5, "p").Publish(publish("a", "x", 1, 1)) // s never acknowledges it
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := b.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want that clients were cut off", err)
			}
		})
	}
}
