// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// joined opens a member of $share/g/t/# with a window.
func joined(t *testing.T, b *brokertest.Broker, id string, window uint16, lasts bool) *wire.Client {
	t.Helper()
	p := mqtt.Connect{ClientID: []byte(id), CleanStart: !lasts, Properties: mqtt.AppendPropUint16(nil, mqtt.PropReceiveMaximum, window)}
	if lasts {
		p.Properties = append(p.Properties, expiry(600)...)
	}
	c, ack := connect(t, b, mqtt.V5, p)
	if !ack.SessionPresent {
		n := b.Stats().SharedGroups
		c.Subscribe(1, 1, "$share/g/t/#")
		for n == 0 && b.Stats().SharedGroups == 0 { // members join behind their SUBACK
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(5 * time.Millisecond)
	return c
}

// backlog reads what comes within a moment, without acknowledging.
func backlog(c *wire.Client) (got []*mqtt.Publish) {
	for {
		x, err := c.Read(150 * time.Millisecond)
		if err != nil {
			return got
		}
		if p, ok := x.(*mqtt.Publish); ok {
			got = append(got, p)
		}
	}
}

func strategy(s broker.Strategy) broker.Options {
	return broker.Options{Loops: 3, Policy: broker.Policy{SharedStrategy: s}}
}

func send(p *wire.Client, n int, topic func(int) string) {
	for i := range n {
		p.Publish(publish(topic(i), fmt.Sprint(i), 1, uint16(i+1)))
	}
}

func one(int) string { return "t/1" }

// A member whose window is full is passed over.
func TestFullMemberIsPassedOver(t *testing.T) {
	for _, s := range []broker.Strategy{broker.RoundRobin, broker.Random, broker.Sticky, broker.LeastInflight} {
		b := brokertest.New(t, strategy(s))
		narrow, wide := joined(t, b, "narrow", 2, false), joined(t, b, "wide", 100, false)
		send(clean(t, b, mqtt.V5, "p"), 20, one)
		few, many := backlog(narrow), backlog(wide)
		if len(few)+len(many) != 20 || len(few) > 2 {
			t.Errorf("%v: the narrow member has %d, the wide one %d, want at most 2 and 20 together", s, len(few), len(many))
		}
		b.Stop()
	}
}

// Hash by topic keeps each topic with one member, in order, even when that member is slow.
func TestHashKeepsTopicsTogether(t *testing.T) {
	b := brokertest.New(t, strategy(broker.HashTopic))
	members := []*wire.Client{joined(t, b, "a", 2, false), joined(t, b, "b", 2, false), joined(t, b, "c", 2, false)}
	go send(clean(t, b, mqtt.V5, "p"), 120, func(i int) string { return fmt.Sprint("t/", i%12) })
	owner, last, total := map[string]int{}, map[string]int{}, 0
	for idle := 0; total < 120 && idle < 50; idle++ {
		for i, m := range members {
			x, err := m.Read(20 * time.Millisecond)
			if err != nil {
				continue
			}
			p := x.(*mqtt.Publish)
			if who, ok := owner[string(p.Topic)]; ok && who != i {
				t.Fatalf("%s went to two members", p.Topic)
			}
			owner[string(p.Topic)] = i
			var n int
			fmt.Sscan(string(p.Payload), &n)
			if n < last[string(p.Topic)] {
				t.Fatalf("%s: %d after %d", p.Topic, n, last[string(p.Topic)])
			}
			last[string(p.Topic)] = n
			total++
			idle = 0
			answer(m, p)
		}
	}
	if total != 120 {
		t.Errorf("%d messages came, want 120", total)
	}
}

// What a member did not acknowledge goes to another one when its session ends.
func TestUnacknowledgedGoesToAnotherMember(t *testing.T) {
	for _, stored := range []bool{false, true} {
		b := brokertest.New(t, strategy(broker.RoundRobin))
		leaver, stayer := joined(t, b, "leaver", 100, false), joined(t, b, "stayer", 100, stored)
		send(clean(t, b, mqtt.V5, "p"), 10, one)
		if n := len(backlog(leaver)); n != 5 {
			t.Fatalf("stored %v: the leaver has %d, want 5", stored, n)
		}
		leaver.Conn.Close()
		if n := len(backlog(stayer)); n != 10 {
			t.Errorf("stored %v: the stayer has %d, want 10", stored, n)
		}
		b.Stop()
	}
}

// A persistent member keeps its unacknowledged messages for its return, or gives them up at once, by policy.
func TestPersistentMemberAway(t *testing.T) {
	for _, redeliver := range []bool{false, true} {
		o := strategy(broker.RoundRobin)
		o.Policy.SharedRedeliver = redeliver
		b := brokertest.New(t, o)
		away, stays := joined(t, b, "away", 100, true), joined(t, b, "stays", 100, true)
		send(clean(t, b, mqtt.V5, "p"), 10, one)
		mine := len(backlog(away))
		away.Conn.Close()
		want, back := 10-mine, mine
		if redeliver {
			want, back = 10, 0
		}
		if n := len(backlog(stays)); n != want {
			t.Errorf("redeliver %v: the other has %d, want %d", redeliver, n, want)
		}
		away = joined(t, b, "away", 100, true)
		again := backlog(away)
		if len(again) != back {
			t.Errorf("redeliver %v: %d came again, want %d", redeliver, len(again), back)
		}
		for _, p := range again {
			if !p.Dup {
				t.Errorf("redeliver %v: %v without DUP", redeliver, p)
			}
		}
		b.Stop()
	}
}

// While all persistent members are away their messages are kept for the first who comes back.
func TestSharedQueueWaitsForMembers(t *testing.T) {
	b := brokertest.New(t, strategy(broker.RoundRobin))
	joined(t, b, "a", 100, true).Disconnect()
	joined(t, b, "b", 100, true).Disconnect()
	p := clean(t, b, mqtt.V5, "p")
	send(p, 300, one)
	first := joined(t, b, "a", 400, true)
	for i, m := range collect(t, first, 300) {
		if string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Payload)
		}
	}
	joined(t, b, "b", 100, true).WantQuiet()
	first.Disconnect()
	joined(t, b, "a", 400, true).WantQuiet()
}

// SUBACK says that the subscription is in force: what is published after it reaches the member.
func TestSharedSubscriptionIsInForceAtSuback(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 4})
	for i := range 200 {
		c := clean(t, b, mqtt.V5, fmt.Sprint("c", i))
		c.Subscribe(1, 1, fmt.Sprintf("$share/g%d/t%d", i, i))
		m := publish(fmt.Sprint("t", i), "x", 1, 1)
		c.Send(&m)
		got, acked := false, false
		for !got || !acked {
			switch x := c.Next().(type) {
			case *mqtt.Publish:
				got = true
				answer(c, x)
			case *mqtt.Ack:
				acked = true
				if x.Code != mqtt.Success {
					t.Fatalf("%d: %v, want a receiver", i, x)
				}
			}
		}
	}
}
