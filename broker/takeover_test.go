// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// Many connections that want one client identifier at once take it over one after the other; the last one has it, with its session
// whole, and all others are cut off.
func TestTakeoverStorm(t *testing.T) {
	for _, lasts := range []bool{false, true} {
		b := brokertest.New(t, broker.Options{Loops: 3})
		first, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("one"), Properties: expiry(600)})
		first.Subscribe(1, 1, "t")
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 20 {
					c := wire.New(t, b.Dial(), mqtt.V5)
					p := mqtt.Connect{ClientID: []byte("one")}
					if lasts {
						p.Properties = expiry(600)
					} else {
						p.CleanStart = true
					}
					c.SendConnect(p)
					c.Read(10 * time.Second) // CONNACK, or the end if the next one was quicker
				}
			})
		}
		wg.Wait()
		c, ack := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("one"), Properties: expiry(600)})
		if ack.SessionPresent != lasts {
			t.Errorf("lasts %v: session present %v", lasts, ack.SessionPresent)
		}
		if !lasts {
			c.Subscribe(1, 1, "t")
		}
		p := clean(t, b, mqtt.V5, "p")
		p.Publish(publish("t", "x", 1, 1))
		answer(c, c.WantPublish("t", "x"))
		c.WantQuiet()
		if s := b.Stats(); s.Connected != 2 {
			t.Errorf("lasts %v: %d connections are counted, want 2", lasts, s.Connected)
		}
		b.Stop()
	}
}

// Clients on all loops that pause, flood and leave at random do not keep one another from being served.
func TestSlowReceiversDoNotHoldOthers(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	for i := range 4 {
		clean(t, b, mqtt.V311, fmt.Sprint("deaf", i)).Subscribe(1, mqtt.QoS(i%3), "flood") // never reads again
	}
	healthy := clean(t, b, mqtt.V311, "healthy")
	healthy.Subscribe(1, 1, "calm")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	flooder := clean(t, b, mqtt.V311, "flooder")
	wg.Go(func() {
		big := publish("flood", string(make([]byte, 20_000)), 0, 0)
		for {
			select {
			case <-stop:
				return
			default:
				flooder.Send(&big)
			}
		}
	})
	p := clean(t, b, mqtt.V311, "p")
	for i := range 200 {
		p.Publish(publish("calm", fmt.Sprint(i), 1, uint16(i+1)))
		answer(healthy, healthy.WantPublish("calm", fmt.Sprint(i)))
	}
	close(stop)
	wg.Wait()
	dropped := b.Stats().Dropped
	total := int64(0)
	for _, n := range dropped {
		total += n
	}
	if total == 0 {
		t.Error("nothing was counted as dropped")
	}
}
