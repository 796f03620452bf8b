// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/store/storetest"
	"github.com/noctule/noctule/transport/std"
)

func rlimits(f func(*broker.Limits)) *broker.Limits {
	l := broker.DefaultLimits()
	f(&l)
	return &l
}

// all reads what comes until quiet for d.
func all(c *wire.Client, d time.Duration, ack bool) (got []*mqtt.Publish) {
	for {
		x, err := c.Read(d)
		if err != nil {
			return got
		}
		switch p := x.(type) {
		case *mqtt.Publish:
			got = append(got, p)
			if ack && p.QoS == 1 {
				c.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID})
			}
			if ack && p.QoS == 2 {
				c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
			}
		case *mqtt.Ack:
			if p.Type == mqtt.PUBREL {
				c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
			}
		}
	}
}

func waitHeld(t *testing.T, g *storetest.Gated, n int) {
	t.Helper()
	for i := 0; g.Held() < n; i++ {
		if i > 2000 {
			t.Fatalf("held %d, want %d", g.Held(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestClosedWhileClaimingKeepsSession(t *testing.T) {
	b, g := gated(t)
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "a")
	s.Disconnect()
	p := clean(t, b, mqtt.V5, "p")
	p.Publish(publish("a", "kept", 1, 1))
	time.Sleep(50 * time.Millisecond)
	g.Hold()
	c := wire.New(t, b.Dial(), mqtt.V5)
	c.SendConnect(mqtt.Connect{ClientID: []byte("s"), Properties: expiry(3600)})
	waitHeld(t, g, 1)
	c.Conn.Close()
	time.Sleep(100 * time.Millisecond)
	g.Release()
	time.Sleep(100 * time.Millisecond)
	s, ack := lasting(t, b, "s")
	if !ack.SessionPresent {
		t.Error("the session is gone with what was acknowledged for it")
	}
	if n := len(all(s, 100*time.Millisecond, true)); n != 1 {
		t.Errorf("got %d messages, want 1", n)
	}
}

func TestTakenOverWhileClaimingKeepsSession(t *testing.T) {
	b, g := gated(t)
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "a")
	s.Disconnect()
	time.Sleep(50 * time.Millisecond)
	g.Hold()
	c := wire.New(t, b.Dial(), mqtt.V5)
	c.SendConnect(mqtt.Connect{ClientID: []byte("s"), Properties: expiry(3600)})
	waitHeld(t, g, 1)
	d := wire.New(t, b.Dial(), mqtt.V5)
	d.SendConnect(mqtt.Connect{ClientID: []byte("s"), Properties: expiry(3600)})
	time.Sleep(100 * time.Millisecond)
	g.Release()
	if ack := wire.Want[*mqtt.Connack](d); !ack.SessionPresent {
		t.Error("session is gone after a takeover amid the claim")
	}
}

func TestPublishersAliasIsNotForwarded(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s := clean(t, b, mqtt.V5, "s")
	s.Subscribe(1, 0, "some/topic")
	p := clean(t, b, mqtt.V5, "p")
	m := publish("some/topic", "x", 0, 0)
	m.Properties = mqtt.AppendPropUint16(nil, mqtt.PropTopicAlias, 3)
	p.Send(&m)
	got := wire.Want[*mqtt.Publish](s)
	if a, ok := got.Properties.Uint16(mqtt.PropTopicAlias); ok {
		t.Errorf("the publisher's topic alias %d went to a subscriber whose Topic Alias Maximum is 0", a)
	}
}

func TestPipelinedUnsubscribeAndSubscribe(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "a")
	s.Send(&mqtt.Unsubscribe{ID: 2, Filters: [][]byte{[]byte("a")}},
		&mqtt.Subscribe{ID: 3, Subscriptions: []mqtt.Subscription{{Filter: []byte("a"), QoS: 1}}})
	wire.Want[*mqtt.Unsuback](s)
	s.WantSuback(3)
	p := clean(t, b, mqtt.V5, "p")
	p.Publish(publish("a", "zero", 0, 0))
	p.Publish(publish("a", "one", 1, 1))
	if got := all(s, 300*time.Millisecond, true); len(got) != 2 {
		t.Errorf("got %d messages on a subscription that was granted, want 2", len(got))
	}
}

func TestUnsubscribedInflightComesAgain(t *testing.T) {
	for q := mqtt.QoS(1); q <= 2; q++ {
		b := brokertest.New(t, broker.Options{Loops: 2})
		s, _ := lasting(t, b, "s")
		s.Subscribe(1, q, "a")
		p := clean(t, b, mqtt.V5, "p")
		p.Publish(publish("a", "one", q, 1))
		s.WantPublish("a", "one")
		s.Send(&mqtt.Unsubscribe{ID: 2, Filters: [][]byte{[]byte("a")}})
		wire.Want[*mqtt.Unsuback](s)
		s.Conn.Close()
		s, _ = lasting(t, b, "s")
		if got := all(s, 200*time.Millisecond, true); len(got) != 1 {
			t.Errorf("QoS %d: unacknowledged PUBLISH came again %d times after unsubscribing, want 1", q, len(got))
		}
	}
}

func TestResendKeepsReceiveMaximum(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "a")
	p := clean(t, b, mqtt.V5, "p")
	for i := range 20 {
		p.Publish(publish("a", fmt.Sprint(i), 1, uint16(i+1)))
	}
	all(s, 100*time.Millisecond, false)
	s.Conn.Close()
	s, _ = connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("s"), Properties: mqtt.AppendPropUint16(expiry(3600), mqtt.PropReceiveMaximum, 5)})
	if n := len(all(s, 200*time.Millisecond, false)); n > 5 {
		t.Errorf("%d unacknowledged PUBLISH packets were sent, Receive Maximum is 5", n)
	}
}

func TestQueueLimitsDoNotLoseWhatIsStored(t *testing.T) {
	for name, l := range map[string]*broker.Limits{
		"MaxQueueMessages":   rlimits(func(l *broker.Limits) { l.MaxQueueMessages = 10 }),
		"MaxTotalQueueBytes": rlimits(func(l *broker.Limits) { l.MaxTotalQueueBytes = 4000 }),
	} {
		b := brokertest.New(t, broker.Options{Loops: 2, Limits: l})
		s, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("s"), Properties: mqtt.AppendPropUint16(expiry(3600), mqtt.PropReceiveMaximum, 1)})
		s.Subscribe(1, 1, "a")
		if name == "MaxTotalQueueBytes" { // somebody else fills the total
			h, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("hog"), CleanStart: true, Properties: mqtt.AppendPropUint16(nil, mqtt.PropReceiveMaximum, 1)})
			h.Subscribe(1, 1, "h")
			p := clean(t, b, mqtt.V5, "p0")
			for i := range 6 {
				p.Publish(publish("h", string(make([]byte, 1000)), 1, uint16(i+1)))
			}
		}
		p := clean(t, b, mqtt.V5, "p")
		for i := range 100 {
			p.Publish(publish("a", fmt.Sprint(i), 1, uint16(i+1)))
		}
		if n := len(all(s, 300*time.Millisecond, true)); n != 100 {
			t.Errorf("%s: the persistent session got %d of 100 acknowledged messages", name, n)
		}
	}
}

func TestPausedForEverWithReceiveMaximum1(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2, Limits: rlimits(func(l *broker.Limits) { l.ReceiveMaximum = 1 })})
	p := clean(t, b, mqtt.V311, "p")
	p.Patience = time.Second
	for i := range 3 {
		m := publish("r", "x", 1, uint16(i+1))
		m.Retain = true
		p.Publish(m)
	}
}

func TestDowngradeToQoS0LosesNothing(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "a")
	s.Disconnect()
	p := clean(t, b, mqtt.V5, "p")
	for i := range 1000 {
		p.Publish(publish("a", fmt.Sprint(i), 1, uint16(i+1)))
	}
	s, _ = connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("s"), Properties: mqtt.AppendPropUint16(expiry(3600), mqtt.PropReceiveMaximum, 5)})
	s.Send(&mqtt.Subscribe{ID: 5, Subscriptions: []mqtt.Subscription{{Filter: []byte("a"), QoS: 0}}})
	if n := len(all(s, 300*time.Millisecond, true)); n != 1000 {
		t.Errorf("%d of 1000 messages came after the subscription was replaced", n)
	}
}

func TestStoredCopyHasAllIdentifiers(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s, _ := lasting(t, b, "s")
	s.Send(&mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte("a/#"), QoS: 0}}, Properties: mqtt.AppendPropVarInt(nil, mqtt.PropSubscriptionIdentifier, 1)})
	s.WantSuback(1)
	s.Send(&mqtt.Subscribe{ID: 2, Subscriptions: []mqtt.Subscription{{Filter: []byte("a/b"), QoS: 1}}, Properties: mqtt.AppendPropVarInt(nil, mqtt.PropSubscriptionIdentifier, 2)})
	s.WantSuback(2)
	s.Disconnect()
	p := clean(t, b, mqtt.V5, "p")
	p.Publish(publish("a/b", "x", 1, 1))
	s, _ = lasting(t, b, "s")
	got := s.WantPublish("a/b", "x")
	if n := len(got.Properties); n != 4 {
		t.Errorf("properties % x, want two subscription identifiers", []byte(got.Properties))
	}
}

func TestAliasDoesNotMakeAMessageTooLarge(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	m := publish("some/topic", "0123456789", 1, 1)
	size := len(m.Append(nil, mqtt.V5))
	props := mqtt.AppendPropUint16(mqtt.AppendPropUint32(nil, mqtt.PropMaximumPacketSize, uint32(size)), mqtt.PropTopicAliasMaximum, 5)
	s, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("s"), CleanStart: true, Properties: props})
	s.Subscribe(1, 1, "some/topic")
	p := clean(t, b, mqtt.V5, "p")
	p.Publish(m)
	if n := len(all(s, 200*time.Millisecond, true)); n != 1 {
		t.Errorf("a message of exactly Maximum Packet Size was dropped for the sake of an alias")
	}
}

type censor struct{ named }

func (censor) InterceptDeliver(c *plugin.Client, m *mqtt.Message) (*mqtt.Message, bool) {
	n := *m
	n.Payload = []byte("censored")
	return &n, true
}

func TestDeliverHookSeesResend(t *testing.T) {
	for q := mqtt.QoS(1); q <= 2; q++ {
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{censor{"censor"}}})
		s, _ := lasting(t, b, "s")
		s.Subscribe(1, q, "a")
		p := clean(t, b, mqtt.V5, "p")
		p.Publish(publish("a", "secret", q, 1))
		s.WantPublish("a", "censored")
		s.Conn.Close()
		s, _ = lasting(t, b, "s")
		if got := wire.Want[*mqtt.Publish](s); string(got.Payload) != "censored" {
			t.Errorf("QoS %d: repeated with payload %q", q, got.Payload)
		}
	}
}

func rtcp(t *testing.T, o broker.Options) (*broker.Broker, string) {
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := std.New(std.Options{Loops: b.Loops(), NewCore: b.Core})
	l, err := std.Listen(t.Context(), "tcp", "127.0.0.1:0", std.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve("t", l, std.ListenerOptions{}) }()
	t.Cleanup(func() {
		l.Close()
		<-served
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		b.Drain(ctx)
		srv.Close()
		b.Shutdown(ctx)
	})
	return b, l.Addr().String()
}

func rdial(t *testing.T, addr, id string) *wire.Client {
	n, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := wire.New(t, n, mqtt.V5)
	c.Connect(mqtt.Connect{ClientID: []byte(id), CleanStart: true})
	return c
}

// On a socket that takes all at once there is no Drained: what waits for room must go on all the same.
func TestQueueGoesOnAfterAFlushAtOnce(t *testing.T) {
	_, addr := rtcp(t, broker.Options{Loops: 1, Limits: rlimits(func(l *broker.Limits) { l.MaxOutBytes = 64 << 10 })})
	s := rdial(t, addr, "s")
	s.Subscribe(1, 1, "a")
	p := rdial(t, addr, "p")
	for i := range 10 {
		big, small := publish("a", string(make([]byte, 40<<10)), 0, 0), publish("a", fmt.Sprint(i), 1, uint16(i+1))
		p.Send(&big, &small)
		p.WantAck(mqtt.PUBACK, uint16(i+1))
	}
	n := 0
	for _, m := range all(s, 500*time.Millisecond, true) {
		if m.QoS == 1 {
			n++
		}
	}
	if n != 10 {
		t.Errorf("%d of 10 messages of QoS 1 came; the queue stands still", n)
	}
}

func TestRetainedGoOnAfterAFlushAtOnce(t *testing.T) {
	_, addr := rtcp(t, broker.Options{Loops: 1, Limits: rlimits(func(l *broker.Limits) { l.MaxOutBytes = 256 << 10 })})
	p := rdial(t, addr, "p")
	for i := range 20 {
		m := publish(fmt.Sprint("r/", i), string(make([]byte, 40<<10)), 0, 0)
		m.Retain = true
		p.Send(&m)
	}
	p.WantQuiet()
	time.Sleep(200 * time.Millisecond)
	s := rdial(t, addr, "s")
	s.Subscribe(1, 0, "r/#")
	if n := len(all(s, 500*time.Millisecond, true)); n != 20 {
		t.Errorf("%d of 20 retained messages came", n)
	}
}

// A client that subscribes on and on and reads nothing must be paused.
func TestSubscribeFloodIsBounded(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 1})
	time.Sleep(50 * time.Millisecond)
	s := clean(t, b, mqtt.V5, "s")
	before := b.Stats().Counts[broker.BytesSent]
	sub := mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte("$SYS/#")}}}
	one := sub.Append(nil, mqtt.V5)
	var many []byte
	for range 20000 {
		many = append(many, one...)
	}
	s.Conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	s.Conn.Write(many)
	time.Sleep(300 * time.Millisecond)
	if n := b.Stats().Counts[broker.BytesSent] - before; n > 8<<20 {
		t.Errorf("%d MB wait for a client that reads nothing; MaxOutBytes is 1 MB", n>>20)
	}
}

// A client that the broker does not read must not be ended for its silence.
func TestPausedClientIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := storetest.Gate(store.NewMemory(store.Options{}))
		b := brokertest.New(t, broker.Options{Loops: 1, Store: g, Limits: rlimits(func(l *broker.Limits) { l.ReceiveMaximum = 2 })})
		p, _ := connect(t, b, mqtt.V311, mqtt.Connect{ClientID: []byte("p"), CleanStart: true, KeepAlive: 2})
		g.Hold()
		for i := range 2 {
			m := publish("r", "x", 1, uint16(i+1))
			m.Retain = true
			p.Send(&m)
		}
		for range 10 {
			time.Sleep(time.Second)
			p.Ping()
		}
		g.Release()
		if _, err := p.Read(time.Second); err != nil {
			t.Errorf("the client pinged in time and was cut off: %v", err)
		}
		b.Stop()
	})
}

func TestSubackWithinMaximumPacketSize(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 1})
	s, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("s"), CleanStart: true, Properties: mqtt.AppendPropUint32(nil, mqtt.PropMaximumPacketSize, 40)})
	sub := &mqtt.Subscribe{ID: 1}
	for i := range 60 {
		sub.Subscriptions = append(sub.Subscriptions, mqtt.Subscription{Filter: []byte(fmt.Sprint(i))})
	}
	s.Send(sub)
	s.Read(time.Second)
	if len(s.Last) > 40 {
		t.Errorf("a packet of %d bytes was sent, Maximum Packet Size is 40", len(s.Last))
	}
}

// The time for CONNECT counts on the home loop too.
func TestConnectTimeoutAfterMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := storetest.Gate(store.NewMemory(store.Options{}))
		b := brokertest.New(t, broker.Options{Loops: 4, Store: g})
		g.Hold()
		var cs []*wire.Client
		for i := range 16 {
			c := wire.New(t, b.Dial(), mqtt.V5)
			c.SendConnect(mqtt.Connect{ClientID: []byte(fmt.Sprint("c", i)), Properties: expiry(100)})
			cs = append(cs, c)
		}
		time.Sleep(time.Minute)
		open := 0
		for _, c := range cs {
			if _, err := c.Read(time.Millisecond); err == wire.ErrQuiet {
				open++
			}
		}
		if open > 0 {
			t.Errorf("%d of 16 connections wait for CONNACK after a minute, ConnectTimeout is 10 s", open)
		}
		g.Release()
		b.Stop()
	})
}

// The time for CONNECT passes, or the server shuts down, while the store is asked: the session must survive.
func TestTimeoutWhileClaimingKeepsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := storetest.Gate(store.NewMemory(store.Options{}))
		b := brokertest.New(t, broker.Options{Loops: 1, Store: g})
		s, _ := lasting(t, b, "s")
		s.Subscribe(1, 1, "a")
		s.Disconnect()
		time.Sleep(time.Second)
		g.Hold()
		c := wire.New(t, b.Dial(), mqtt.V5)
		c.SendConnect(mqtt.Connect{ClientID: []byte("s"), Properties: expiry(3600)})
		time.Sleep(20 * time.Second)
		g.Release()
		time.Sleep(time.Second)
		if !g.Has("s") {
			t.Error("the session is gone")
		}
		b.Stop()
	})
}

func TestDrainWhileClaimingKeepsSession(t *testing.T) {
	b, g := gated(t)
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "a")
	s.Disconnect()
	time.Sleep(50 * time.Millisecond)
	g.Hold()
	c := wire.New(t, b.Dial(), mqtt.V5)
	c.SendConnect(mqtt.Connect{ClientID: []byte("s"), Properties: expiry(3600)})
	waitHeld(t, g, 1)
	go func() { time.Sleep(100 * time.Millisecond); g.Release() }()
	b.Drain(t.Context())
	if !g.Has("s") {
		t.Error("the session is gone")
	}
}

// vague ends an exchange without a verdict.
type vague struct{ named }

func (vague) Method() string { return "V" }
func (v vague) Begin(context.Context, *plugin.Client) (plugin.Exchange, error) {
	return v, nil
}
func (vague) Next(context.Context, []byte) ([]byte, bool, plugin.Decision, plugin.Identity, error) {
	return nil, true, plugin.Decision{}, plugin.Identity{}, nil
}

func TestExchangeWithoutVerdictIsNoGrant(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 1, Plugins: []plugin.Plugin{vague{"vague"}}})
	c := wire.New(t, b.Dial(), mqtt.V5)
	c.SendConnect(mqtt.Connect{ClientID: []byte("c"), CleanStart: true, Properties: mqtt.AppendPropString(nil, mqtt.PropAuthenticationMethod, "V")})
	if a := wire.Want[*mqtt.Connack](c); a.Code == mqtt.Success {
		t.Error("granted without Allow")
	}
}

// Messages of QoS 2 that wait for their identifiers to be kept count against the out-queue.
func TestQoS2BacklogKeepsToMaxOutBytes(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 2, "a")
	s.Disconnect()
	p := clean(t, b, mqtt.V5, "p")
	for i := range 200 {
		p.Publish(publish("a", string(make([]byte, 100<<10)), 1+mqtt.QoS(1), uint16(i+1)))
	}
	before := b.Stats().Counts[broker.BytesSent]
	lasting(t, b, "s")
	time.Sleep(300 * time.Millisecond)
	if n := b.Stats().Counts[broker.BytesSent] - before; n > 3<<20 {
		t.Errorf("%d KB wait for a client that reads nothing; MaxOutBytes is 1 MB", n>>10)
	}
}

// Repetitions at a reconnect keep to the out-queue's budget as well.
func TestResendKeepsToMaxOutBytes(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "a")
	p := clean(t, b, mqtt.V5, "p")
	for i := range 100 {
		p.Publish(publish("a", string(make([]byte, 100<<10)), 1, uint16(i+1)))
		s.Next()
	}
	s.Conn.Close()
	time.Sleep(50 * time.Millisecond)
	before := b.Stats().Counts[broker.BytesSent]
	lasting(t, b, "s")
	time.Sleep(100 * time.Millisecond)
	if n := b.Stats().Counts[broker.BytesSent] - before; n > 3<<20 {
		t.Errorf("%d KB wait for a client that reads nothing; MaxOutBytes is 1 MB", n>>10)
	}
}

// Connections of few identifiers come and go without waiting for anything, on a store that hangs now and then: no identifier may
// hang, and nothing that a session got may be lost.
func TestIdentityChainNeverHangs(t *testing.T) {
	g := storetest.Gate(store.NewMemory(store.Options{}))
	b := brokertest.New(t, broker.Options{Loops: 3, Store: g})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				g.Release()
				return
			default:
			}
			g.Hold()
			time.Sleep(time.Duration(i%7) * time.Millisecond)
			g.Release()
			time.Sleep(time.Duration(i%3) * time.Millisecond)
		}
	})
	for w := range 6 {
		wg.Go(func() {
			for i := range 120 {
				id := fmt.Sprint("x", (w+i)%3)
				c := wire.New(t, b.Dial(), mqtt.V5)
				p := mqtt.Connect{ClientID: []byte(id), CleanStart: i%5 == 0, HasWill: i%4 == 0, Will: mqtt.Will{Topic: []byte("will"), QoS: mqtt.QoS(i % 3)}}
				if i%3 > 0 {
					p.Properties = expiry(uint32(100 * (i % 3)))
				}
				c.SendConnect(p)
				switch i % 4 {
				case 0:
				case 1:
					c.Send(&mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte("will"), QoS: 2}, {Filter: []byte("$share/g/will"), QoS: 2}}})
				case 2:
					m := publish("will", "x", 2, 1)
					c.Send(&m)
					c.Read(3 * time.Millisecond)
				case 3:
					c.Read(5 * time.Millisecond)
					c.Read(5 * time.Millisecond)
				}
				if i%2 == 0 {
					c.Conn.Close()
				}
			}
		})
	}
	time.Sleep(10 * time.Millisecond)
	done := make(chan struct{})
	go func() { time.Sleep(4 * time.Second); close(stop); wg.Wait(); close(done) }()
	<-done
	for i := range 3 {
		c := wire.New(t, b.Dial(), mqtt.V5)
		c.Connect(mqtt.Connect{ClientID: []byte(fmt.Sprint("x", i)), CleanStart: true})
		c.WantQuiet()
		c.Disconnect()
	}
	b.Stop()
}

// A broker that could not be made leaves nothing behind; TestMain looks for goroutines.
func TestFailedNewLeavesNothing(t *testing.T) {
	if _, err := broker.New(broker.Options{Plugins: []plugin.Plugin{named("x"), named("x")}}); err == nil {
		t.Fatal("two plug-ins of one name")
	}
	if err := goleak.Find(); err != nil {
		t.Error("a goroutine is left: ", err.Error()[:200])
	}
}

// A client that replaces its own connection is not one too many.
func TestConnectionLimitAllowsTakeover(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2, Limits: rlimits(func(l *broker.Limits) { l.MaxConnections = 1 })})
	lasting(t, b, "s") // half-open, as far as its client knows
	c := wire.New(t, b.Dial(), mqtt.V5)
	c.SendConnect(mqtt.Connect{ClientID: []byte("s"), Properties: expiry(3600)})
	if a := wire.Want[*mqtt.Connack](c); a.Code != mqtt.Success {
		t.Errorf("a client that comes back is refused with %v because of itself", a.Code)
	}
}

// While a subscription is being raised from QoS 0 nothing that it matches may be lost.
func TestRaisedSubscriptionLosesNothingMeanwhile(t *testing.T) {
	b, g := gated(t)
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 0, "a")
	p := clean(t, b, mqtt.V5, "p")
	g.Hold()
	s.Send(&mqtt.Subscribe{ID: 2, Subscriptions: []mqtt.Subscription{{Filter: []byte("a"), QoS: 1}}})
	waitHeld(t, g, 1)
	p.Publish(publish("a", "x", 1, 1))
	if n := len(all(s, 100*time.Millisecond, true)); n != 1 {
		g.Release()
		if n += len(all(s, 200*time.Millisecond, true)); n != 1 {
			t.Errorf("%d of 1 message came, at any QoS", n)
		}
	}
}

// A client must not fill the store's queue with subscriptions that wait.
func TestPendingSubscribesAreBounded(t *testing.T) {
	b, g := gated(t)
	s, _ := lasting(t, b, "s")
	g.Hold()
	one := (&mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte("a"), QoS: 0}}}).Append(nil, mqtt.V5)
	var many []byte
	for range 50_000 {
		many = append(many, one...)
	}
	s.Conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	s.Conn.Write(many)
	time.Sleep(200 * time.Millisecond)
	if n := g.Held(); n > 10_000 {
		t.Errorf("%d commands of one client wait for the store", n)
	}
}
