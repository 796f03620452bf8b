// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/transport/std"
)

// serve runs a broker for the time of the test and gives its address.
func serve(t *testing.T) string { return serveWith(t, std.ListenerOptions{}) }

// serveTLS is serve with TLS on the same address, and gives what its clients need to know.
func serveTLS(t *testing.T) (string, *tls.Config) {
	server, client := certified(t)
	return serveWith(t, std.ListenerOptions{TLS: server}), client
}

func serveWith(t *testing.T, o std.ListenerOptions) string {
	l, err := std.Listen(t.Context(), "tcp4", "127.0.0.1:0", std.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := std.New(std.Options{Loops: b.Loops(), NewCore: b.Core})
	served := make(chan error, 1)
	go func() { served <- server.Serve("test", l, o) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		b.Drain(context.Background())
		server.Close()
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestRunCountsWhatTheBrokerDelivers(t *testing.T) {
	addr, secure := serveTLS(t)
	for name, p := range map[string]Plan{
		"pairs of QoS 0": {Shape: Pairs, Clients: 3, Payload: 64, Window: 8},
		"pairs of QoS 1": {Shape: Pairs, Clients: 3, QoS: 1, Payload: 64, Window: 8},
		"pairs of QoS 2": {Shape: Pairs, Clients: 3, QoS: 2, Payload: 64, Window: 8},
		"WebSocket":      {Shape: Pairs, Clients: 3, QoS: 1, Payload: 200, Window: 8, Wire: Wire{WebSocket: true}},
		"TLS":            {Shape: Pairs, Clients: 3, QoS: 2, Payload: 64, Window: 8, Wire: Wire{TLS: secure}},
		"both":           {Shape: Pairs, Clients: 3, QoS: 1, Payload: 3000, Window: 8, Wire: Wire{WebSocket: true, TLS: secure}},
		"share":          {Shape: Share, Clients: 7, Members: 3, QoS: 1, Payload: 64, Window: 8},
		"fan-in":         {Shape: FanIn, Clients: 3, QoS: 1, Payload: stampSize, Window: 4},
		"fan-out":        {Shape: FanOut, Clients: 20, Payload: 64, Window: 4},
		"bursts":         {Shape: FanOut, Clients: 20, Payload: 64, Window: 4, Burst: true},
		"routes":         {Shape: Routes, Clients: 2, Payload: 64, Window: 4, Filters: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			p.WarmUp, p.Measured = 20*time.Millisecond, 60*time.Millisecond
			clock := time.Duration(0)
			o, err := Run(t.Context(), addr, p, func() (time.Duration, error) {
				clock += time.Second
				return clock, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if o.Delivered == 0 || o.Lost+o.Duplicated+o.Reordered != 0 || o.Stalls != 0 {
				t.Errorf("outcome %+v", o)
			}
			if o.BrokerCPU != time.Second || o.Elapsed < p.Measured {
				t.Errorf("took %v and %v of the broker", o.Elapsed, o.BrokerCPU)
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := Plan{Shape: Pairs, Clients: 1, Payload: 64, Window: 1, WarmUp: time.Millisecond, Measured: time.Hour}
	_, err := Run(ctx, serve(t), p, func() (time.Duration, error) {
		cancel() // the measured hour begins
		return 0, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run ends with %v, want %v", err, context.Canceled)
	}
}

func TestIdleConnects(t *testing.T) {
	addr, secure := serveTLS(t)
	for _, w := range []Wire{{}, {WebSocket: true}, {TLS: secure}, {WebSocket: true, TLS: secure}} {
		idle, err := NewIdle(addr, w)
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		for _, n := range []int{10, 150} {
			if err := idle.Grow(t.Context(), n, true); err != nil {
				t.Fatal(err)
			}
			if got := len(idle.engine.conns); got != n || idle.engine.waiting != 0 {
				t.Errorf("%d connections, %d of them not ready, want %d", got, idle.engine.waiting, n)
			}
		}
	}
}

func TestRoutesGiveEachTopicNameOneFilter(t *testing.T) {
	p := Plan{Shape: Routes, Clients: 4, Filters: 400}
	seen := make(map[string]bool)
	for i := range p.Clients {
		names, filters := p.topics(i)
		if len(names) != 100 || len(filters) != 100 {
			t.Fatalf("client %d has %d names and %d filters, want 100 each", i, len(names), len(filters))
		}
		for _, n := range names {
			if n == "" || seen[n] || len(n) != len(names[0]) {
				t.Errorf("client %d: topic name %q is empty, used before, or of another length", i, n)
			}
			seen[n] = true
		}
	}
}

func TestBurstWaitsForTheWholeWindow(t *testing.T) {
	p := Plan{Shape: Pairs, Clients: 1, Payload: 64, Window: 4, Burst: true}
	f := newFlow(0, &p, []string{"a"}, 1)
	f.conn = &conn{engine: &engine{}}
	for _, c := range []struct{ done, sent uint64 }{{0, 4}, {3, 4}, {4, 8}} {
		f.done = c.done
		f.refill()
		if f.sent != c.sent {
			t.Errorf("with %d done, %d are sent, want %d", c.done, f.sent, c.sent)
		}
	}
}

func TestFlowIsForgivenWhatWasLost(t *testing.T) {
	p := Plan{Shape: Pairs, Clients: 1, Payload: 64, Window: 4}
	f := newFlow(0, &p, []string{"a"}, 1)
	f.sent, f.done = 10, 7
	if f.under() != 3 {
		t.Errorf("%d messages under way, want 3", f.under())
	}
	f.forgive()
	if f.under() != 0 {
		t.Errorf("%d messages under way after they were given up", f.under())
	}
}
