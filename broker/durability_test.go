// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
)

// classes is a store that notes the class of each Publish.
type classes struct {
	store.Store
	mu   sync.Mutex
	seen map[string]store.Durability
}

func (s *classes) ProposePublish(p *store.Publish) {
	s.mu.Lock()
	s.seen[p.Message.Topic] = p.Durability
	s.mu.Unlock()
	s.Store.ProposePublish(p)
}

func TestClassOfDurabilityByTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &classes{Store: store.NewMemory(store.Options{}), seen: map[string]store.Durability{}}
		b := brokertest.New(t, broker.Options{Store: s, Policy: broker.Policy{DurabilityByTopic: []broker.TopicDurability{
			{Filter: "t/safe", Durability: store.Sync}, {Filter: "t/#", Durability: store.InMemory}, {Filter: "+/x", Durability: store.Interval},
		}}})
		lasting(t, b, "s")
		p := wire.New(t, b.Dial(), mqtt.V5)
		p.Connect(mqtt.Connect{ClientID: []byte("p"), CleanStart: true})
		want := map[string]store.Durability{"t/safe": store.Sync, "t/x": store.InMemory, "a/x": store.Interval, "other": store.Sync}
		id := uint16(0)
		for name := range want {
			id++
			m := publish(name, "kept", 1, id)
			m.Retain = true
			p.Publish(m)
		}
		for name, class := range want {
			if got, ok := s.seen[name]; !ok || got != class {
				t.Errorf("%s: got %v, %v, want %v", name, got, ok, class)
			}
		}
		if got, want := b.Stats().Kept, [...]int64{store.Sync: 2, store.Interval: 1, store.InMemory: 1}; got != want {
			t.Errorf("got %v kept by class, want %v", got, want)
		}
		p.Disconnect()
	})
}

// A packet identifier has to survive a crash even where the message need not.
func TestIdentifierRaisesClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Store: store.NewMemory(store.Options{}), Policy: broker.Policy{
			DurabilityByTopic: []broker.TopicDurability{{Filter: "#", Durability: store.InMemory}}}})
		s, _ := lasting(t, b, "s")
		s.Subscribe(1, 2, "a")
		p, _ := lasting(t, b, "p")
		p.Publish(publish("a", "x", 2, 7))
		if got, want := b.Stats().Kept, [...]int64{store.Interval: 1, store.InMemory: 0}; got != want {
			t.Errorf("got %v kept by class, want %v", got, want)
		}
	})
}

func TestConnackTellsWeakDurability(t *testing.T) {
	topics := func(classes ...store.Durability) (out []broker.TopicDurability) {
		for _, c := range classes {
			out = append(out, broker.TopicDurability{Filter: "a", Durability: c})
		}
		return out
	}
	for _, c := range []struct {
		name           string
		class          store.Durability
		topics         []broker.TopicDurability
		whole, byTopic string
	}{
		{"sync", store.Sync, nil, "", ""},
		{"sync for all", store.Sync, topics(store.Sync), "", ""},
		{"interval", store.Interval, nil, "interval", ""},
		{"memory", store.InMemory, topics(store.InMemory), "memory", ""},
		{"some topics", store.Sync, topics(store.Interval, store.InMemory, store.Sync), "", "memory"},
		{"interval, some less", store.Interval, topics(store.InMemory), "interval", "memory"},
		{"interval, some more", store.Interval, topics(store.Sync), "interval", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brokertest.New(t, broker.Options{Store: store.NewMemory(store.Options{}), Durability: c.class,
					Policy: broker.Policy{DurabilityByTopic: c.topics}})
				w := wire.New(t, b.Dial(), mqtt.V5)
				p := w.Connect(mqtt.Connect{ClientID: []byte("c"), CleanStart: true})
				got := map[string]string{}
				for k, v := range p.Properties.User() {
					got[string(k)] = string(v)
				}
				if got[broker.PropertyDurability] != c.whole || got[broker.PropertyDurabilityByTopic] != c.byTopic {
					t.Errorf("got %q, want %q and %q", got, c.whole, c.byTopic)
				}
			})
		})
	}
}

// A client that takes only small packets gets a CONNACK without them [MQTT-3.2.2-20].
func TestConnackLeavesDurabilityOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{})
		for limit := uint32(30); limit < 90; limit++ {
			w := wire.New(t, b.Dial(), mqtt.V5)
			w.SendConnect(mqtt.Connect{ClientID: []byte("c"), CleanStart: true, Properties: mqtt.AppendPropUint32(nil, mqtt.PropMaximumPacketSize, limit)})
			x, err := w.Read(time.Second)
			p, ok := x.(*mqtt.Connack)
			if err != nil || !ok || p.Code != mqtt.Success {
				continue // not even the rest of it has room
			}
			if n := len(p.Append(nil, mqtt.V5)); n > int(limit) {
				t.Fatalf("CONNACK has %d bytes, limit %d", n, limit)
			}
			w.Conn.Close()
		}
	})
}
