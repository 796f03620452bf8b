// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// window is how many messages a sender has on their way at most.
const window = 16

// A sender is a client with a persistent session that publishes at a pace, with several messages on their way. T says which
// message one is.
type sender[T any] struct {
	client
	outbox outbox[T]
	pace   pace
	next   func() (q mqtt.QoS, item T, ok bool)           // makes a new message, or passes
	encode func(dst []byte, f flight[T], dup bool) []byte // appends the PUBLISH
	learn  func(item T, f fate)                           // is told of acknowledgements
	forget func()                                         // is told that what was on its way is given up
}

func (s *sender[T]) prepare(ctx context.Context) error {
	n, _, err := s.connect(ctx, false, nil)
	if err == nil {
		n.disconnect()
	}
	return err
}

func (s *sender[T]) live(ctx context.Context, l *life) {
	for first := true; ctx.Err() == nil; first = false {
		n, ack, err := s.connect(ctx, false, nil)
		if err != nil {
			return
		}
		if !first {
			s.ledger.disconnected()
		}
		done := s.work(n, ack, l)
		n.close()
		if done {
			return
		}
	}
}

// work resumes the session and publishes until the connection ends (false) or nothing is left to do (true).
func (s *sender[T]) work(n *conn, ack *mqtt.Connack, l *life) bool {
	if !ack.SessionPresent {
		s.ledger.abandon(len(s.outbox.abandon()))
		s.forget()
	}
	window := window
	if m, ok := ack.Properties.Uint16(mqtt.PropReceiveMaximum); ok {
		window = min(window, int(m))
	}
	n.write(s.outbox.resend(s.v, func(dst []byte, f flight[T]) []byte { return s.encode(dst, f, true) }))
	s.pace.last = s.now()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	heard := s.now()
	for {
		if l.phase != working && (len(s.outbox.flights) == 0 || s.now()-heard > s.quiet) {
			n.disconnect()
			return true
		}
		select {
		case packet, ok := <-n.in:
			if !ok {
				return false
			}
			heard = s.now()
			if a, is := packet.(*mqtt.Ack); is {
				n.write(s.take(a))
			}
		case <-ticker.C:
			if l.phase == working {
				n.write(s.more(window))
			}
		}
	}
}

// take enters an acknowledgement and returns the answer.
func (s *sender[T]) take(a *mqtt.Ack) []byte {
	item, f, answer := s.outbox.take(a, s.v)
	s.tell("<%v id=%d code=%v", a.Type, a.ID, a.Code)
	if f != 0 {
		s.learn(item, f)
	}
	if f&refused != 0 {
		s.ledger.refuse()
	}
	return answer
}

// more encodes as many new messages as pace and window allow.
func (s *sender[T]) more(window int) []byte {
	var b []byte
	for range s.pace.allow(s.now(), window) {
		if len(s.outbox.flights) >= window {
			return b
		}
		q, item, ok := s.next()
		switch {
		case !ok:
		case q == 0:
			b = s.encode(b, flight[T]{item: item}, false)
		default:
			s.outbox.add(q, item)
			b = s.encode(b, s.outbox.flights[len(s.outbox.flights)-1], false)
		}
	}
	return b
}
