// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect opens a client with a granted CONNECT.
func connect(t testing.TB, b *brokertest.Broker, v mqtt.Version, p mqtt.Connect) (*wire.Client, *mqtt.Connack) {
	t.Helper()
	c := wire.New(t, b.Dial(), v)
	return c, c.Connect(p)
}

// clean opens a client whose session ends with its connection.
func clean(t testing.TB, b *brokertest.Broker, v mqtt.Version, id string) *wire.Client {
	t.Helper()
	c, _ := connect(t, b, v, mqtt.Connect{ClientID: []byte(id), CleanStart: true})
	return c
}

// lasting opens a client whose session lasts for an hour.
func lasting(t testing.TB, b *brokertest.Broker, id string) (*wire.Client, *mqtt.Connack) {
	t.Helper()
	return connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte(id), Properties: expiry(3600)})
}

func expiry(seconds uint32) mqtt.Properties {
	return mqtt.AppendPropUint32(nil, mqtt.PropSessionExpiryInterval, seconds)
}

func publish(topic, payload string, q mqtt.QoS, id uint16) mqtt.Publish {
	return mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: q, ID: id}
}

func TestEveryQoSReachesSubscribersOnEveryLoop(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 4})
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		var subs []*wire.Client
		for i := range 8 {
			s := clean(t, b, v, fmt.Sprintf("sub-%v-%d", v, i))
			s.Subscribe(1, 2, "a/+")
			subs = append(subs, s)
		}
		p := clean(t, b, v, "pub")
		for q := range mqtt.QoS(3) {
			payload := fmt.Sprintf("%v %d", v, q)
			p.Publish(publish("a/b", payload, q, 7))
			for _, s := range subs {
				got := s.WantPublish("a/b", payload)
				if got.QoS != q || got.Dup || got.Retain {
					t.Errorf("got %v, want QoS %d without flags", got, q)
				}
				answer(s, got)
			}
		}
		for _, s := range append(subs, p) {
			s.Disconnect()
		}
	}
}

// answer acknowledges a delivery to the end.
func answer(c *wire.Client, p *mqtt.Publish) {
	switch p.QoS {
	case 1:
		c.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID})
	case 2:
		c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
		c.WantAck(mqtt.PUBREL, p.ID)
		c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
	}
}

// collect takes n deliveries, acknowledging each to the end.
func collect(t testing.TB, c *wire.Client, n int) []*mqtt.Publish {
	t.Helper()
	var got []*mqtt.Publish
	for due := 0; len(got) < n || due > 0; {
		switch p := c.Next().(type) {
		case *mqtt.Publish:
			got = append(got, p)
			switch p.QoS {
			case 1:
				c.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID})
			case 2:
				due++
				c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
			}
		case *mqtt.Ack:
			due--
			c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
		default:
			t.Fatalf("got %v", p)
		}
	}
	return got
}

func TestPersistentSessionGetsWhatItMissedInOrder(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s, ack := lasting(t, b, "s")
	if ack.SessionPresent {
		t.Error("session present at first")
	}
	s.Subscribe(1, 2, "a/#")
	s.Disconnect()
	p := clean(t, b, mqtt.V5, "p")
	const n = 1000
	for i := range n {
		p.Publish(publish("a/b", fmt.Sprint(i), mqtt.QoS(1+i%2), uint16(i+1)))
	}
	s, ack = lasting(t, b, "s")
	if !ack.SessionPresent {
		t.Error("session not present")
	}
	for i, m := range collect(t, s, n) {
		if string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Payload)
		}
	}
	s.WantQuiet()
}

func TestUnacknowledgedComesAgainWithDup(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 2, "a")
	p := clean(t, b, mqtt.V5, "p")
	p.Publish(publish("a", "one", 1, 1))
	p.Publish(publish("a", "two", 2, 2))
	one, two := s.WantPublish("a", "one"), s.WantPublish("a", "two")
	s.Conn.Close()
	s, _ = lasting(t, b, "s")
	for _, first := range []*mqtt.Publish{one, two} {
		again := s.WantPublish("a", string(first.Payload))
		if !again.Dup || again.ID != first.ID || again.QoS != first.QoS {
			t.Errorf("got %v, want %v with DUP", again, first)
		}
	}
	s.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: one.ID}, &mqtt.Ack{Type: mqtt.PUBREC, ID: two.ID})
	s.WantAck(mqtt.PUBREL, two.ID)
	s.Conn.Close()
	s, _ = lasting(t, b, "s")
	s.WantAck(mqtt.PUBREL, two.ID)
	s.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: two.ID})
	s.WantQuiet()
}

func TestTakeoverAndWill(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	w := clean(t, b, mqtt.V5, "watcher")
	w.Subscribe(1, 1, "will")
	old, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("x"), CleanStart: true, HasWill: true,
		Will: mqtt.Will{Topic: []byte("will"), Payload: []byte("gone"), QoS: 1}})
	clean(t, b, mqtt.V5, "x")
	if code := old.WantClosed(); code != mqtt.SessionTakenOver {
		t.Errorf("the old connection was told %v, want 0x8E", code)
	}
	answer(w, w.WantPublish("will", "gone"))
	w.WantQuiet()
}

func TestKeepAliveAndWillDelayInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2})
		w := clean(t, b, mqtt.V5, "watcher")
		w.Patience = time.Hour
		w.Subscribe(1, 1, "will")
		start := time.Now()
		c, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("x"), KeepAlive: 10, Properties: expiry(3600), HasWill: true,
			Will: mqtt.Will{Topic: []byte("will"), Payload: []byte("gone"), QoS: 1,
				Properties: mqtt.AppendPropUint32(nil, mqtt.PropWillDelayInterval, 20)}})
		c.Patience = time.Hour
		if code := c.WantClosed(); code != mqtt.KeepAliveTimeout {
			t.Errorf("told %v, want 0x8D", code)
		}
		if d := time.Since(start); d < 15*time.Second || d > 16*time.Second {
			t.Errorf("closed after %v, want 15 s", d)
		}
		answer(w, w.WantPublish("will", "gone"))
		if d := time.Since(start); d < 35*time.Second || d > 36*time.Second {
			t.Errorf("will after %v, want 35 s", d)
		}
		b.Stop()
	})
}

func TestRetained(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	p := clean(t, b, mqtt.V311, "p")
	for i := range 500 {
		m := publish(fmt.Sprintf("r/%03d", i), "x", mqtt.QoS(i%3), uint16(i+1))
		m.Retain = true
		p.Publish(m)
	}
	s := clean(t, b, mqtt.V311, "s")
	s.Subscribe(1, 2, "r/#")
	seen := map[string]bool{}
	for _, m := range collect(t, s, 500) {
		if !m.Retain || seen[string(m.Topic)] {
			t.Fatalf("got %v", m)
		}
		seen[string(m.Topic)] = true
	}
	s.WantQuiet()
}

func TestSharedSubscriptionGivesEachMessageToOneMember(t *testing.T) {
	for _, durable := range []bool{false, true} {
		b := brokertest.New(t, broker.Options{Loops: 4})
		var members []*wire.Client
		for i := range 4 {
			id := fmt.Sprintf("m%d", i)
			var m *wire.Client
			if durable {
				m, _ = lasting(t, b, id)
			} else {
				m = clean(t, b, mqtt.V5, id)
			}
			m.Subscribe(1, 1, "$share/g/a/#")
			m.WantQuiet()
			members = append(members, m)
		}
		time.Sleep(20 * time.Millisecond)
		p := clean(t, b, mqtt.V5, "p")
		const n = 400
		for i := range n {
			p.Publish(publish("a/b", fmt.Sprint(i), 1, uint16(i+1)))
		}
		got := map[string]int{}
		for _, m := range members {
			mine := 0
			for {
				x, err := m.Read(300 * time.Millisecond)
				if err != nil {
					break
				}
				pub := x.(*mqtt.Publish)
				got[string(pub.Payload)]++
				mine++
				answer(m, pub)
			}
			if mine != n/4 {
				t.Errorf("durable %v: a member got %d, want %d", durable, mine, n/4)
			}
		}
		if len(got) != n {
			t.Errorf("durable %v: %d messages arrived, want %d", durable, len(got), n)
		}
		b.Stop()
	}
}
