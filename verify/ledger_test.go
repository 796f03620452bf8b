// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/mqtt"
)

const testRun = 77

func s(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func testLedger() *ledger { return newLedger(testRun, 2*time.Second, 1000, nil) }

// violated checks that exactly these promises are violated, once each.
func violated(t *testing.T, l *ledger, want ...Promise) {
	t.Helper()
	got := map[Promise]int64{}
	for _, r := range l.all() {
		if r.Violations > 0 {
			got[r.Promise] = r.Violations
			if len(r.Examples) != int(min(r.Violations, maxExamples)) {
				t.Errorf("%s: %d violations with %d examples", r.Promise, r.Violations, len(r.Examples))
			}
		}
	}
	expect := map[Promise]int64{}
	for _, p := range want {
		expect[p]++
	}
	if !maps.Equal(got, expect) {
		t.Errorf("violated %v, want %v: %+v", got, expect, l.all())
	}
}

// checked checks how often a promise was put to the test.
func checked(t *testing.T, l *ledger, p Promise, want int64) {
	t.Helper()
	if got := l.results[p].Checked; got != want {
		t.Errorf("%s was checked %d times, want %d", p, got, want)
	}
}

// A traffic is a made-up ledger of one stream for each QoS, ten messages each, all acknowledged, with one subscriber.
type traffic struct {
	*ledger
	r *receiver
}

func newTraffic(r receiver, qos int) *traffic {
	f := &traffic{ledger: testLedger()}
	for q := mqtt.QoS(1); q <= 2; q++ {
		n := f.addStream("data/q"+string('0'+byte(q)), q)
		for range 10 {
			f.acknowledge(n, f.publish(n), s(1))
		}
	}
	r.client = "subscriber"
	f.r = f.addReceiver(&r, func(_ string, q mqtt.QoS) int { return min(int(q), qos) })
	return f
}

// get is the delivery of a number of the stream with a QoS.
func (f *traffic) get(q mqtt.QoS, seq uint64, change ...func(*delivery)) {
	d := delivery{client: "subscriber", topic: "data/q" + string('0'+byte(q)), qos: mqtt.QoS(f.r.want[q-1]), at: s(2)}
	d.payload = payload(testRun, token{kind: kindData, number: uint16(q - 1), seq: seq}, 100)
	for _, c := range change {
		c(&d)
	}
	f.receive(f.r, d)
}

func (f *traffic) getAll() {
	for q := mqtt.QoS(1); q <= 2; q++ {
		for seq := range uint64(10) {
			f.get(q, seq+1)
		}
	}
}

var plain = receiver{class: DeliveredOnline, once: ExactlyOnce, ordered: true}

func TestDeliveries(t *testing.T) {
	for _, test := range []struct {
		name string
		qos  int
		play func(f *traffic)
		want []Promise
	}{
		{"all came", 2, func(f *traffic) { f.getAll() }, nil},
		{"QoS 1 may repeat, from any point", 1, func(f *traffic) { f.getAll(); f.getAll(); f.get(2, 7) }, nil},
		{"what was not acknowledged may be missing", 2, func(f *traffic) { f.publish(0); f.publish(1); f.getAll() }, nil},
		{"what was not acknowledged may come", 2, func(f *traffic) { f.publish(1); f.getAll(); f.get(2, 11) }, nil},
		{"one is missing", 2, func(f *traffic) { f.acknowledge(1, f.publish(1), s(3)); f.getAll() }, []Promise{DeliveredOnline}},
		{"one is missing at QoS 1", 2, func(f *traffic) { f.acknowledge(0, f.publish(0), s(3)); f.getAll() }, []Promise{DeliveredOnline}},
		{"QoS 2 came twice", 2, func(f *traffic) { f.getAll(); f.get(2, 4) }, []Promise{ExactlyOnce}},
		{"QoS 2 came twice, with DUP", 2, func(f *traffic) { f.getAll(); f.get(2, 10, func(d *delivery) { d.dup = true }) }, []Promise{ExactlyOnce}},
		{"out of order at QoS 2", 2, func(f *traffic) { f.get(2, 2); f.get(2, 1); f.getRest(2, 3); f.getRest(1, 1) }, []Promise{InOrder}},
		{"out of order at QoS 1", 2, func(f *traffic) { f.get(1, 2); f.get(1, 1); f.getRest(1, 3); f.getRest(2, 1) }, []Promise{InOrder}},
		{"damaged", 2, func(f *traffic) { f.getAll(); f.get(1, 1, func(d *delivery) { d.payload[50] ^= 1 }) }, []Promise{Intact}},
		{"cut off", 2, func(f *traffic) { f.getAll(); f.get(1, 1, func(d *delivery) { d.payload = d.payload[:99] }) }, []Promise{Intact}},
		{"another topic", 2, func(f *traffic) { f.getAll(); f.get(1, 1, func(d *delivery) { d.topic = "data/q2" }) }, []Promise{Intact}},
		{"another QoS", 2, func(f *traffic) { f.getAll(); f.get(2, 1, func(d *delivery) { d.qos = 1 }) }, []Promise{Intact}},
		{"never published", 2, func(f *traffic) { f.getAll(); f.get(2, 11) }, []Promise{NoPhantom}},
		{"of a stream that is none", 2, func(f *traffic) {
			f.getAll()
			f.get(2, 1, func(d *delivery) { d.payload = payload(testRun, token{kind: kindData, number: 2, seq: 1}, 0) })
		}, []Promise{NoPhantom}},
		{"of another run", 2, func(f *traffic) {
			f.getAll()
			f.get(2, 1, func(d *delivery) { d.payload = payload(testRun+1, token{kind: kindData, seq: 1}, 0) })
		}, []Promise{NoPhantom}},
		{"of another purpose", 2, func(f *traffic) {
			f.getAll()
			f.get(2, 1, func(d *delivery) { d.payload = payload(testRun, token{kind: kindWill, seq: 1}, 0) })
		}, []Promise{Intact}},
		{"not subscribed", 2, func(f *traffic) { f.getAll(); f.r.want[0] = -1; f.get(1, 1, func(d *delivery) { d.qos = 1 }) }, []Promise{NoPhantom}},
		{"an identifier used again", 2, func(f *traffic) { f.getAll(); f.reuse(delivery{client: "subscriber"}, 9) }, []Promise{ExactlyOnce}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newTraffic(plain, test.qos)
			test.play(f)
			f.judgeLoss(s(10))
			violated(t, f.ledger, test.want...)
		})
	}
}

func (f *traffic) getRest(q mqtt.QoS, from uint64) {
	for seq := from; seq <= 10; seq++ {
		f.get(q, seq)
	}
}

func TestOverlappingFiltersMayBringFurtherCopies(t *testing.T) {
	over := plain
	over.copies, over.class = true, DeliveredOverlapping
	f := newTraffic(over, 2)
	f.getAll()
	lower := func(d *delivery) { d.qos = 1 }
	f.get(2, 3, lower)
	f.get(2, 3, lower)
	f.judgeLoss(s(10))
	violated(t, f.ledger)
	f.get(2, 3)
	violated(t, f.ledger, ExactlyOnce)
	g := newTraffic(over, 2)
	g.getRest(1, 1)
	for seq := range uint64(10) {
		g.get(2, seq+1, lower) // the copy with the highest QoS never comes
	}
	g.judgeLoss(s(10))
	if got := g.results[DeliveredOverlapping].Violations; got != 10 {
		t.Errorf("%d lost, want 10", got)
	}
}

func TestSharedSubscription(t *testing.T) {
	group := receiver{class: DeliveredShared, once: ExactlyOnceShared}
	f := newTraffic(group, 2)
	for q := mqtt.QoS(2); q >= 1; q-- {
		for seq := uint64(10); seq >= 1; seq-- { // members share, so that there is no order
			f.get(q, seq)
		}
	}
	f.judgeLoss(s(10))
	violated(t, f.ledger)
	f.get(2, 5, func(d *delivery) { d.client = "another member" })
	violated(t, f.ledger, ExactlyOnceShared)
	f = newTraffic(group, 2)
	f.getRest(1, 1)
	f.getRest(2, 2)
	f.judgeLoss(s(10))
	violated(t, f.ledger, DeliveredShared)
	f.forgo(DeliveredShared)
	if len(f.receivers) != 0 {
		t.Error("a group that is given up is still judged")
	}
}

func TestMissing(t *testing.T) {
	f := newTraffic(plain, 2)
	f.getRest(1, 4)
	f.publish(1)
	if n, moved := f.missing(f.r); n != 13 || moved != s(2) {
		t.Errorf("%d are missing, the last came at %v, want 13 and 2s", n, moved)
	}
}

func TestExamplesSayWhen(t *testing.T) {
	f := newTraffic(plain, 2)
	f.enter(3, working)
	f.death(s(1.5))
	f.getRest(1, 2)
	f.getRest(2, 1)
	f.judgeLoss(s(10))
	violated(t, f.ledger, DeliveredOnline)
	want := "10.000 s, round 3, subscriber, data/q1 number 1: it was acknowledged at 1.000 s (0.500 s before kill 1) and never came"
	if got := f.results[DeliveredOnline].Examples[0].String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	checked(t, f.ledger, DeliveredOnline, 20)
}

func TestStarts(t *testing.T) {
	l := testLedger()
	l.started(s(1), nil)
	violated(t, l)
	l.started(s(2), errDamaged)
	violated(t, l, StartsAgain)
	l.lockedOut("a", s(3), errDamaged)
	l.lockedOut("a", s(4), errDamaged) // counts once
	violated(t, l, StartsAgain, StartsAgain)
	checked(t, l, StartsAgain, 2)
}

func TestPromisesAreAllReported(t *testing.T) {
	l := testLedger()
	for _, r := range l.all() {
		if r.Words == "" || strings.ToLower(string(r.Promise)) != string(r.Promise) {
			t.Errorf("%q is said as %q", r.Promise, r.Words)
		}
	}
	names := slices.Collect(maps.Keys(l.results))
	if len(names) != len(promises) {
		t.Errorf("%d promises in %d results", len(promises), len(names))
	}
}

// QoS 0 may be lost, and never comes twice.
func TestQoS0(t *testing.T) {
	l := testLedger()
	n := l.addStream("data/q0", 0)
	r := plain
	r.client = "subscriber"
	q := l.addReceiver(&r, func(string, mqtt.QoS) int { return 0 })
	for range 3 {
		l.publish(n)
	}
	get := func(seq uint64) {
		l.receive(q, delivery{client: "subscriber", topic: "data/q0", payload: payload(testRun, token{kind: kindData, number: n, seq: seq}, 0)})
	}
	get(1)
	get(3)
	l.judgeLoss(s(10))
	violated(t, l)
	get(3)
	violated(t, l, AtMostOnce)
}
