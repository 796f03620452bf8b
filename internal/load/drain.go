// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"
)

// Drain has one client connect and take messages that the broker has kept: those of its session, or retained ones.
type Drain struct {
	ClientID string
	Filters  []string      // it subscribes to, at QoS 1; none: its session has what it needs
	Clean    bool          // it begins with no session
	QoS0     bool          // it subscribes at QoS 0 instead of 1
	Count    uint64        // messages that are expected; it ends with the last
	Flows    int           // publishers that they come from, each in order; 0: in no order, and repetitions stay unnoticed
	Patience time.Duration // how long nothing may arrive before the rest counts as lost
	Within   time.Duration // it ends early then
}

// Drained is what a Drain has counted.
type Drained struct {
	Received, Lost, Duplicated, Reordered uint64
	Connected                             time.Duration // from opening the connection until it was granted, and subscriptions too if there are any
	First, Last                           time.Duration // until the first and the last message came, from the same moment
	BrokerCPU                             time.Duration
}

// Rate is messages per second from the first to the last one.
func (d *Drained) Rate() float64 {
	if d.Last <= d.First {
		return 0
	}
	return float64(d.Received-1) / (d.Last - d.First).Seconds()
}

// Run connects and takes the messages. cpu tells the broker's processor time so far.
func (d *Drain) Run(ctx context.Context, addr string, cpu func() (time.Duration, error)) (Drained, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e, err := newEngine(addr, Wire{})
	if err != nil {
		return Drained{}, err
	}
	defer e.close()
	before, err := cpu()
	if err != nil {
		return Drained{}, err
	}
	r := &drainer{tracks: make([]Tracker, d.Flows)}
	begun := time.Now()
	c := client{id: d.ClientID, filters: d.Filters, qos: 1, role: r, persistent: !d.Clean}
	if d.QoS0 {
		c.qos = 0
	}
	if err := e.connect(ctx, []client{c}, setupWithin); err != nil {
		return Drained{}, err
	}
	out := Drained{Connected: time.Since(begun)}
	r.last = time.Now()
	for r.received < d.Count && time.Since(r.last) < d.Patience && time.Since(begun) < d.Within {
		if err := e.step(ctx); err != nil {
			return Drained{}, err
		}
	}
	after, err := cpu()
	if err != nil {
		return Drained{}, err
	}
	out.Received, out.BrokerCPU = r.received, after-before
	if r.received > 0 {
		out.First, out.Last = r.first.Sub(begun), r.last.Sub(begun)
	}
	for i := range r.tracks {
		out.Duplicated += r.tracks[i].Duplicated
		out.Reordered += r.tracks[i].Reordered
	}
	if unique := r.received - out.Duplicated; unique < d.Count {
		out.Lost = d.Count - unique
	}
	return out, e.leave(ctx, setupWithin)
}

// drainer is the role of a client that takes what was kept.
type drainer struct {
	tracks      []Tracker
	received    uint64
	first, last time.Time
}

// connected implements role.
func (*drainer) connected(*conn) {}

// receive implements role.
func (r *drainer) receive(c *conn, p packet) error {
	if p.kind() != typePublish {
		return fmt.Errorf("load: a subscriber got a packet of type %d", p.kind())
	}
	id, payload, err := p.publication()
	if err != nil {
		return err
	}
	if p.qos() == 1 {
		c.acknowledge(typePuback<<4, id)
	}
	if len(payload) < stampSize {
		return errTruncated
	}
	if err := r.track(int(binary.BigEndian.Uint32(payload)), binary.BigEndian.Uint64(payload[4:])); err != nil {
		return err
	}
	if r.received == 0 {
		r.first = c.engine.now
	}
	r.received++
	r.last = c.engine.now
	return nil
}

// track enters a message into the books of its flow, if there are any.
func (r *drainer) track(number int, seq uint64) error {
	if len(r.tracks) == 0 {
		return nil
	}
	if number >= len(r.tracks) {
		return fmt.Errorf("load: a message of flow %d, and there are %d", number, len(r.tracks))
	}
	r.tracks[number].See(seq)
	return nil
}
