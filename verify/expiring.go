// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"time"
)

// An expiring is one message with an expiry interval (5.0), published while its subscriber was away.
type expiring struct {
	topic   string
	expiry  time.Duration
	sent    time.Duration
	acked   time.Duration // 0 if it was not
	arrived bool
	settled bool // judged: it came, or it is too late for it
}

// addExpiring makes a message before it is sent and gives its number.
func (l *ledger) addExpiring(topic string, expiry, at time.Duration) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiring = append(l.expiring, &expiring{topic: topic, expiry: expiry, sent: at})
	l.totals.Published++
	return uint16(len(l.expiring) - 1)
}

// expiringAcked notes the PUBACK.
func (l *ledger) expiringAcked(n uint16, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiring[n].acked = at
	l.totals.Acknowledged++
}

// expiringArrived judges a delivery. left is the message expiry interval that came with it, if had.
// A repetition (DUP) is past judging: its first delivery was begun in time.
func (l *ledger) expiringArrived(d delivery, left time.Duration, had bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.identify(d, kindExpiring)
	if !ok {
		return
	}
	v := Violation{Client: d.client, Topic: d.topic, Sequence: uint64(t.number) + 1}
	if int(t.number) >= len(l.expiring) {
		v.What = "this was never published"
		l.violate(NoPhantom, d.at, v)
		return
	}
	e := l.expiring[t.number]
	first := !e.arrived
	e.arrived = true
	if e.acked == 0 || d.dup || !first {
		return
	}
	e.settled = true
	l.check(ExpiryObeyed, 1)
	waited := d.at - e.acked
	switch {
	case waited > e.expiry+l.tolerance:
		v.What = fmt.Sprintf("it expires after %v, and came %.3f s after it was acknowledged", e.expiry, waited.Seconds())
		l.violate(ExpiryObeyed, d.at, v)
	case !had:
		v.What = "it came without its message expiry interval"
		l.violate(ExpiryObeyed, d.at, v)
	case left > e.expiry-waited+l.tolerance:
		v.What = fmt.Sprintf("it says %v are left of %v, but it waited %.3f s", left, e.expiry, waited.Seconds())
		l.violate(ExpiryObeyed, d.at, v)
	}
}

// expiringAwaited says whether a message is still to come to the subscriber, who connected at a time.
func (l *ledger) expiringAwaited(connected time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.expiring {
		if e.awaited(connected, l.tolerance) {
			return true
		}
	}
	return false
}

func (e *expiring) awaited(connected, tolerance time.Duration) bool {
	return !e.settled && !e.arrived && e.acked != 0 && e.acked < connected && connected < e.sent+e.expiry-tolerance
}

// judgeExpiring judges what the subscriber got, who connected at a time and has waited for long enough.
func (l *ledger) judgeExpiring(client string, connected, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.expiring {
		if e.settled || e.acked == 0 || e.acked >= connected {
			continue
		}
		v := Violation{Client: client, Topic: e.topic, Sequence: uint64(i) + 1}
		switch {
		case e.awaited(connected, l.tolerance):
			v.What = fmt.Sprintf("it was acknowledged at %.3f s, expires after %v, and had not come %.3f s later",
				e.acked.Seconds(), e.expiry, (at - e.acked).Seconds())
			l.violate(ExpiryObeyed, at, v)
			fallthrough
		case connected > e.acked+e.expiry+l.tolerance:
			l.check(ExpiryObeyed, 1) // it did not come, or it would be settled
		}
		e.settled = connected > e.acked+e.expiry+l.tolerance || e.awaited(connected, l.tolerance)
	}
}
