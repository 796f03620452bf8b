// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/noctule/noctule/mqtt"
)

func TestBitmap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var b bitmap
	in := map[uint64]bool{}
	for range 500 {
		n := rng.Uint64N(2000)
		b.add(n)
		in[n] = true
	}
	for n := range uint64(3000) {
		if b.has(n) != in[n] {
			t.Fatalf("%d: %t", n, b.has(n))
		}
	}
}

func TestPayloadShowsEveryChange(t *testing.T) {
	want := token{kind: kindData, number: 513, seq: 1 << 40}
	for _, size := range []int{0, headSize, headSize + 1, 300, 70000} {
		p := payload(testRun, want, size)
		if len(p) != max(size, headSize) || !bytes.Equal(p, payload(testRun, want, size)) {
			t.Fatalf("%d bytes, or not the same again", len(p))
		}
		if got, err := parse(testRun, p); got != want || err != nil {
			t.Fatalf("got %+v, %v", got, err)
		}
		if _, err := parse(testRun+1, p); err != errForeign {
			t.Errorf("another run: %v", err)
		}
		for i := 0; i < len(p); i += 1 + len(p)/200 {
			p[i] ^= 1
			if _, err := parse(testRun, p); err != errDamaged {
				t.Errorf("byte %d of %d changed: %v", i, len(p), err)
			}
			p[i] ^= 1
		}
		if _, err := parse(testRun, p[:len(p)-1]); err != errDamaged {
			t.Errorf("cut: %v", err)
		}
	}
}

func TestSizes(t *testing.T) {
	small, large := 0, 0
	for seq := range uint64(10_000) {
		switch n := sizeOf(testRun, token{seq: seq}, 100_000); {
		case n < headSize || n > 100_000:
			t.Fatalf("%d bytes", n)
		case n < 300:
			small++
		case n > 10_000:
			large++
		}
	}
	if small < 7000 || large < 50 || large > 200 {
		t.Errorf("%d small ones, %d large ones", small, large)
	}
	if n := sizeOf(testRun, token{seq: 1}, headSize); n != headSize {
		t.Errorf("%d bytes, more than the limit", n)
	}
}

func ack(t mqtt.PacketType, id uint16, code mqtt.ReasonCode) *mqtt.Ack {
	return &mqtt.Ack{Type: t, ID: id, Code: code}
}

func TestOutbox(t *testing.T) {
	o := outbox[string]{}
	a, b, c, d := o.add(1, "a"), o.add(2, "b"), o.add(2, "c"), o.add(1, "d")
	for _, step := range []struct {
		ack    *mqtt.Ack
		item   string
		fate   fate
		answer bool
	}{
		{ack(mqtt.PUBACK, a, 0), "a", accepted | completed, false},
		{ack(mqtt.PUBACK, a, 0), "", 0, false},                   // of nothing
		{ack(mqtt.PUBCOMP, b, 0), "b", 0, false},                 // too early
		{ack(mqtt.PUBACK, b, 0), "b", 0, false},                  // of another QoS
		{ack(mqtt.PUBREC, b, mqtt.Success), "b", accepted, true}, // PUBREL
		{ack(mqtt.PUBREC, b, mqtt.Success), "b", 0, true},        // PUBREL again
		{ack(mqtt.PUBREC, c, mqtt.QuotaExceeded), "c", refused, false},
		{ack(mqtt.PUBACK, d, mqtt.NoMatchingSubscribers), "d", accepted | completed, false},
	} {
		item, f, answer := o.take(step.ack, mqtt.V5)
		if item != step.item || f != step.fate || (answer != nil) != step.answer {
			t.Errorf("%v: got %q, %d, % x", step.ack, item, f, answer)
		}
	}
	o.add(1, "e")
	resent := o.resend(mqtt.V311, func(dst []byte, f flight[string]) []byte { return append(dst, f.item...) })
	want := append(mqtt.AppendAck(nil, mqtt.PUBREL, b, 0, mqtt.V311), "e"...)
	if !bytes.Equal(resent, want) {
		t.Errorf("resent % x, want % x", resent, want)
	}
	if _, f, _ := o.take(ack(mqtt.PUBCOMP, b, mqtt.PacketIdentifierNotFound), mqtt.V5); f != completed {
		t.Errorf("PUBCOMP of what the broker has forgotten: %d", f)
	}
	if _, f, _ := o.take(ack(mqtt.PUBACK, o.flights[0].id, mqtt.QuotaExceeded), mqtt.V5); f != refused|doubtful {
		t.Errorf("refused when it was sent again: %d", f)
	}
	o.add(1, "e")
	if given := o.abandon(); len(given) != 1 || given[0].item != "e" || len(o.flights) != 0 {
		t.Errorf("abandoned %+v", given)
	}
}

func TestOutboxIdentifiersInUseArePassedOver(t *testing.T) {
	o := outbox[int]{last: 65534}
	if a, b := o.add(1, 0), o.add(1, 0); a != 65535 || b != 1 {
		t.Errorf("got %d and %d", a, b)
	}
	o.last = 65534
	if c := o.add(1, 0); c != 2 {
		t.Errorf("got %d, want 2", c)
	}
}

func TestInbox(t *testing.T) {
	b := inbox{}
	publish := func(q mqtt.QoS, id uint16, payload string) arrival {
		a, answer := b.publish(&mqtt.Publish{QoS: q, ID: id, Topic: []byte("t"), Payload: []byte(payload)}, mqtt.V5)
		if want := q == 0; want != (answer == nil) {
			t.Errorf("answer % x", answer)
		}
		return a
	}
	got := []arrival{publish(0, 0, "x"), publish(1, 5, "x"), publish(1, 5, "x"), publish(2, 5, "x"), publish(2, 5, "x"), publish(2, 5, "y")}
	if want := []arrival{fresh, fresh, fresh, fresh, repeated, reused}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	rel := ack(mqtt.PUBREL, 5, 0)
	if first, again := b.release(rel, mqtt.V5), b.release(rel, mqtt.V5); bytes.Equal(first, again) {
		t.Error("PUBCOMP does not say that the identifier was not found")
	}
	if a := publish(2, 5, "y"); a != fresh {
		t.Errorf("after PUBREL: %d", a)
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		filter, name string
		want         bool
	}{
		{"r/data/#", "r/data/1/q1", true},
		{"r/data/+/q1", "r/data/1/q1", true},
		{"r/data/+/q1", "r/data/1/q2", false},
		{"r/data/1/+", "r/data/1/q2", true},
		{"r/data/1/+", "r/data/2/q2", false},
		{"r/data/+", "r/data/1/q2", false},
		{"r/data/1/q1/+", "r/data/1/q1", false},
		{"$share/g/r/data/#", "r/data/1/q1", true},
		{"$share/g/r/other/#", "r/data/1/q1", false},
	} {
		if got := matches(test.filter, test.name); got != test.want {
			t.Errorf("%s and %s: %t", test.filter, test.name, got)
		}
	}
	want := wanted([]mqtt.Subscription{{Filter: []byte("a/#"), QoS: 1}, {Filter: []byte("a/b"), QoS: 2}})
	if want("a/b", 2) != 2 || want("a/b", 1) != 1 || want("a/c", 2) != 1 || want("b", 2) != -1 {
		t.Error("the highest QoS of the filters that match does not count")
	}
}

func TestPace(t *testing.T) {
	p := pace{perSecond: 100}
	n := 0
	for at := time.Duration(0); at <= time.Second; at += tick {
		n += p.allow(at, 16)
	}
	if n < 99 || n > 100 {
		t.Errorf("%d in a second", n)
	}
	if n := p.allow(time.Minute, 16); n != 16 {
		t.Errorf("%d after a pause, want a burst of 16", n)
	}
}
