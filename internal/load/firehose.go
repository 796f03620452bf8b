// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// firehoseWindow is how many messages above QoS 0 a firehose has under way.
	firehoseWindow = 64
	// deafBuffer is the receive buffer of a client that does not read, in bytes: what the kernel takes for it is the same for all brokers, and little.
	deafBuffer = 64 << 10
)

// Firehose is a stream beside a plan's own: one publisher and one subscriber. No figure of an Outcome counts it, but Firehose.
type Firehose struct {
	Rate    float64 // messages a second; a publisher that the broker holds back sends fewer
	Payload int     // bytes, at least 12
	QoS     byte
	Deaf    bool // the subscriber stops reading as soon as it is subscribed
}

// build makes the flow and the clients. The subscriber comes first.
func (h *Firehose) build(number int, p *Plan) (*flow, *sink, []client) {
	plan := Plan{QoS: h.QoS, Payload: h.Payload, Window: firehoseWindow, Wire: p.Wire}
	f := newFlow(number, &plan, []string{"firehose"}, 0)
	s := &sink{deaf: h.Deaf}
	return f, s, []client{
		{id: "firesub", filters: f.topics, qos: h.QoS, role: s},
		{id: "firepub", role: f},
	}
}

// sink is the subscriber of a firehose.
type sink struct {
	deaf     bool
	conn     *conn
	up       bool
	received uint64
	ended    bool // the connection has
}

// connected implements role.
func (s *sink) connected(c *conn) {
	s.conn = c
	if s.deaf {
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, deafBuffer) // without it the kernel only takes more
	}
}

// ready implements steered.
func (s *sink) ready(c *conn) {
	s.up = true
	if s.deaf {
		unix.EpollCtl(c.engine.epoll, unix.EPOLL_CTL_DEL, c.fd, nil) // it is in the set
	}
}

// writable implements steered.
func (*sink) writable(*conn) {}

// lost implements steered: a broker may end the connection of a client that does not read, but not of one that does.
func (s *sink) lost(_ *conn, err error) error {
	if !s.deaf || !s.up {
		return err
	}
	s.ended = true
	return nil
}

// cut tells whether the broker has ended the connection. Nobody looks at one that is not read until it is asked for.
func (s *sink) cut() bool {
	if s.ended || s.conn.closed {
		return true
	}
	set := [1]unix.PollFd{{Fd: int32(s.conn.fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(set[:], 0)
	return err == nil && n > 0
}

// receive implements role.
func (s *sink) receive(c *conn, p packet) error {
	switch p.kind() {
	case typePublish:
		id, _, err := p.publication()
		if err != nil {
			return err
		}
		s.received++
		switch p.qos() {
		case 1:
			c.acknowledge(typePuback<<4, id)
		case 2:
			c.acknowledge(typePubrec<<4, id)
		}
		return nil
	case typePubrel:
		id, err := p.id()
		if err != nil {
			return err
		}
		c.acknowledge(typePubcomp<<4, id)
		return nil
	}
	return fmt.Errorf("load: a subscriber got a packet of type %d", p.kind())
}
