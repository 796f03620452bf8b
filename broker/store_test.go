// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/store/storetest"
)

func gated(t *testing.T) (*brokertest.Broker, *storetest.Gated) {
	g := storetest.Gate(store.NewMemory(store.Options{}))
	b := brokertest.New(t, broker.Options{Loops: 2, Store: g})
	t.Cleanup(g.Release) // before the broker stops
	return b, g
}

const quiet = 50 * time.Millisecond

// PUBACK, PUBREC, SUBACK, UNSUBACK and PUBCOMP of what has to be kept wait for the commit; what needs no store does not, even while
// commits hang.
func TestAcknowledgementsWaitForTheStore(t *testing.T) {
	b, g := gated(t)
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 2, "kept/#")
	online := clean(t, b, mqtt.V5, "online")
	online.Subscribe(1, 2, "#")
	p, _ := lasting(t, b, "p") // its QoS 2 identifiers are kept
	c := clean(t, b, mqtt.V311, "c")

	g.Hold()
	one, two := publish("kept/1", "x", 1, 1), publish("kept/2", "x", 2, 2)
	p.Send(&one, &two)
	r := publish("r", "x", 1, 3)
	r.Retain = true
	p.Send(&r)
	collect(t, online, 3) // it is online and clean: its copies need no store
	p.WantSilence(quiet)
	s.WantSilence(quiet)
	s.Send(&mqtt.Subscribe{ID: 2, Subscriptions: []mqtt.Subscription{{Filter: []byte("other")}}})
	s.WantSilence(quiet)

	c.Subscribe(1, 1, "x") // clean sessions
	for q := range mqtt.QoS(3) {
		c.Publish(publish("free", "x", q, uint16(q)))
	}
	collect(t, online, 3)
	fresh := clean(t, b, mqtt.V5, "fresh")
	fresh.WantQuiet()

	g.Release()
	p.WantAck(mqtt.PUBACK, 1)
	p.WantAck(mqtt.PUBREC, 2)
	p.WantAck(mqtt.PUBACK, 3)
	s.Patience = 2 * time.Second
	got := map[string]bool{}
	for len(got) < 3 {
		switch x := s.Next().(type) {
		case *mqtt.Publish:
			got[string(x.Topic)] = true
		case *mqtt.Suback:
			got["suback"] = true
		}
	}

	g.Hold()
	p.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 2})
	p.WantSilence(quiet)
	s.Send(&mqtt.Unsubscribe{ID: 3, Filters: [][]byte{[]byte("other")}})
	s.WantSilence(quiet)
	g.Release()
	p.WantAck(mqtt.PUBCOMP, 2)
	wire.Want[*mqtt.Unsuback](s)
}

// A store that fails gets no lie acknowledged.
func TestFailedCommitIsNotAcknowledged(t *testing.T) {
	b, g := gated(t)
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "#")
	five, three := clean(t, b, mqtt.V5, "five"), clean(t, b, mqtt.V311, "three")

	g.Fail(store.ErrFull)
	m := publish("a", "x", 1, 1)
	five.Send(&m)
	if a := five.WantAck(mqtt.PUBACK, 1); a.Code != mqtt.QuotaExceeded {
		t.Errorf("5.0 was told %v, want 0x97", a)
	}
	three.Send(&m)
	if code := three.WantClosed(); code != 0 {
		t.Errorf("3.1.1 was told %v", code)
	}

	g.Fail(errors.New("the disk is on fire"))
	five.Send(&m)
	if code := five.WantClosed(); code != mqtt.ServerUnavailable {
		t.Errorf("5.0 was told %v, want 0x88", code)
	}
	g.Fail(nil)
	five = clean(t, b, mqtt.V5, "five")
	five.Publish(m)
	s.WantPublish("a", "x")
}
