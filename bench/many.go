// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/noctule/noctule/internal/load"
)

const (
	hashPayload = 64 // bytes of a retained message
	hashClients = 5  // that subscribe to # at each QoS
)

// manyFilters measures filters: what it takes to subscribe, how much memory they need (of the subscriptions of connected clients, all told),
// and messages that are routed among them.
func manyFilters(ctx context.Context, s *stage) error {
	empty, err := s.settled(ctx)
	if err != nil {
		return err
	}
	before, err := s.pr.cpu()
	if err != nil {
		return err
	}
	begun, filters := time.Now(), float64(s.plan.Filters)
	plan := s.plan
	plan.Subscribed = func() error {
		took := time.Since(begun)
		after, err := s.pr.cpu()
		if err != nil {
			return err
		}
		s.addCompared("filters/s", filters/took.Seconds())
		s.addCompared("CPU us/filter", micros(after-before)/filters)
		now, err := s.settled(ctx)
		s.addCompared("RSS B/filter", float64(now-empty)/filters)
		return err
	}
	one, err := s.load(ctx, plan, s.options.measured)
	if err != nil {
		return err
	}
	s.addCompared("CPU us/msg", one.CPUPerMsg)
	s.addCompared("msg/s", one.MessageRate)
	return nil
}

// keep has messages retained, and notes what that takes.
func (s *stage) keep(ctx context.Context, n uint64) (load.Filled, error) {
	fill := load.Fill{Clients: fillers, Count: n, Payload: hashPayload, Window: keptWindow, Retain: true, Within: s.options.within}
	for i := range n {
		fill.Names = append(fill.Names, fmt.Sprintf("site/%06d/device/%02d", i/groupSize, i%groupSize))
	}
	filled, err := fill.Run(ctx, s.pr.addr, s.pr.cpu)
	if err != nil {
		return filled, err
	}
	s.add("messages", float64(filled.Acked))
	s.addCompared("retain msg/s", float64(filled.Acked)/filled.Elapsed.Seconds())
	s.addCompared("retain CPU us/msg", micros(filled.BrokerCPU)/float64(max(filled.Acked, 1)))
	return filled, nil
}

// retainedHash measures retained messages that go to clients who ask for all of them.
func retainedHash(ctx context.Context, s *stage) error {
	filled, err := s.keep(ctx, s.options.messages)
	if err != nil {
		return err
	}
	for qos := range 2 {
		var received, lost uint64
		var cpu, took time.Duration
		for i := range hashClients {
			d := load.Drain{
				ClientID: fmt.Sprintf("hash-%d-%d", qos, i), Clean: true, QoS0: qos == 0, Filters: []string{"#"},
				Count: filled.Acked, Patience: patience, Within: s.options.within,
			}
			all, err := d.Run(ctx, s.pr.addr, s.pr.cpu)
			if err != nil {
				return err
			}
			received += all.Received
			lost += all.Lost
			cpu += all.BrokerCPU
			took += all.Last
		}
		what := fmt.Sprintf("QoS %d ", qos)
		if received > 0 {
			s.addCompared(what+"CPU us/msg", micros(cpu)/float64(received))
			s.addCompared(what+"msg/s", float64(received)/took.Seconds())
		}
		s.add(what+"lost", float64(lost))
	}
	return nil
}

// retainedMemory measures how much memory and disk many retained messages take.
func retainedMemory(ctx context.Context, s *stage) error {
	empty, err := s.settled(ctx)
	if err != nil {
		return err
	}
	filled, err := s.keep(ctx, s.options.retained)
	if err != nil {
		return err
	}
	now, err := s.settled(ctx)
	if err != nil {
		return err
	}
	n := float64(max(filled.Acked, 1))
	s.addCompared("RSS B/msg", float64(now-empty)/n)
	size, err := bytesOf(s.pr.dir)
	if err != nil {
		return err
	}
	s.add("files B/msg", float64(size)/n)
	return nil
}
