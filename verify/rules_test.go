// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"
	"time"

	"github.com/noctule/noctule/mqtt"
)

func TestSessionPresent(t *testing.T) {
	for _, test := range []struct {
		name    string
		clean   bool
		holds   presence
		present bool
		want    []Promise
	}{
		{"kept", false, there, true, nil},
		{"lost", false, there, false, []Promise{SessionKept}},
		{"new", false, gone, false, nil},
		{"risen", false, gone, true, []Promise{SessionEnded}},
		{"nobody knows", false, unknown, true, nil},
		{"nobody knows either", false, unknown, false, nil},
		{"clean", true, there, false, nil},
		{"not clean", true, there, true, []Promise{SessionEnded}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := testLedger()
			l.greeted("c", s(3), test.clean, test.holds, test.present)
			violated(t, l, test.want...)
		})
	}
}

func TestOutlived(t *testing.T) {
	for _, test := range []struct {
		name                           string
		expiry, left, death, ready, at float64
		want                           presence
	}{
		{"soon", 10, 1, 3, 4, 5, there},
		{"about then", 10, 1, 3, 4, 11, unknown},
		{"expired while the broker ran", 2, 1, 20, 30, 31, gone},
		{"expired while it was down", 5, 1, 3, 20, 21, gone},
		{"it may not have noticed: too early to say", 5, 1, 1.5, 20, 21, unknown},
		{"it may not have noticed, and yet expired", 5, 1, 1.5, 20, 28, gone},
		{"there all the same", 60, 1, 1.5, 20, 28, there},
		{"never killed", 2, 1, 0, 0, 6, gone},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outlived(s(test.expiry), s(test.left), s(test.death), s(test.ready), s(test.at), 2*time.Second)
			if got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	topics := []string{"p/0", "p/1", "p/2"}
	for _, test := range []struct {
		name     string
		state    subscribed
		arrivals []mqtt.QoS
		want     []Promise
	}{
		{"there", subscribed{there, 2}, []mqtt.QoS{2}, nil},
		{"lost", subscribed{there, 2}, nil, []Promise{SubscriptionKept}},
		{"with the QoS of before", subscribed{there, 2}, []mqtt.QoS{1}, []Promise{SubscriptionKept}},
		{"repeated at QoS 1", subscribed{there, 1}, []mqtt.QoS{1, 1}, nil},
		{"repeated at QoS 2", subscribed{there, 2}, []mqtt.QoS{2, 2}, []Promise{ExactlyOnce}},
		{"gone", subscribed{presence: gone}, nil, nil},
		{"risen", subscribed{presence: gone}, []mqtt.QoS{1}, []Promise{SubscriptionEnded}},
		{"the kill came before SUBACK", subscribed{presence: unknown}, nil, nil},
		{"the kill came before UNSUBACK", subscribed{presence: unknown}, []mqtt.QoS{1}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := testLedger()
			p := &probe{number: 5, states: []subscribed{{presence: gone}, test.state, {presence: gone}}, acked: []bool{true, true, true}, arrived: make([]bool, 3)}
			get := func(topic string, number uint16, seq uint64, q mqtt.QoS) {
				pl := payload(testRun, token{kind: kindProbe, number: number, seq: seq}, 0)
				l.probed(p, topics, delivery{client: "c", topic: topic, qos: q, payload: pl, at: s(2)})
			}
			get("p/2", 2, 4, 1) // of a probe before: no word about now
			for _, q := range test.arrivals {
				get("p/1", 1, 5, q)
			}
			l.judgeProbe("c", p, topics, s(3))
			violated(t, l, test.want...)
		})
	}
}

func TestProbeThatWasNotAcknowledgedSaysNothing(t *testing.T) {
	l := testLedger()
	l.judgeProbe("c", &probe{number: 1, states: []subscribed{{there, 1}}, acked: []bool{false}, arrived: []bool{false}}, []string{"p"}, s(3))
	violated(t, l)
	checked(t, l, SubscriptionKept, 0)
}

func TestProbeThatWasNeverPublished(t *testing.T) {
	l := testLedger()
	p := &probe{number: 1, states: []subscribed{{there, 1}}, acked: []bool{true}, arrived: []bool{false}}
	pl := payload(testRun, token{kind: kindProbe, seq: 2}, 0)
	l.probed(p, []string{"p"}, delivery{topic: "p", qos: 1, payload: pl})
	violated(t, l, NoPhantom)
}

func TestUnsubackTells(t *testing.T) {
	l := testLedger()
	l.unsubscribed("c", "f", there, true, s(1))
	l.unsubscribed("c", "f", unknown, false, s(1))
	violated(t, l)
	l.unsubscribed("c", "f", there, false, s(1))
	violated(t, l, SubscriptionKept)
}

func TestRetained(t *testing.T) {
	const set, clear = false, true
	type step struct {
		clear, acked bool
	}
	for _, test := range []struct {
		name  string
		steps []step
		read  uint64
		want  []Promise
	}{
		{"never set", nil, 0, nil},
		{"last one", []step{{set, true}, {set, true}}, 2, nil},
		{"lost", []step{{set, true}, {set, true}}, 0, []Promise{RetainedKept}},
		{"stale", []step{{set, true}, {set, true}}, 1, []Promise{RetainedKept}},
		{"newer, not acknowledged", []step{{set, true}, {set, false}}, 2, nil},
		{"older than one that was not acknowledged", []step{{set, true}, {set, false}}, 1, nil},
		{"first one not acknowledged", []step{{set, false}}, 0, nil},
		{"cleared", []step{{set, true}, {clear, true}}, 0, nil},
		{"risen", []step{{set, true}, {clear, true}}, 1, []Promise{RetainedCleared}},
		{"clearing was not acknowledged", []step{{set, true}, {clear, false}}, 0, nil},
		{"clearing was not acknowledged, nor done", []step{{set, true}, {clear, false}}, 1, nil},
		{"set again, not acknowledged", []step{{set, true}, {clear, true}, {set, false}}, 3, nil},
		{"the one before the clearing", []step{{set, true}, {clear, true}, {set, false}}, 1, []Promise{RetainedCleared}},
		{"never published", []step{{set, true}}, 9, []Promise{NoPhantom, RetainedKept}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := testLedger()
			topic := publication{number: l.addRetained("r/0", 1), topic: "r/0"}
			for _, st := range test.steps {
				if n := l.retain(topic.number, st.clear); st.acked {
					l.retainAcked(topic.number, n, s(1))
				}
			}
			got := reading{}
			if test.read != 0 {
				pl := payload(testRun, token{kind: kindRetained, seq: test.read}, 0)
				l.read(got, delivery{client: "reader", topic: "r/0", retain: true, payload: pl})
			}
			if must := l.awaited([]publication{topic}, reading{}); must != (len(test.want) == 1 && test.read == 0) && test.read == 0 {
				t.Errorf("a message is awaited: %t", must)
			}
			l.judgeReading("reader", []publication{topic}, got, s(3))
			violated(t, l, test.want...)
		})
	}
}

func TestRetainedRefused(t *testing.T) {
	l := testLedger()
	topic := publication{number: l.addRetained("r/0", 1)}
	l.retainAcked(0, l.retain(0, false), s(1))
	l.retainRefused(0, l.retain(0, true))
	l.judgeReading("reader", []publication{topic}, reading{}, s(3))
	violated(t, l, RetainedKept)
}

func TestWills(t *testing.T) {
	arrive := func(l *ledger, at float64) {
		l.willArrived(delivery{client: "heir", topic: "w", qos: 2, payload: payload(testRun, token{kind: kindWill, seq: 1}, 0), at: s(at)})
	}
	for _, test := range []struct {
		name string
		play func(l *ledger)
		want []Promise
	}{
		{"came", func(l *ledger) { l.willCut(0, s(1)); arrive(l, 6.1) }, nil},
		{"came late, after a long pause", func(l *ledger) { l.willCut(0, s(1)); arrive(l, 30) }, nil},
		{"never came", func(l *ledger) { l.willCut(0, s(1)) }, []Promise{WillKept}},
		{"came twice", func(l *ledger) { l.willCut(0, s(1)); arrive(l, 6); arrive(l, 7) }, []Promise{WillKept}},
		{"came early", func(l *ledger) { l.willCut(0, s(1)); arrive(l, 3) }, []Promise{WillKept}},
		{"came while connected", func(l *ledger) { arrive(l, 3); l.willCut(0, s(4)) }, []Promise{WillKept}},
		{"came back in time", func(l *ledger) { l.willCut(0, s(1)); l.willReturns(0); l.willResumed(0, s(2)) }, nil},
		{"came back in time, and yet it came", func(l *ledger) {
			l.willCut(0, s(1))
			l.willReturns(0)
			l.willResumed(0, s(2))
			arrive(l, 6)
		}, []Promise{WillWithdrawn}},
		{"came back at about the time", func(l *ledger) { l.willCut(0, s(1)); l.willReturns(0); l.willResumed(0, s(5)); arrive(l, 6) }, nil},
		{"may have come back", func(l *ledger) { l.willCut(0, s(1)); l.willReturns(0) }, nil},
		{"first cut counts", func(l *ledger) { l.willCut(0, s(1)); l.willCut(0, s(9)); arrive(l, 6) }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := testLedger()
			l.addWill("c", 5*time.Second)
			l.willKnown(0)
			test.play(l)
			l.judgeWills(s(60))
			violated(t, l, test.want...)
		})
	}
}

func TestWillWithoutConnack(t *testing.T) {
	l := testLedger()
	l.addWill("c", time.Second)
	l.judgeWills(s(60))
	violated(t, l)
	l.willArrived(delivery{payload: payload(testRun, token{kind: kindWill, seq: 1}, 0)}) // the broker knew of it
	violated(t, l)
	l.willArrived(delivery{payload: payload(testRun, token{kind: kindWill, number: 1, seq: 1}, 0)})
	violated(t, l, NoPhantom)
}

func TestWillsPending(t *testing.T) {
	l := testLedger()
	l.addWill("c", 5*time.Second)
	l.willKnown(0)
	if _, pending := l.willsPending(s(3)); pending {
		t.Error("a will is pending while its client is connected")
	}
	l.willCut(0, s(1))
	if until, pending := l.willsPending(s(3)); !pending || until != s(10) { // delay and tolerance after the return
		t.Errorf("pending %t until %v, want until 10s", pending, until)
	}
}

func TestExpiry(t *testing.T) {
	arrive := func(l *ledger, at float64, left int, had, dup bool) {
		d := delivery{client: "c", topic: "e", qos: 1, dup: dup, payload: payload(testRun, token{kind: kindExpiring, seq: 1}, 0), at: s(at)}
		l.expiringArrived(d, time.Duration(left)*time.Second, had)
	}
	for _, test := range []struct {
		name   string
		expiry float64
		joined float64
		play   func(l *ledger)
		want   []Promise
	}{
		{"in time", 10, 3, func(l *ledger) { arrive(l, 3, 8, true, false) }, nil},
		{"too late to come", 2, 6, func(*ledger) {}, nil},
		{"about then", 4, 5, func(*ledger) {}, nil},
		{"lost", 10, 3, func(*ledger) {}, []Promise{ExpiryObeyed}},
		{"expired, and yet it came", 2, 6, func(l *ledger) { arrive(l, 6, 0, true, false) }, []Promise{ExpiryObeyed}},
		{"repeated after expiry", 2, 6, func(l *ledger) { arrive(l, 6, 0, true, true) }, nil},
		{"the time down was not counted", 20, 11, func(l *ledger) { arrive(l, 11, 20, true, false) }, []Promise{ExpiryObeyed}},
		{"without what is left", 20, 3, func(l *ledger) { arrive(l, 3, 0, false, false) }, []Promise{ExpiryObeyed}},
		{"never published", 20, 3, func(l *ledger) {
			arrive(l, 3, 18, true, false)
			l.expiringArrived(delivery{payload: payload(testRun, token{kind: kindExpiring, number: 1, seq: 1}, 0)}, 0, true)
		}, []Promise{NoPhantom}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := testLedger()
			l.addExpiring("e", s(test.expiry), s(1))
			l.expiringAcked(0, s(1))
			test.play(l)
			l.judgeExpiring("c", s(test.joined), s(test.joined+1))
			l.judgeExpiring("c", s(test.joined), s(test.joined+1)) // counts once
			violated(t, l, test.want...)
		})
	}
}

func TestExpiryOfWhatWasNotAcknowledged(t *testing.T) {
	l := testLedger()
	l.addExpiring("e", time.Hour, s(1))
	l.judgeExpiring("c", s(3), s(4))
	violated(t, l)
	if l.expiringAwaited(s(3)) {
		t.Error("it is awaited, though it was not acknowledged")
	}
}
