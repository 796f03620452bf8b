// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"runtime"
	"time"
)

const (
	setupWithin = 120 * time.Second
	// stallAfter is how long nothing may arrive before what is under way counts as lost, unless the plan says so.
	stallAfter = 500 * time.Millisecond
	// drainAtMost is how long it may take to the end of what is under way, in those times.
	drainAtMost = 6
)

// Outcome is what a run has counted.
type Outcome struct {
	Delivered  uint64        // messages received within the measured time
	Elapsed    time.Duration // the measured time
	BrokerCPU  time.Duration // of the broker within it
	Setup      time.Duration // until all clients were connected and subscribed
	Sent       uint64        // messages of the whole run, warm-up included
	Lost       uint64        // deliveries of the whole run that never came
	Duplicated uint64
	Reordered  uint64
	Stalls     int // how often nothing came until messages under way were given up
	// AckHalf and AckMost are the time to the last acknowledgement of QoS 1 and 2 that half and 99 of 100 messages stayed below,
	// of those acknowledged within the measured time. Up to an iteration of the generator is in it.
	AckHalf, AckMost time.Duration

	// Of plans with a Rate.
	Unsent   uint64 // messages that were due and never sent
	Deliver  Times  // from falling due within the measured time to each delivery, whenever that was
	SentLate Times  // from falling due to sending, within the measured time: what the generator and full windows add

	Firehose *FirehoseOutcome // of plans with one
}

// FirehoseOutcome is what became of a Firehose.
type FirehoseOutcome struct {
	Sent, Received uint64 // messages
	Cut            bool   // the broker ended the connection of the subscriber
}

// Run puts a load on the broker at addr. cpu tells the broker's processor time so far.
func Run(ctx context.Context, addr string, p Plan, cpu func() (time.Duration, error)) (Outcome, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e, err := newEngine(addr, p.Wire)
	if err != nil {
		return Outcome{}, err
	}
	defer e.close()
	r := &run{engine: e, patience: p.Patience, stalled: p.Stalled}
	if r.patience <= 0 {
		r.patience = stallAfter
	}
	var clients []client
	r.flows, r.receivers, clients = p.build(&r.delivered)
	if p.Firehose != nil {
		var more []client
		r.firehose, r.sink, more = p.Firehose.build(len(r.flows), &p)
		clients = append(clients, more...)
	}
	begun := time.Now()
	if err := e.connect(ctx, clients, setupWithin); err != nil {
		return Outcome{}, err
	}
	r.outcome.Setup = time.Since(begun)
	if p.Subscribed != nil {
		if err := p.Subscribed(); err != nil {
			return Outcome{}, err
		}
	}
	r.start(&p)
	if len(r.paces) > 0 {
		defer hasten()()
	}
	if err := r.serve(ctx, p.WarmUp); err != nil {
		return Outcome{}, err
	}
	if err := r.measure(ctx, p.Measured, cpu); err != nil {
		return Outcome{}, err
	}
	if err := r.drain(ctx); err != nil {
		return Outcome{}, err
	}
	r.check()
	return r.outcome, nil
}

// run is a load under way.
type run struct {
	engine    *engine
	patience  time.Duration
	stalled   func()
	flows     []*flow
	receivers []*receiver
	delivered uint64
	paces     []*pace
	firehose  *flow // beside the others; nil if there is none
	sink      *sink
	outcome   Outcome
}

// start has messages fall due, or fills the windows.
func (r *run) start(p *Plan) {
	now := time.Now()
	if p.Rate > 0 {
		r.engine.exact = true
		r.paces = append(r.paces, newPace(r.flows, p.Rate, now))
	} else {
		for _, f := range r.flows {
			r.engine.touch(f)
		}
	}
	if p.Firehose != nil {
		r.paces = append(r.paces, newPace([]*flow{r.firehose}, p.Firehose.Rate, now))
	}
}

// step is one iteration, in which all is sent that is due by now.
func (r *run) step(ctx context.Context, now time.Time) error {
	wait := stepWait
	for _, p := range r.paces {
		if !r.engine.stopped {
			wait = min(wait, p.fall(now).Sub(now))
		}
		p.touch(r.engine)
	}
	if len(r.engine.touched) > 0 {
		wait = 0
	}
	return r.engine.stepWithin(ctx, wait)
}

// measure serves for d and takes the figures of that time.
func (r *run) measure(ctx context.Context, d time.Duration, cpu func() (time.Duration, error)) error {
	before, err := cpu()
	if err != nil {
		return err
	}
	begun, delivered := time.Now(), r.delivered
	r.engine.acks, r.engine.lates = latencies{}, latencies{}
	r.engine.delivers.from, r.engine.delivers.until = begun, begun.Add(d)
	if err := r.serve(ctx, d); err != nil {
		return err
	}
	for _, p := range r.paces {
		p.fall(r.engine.delivers.until) // what fell due while the last iteration waited is part of it
	}
	after, err := cpu()
	if err != nil {
		return err
	}
	r.outcome.Elapsed = time.Since(begun)
	r.outcome.BrokerCPU = after - before
	r.outcome.Delivered = r.delivered - delivered
	r.outcome.SentLate = r.engine.lates.times()
	r.outcome.AckHalf, r.outcome.AckMost = r.engine.acks.quantile(0.5), r.engine.acks.quantile(0.99)
	return nil
}

// serve keeps the windows full for d.
func (r *run) serve(ctx context.Context, d time.Duration) error {
	now := time.Now()
	end := now.Add(d)
	progress, last := now, r.delivered
	for now.Before(end) {
		if err := r.step(ctx, now); err != nil {
			return err
		}
		now = time.Now()
		if r.delivered != last {
			progress, last = now, r.delivered
		} else if now.Sub(progress) > r.patience {
			if progress = now; r.under() == 0 {
				continue // little falls due
			}
			if r.outcome.Stalls++; r.stalled != nil {
				r.stalled()
			}
			for _, f := range r.flows {
				f.forgive()
				r.engine.touch(f)
			}
		}
	}
	return nil
}

// drain sends nothing more and waits for what is under way.
func (r *run) drain(ctx context.Context) error {
	r.engine.stopped = true
	now := time.Now()
	end := now.Add(drainAtMost * r.patience)
	progress, last := now, r.delivered
	for now.Before(end) && now.Sub(progress) < r.patience && r.under() > 0 {
		if err := r.step(ctx, now); err != nil {
			return err
		}
		now = time.Now()
		if r.delivered != last {
			progress, last = now, r.delivered
		}
	}
	return nil
}

// under is how many messages are under way, or are still to be.
func (r *run) under() (n uint64) {
	for _, f := range r.flows {
		n += f.under() + f.forgiven + f.owed
	}
	return n
}

// check sums the books up.
func (r *run) check() {
	for _, f := range r.flows {
		r.outcome.Sent += f.sent
		r.outcome.Unsent += f.owed
	}
	r.outcome.Deliver = r.engine.delivers.times()
	if r.sink != nil {
		r.outcome.Firehose = &FirehoseOutcome{Sent: r.firehose.sent, Received: r.sink.received, Cut: r.sink.cut()}
	}
	for _, rc := range r.receivers {
		for i := range rc.tracks {
			t := &rc.tracks[i]
			r.outcome.Lost += t.Lost(r.flows[rc.first+i].sent)
			r.outcome.Duplicated += t.Duplicated
			if !rc.shared {
				r.outcome.Reordered += t.Reordered
			}
		}
	}
}
