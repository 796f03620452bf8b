// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/mqtt"
)

// A client that does not read costs memory, and no processor time: its loop waits for the socket, though more is waiting for the client than
// fits into its window.
func TestLoopRestsWhileAClientDoesNotRead(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 1})
	s, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("s"), Properties: mqtt.AppendPropUint16(expiry(3600), mqtt.PropReceiveMaximum, 20)})
	s.Subscribe(1, 1, "a")
	s.Conn.(*memnet.Conn).Freeze(true)
	p := clean(t, b, mqtt.V5, "p")
	const messages = 60
	for i := range uint16(messages) {
		p.Publish(publish("a", strings.Repeat("x", 10_000), 1, i+1))
	}
	time.Sleep(quiet)
	before := b.Loops().Loop(0).Stats().Iterations
	time.Sleep(quiet)
	if n := b.Loops().Loop(0).Stats().Iterations - before; n > 1000 {
		t.Errorf("%d iterations while nothing happens", n)
	}
	s.Conn.(*memnet.Conn).Freeze(false)
	if got := all(s, 500*time.Millisecond, true); len(got) != messages {
		t.Errorf("got %d messages, want %d", len(got), messages)
	}
}

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
