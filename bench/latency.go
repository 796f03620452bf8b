// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"time"

	"github.com/noctule/noctule/internal/load"
)

const (
	// latencyMeasured is the least measured time of runs whose latencies count: the longest of a thousand have to be some.
	latencyMeasured = 5 * time.Second
	// part is the share of the highest rate at which latencies are taken, but partMost messages a second at most: one thread that sends and
	// receives them one by one comes that far on two cores that it shares with the broker.
	part     = 0.3
	partMost = 30_000
)

// limited are the peers of scenarios about what a broker does when it is told too much: mosquitto with the limit that it is shipped with.
var limited = []string{"noctule", "mosquitto-shipped"}

// load has messages sent, as one of several loads of a run, and adds what went wrong up.
func (s *stage) load(ctx context.Context, plan load.Plan, measured time.Duration) (run, error) {
	var one run
	if err := one.takeLoad(ctx, s.pr, plan, measured); err != nil {
		return one, err
	}
	if s.run.Outcome == nil {
		s.run.Outcome = &load.Outcome{}
	}
	all, o := s.run.Outcome, one.Outcome
	all.Lost += o.Lost
	all.Duplicated += o.Duplicated
	all.Reordered += o.Reordered
	all.Unsent += o.Unsent
	all.Stalls += o.Stalls
	return one, nil
}

// addTimes notes the latencies of a paced load, from when messages fell due, in microseconds. Late is what the generator itself added.
func (s *stage) addTimes(what string, o *load.Outcome) {
	s.addCompared(what+" p50 us", micros(o.Deliver.P50))
	s.addCompared(what+" p99 us", micros(o.Deliver.P99))
	s.addCompared(what+" p99.9 us", micros(o.Deliver.P999))
	s.add(what+" most us", micros(o.Deliver.Most))
	s.add(what+" p99 sent late us", micros(o.SentLate.P99))
}

// openLoop measures messages that fall due at a rate.
func openLoop(ctx context.Context, s *stage) error {
	one, err := s.load(ctx, s.plan, s.options.latency)
	if err != nil {
		return err
	}
	s.addCompared("CPU us/msg", one.CPUPerMsg)
	s.add("msg/s", one.MessageRate)
	s.addTimes("deliver", one.Outcome)
	return nil
}

// partLoad finds out the highest rate, and takes latencies at a part of it and at the rate of the plan, which all brokers get.
func partLoad(ctx context.Context, s *stage) error {
	full := s.plan
	full.Rate = 0
	most, err := s.load(ctx, full, s.options.measured)
	if err != nil {
		return err
	}
	s.addCompared("most msg/s", most.MessageRate)
	for _, level := range []struct {
		name string
		rate float64
	}{{"30 %", min(part*most.MessageRate, partMost)}, {"same rate", s.plan.Rate}} {
		plan := s.plan
		plan.Rate = level.rate
		one, err := s.load(ctx, plan, s.options.latency)
		if err != nil {
			return err
		}
		s.add(level.name+" msg/s", one.MessageRate)
		s.addCompared(level.name+" CPU us/msg", one.CPUPerMsg)
		s.addTimes(level.name, one.Outcome)
	}
	return nil
}

// slowConsumer measures what pairs notice of a stream beside them, and of one whose subscriber stops reading.
func slowConsumer(qos byte) func(context.Context, *stage) error {
	return func(ctx context.Context, s *stage) error {
		for _, beside := range []struct {
			name     string
			firehose *load.Firehose
		}{
			{"alone", nil},
			{"beside a deaf one", &load.Firehose{Rate: 1000, Payload: 16 << 10, QoS: qos, Deaf: true}},
			{"beside one that reads", &load.Firehose{Rate: 1000, Payload: 16 << 10, QoS: qos}},
		} {
			plan := s.plan
			plan.Firehose = beside.firehose
			if err := s.beside(ctx, beside.name, plan); err != nil {
				return err
			}
		}
		return nil
	}
}

// beside takes the latencies of one load, and how far memory grows meanwhile.
func (s *stage) beside(ctx context.Context, what string, plan load.Plan) error {
	before, _, err := s.pr.memory()
	if err != nil {
		return err
	}
	if err := s.pr.forgetPeak(); err != nil {
		return err
	}
	one, err := s.load(ctx, plan, s.options.latency)
	if err != nil {
		return err
	}
	_, peak, err := s.pr.memory()
	if err != nil {
		return err
	}
	s.addTimes(what, one.Outcome)
	s.addCompared(what+" RSS peak grows MiB", float64(peak-before)/(1<<20))
	if h := one.Outcome.Firehose; h != nil {
		s.add(what+" stream msg/s", float64(h.Sent)/(warmUp+one.Outcome.Elapsed).Seconds())
		cut := 0.0
		if h.Cut {
			cut = 1
		}
		s.add(what+" cut off", cut)
	}
	return nil
}
