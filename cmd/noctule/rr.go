// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

func init() { verbs = append(verbs, mosquittoRR) }

// mosquittoRR is noctule rr, and mosquitto_rr.
func mosquittoRR() *cobra.Command {
	return newClientCommand('r', "rr -t TOPIC -e RESPONSE-TOPIC {-m TEXT | -f FILE | -n | -s} [flags]",
		"Publish a request and print the response", runRR)
}

func runRR(_ *cobra.Command, f *clientFlags) int {
	ctx, cancel := untilSignal()
	defer cancel()
	payload, err := f.payload.read(f.in)
	if err != nil {
		f.warn("Error: %v", err)
		return exitError
	}
	o, err := f.options(false)
	if err != nil {
		return f.failed(err)
	}
	f.count = 1
	s := f.newSubscriber(ctx)
	c, err := s.dial(o)
	if err != nil {
		return f.failed(err)
	}
	defer f.leave(c)
	if f.timeout > 0 {
		timer := time.AfterFunc(f.timeout, func() { s.stop(exitTimeout) })
		defer timer.Stop()
	}
	go s.request(payload)
	select {
	case <-s.enough:
	case <-ctx.Done():
		s.stop(0)
	case <-c.Done():
		return f.failed(c.Err())
	}
	if s.code == exitTimeout {
		f.warn("Timed out")
	}
	return s.code
}

// request subscribes to the response topic and then publishes the request.
func (s *subscriber) request(payload []byte) {
	f := s.f
	sub := client.Subscription{Filter: f.response, QoS: f.qos, User: f.props.user["subscribe"], Identifier: f.props.identifier}
	if _, err := s.c.Subscribe(s.ctx, sub); err != nil {
		s.stop(s.lost(err))
		return
	}
	m := f.message(payload)
	if f.version == mqtt.V5 && !m.Properties.Has(mqtt.PropResponseTopic) {
		m.ResponseTopic = f.response
	}
	if err := s.c.Publish(s.ctx, m); err != nil {
		s.stop(s.lost(err))
	}
}
