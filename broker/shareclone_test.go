// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/store/storetest"
)

// cloning is a store that hands out other copies of messages than it was given, as one that reads them from a disk does, and that can
// be late to say that a Publish is done.
type cloning struct {
	store.Store
	mu   sync.Mutex
	late chan struct{} // closed when Done functions of publishes may be called; nil = at once
}

func (s *cloning) ProposePublish(p *store.Publish) {
	s.mu.Lock()
	late := s.late
	s.mu.Unlock()
	if late != nil {
		done := p.Done
		p.Done = func(p *store.Publish) {
			go func() {
				<-late
				done(p)
			}()
		}
	}
	s.Store.ProposePublish(p)
}

func (s *cloning) OpenQueue(o store.Owner) store.Queue { return cloned{s.Store.OpenQueue(o)} }
func (s *cloning) OpenShare(filter string) store.Queue { return cloned{s.Store.OpenShare(filter)} }

type cloned struct{ store.Queue }

func (q cloned) Read(after []store.Position, max, maxBytes int, now int64, dst []store.Delivery) ([]store.Delivery, bool, error) {
	dst, more, err := q.Queue.Read(after, max, maxBytes, now, dst)
	for i := range dst {
		m := *dst[i].Message
		dst[i].Message = &m
	}
	return dst, more, err
}

// A message that came live, while the queue of a shared subscription began in the store, is in both; members get it once, although what is
// read is another copy, and is read before its publication is done.
func TestSharedMessageFromMemoryAndStoreComesOnce(t *testing.T) {
	for _, fails := range []bool{false, true} {
		s := &cloning{Store: store.NewMemory(store.Options{})}
		g := storetest.Gate(s)
		b := brokertest.New(t, broker.Options{Loops: 2, Store: g})
		keeper, _ := lasting(t, b, "keeper") // has all messages stored
		keeper.Subscribe(1, 1, "a")
		online := clean(t, b, mqtt.V5, "online")
		online.Subscribe(1, 1, "$share/g/a")
		member, _ := lasting(t, b, "member")
		p := clean(t, b, mqtt.V5, "p")
		late := make(chan struct{})
		s.mu.Lock()
		s.late = late
		s.mu.Unlock()

		g.Hold()
		member.Send(&mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte("$share/g/a"), QoS: 1}}})
		waitHeld(t, g, 1)
		m := publish("a", "once", 1, 1)
		p.Send(&m) // the share takes it from memory: it knows of no queue in the store
		waitHeld(t, g, 2)
		online.WantPublish("a", "once")
		if fails {
			g.Fail(store.ErrFull)
			member.Next() // SUBACK
			g.Fail(nil)
		}
		g.Release()
		if !fails {
			member.WantSuback(1) // it is a member now, and what the store has is read
			time.Sleep(quiet)
		}
		close(late)
		time.Sleep(quiet)
		s.mu.Lock()
		s.late = nil
		s.mu.Unlock()
		member.WantSilence(quiet)
		online.WantSilence(quiet)
		for i := range uint16(4) { // and it goes on with what comes
			next := publish("a", "next", 1, 10+i)
			p.Send(&next)
		}
		n := len(all(online, 200*time.Millisecond, true)) + len(all(member, 200*time.Millisecond, true))
		if n != 4 {
			t.Errorf("fails %v: the members got %d messages, want 4", fails, n)
		}
		g.Release()
	}
}
