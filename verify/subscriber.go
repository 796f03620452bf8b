// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// habit is when a subscriber is online, and how it answers.
type habit byte

const (
	online    habit = iota // always there
	sometimes              // there in every third life of the broker
	late                   // there only at the end of the run
	flapping               // comes, reads some, cuts the connection or has the next one take over, with the last ones unanswered
	slow                   // always there; answers after a while, so that kills come between the steps of QoS 2
)

// slowAnswer is the longest that a slow subscriber waits with an answer.
const slowAnswer = 30 * time.Millisecond

// A subscriber is a client with a persistent session, or one member of a shared subscription.
type subscriber struct {
	recipient
	rng      *rand.Rand
	habit    habit
	subs     []mqtt.Subscription
	receiver *receiver // shared by the members of a group
}

// prepare makes the subscriptions.
func (s *subscriber) prepare(ctx context.Context) error {
	n, _, err := s.join(ctx, false)
	if err != nil {
		return err
	}
	defer n.disconnect()
	return errGrant(s.subs, s.subscribe(n, s.subs...))
}

func (s *subscriber) live(ctx context.Context, l *life) {
	if l.phase == working && (s.habit == late || s.habit == sometimes && l.number%3 != 0) {
		return
	}
	var before *conn // that the next one takes over
	leave := func() {
		if before != nil {
			before.close()
			before = nil
		}
	}
	defer leave()
	for cut := true; ctx.Err() == nil; {
		n, ack, err := s.join(ctx, false)
		if err != nil {
			return
		}
		leave()
		if !cut {
			s.ledger.disconnected()
		}
		if !ack.SessionPresent {
			if err := errGrant(s.subs, s.subscribe(n, s.subs...)); err != nil {
				s.tell("the subscription is not made again: %v", err)
			}
		}
		if cut = s.habit == flapping && l.phase == working; cut {
			s.some(n)
			before = n
			if s.rng.IntN(3) > 0 {
				leave()
				s.tell("CUT")
			}
			sleep(ctx, time.Duration(s.rng.Int64N(int64(200*time.Millisecond))))
			continue
		}
		done := s.stay(n, l)
		n.close()
		if done {
			return
		}
	}
}

// some reads a few messages, answers all but the last ones, and leaves without a word.
func (s *subscriber) some(n *conn) {
	reads, silent := 1+s.rng.IntN(300), s.rng.IntN(8)
	s.await(n, time.Duration(100+s.rng.IntN(900))*time.Millisecond, func(any) bool {
		reads--
		return reads <= silent
	})
	deadline := time.NewTimer(50 * time.Millisecond)
	defer deadline.Stop()
	for range silent {
		select {
		case p, ok := <-n.in:
			if !ok {
				return
			}
			s.take(p)
		case <-deadline.C:
			return
		}
	}
}

// stay reads until the connection ends (false) or there is nothing left to wait for (true).
func (s *subscriber) stay(n *conn, l *life) bool {
	answer := func(b []byte) { n.write(b) }
	if s.habit == slow && l.phase == working {
		d := newDelay(n, s.rng)
		defer close(d.queue)
		answer = d.write
	}
	check := time.NewTicker(100 * time.Millisecond)
	defer check.Stop()
	end := ending{joined: s.now()}
	for {
		select {
		case p, ok := <-n.in:
			if !ok {
				return false
			}
			answer(s.take(p))
		case <-check.C:
			if s.over(l, &end) {
				n.disconnect()
				return true
			}
		}
	}
}

// ending is what a subscriber knows of the end of its part.
type ending struct {
	joined, published, complete time.Duration
}

// over says whether a subscriber may leave: at the end, when all has come, or nothing came for so long that it is lost.
func (s *subscriber) over(l *life, e *ending) bool {
	switch l.phase {
	case working:
		return false
	case resting:
		return s.now()-e.joined > rest
	}
	if e.published == 0 {
		select {
		case <-l.published:
			e.published = s.now()
		default:
			return false
		}
	}
	missing, moved := s.ledger.missing(s.receiver)
	if missing == 0 && len(s.inbox) == 0 {
		if e.complete == 0 {
			e.complete = s.now()
		}
		return s.now()-e.complete > 500*time.Millisecond
	}
	e.complete = 0
	return s.now()-max(moved, e.published, e.joined) > s.quiet
}

// A delay writes answers after a while, in their order.
type delay struct {
	queue chan delayed
	rng   *rand.Rand
	due   time.Time
}

type delayed struct {
	due    time.Time
	answer []byte
}

func newDelay(n *conn, rng *rand.Rand) *delay {
	d := &delay{queue: make(chan delayed, 1024), rng: rng}
	go func() {
		for a := range d.queue {
			select {
			case <-time.After(time.Until(a.due)):
				n.write(a.answer)
			case <-n.closed:
			}
		}
	}()
	return d
}

func (d *delay) write(b []byte) {
	if len(b) == 0 {
		return
	}
	due := time.Now().Add(time.Duration(d.rng.Int64N(int64(slowAnswer))))
	if due.Before(d.due) {
		due = d.due
	}
	d.due = due
	d.queue <- delayed{due, b}
}

// wanted says at which QoS a stream comes to a subscriber, -1 if it does not. Where filters overlap the highest QoS
// counts [MQTT-3.3.5-1].
func wanted(subs []mqtt.Subscription) func(topic string, q mqtt.QoS) int {
	return func(topic string, q mqtt.QoS) int {
		best := -1
		for _, s := range subs {
			if matches(string(s.Filter), topic) {
				best = max(best, int(min(s.QoS, q)))
			}
		}
		return best
	}
}

// matches says whether a filter, perhaps a shared one, matches a topic name.
func matches(filter, name string) bool {
	if shared, ok := strings.CutPrefix(filter, "$share/"); ok {
		_, filter, _ = strings.Cut(shared, "/")
	}
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(n) || level != "+" && level != n[i] {
			return false
		}
	}
	return len(f) == len(n)
}
