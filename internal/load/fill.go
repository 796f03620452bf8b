// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"runtime"
	"time"
)

// fillOverdue is how long the acknowledgements of what is under way may take when a Fill is cut short.
const fillOverdue = 10 * time.Second

// Fill publishes a number of messages at QoS 1 that no client is there for: sessions that are offline get them, or they are retained.
type Fill struct {
	Clients int      // publishers
	Names   []string // of topics, those of one publisher of one length: message k goes to name k, and then over again
	Count   uint64   // messages in all
	Payload int      // bytes, at least 12
	Window  int      // messages under way for each publisher
	Retain  bool
	Within  time.Duration // it ends early then
}

// Filled is what a Fill has counted.
type Filled struct {
	Acked            uint64 // messages that the broker has acknowledged
	Elapsed          time.Duration
	BrokerCPU        time.Duration
	AckHalf, AckMost time.Duration // as those of Outcome
}

// Run publishes. cpu tells the broker's processor time so far.
func (f *Fill) Run(ctx context.Context, addr string, cpu func() (time.Duration, error)) (Filled, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e, err := newEngine(addr, Wire{})
	if err != nil {
		return Filled{}, err
	}
	defer e.close()
	flows, clients := f.build()
	if err := e.connect(ctx, clients, setupWithin); err != nil {
		return Filled{}, err
	}
	before, err := cpu()
	if err != nil {
		return Filled{}, err
	}
	begun := time.Now()
	for _, fl := range flows {
		e.touch(fl)
	}
	done := false
	for !done && time.Since(begun) < f.Within+fillOverdue {
		e.stopped = time.Since(begun) > f.Within
		if err := e.step(ctx); err != nil {
			return Filled{}, err
		}
		done = true
		for _, fl := range flows {
			done = done && fl.under() == 0 && (e.stopped || fl.sent == fl.most)
		}
	}
	out := Filled{Elapsed: time.Since(begun), AckHalf: e.acks.quantile(0.5), AckMost: e.acks.quantile(0.99)}
	after, err := cpu()
	if err != nil {
		return Filled{}, err
	}
	out.BrokerCPU = after - before
	for _, fl := range flows {
		out.Acked += fl.acked
	}
	return out, e.leave(ctx, setupWithin)
}

// build makes the flows and their clients. Publisher i sends messages i, i+Clients and so on.
func (f *Fill) build() (flows []*flow, clients []client) {
	p := Plan{QoS: 1, Payload: f.Payload, Window: f.Window}
	n := uint64(f.Clients)
	for i := range n {
		var names []string
		for k := i; k < uint64(len(f.Names)); k += n {
			names = append(names, f.Names[k])
		}
		fl := newFlow(int(i), &p, names, 0)
		fl.most = (f.Count + n - 1 - i) / n
		if f.Retain {
			fl.packet[0] |= retainFlag
		}
		flows = append(flows, fl)
		clients = append(clients, client{id: publisherID(int(i)), role: fl})
	}
	return flows, clients
}
