// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"time"
)

// A will is one will message with a delay (5.0).
type will struct {
	client  string
	delay   time.Duration
	known   bool          // its CONNACK came
	cut     time.Duration // when the connection ended; 0 while it stands
	resumed time.Duration // when the client came back (CONNACK); 0 if it did not
	maybe   bool          // it tried to come back, and may have been heard
	arrived int
	first   time.Duration
}

// addWill makes a will before its CONNECT is sent and gives its number, and the client identifier, which ends in it.
func (l *ledger) addWill(prefix string, delay time.Duration) (n uint16, client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	client = fmt.Sprintf("%s-%d", prefix, len(l.wills))
	l.wills = append(l.wills, &will{client: client, delay: delay})
	return uint16(len(l.wills) - 1), client
}

// willKnown notes the CONNACK. Without it the broker may know of the will or not.
func (l *ledger) willKnown(n uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wills[n].known = true
}

// willCut notes the end of the connection, just before it is brought about; the first one counts.
func (l *ledger) willCut(n uint16, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wills[n].cut == 0 {
		l.wills[n].cut = at
	}
}

// willReturns notes that the client sends a CONNECT to resume its session.
func (l *ledger) willReturns(n uint16) { l.mu.Lock(); l.wills[n].maybe = true; l.mu.Unlock() }

// willResumed notes the CONNACK to it.
func (l *ledger) willResumed(n uint16, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wills[n].resumed = at
}

// willArrived judges a will that was delivered.
func (l *ledger) willArrived(d delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.identify(d, kindWill)
	if !ok {
		return
	}
	v := Violation{Client: d.client, Topic: d.topic}
	if int(t.number) >= len(l.wills) {
		v.What = "there was no such will"
		l.violate(NoPhantom, d.at, v)
		return
	}
	w := l.wills[t.number]
	v.Client = w.client
	if w.arrived++; w.arrived > 1 {
		v.What = fmt.Sprintf("the will came %d times, at first at %.3f s", w.arrived, w.first.Seconds())
		l.violate(WillKept, d.at, v)
		return
	}
	w.first = d.at
	switch {
	case !w.known:
	case w.cut == 0:
		v.What = "the will came while the client was connected"
		l.violate(WillKept, d.at, v)
	case d.at < w.cut+w.delay-l.tolerance:
		v.What = fmt.Sprintf("the will came %.3f s after the connection was cut, with a delay of %v", (d.at - w.cut).Seconds(), w.delay)
		l.violate(WillKept, d.at, v)
	}
}

// withdrawn says whether the client came back so early that the will must not come.
func (w *will) withdrawn(tolerance time.Duration) bool {
	return w.resumed != 0 && w.resumed < w.cut+w.delay-tolerance
}

// due says whether the will must come.
func (w *will) due() bool { return w.known && w.cut != 0 && !w.maybe }

// willsPending says how long to wait for wills that must come and have not: until the longest delay after the broker's last return.
func (l *ledger) willsPending(ready time.Duration) (until time.Duration, pending bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.wills {
		if w.due() && w.arrived == 0 {
			until, pending = max(until, max(w.cut, ready)+w.delay+l.tolerance), true
		}
	}
	return until, pending
}

// judgeWills judges at the end of the run. at is after the longest delay since the broker's last return.
func (l *ledger) judgeWills(at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.wills {
		v := Violation{Client: w.client}
		switch {
		case w.withdrawn(l.tolerance):
			l.check(WillWithdrawn, 1)
			if w.arrived > 0 {
				v.What = fmt.Sprintf("the will (delay %v) came at %.3f s, but its client came back at %.3f s, %.3f s after it was cut",
					w.delay, w.first.Seconds(), w.resumed.Seconds(), (w.resumed - w.cut).Seconds())
				l.violate(WillWithdrawn, at, v)
			}
		case w.due():
			l.check(WillKept, 1)
			if w.arrived == 0 {
				v.What = fmt.Sprintf("the will (delay %v) of the connection cut at %.3f s%s never came", w.delay, w.cut.Seconds(), l.before(w.cut))
				l.violate(WillKept, at, v)
			}
		}
	}
}
