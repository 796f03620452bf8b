// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/noctule/noctule/internal/load"
)

const (
	warmUp = 500 * time.Millisecond
	// settle is how long a broker is left alone before its idle memory is read.
	settle = time.Second
)

// Numbers of idle connections at which memory is read. Generator and broker each need a descriptor for every one of them.
var (
	idleSteps   = []int{5_000, 10_000}
	secureSteps = []int{2_000, 4_000} // with TLS, whose handshakes take their time
)

// scenario is one load that all brokers get.
type scenario struct {
	name   string
	about  string
	plan   load.Plan // of a scenario that sends messages
	idle   bool
	subs   bool // idle clients subscribe
	secure bool // over TLS

	// Of scenarios with figures of their own.
	steps func(context.Context, *stage) error
	peers []string // that it is for, unless the command line names others
}

// brokers are those that the scenario is for.
func (s *scenario) brokers() []string {
	if s.peers == nil {
		return []string{"noctule", reference, "mochi"}
	}
	return s.peers
}

// connections are the numbers of idle ones at which memory is read.
func (s *scenario) connections() []int {
	if s.secure {
		return secureSteps
	}
	return idleSteps
}

var (
	// relayed are the peers of scenarios in which each publisher has a subscriber of its own.
	relayed = []string{"noctule", reference, "mochi", nats, relay}
	// plainly are those of others that use nothing but topics.
	plainly = []string{"noctule", reference, "mochi", nats}
	// racing are those whose latencies are compared.
	racing = []string{"noctule", reference}
)

var scenarios = []scenario{
	{name: "p2p-q0", about: "50 pairs, QoS 0, 64 B, 64 under way each", plan: pairs(50, 0, 64, 64), peers: relayed},
	{name: "p2p-q1", about: "the same at QoS 1", plan: pairs(50, 1, 64, 64), peers: relayed},
	{name: "p2p-q2", about: "50 pairs, QoS 2, 64 B, 16 under way each (mosquitto 2.0.11 cuts clients off that have more than 20)", plan: pairs(50, 2, 64, 16), peers: relayed},
	{name: "p2p-q0-4k", about: "50 pairs, QoS 0, 4 KiB, 16 under way each", plan: pairs(50, 0, 4096, 16), peers: relayed},
	{name: "single-q0", about: "200 pairs, QoS 0, 64 B, one under way each", plan: pairs(200, 0, 64, 1), peers: relayed},
	{name: "single-q1", about: "the same at QoS 1", plan: pairs(200, 1, 64, 1), peers: relayed},
	{name: "tls-p2p-q0", about: "as p2p-q0 over TLS 1.3", plan: pairs(50, 0, 64, 64), secure: true},
	{name: "share-q1", about: "100 publishers to one shared subscription with 5 members, QoS 1, 64 B, 16 under way each",
		plan: load.Plan{Shape: load.Share, Clients: 100, Members: 5, QoS: 1, Payload: 64, Window: 16}},
	{name: "fanin-q1", about: "100 publishers to one subscriber, QoS 1, 64 B, 16 under way each", peers: plainly,
		plan: load.Plan{Shape: load.FanIn, Clients: 100, QoS: 1, Payload: 64, Window: 16}},
	{name: "fanout-1k", about: "one publisher to 1 000 subscribers, QoS 0, 64 B, in bursts of 16: the next when all have the last", peers: plainly,
		plan: load.Plan{Shape: load.FanOut, Clients: 1000, Payload: 64, Window: 16, Burst: true}},
	{name: "fanout-1k-w1", about: "the same with one message under way, so that nothing can be batched",
		plan: load.Plan{Shape: load.FanOut, Clients: 1000, Payload: 64, Window: 1}},
	{name: "fanout-5k", about: "one publisher to 5 000 subscribers, QoS 0, 64 B, in bursts of 16",
		plan: load.Plan{Shape: load.FanOut, Clients: 5000, Payload: 64, Window: 16, Burst: true}},
	{name: "route-1k", about: "as route-100k over 1 000 filters",
		plan: load.Plan{Shape: load.Routes, Clients: 50, Payload: 64, Window: 64, Filters: 1000}},
	{name: "route-100k", about: "50 pairs, QoS 0, 64 B, 64 under way each, over 100 000 filters, a quarter each exact, with +, with #, with a leading +; one match each",
		plan: load.Plan{Shape: load.Routes, Clients: 50, Payload: 64, Window: 64, Filters: 100_000}},
	{name: "route-400k", about: "the same over 400 000 filters", peers: []string{"noctule", reference},
		plan: load.Plan{Shape: load.Routes, Clients: 50, Payload: 64, Window: 64, Filters: 400_000}},
	{name: "route-1m", about: "the same over 1 000 000 filters, of 100 pairs; and what the filters cost", steps: manyFilters, peers: racing,
		plan: load.Plan{Shape: load.Routes, Clients: 100, Payload: 64, Window: 64, Filters: 1_000_000}},
	{name: "ws-p2p-q0", about: "as p2p-q0 over WebSocket, a frame for each message", plan: overWebSocket(pairs(50, 0, 64, 64))},
	{name: "idle", about: "clients that only connect", idle: true},
	{name: "idle-sub", about: "clients that connect and subscribe to a filter of their own", idle: true, subs: true},
	{name: "idle-ws", about: "clients that only connect, over WebSocket", idle: true, plan: overWebSocket(load.Plan{})},
	{name: "idle-tls", about: "clients that only connect, over TLS 1.3, each with a full handshake", idle: true, secure: true},

	{name: "open-q1", about: "10 000 messages a second that fall due whatever the broker does, from 200 pairs, QoS 1, 64 B",
		plan: paced(pairs(200, 1, 64, 64), 10_000), steps: openLoop}, // nats takes a fifth of it
	{name: "lat30-q0", about: "50 pairs, QoS 0, 64 B: as fast as it goes with 64 under way each; at 30 % of that rate, or 30 000 messages a second if that is less; and at 15 000 messages a second",
		plan: paced(pairs(50, 0, 64, 64), 15_000), steps: partLoad, peers: racing},
	{name: "lat30-q1", about: "the same at QoS 1, the last at 7 000 messages a second",
		plan: paced(pairs(50, 1, 64, 64), 7_000), steps: partLoad, peers: racing},
	{name: "slow-consumer", about: "50 pairs, QoS 1, 64 B, 5 000 messages a second: alone; beside a stream of 16 KiB at QoS 0, 1 000 a second, whose subscriber stops reading; " +
		"and beside one whose subscriber reads",
		plan: paced(pairs(50, 1, 64, 64), 5_000), steps: slowConsumer(0), peers: limited},
	{name: "slow-consumer-q1", about: "the same with the stream at QoS 1",
		plan: paced(pairs(50, 1, 64, 64), 5_000), steps: slowConsumer(1), peers: limited},
	{name: "retained-hash", about: "retained messages of 64 B, from 50 publishers at QoS 1; then clients that subscribe to #, one after the other, 5 at QoS 0 and 5 at QoS 1",
		steps: retainedHash, peers: []string{"noctule", reference, "mochi"}},
	{name: "retained-memory", about: "1 000 000 retained messages of 64 B, or as many as -messages says if that is more, and what they take",
		steps: retainedMemory, peers: racing},

	{name: "durable-q1", about: "50 pairs, QoS 1, 256 B, 64 under way each, subscribers with persistent sessions that are online",
		plan: durable(pairs(50, 1, 256, 64)), steps: durablePairs, peers: strongest},
	{name: "durable-fan-1k", about: "messages of 256 B at QoS 1, 16 under way, to 1 000 persistent sessions that are offline, all with one filter",
		steps: durableFan, peers: strongest},
	{name: "durable-fan-1k-distinct", about: "the same, each session with a filter of its own",
		steps: durableFanDistinct, peers: strongest},
	{name: "drain", about: "messages of 100 B at QoS 1, 64 under way from each of 10 publishers, to one persistent session that is offline; then it " +
		"connects and takes them; then it is online for the messages of the same publishers", plan: durable(online), steps: drain, peers: keepers},
	{name: "retained", about: "retained messages of 100 B, from 50 publishers at QoS 1; the broker is stopped and started; a client subscribes to #, others to narrow filters",
		steps: retained, peers: keepers},
	{name: "restart", about: "persistent sessions that are offline, each with a filter of its own, with 10 messages of 100 B on average; the broker is killed and started",
		steps: restart, peers: keepers},
}

func pairs(n int, qos byte, payload, window int) load.Plan {
	return load.Plan{Shape: load.Pairs, Clients: n, QoS: qos, Payload: payload, Window: window}
}

// paced lets rate messages a second fall due, of all publishers.
func paced(p load.Plan, rate float64) load.Plan {
	p.Rate = rate
	return p
}

func overWebSocket(p load.Plan) load.Plan {
	p.WebSocket = true
	return p
}

// run is one broker's turn at one scenario.
type run struct {
	Scenario string
	Peer     string
	Round    int
	Err      string `json:",omitempty"`
	RSSPeak  int64  // bytes

	// Of scenarios that send messages.
	Outcome     *load.Outcome `json:",omitempty"`
	CPUPerMsg   float64       `json:",omitempty"` // microseconds of the broker for each delivered message
	GenPerMsg   float64       `json:",omitempty"` // the same of the generator
	MessageRate float64       `json:",omitempty"` // delivered messages per second

	// Of idle scenarios.
	Idle []idleStep `json:",omitempty"`

	// Of scenarios with figures of their own.
	Figures []figure `json:",omitempty"`

	looks [2]time.Time // at the broker's clock: begin and end of the measured time
}

// idleStep is what idle connections cost, counted from none.
type idleStep struct {
	Connections   int
	BytesPerConn  float64
	CPUPerConnect float64 // microseconds
}

// measure gives a broker its turn, in a process of its own.
func (s *scenario) measure(ctx context.Context, p *peer, l launch, o *options) (r run, err error) {
	pr, err := start(ctx, p, l)
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(pr.dir)
	plan := s.plan
	if s.secure {
		plan.TLS = l.secure.client
	}
	if l.said != "" {
		plan.Stalled = sync.OnceFunc(pr.examine)
	}
	if s.steps != nil {
		defer pr.stop()
		return r, s.steps(ctx, &stage{pr: pr, run: &r, plan: plan, options: o})
	}
	clients, err := load.NewIdle(pr.addr, plan.Wire)
	if err != nil {
		pr.stop()
		return r, err
	}
	defer clients.Close() // after the end of the broker, so that its heap profile shows them
	defer pr.stop()
	if s.idle {
		err = r.takeIdle(ctx, pr, clients, s)
	} else {
		err = r.takeLoad(ctx, pr, plan, o.measured)
	}
	if err != nil {
		return r, err
	}
	_, r.RSSPeak, err = pr.memory()
	return r, err
}

// takeLoad has messages sent.
func (r *run) takeLoad(ctx context.Context, pr *process, plan load.Plan, measured time.Duration) error {
	plan.WarmUp, plan.Measured = warmUp, measured
	var own [2]time.Duration // of the generator, at the two looks at the broker's clock
	looks := 0
	o, err := load.Run(ctx, pr.addr, plan, func() (time.Duration, error) {
		own[looks%2], r.looks[looks%2] = ownCPU(), time.Now()
		looks++
		return pr.cpu()
	})
	if err != nil {
		return err
	}
	r.Outcome = &o
	if o.Delivered > 0 {
		r.CPUPerMsg = micros(o.BrokerCPU) / float64(o.Delivered)
		r.GenPerMsg = micros(own[1]-own[0]) / float64(o.Delivered)
	}
	r.MessageRate = float64(o.Delivered) / o.Elapsed.Seconds()
	return nil
}

// takeIdle has clients connect and do nothing.
func (r *run) takeIdle(ctx context.Context, pr *process, clients *load.Idle, s *scenario) error {
	time.Sleep(settle)
	base, _, err := pr.memory()
	if err != nil {
		return err
	}
	before, err := pr.cpu()
	if err != nil {
		return err
	}
	for _, n := range s.connections() {
		if err := clients.Grow(ctx, n, s.subs); err != nil {
			return err
		}
		after, err := pr.cpu()
		if err != nil {
			return err
		}
		time.Sleep(settle)
		now, _, err := pr.memory()
		if err != nil {
			return err
		}
		r.Idle = append(r.Idle, idleStep{
			Connections:   n,
			BytesPerConn:  float64(now-base) / float64(n),
			CPUPerConnect: micros(after-before) / float64(n),
		})
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
