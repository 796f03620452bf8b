// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// wishing subscribes with user properties, given as name and value in turn.
func wishing(t *testing.T, c *wire.Client, filter string, q mqtt.QoS, wishes ...string) *mqtt.Suback {
	t.Helper()
	s := mqtt.Subscribe{ID: 9, Subscriptions: []mqtt.Subscription{{Filter: []byte(filter), QoS: q}}}
	for i := 0; i < len(wishes); i += 2 {
		s.Properties = mqtt.AppendPropUser(s.Properties, wishes[i], wishes[i+1])
	}
	c.Send(&s)
	return wire.Want[*mqtt.Suback](c)
}

// payloads takes deliveries for a time: topic=payload, with the tenth of a second at which each came.
func payloads(t *testing.T, c *wire.Client, d time.Duration) (got []string) {
	t.Helper()
	begin := time.Now()
	for time.Since(begin) < d {
		p, err := c.Read(d - time.Since(begin))
		if err == wire.ErrQuiet {
			break
		}
		m, ok := p.(*mqtt.Publish)
		if !ok {
			t.Fatalf("got %v, %v", p, err)
		}
		got = append(got, fmt.Sprintf("%s=%.10s@%d", m.Topic, m.Payload, time.Since(begin)/(100*time.Millisecond)))
	}
	return got
}

func TestMaxRateKeepsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2})
		s := clean(t, b, mqtt.V5, "s")
		if ack := wishing(t, s, "+", 2, "noctule-max-rate", "2", "else", "x"); ack.Codes[0] != 0 {
			t.Errorf("granted %v, want QoS 0", ack.Codes)
		}
		p := clean(t, b, mqtt.V5, "p")
		for i := range 100 {
			for _, topic := range []string{"a", "b", "c"} {
				p.Send(&mqtt.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i)})
			}
		}
		got := strings.Join(payloads(t, s, 10*time.Second), " ")
		if want := "a=0@0 b=99@5 c=99@10 a=99@15"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if n := b.Stats().Dropped[plugin.Conflated]; n != 296 {
			t.Errorf("%d are counted, want 296", n)
		}
		for range 40 { // twice the rate for ten seconds
			p.Send(&mqtt.Publish{Topic: []byte("a"), Payload: []byte("x")})
			time.Sleep(time.Second / 4)
		}
		if n := len(payloads(t, s, time.Second)); n < 20 || n > 21 {
			t.Errorf("%d came in ten seconds, want 20", n)
		}
	})
}

func TestOnChangeLeavesOutRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2})
		s := clean(t, b, mqtt.V5, "s")
		wishing(t, s, "#", 0, "noctule-on-change", "true")
		all := clean(t, b, mqtt.V5, "all")
		wishing(t, all, "#", 0, "noctule-on-change", "true")
		wishing(t, all, "a/+", 0) // it wants every message
		p := clean(t, b, mqtt.V5, "p")
		for _, m := range []string{"a/1 x", "a/1 x", "a/2 x", "a/1 y", "a/1 y", "a/1 x", "b x", "b x", "a/2 "} {
			topic, payload, _ := strings.Cut(m, " ")
			p.Send(&mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload)})
		}
		if got := strings.Join(payloads(t, s, time.Second), " "); got != "a/1=x@0 a/2=x@0 a/1=y@0 a/1=x@0 b=x@0 a/2=@0" {
			t.Errorf("got %s", got)
		}
		if got := strings.Join(payloads(t, all, time.Second), " "); got != "a/1=x@0 a/1=x@0 a/2=x@0 a/1=y@0 a/1=y@0 a/1=x@0 b=x@0 a/2=@0" {
			t.Errorf("with another subscription: got %s", got)
		}
	})
}

// A client that does not read gets the newest of each topic when it does, and costs a bounded memory until then.
func TestConflateWhileTheClientIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := broker.DefaultLimits()
		l.MaxOutBytes = 8 << 10
		b := brokertest.New(t, broker.Options{Loops: 1, Limits: &l, Policy: broker.Policy{SysInterval: -1}})
		s := clean(t, b, mqtt.V5, "s")
		wishing(t, s, "#", 0, "noctule-conflate", "newest")
		s.Conn.(*memnet.Conn).Freeze(true)
		p := clean(t, b, mqtt.V5, "p")
		p.Conn.SetWriteDeadline(time.Time{})
		const topics = 1200
		for round := range 50 {
			for i := range topics {
				m := mqtt.Publish{Topic: fmt.Append(nil, "t", i), Payload: fmt.Appendf(nil, "%-500d", round)}
				p.Conn.Write(m.Append(nil, mqtt.V5))
			}
		}
		time.Sleep(time.Second)
		s.Conn.(*memnet.Conn).Freeze(false)
		newest := map[string]string{}
		for _, m := range payloads(t, s, 5*time.Second) {
			topic, rest, _ := strings.Cut(m, "=")
			newest[topic], _, _ = strings.Cut(rest, " ")
		}
		fresh := 0
		for _, v := range newest {
			if v == "49" {
				fresh++
			}
		}
		if fresh != 1000 {
			t.Errorf("%d topics of %d have their newest value, want as many as may wait", fresh, len(newest))
		}
		if st := b.Stats(); st.Dropped[plugin.Conflated] < 40_000 || st.Dropped[plugin.QueueFull] == 0 || st.Dropped[plugin.ReceiverSlow] != 0 {
			t.Errorf("conflated %d, queue full %d, receiver slow %d", st.Dropped[plugin.Conflated], st.Dropped[plugin.QueueFull], st.Dropped[plugin.ReceiverSlow])
		}
	})
}

func TestWishesThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 1})
		s := clean(t, b, mqtt.V5, "s")
		for _, w := range [][2]string{{"noctule-conflate", "oldest"}, {"noctule-conflate", ""}, {"noctule-max-rate", "0"}, {"noctule-max-rate", "-1"},
			{"noctule-max-rate", "fast"}, {"noctule-max-rate", "NaN"}, {"noctule-max-rate", "1e300"}, {"noctule-on-change", "1"}, {"noctule-on-chnage", "true"}} {
			ack := wishing(t, s, "a", 1, w[0], w[1])
			reason, _ := ack.Properties.String(mqtt.PropReasonString)
			if ack.Codes[0] != mqtt.ImplementationSpecificError || !strings.Contains(reason, w[0]) {
				t.Errorf("%v: %v %q", w, ack.Codes, reason)
			}
		}
		if ack := wishing(t, s, "$share/g/a", 1, "noctule-conflate", "newest"); ack.Codes[0] != mqtt.ImplementationSpecificError {
			t.Errorf("shared: %v", ack.Codes)
		}
		if b.Stats().Subscriptions != 0 {
			t.Error("a refused subscription is in force")
		}
		wishing(t, s, "a", 1, "noctule-max-rate", "0.5")
		p := clean(t, b, mqtt.V5, "p")
		for range 3 {
			p.Send(&mqtt.Publish{Topic: []byte("a"), Payload: []byte("x")})
		}
		if got := strings.Join(payloads(t, s, 3*time.Second), " "); got != "a=x@0 a=x@20" {
			t.Errorf("one in two seconds: got %s", got)
		}
		if ack := wishing(t, s, "a", 1); ack.Codes[0] != 1 { // subscribed anew without wishes
			t.Errorf("got %v", ack.Codes)
		}
		for range 3 {
			p.Send(&mqtt.Publish{Topic: []byte("a"), Payload: []byte("x")})
		}
		if got := len(payloads(t, s, time.Second)); got != 3 {
			t.Errorf("without wishes %d came", got)
		}
		wishing(t, s, "a", 1, "noctule-max-rate", "0.5")
		for range 3 {
			p.Send(&mqtt.Publish{Topic: []byte("a"), Payload: []byte("x")})
		}
		s.Conn.Close() // with one that waits
	})
}
