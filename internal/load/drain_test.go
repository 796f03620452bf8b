// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"testing"
	"time"
)

// noCPU is the clock of a broker that costs nothing.
func noCPU() (time.Duration, error) { return 0, nil }

func TestDrainTakesWhatWasKeptForASession(t *testing.T) {
	addr := serve(t)
	if err := MakeSessions(t.Context(), addr, []Session{{"kept", []string{"a/+"}}}); err != nil {
		t.Fatal(err)
	}
	fill := Fill{Clients: 3, Names: []string{"a/0", "a/1", "b/0"}, Count: 100, Payload: 20, Window: 8, Within: time.Minute}
	filled, err := fill.Run(t.Context(), addr, noCPU)
	if err != nil || filled.Acked != fill.Count {
		t.Fatalf("filled with %+v: %v", filled, err)
	}
	if filled.AckHalf <= 0 || filled.AckMost < filled.AckHalf {
		t.Errorf("half of the acknowledgements within %v, 99 of 100 within %v", filled.AckHalf, filled.AckMost)
	}
	drain := Drain{ClientID: "kept", Count: 67, Flows: 3, Patience: time.Second, Within: time.Minute} // of 34, 33 and none
	for _, want := range []uint64{67, 0} {
		got, err := drain.Run(t.Context(), addr, noCPU)
		if err != nil {
			t.Fatal(err)
		}
		if got.Received != want || got.Lost != 67-want || got.Duplicated != 0 || got.Reordered != 0 {
			t.Errorf("drained %+v, want %d", got, want)
		}
		drain.Patience = 10 * time.Millisecond // nothing is left
	}
}

func TestDrainTakesRetainedMessages(t *testing.T) {
	addr := serve(t)
	fill := Fill{Clients: 1, Names: []string{"r/0", "r/1"}, Count: 2, Payload: 20, Window: 8, Retain: true, Within: time.Minute}
	if _, err := fill.Run(t.Context(), addr, noCPU); err != nil {
		t.Fatal(err)
	}
	drain := Drain{ClientID: "new", Clean: true, Filters: []string{"r/#"}, Count: 2, Patience: time.Second, Within: time.Minute}
	got, err := drain.Run(t.Context(), addr, noCPU)
	if err != nil || got.Received != 2 || got.Lost != 0 {
		t.Errorf("drained %+v: %v", got, err)
	}
}

func TestFillEndsInTime(t *testing.T) {
	fill := Fill{Clients: 1, Names: []string{"x"}, Count: 1 << 40, Payload: 20, Window: 1, Within: 10 * time.Millisecond}
	got, err := fill.Run(t.Context(), serve(t), noCPU)
	if err != nil || got.Acked == 0 || got.Acked == fill.Count {
		t.Errorf("filled with %+v: %v", got, err)
	}
}

func TestGreetWaitsForTheBroker(t *testing.T) {
	if err := Greet(t.Context(), serve(t)); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := Greet(ctx, "127.0.0.1:1"); err == nil {
		t.Error("nobody listens there, and it was granted a connection")
	}
}
