// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
)

// strained is a broker whose memory, in percent of its limit, a test sets.
func strained(t *testing.T, loops int, percent *atomic.Int64) (*brokertest.Broker, *strings.Builder) {
	t.Helper()
	var log strings.Builder
	return brokertest.New(t, broker.Options{Loops: loops, Policy: broker.Policy{SysInterval: -1},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Memory: func() (int64, int64) { return percent.Load() * 10, 1000 }}), &log
}

func tryConnect(t *testing.T, b *brokertest.Broker, v mqtt.Version, p mqtt.Connect) (*wire.Client, *mqtt.Connack) {
	c := wire.New(t, b.Dial(), v)
	c.SendConnect(p)
	return c, wire.Want[*mqtt.Connack](c)
}

// From its mark on new connections are refused, with hysteresis; who is connected stays.
func TestMemoryStrainRefusesNewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var percent atomic.Int64
		b, log := strained(t, 2, &percent)
		old := clean(t, b, mqtt.V5, "old")
		refused := func() bool {
			time.Sleep(3 * time.Second)
			c, ack := tryConnect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("c"), CleanStart: true})
			c.Conn.Close()
			if ack.Code != mqtt.Success && ack.Code != mqtt.ServerBusy {
				t.Errorf("got %v", ack.Code)
			}
			return ack.Code == mqtt.ServerBusy
		}
		for i, step := range []struct {
			percent int64
			refused bool
		}{{50, false}, {87, false}, {88, true}, {85, true}, {82, true}, {81, false}, {87, false}, {93, true}, {10, false}} {
			percent.Store(step.percent)
			if got := refused(); got != step.refused {
				t.Errorf("step %d: at %d %% refused is %v", i, step.percent, got)
			}
		}
		percent.Store(90)
		time.Sleep(3 * time.Second)
		if _, ack := tryConnect(t, b, mqtt.V311, mqtt.Connect{ClientID: []byte("3"), CleanStart: true}); ack.Code != mqtt.ServerUnavailable {
			t.Errorf("3.1.1: got %v, want return code 3", ack.Code)
		}
		old.Publish(publish("a", "x", 1, 1))
		s := b.Stats()
		if s.Refused[plugin.Overload] == 0 || s.Overloads[broker.MemoryStrain] != 3 || !s.Overloaded[broker.MemoryStrain] || s.MemoryUsed != 900 || s.MemoryLimit != 1000 {
			t.Errorf("%+v", s)
		}
		if len(b.Alarms()) != 1 || b.Alarms()[0].Name != "overload_memory" {
			t.Errorf("alarms %v", b.Alarms())
		}
		if strings.Count(log.String(), "memory is near memory.limit") != 3 || strings.Count(log.String(), "the overload is over") != 2 {
			t.Errorf("logged: %s", log)
		}
	})
}

// When memory is nearly used up nothing new is taken: QoS 0 is dropped, 5.0 clients are told, older ones end.
func TestDireMemoryRefusesPublishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var percent atomic.Int64
		b, _ := strained(t, 1, &percent)
		s := clean(t, b, mqtt.V5, "s")
		s.Subscribe(1, 1, "a")
		five, old := clean(t, b, mqtt.V5, "5"), clean(t, b, mqtt.V311, "3")
		percent.Store(95)
		time.Sleep(3 * time.Second)
		old.Send(&mqtt.Publish{Topic: []byte("a")})
		five.Send(&mqtt.Publish{Topic: []byte("a")})
		time.Sleep(time.Second) // two calm looks: nobody is stopped for good
		five.Send(&mqtt.Publish{Topic: []byte("a"), QoS: 2, ID: 1})
		if ack := wire.Want[*mqtt.Ack](five); ack.Code != mqtt.QuotaExceeded {
			t.Errorf("got %v", ack.Code)
		}
		old.Send(&mqtt.Publish{Topic: []byte("a"), QoS: 1, ID: 1})
		old.WantClosed()
		percent.Store(90) // not yet below the mark at which it began to be too much
		time.Sleep(time.Second)
		five.Send(&mqtt.Publish{Topic: []byte("a"), QoS: 1, ID: 1})
		if ack := wire.Want[*mqtt.Ack](five); ack.Code != mqtt.QuotaExceeded {
			t.Errorf("at 90 %%: got %v", ack.Code)
		}
		percent.Store(80)
		time.Sleep(time.Second)
		five.Publish(publish("a", "x", 1, 1))
		s.WantPublish("a", "x")
		if got := b.Stats(); got.Dropped[plugin.Overload] != 4 || got.Closed[plugin.Overload] != 1 {
			t.Errorf("dropped %d, closed %d", got.Dropped[plugin.Overload], got.Closed[plugin.Overload])
		}
	})
}

// While there is too much, those that send the most are read less, and the others as before.
func TestNoisiestAreReadLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var percent atomic.Int64
		b, _ := strained(t, 1, &percent)
		s := clean(t, b, mqtt.V5, "s")
		s.Subscribe(1, 0, "#")
		noisy := clean(t, b, mqtt.V311, "noisy")
		noisy.Conn.SetWriteDeadline(time.Time{})
		var quiet []*wire.Client
		for i := range 5 {
			quiet = append(quiet, clean(t, b, mqtt.V311, fmt.Sprint("q", i)))
		}
		percent.Store(90)
		time.Sleep(3*time.Second + 100*time.Millisecond) // between two looks
		loud, late := 0, time.Duration(0)
		for range 40 { // ten seconds: the noisy one sends ten messages of 1 000 bytes, each of the others one of 10
			sent := time.Now()
			for range 10 {
				p := mqtt.Publish{Topic: []byte("n"), Payload: make([]byte, 1000)}
				noisy.Conn.Write(p.Append(nil, mqtt.V311))
			}
			for _, q := range quiet {
				q.Send(&mqtt.Publish{Topic: []byte("q"), Payload: make([]byte, 10)})
			}
			for n := 0; time.Since(sent) < 250*time.Millisecond; {
				got, err := s.Read(250*time.Millisecond - time.Since(sent))
				if err != nil {
					if n != len(quiet) {
						t.Fatalf("%d messages of quiet clients came", n)
					}
					break
				}
				if string(got.(*mqtt.Publish).Topic) == "n" {
					loud++
				} else {
					n++
					late = max(late, time.Since(sent))
				}
			}
		}
		if late > 10*time.Millisecond {
			t.Errorf("a quiet client waited %v", late)
		}
		if n := b.Stats().Counts[broker.OverloadPauses]; n < 15 {
			t.Errorf("the noisy one was stopped %d times; %d messages came", n, loud)
		}
		percent.Store(10)
		time.Sleep(3 * time.Second)
		noisy.Send(&mqtt.Publish{Topic: []byte("end")})
		for {
			if string(wire.Want[*mqtt.Publish](s).Topic) == "end" {
				break
			}
			loud++
		}
		if loud != 400 {
			t.Errorf("%d of its messages came in all, want all 400", loud)
		}
	})
}

// A loop that is held up makes new connections be refused, and those that follow the recovery be taken.
func TestLoopStrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2})
		clean(t, b, mqtt.V5, "c").Disconnect()
		held := make(chan bool)
		b.Loops().Loop(1).Post(loop.Func(func(*loop.Loop) { <-held }))
		b.Loops().Loop(1).Post(loop.Func(func(*loop.Loop) {}))
		time.Sleep(8 * time.Second)
		if !b.Stats().Overloaded[broker.LoopStrain] {
			t.Error("a loop held up for eight seconds is no strain")
		}
		close(held)
		if _, ack := tryConnect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("c"), CleanStart: true}); ack.Code != mqtt.ServerBusy {
			t.Errorf("got %v", ack.Code)
		}
		time.Sleep(4 * time.Second)
		if _, ack := tryConnect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("c"), CleanStart: true}); ack.Code != mqtt.Success {
			t.Errorf("after it: got %v", ack.Code)
		}
	})
}

// stuck is a store whose commits can be held up.
type stuck struct {
	store.Store
	held atomic.Pointer[[]func()]
}

func (s *stuck) Barrier(done func()) {
	if s.held.Load() == nil {
		s.Store.Barrier(done)
		return
	}
	all := append(*s.held.Load(), done)
	s.held.Store(&all)
}

// Commits that take long make sessions that need the store be refused, and nobody else; new clients get a smaller Receive Maximum.
func TestStoreStrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &stuck{Store: store.NewMemory(store.Options{})}
		b := brokertest.New(t, broker.Options{Loops: 2, Store: kept, Durability: store.InMemory})
		window := func(code mqtt.ReasonCode, p mqtt.Connect) uint16 {
			t.Helper()
			c, ack := tryConnect(t, b, mqtt.V5, p)
			c.Conn.Close()
			if ack.Code != code {
				t.Errorf("got %v, want %v", ack.Code, code)
			}
			w, _ := ack.Properties.Uint16(mqtt.PropReceiveMaximum)
			return w
		}
		passing, lasts := mqtt.Connect{ClientID: []byte("c"), CleanStart: true}, mqtt.Connect{ClientID: []byte("l"), Properties: expiry(60)}
		if w := window(mqtt.Success, passing); w != 256 {
			t.Errorf("Receive Maximum %d", w)
		}
		kept.held.Store(new([]func()))
		time.Sleep(40 * time.Second)
		window(mqtt.ServerBusy, lasts)
		if w := window(mqtt.Success, passing); w != 16 {
			t.Errorf("Receive Maximum %d during the strain, want 16", w)
		}
		held := *kept.held.Swap(nil)
		for _, done := range held {
			done()
		}
		time.Sleep(20 * time.Second)
		if w := window(mqtt.Success, lasts); w != 256 {
			t.Errorf("Receive Maximum %d after it", w)
		}
		if b.Stats().Overloads[broker.StoreStrain] != 1 {
			t.Error("it is not counted")
		}
	})
}
