// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pacedFlows are n flows whose messages of all fall due every millisecond.
func pacedFlows(n, window int, begun time.Time) (*engine, *pace) {
	e := &engine{now: begun}
	plan := Plan{Shape: Pairs, Clients: n, Payload: 64, Window: window}
	var flows []*flow
	for i := range n {
		f := newFlow(i, &plan, []string{"a"}, 1)
		f.conn = &conn{engine: e}
		flows = append(flows, f)
	}
	return e, newPace(flows, 1000, begun)
}

func TestMessagesFallDueInTurn(t *testing.T) {
	begun := time.Unix(1000, 0)
	_, p := pacedFlows(3, 4, begun)
	for _, c := range []struct {
		after time.Duration
		owed  [3]uint64
		next  time.Duration
	}{
		{0, [3]uint64{1, 0, 0}, time.Millisecond},
		{2500 * time.Microsecond, [3]uint64{1, 1, 1}, 3 * time.Millisecond},
		{2600 * time.Microsecond, [3]uint64{1, 1, 1}, 3 * time.Millisecond},
		{time.Second, [3]uint64{334, 334, 333}, 1001 * time.Millisecond},
	} {
		next := p.fall(begun.Add(c.after))
		if got := [3]uint64{p.flows[0].owed, p.flows[1].owed, p.flows[2].owed}; got != c.owed || next.Sub(begun) != c.next {
			t.Errorf("after %v the flows are owed %v, the next one is due at %v; want %v and %v", c.after, got, next.Sub(begun), c.owed, c.next)
		}
	}
	if got := p.flows[1].dueAt(2).Sub(begun); got != 7*time.Millisecond { // 1 + 2 * 3
		t.Errorf("message 2 of flow 1 was due at %v", got)
	}
}

// A broker that stands still for a while is charged for every message that fell due meanwhile, though the window let only some be sent.
func TestStandstillCountsForAllThatFellDue(t *testing.T) {
	begun := time.Unix(1000, 0)
	e, p := pacedFlows(1, 4, begun)
	f := p.flows[0]
	delivered := uint64(0)
	r := &receiver{flows: p.flows, tracks: make([]Tracker, 1), delivered: &delivered}
	e.delivers.from, e.delivers.until = begun, begun.Add(time.Second)
	payload := make([]byte, stampSize)
	deliver := func(seq uint64, at time.Time) {
		payload[11] = byte(seq)
		e.now = at
		if err := r.take(payload); err != nil {
			t.Fatal(err)
		}
	}
	awake := begun.Add(100 * time.Millisecond)
	p.fall(awake) // 101 messages, of which nothing came back
	e.now = awake
	f.refill()
	if f.sent != 4 || f.owed != 97 {
		t.Fatalf("%d messages sent, %d owed", f.sent, f.owed)
	}
	p.touch(e)
	if len(e.touched) > 0 {
		t.Error("a flow with a full window is touched")
	}
	for seq := range uint64(101) {
		deliver(seq, awake) // all at once, now
		f.refill()
	}
	if got := e.delivers.times(); got.Count != 101 || got.Most != 100*time.Millisecond || got.P50 < 49*time.Millisecond || got.P50 > 52*time.Millisecond {
		t.Errorf("latencies are %+v", got)
	}
	if got := e.lates.times(); got.Count != 101 || got.Most != 100*time.Millisecond {
		t.Errorf("messages were late by %+v", got)
	}
	e.delivers.until = begun.Add(101 * time.Millisecond)
	p.fall(awake.Add(time.Millisecond))
	f.refill()
	deliver(101, awake.Add(time.Hour)) // due at the end of the measured time
	if got := e.delivers.times(); got.Count != 101 {
		t.Errorf("%d latencies after one that is out of the measured time", got.Count)
	}
}

func TestPacedRun(t *testing.T) {
	addr, secure := serveTLS(t)
	for name, p := range map[string]Plan{
		"pairs":    {Shape: Pairs, Clients: 5, QoS: 1, Payload: 64, Window: 16, Rate: 1000},
		"QoS 0":    {Shape: Pairs, Clients: 5, Payload: 64, Window: 16, Rate: 1000, Wire: Wire{TLS: secure}},
		"firehose": {Shape: Pairs, Clients: 5, QoS: 1, Payload: 64, Window: 16, Rate: 1000, Firehose: &Firehose{Rate: 500, Payload: 10_000}},
		"deaf":     {Shape: Pairs, Clients: 5, QoS: 1, Payload: 64, Window: 16, Rate: 1000, Firehose: &Firehose{Rate: 500, Payload: 10_000, Deaf: true}},
		"deaf, q1": {Shape: Pairs, Clients: 5, QoS: 1, Payload: 64, Window: 16, Rate: 1000, Firehose: &Firehose{Rate: 500, Payload: 10_000, QoS: 1, Deaf: true}},
	} {
		t.Run(name, func(t *testing.T) {
			subscribed := 0
			p.WarmUp, p.Measured, p.Patience = 100*time.Millisecond, 400*time.Millisecond, 5*time.Second
			p.Subscribed = func() error {
				subscribed++
				return nil
			}
			o, err := Run(t.Context(), addr, p, noCPU)
			if err != nil {
				t.Fatal(err)
			}
			if o.Lost+o.Duplicated+o.Reordered+o.Unsent != 0 || o.Stalls != 0 || subscribed != 1 {
				t.Errorf("outcome %+v", o)
			}
			if n := o.Deliver.Count; n < 399 || n > 401 || o.Deliver.P50 <= 0 || o.Deliver.P999 < o.Deliver.P50 || o.Deliver.Most < o.SentLate.P50 {
				t.Errorf("latencies %+v, sent late %+v", o.Deliver, o.SentLate)
			}
			switch h := o.Firehose; {
			case (p.Firehose != nil) != (h != nil):
				t.Errorf("firehose %+v", h)
			case h != nil && (h.Sent == 0 || p.Firehose.Deaf != (h.Received == 0)):
				t.Errorf("firehose %+v", h)
			}
		})
	}
}

func TestHasteIsUndone(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	slack := func() int {
		n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		if err != nil {
			t.Skip(err)
		}
		return n
	}
	before := slack()
	undo := hasten()
	if got := slack(); got != 1 {
		t.Errorf("timers may be %d ns late", got)
	}
	undo()
	if got := slack(); got != before {
		t.Errorf("afterwards timers may be %d ns late, before that %d", got, before)
	}
}
