// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
)

// withRules is a broker with rules, in virtual time.
func withRules(t *testing.T, loops int, rules ...limit.Rule) *brokertest.Broker {
	t.Helper()
	l := broker.DefaultLimits()
	l.Rules = rules
	for i := range l.Rules {
		if l.Rules[i].Name == "" {
			l.Rules[i].Name = fmt.Sprint("r", i)
		}
		if l.Rules[i].Caps == (limit.Caps{}) {
			l.Rules[i].MaxQoS = 2
		}
	}
	return brokertest.New(t, broker.Options{Loops: loops, Limits: &l, Policy: broker.Policy{AllowAnonymous: broker.Everywhere, SysInterval: -1}})
}

func rate(perSecond, burst int64) limit.Rate { return limit.Rate{PerSecond: perSecond, Burst: burst} }

// flood writes n messages as fast as the connection takes them; done tells when all are written.
func flood(c *wire.Client, n int, q mqtt.QoS, payload int) (done *atomic.Bool) {
	done = new(atomic.Bool)
	c.Conn.SetWriteDeadline(time.Time{})
	go func() {
		for i := range n {
			p := mqtt.Publish{Topic: []byte("a"), QoS: q, Payload: fmt.Appendf(nil, "%-*d", payload, i)}
			if q > 0 {
				p.ID = uint16(i%60000 + 1)
			}
			if _, err := c.Conn.Write(p.Append(nil, c.Version)); err != nil {
				return
			}
		}
		done.Store(true)
	}()
	return done
}

// arrivals takes deliveries for a time, and says when each came. They have to come in order, from the given one on.
func arrivals(t *testing.T, c *wire.Client, from int, d time.Duration) (at []time.Duration) {
	t.Helper()
	begin := time.Now()
	for {
		left := d - time.Since(begin)
		if left <= 0 {
			return at
		}
		got, err := c.Read(left)
		if err == wire.ErrQuiet {
			return at
		}
		p, ok := got.(*mqtt.Publish)
		if !ok {
			t.Fatalf("got %v, %v", got, err)
		}
		if s := strings.TrimSpace(string(p.Payload)); s != fmt.Sprint(from+len(at)) {
			t.Fatalf("got message %s, want %d", s, from+len(at))
		}
		if p.QoS == 1 {
			c.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID})
		}
		at = append(at, time.Since(begin))
	}
}

// wantRate checks that in no window more than burst + rate came, and in all that much to 1 %.
func wantRate(t *testing.T, at []time.Duration, r limit.Rate, took time.Duration) {
	t.Helper()
	for i := range at {
		for j := i; j < len(at); j += 1 + len(at)/200 {
			if most := float64(r.Burst) + (at[j]-at[i]).Seconds()*float64(r.PerSecond)*1.01 + 1; float64(j-i+1) > most {
				t.Fatalf("%d messages within %v, at most %.0f are allowed", j-i+1, at[j]-at[i], most)
			}
		}
	}
	if want := float64(r.Burst) + took.Seconds()*float64(r.PerSecond); float64(len(at)) < 0.99*want-1 {
		t.Errorf("%d messages in %v, want %.0f", len(at), took, want)
	}
}

func hits(b *brokertest.Broker, rule string, k limit.Kind) int64 {
	for _, c := range b.Stats().Rules {
		if c.Rule == rule {
			return c.Hits[k]
		}
	}
	return -1
}

// A publisher beyond its rate is not read, loses nothing, and is not cut for its keep alive while we do not read it.
func TestPauseKeepsTheRateAndLosesNothing(t *testing.T) {
	for _, q := range []mqtt.QoS{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			r := rate(500, 50)
			b := withRules(t, 2, limit.Rule{Clients: []string{"p*"}, MessagesIn: r})
			s := clean(t, b, mqtt.V5, "s")
			s.Subscribe(1, 0, "a")
			p, _ := connect(t, b, mqtt.V311, mqtt.Connect{ClientID: []byte("pub"), CleanStart: true, KeepAlive: 1})
			done := flood(p, 10_000, q, 1000)
			at := arrivals(t, s, 0, 10*time.Second)
			wantRate(t, at, r, 10*time.Second)
			if done.Load() {
				t.Error("the publisher was read on")
			}
			rest := arrivals(t, s, len(at), 20*time.Second)
			if len(at)+len(rest) != 10_000 {
				t.Errorf("QoS %d: %d messages came, want all; closed: %v", q, len(at)+len(rest), b.Stats().Closed)
			}
			if hits(b, "r0", limit.Paused) == 0 || b.Stats().Closed[plugin.KeepAliveTimeout] > 1 {
				t.Errorf("%+v", b.Stats().Rules)
			}
		})
	}
}

// A pause that is longer than the keep alive does not end the connection.
func TestPauseBeyondTheKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 1, limit.Rule{BytesIn: rate(1000, 1000)})
		p, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("p"), CleanStart: true, KeepAlive: 1})
		p.Send(&mqtt.Publish{Topic: []byte("a"), Payload: make([]byte, 20_000)}) // nineteen seconds
		p.Send(&mqtt.Publish{Topic: []byte("a"), QoS: 1, ID: 1})
		p.WantSilence(18 * time.Second)
		p.WantAck(mqtt.PUBACK, 1)
		p.Ping() // the debt is paid
		p.Next()
		time.Sleep(time.Second)
		if n := b.Stats().Closed[plugin.KeepAliveTimeout]; n != 0 {
			t.Error("it was cut")
		}
		if code := p.WantClosed(); code != mqtt.KeepAliveTimeout {
			t.Errorf("silent now: %v", code)
		}
	})
}

// One bucket for all connections of a user, on all loops.
func TestUserSharesOneRateOverAllLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rate(1000, 100)
		b := withRules(t, 4, limit.Rule{Users: []string{"u"}, Per: limit.PerUser, MessagesIn: r})
		s := clean(t, b, mqtt.V5, "s")
		s.Subscribe(1, 0, "a")
		for i := range 16 {
			p, _ := connect(t, b, mqtt.V311, mqtt.Connect{ClientID: fmt.Append(nil, "p", i), CleanStart: true, HasUsername: true, Username: []byte("u")})
			flood(p, 2000, 0, 10)
		}
		var at []time.Duration
		begin := time.Now()
		for time.Since(begin) < 5*time.Second {
			if _, err := s.Read(5*time.Second - time.Since(begin)); err == nil {
				at = append(at, time.Since(begin))
			}
		}
		wantRate(t, at, r, 5*time.Second)
	})
}

func TestBytesInAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 1, limit.Rule{BytesIn: rate(100_000, 10_000), Clients: []string{"p"}})
		s := clean(t, b, mqtt.V5, "s")
		s.Subscribe(1, 0, "a")
		p := clean(t, b, mqtt.V311, "p")
		flood(p, 5000, 0, 994) // packets of 1 000 bytes
		wantRate(t, arrivals(t, s, 0, 10*time.Second), rate(100, 10), 10*time.Second)
	})
}

// Beyond the rate 5.0 clients are told 0x97, and QoS 0 is dropped and counted. Refused messages cost no tokens.
func TestRejectAnswersQuotaExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, policy := range []limit.Policy{limit.Reject, limit.Drop} {
			b := withRules(t, 1, limit.Rule{Policy: policy, MessagesIn: rate(10, 5)})
			p := clean(t, b, mqtt.V5, "p")
			var refused int
			for i := range 20 {
				q := mqtt.QoS(1 + i%2)
				p.Send(&mqtt.Publish{Topic: []byte("a"), QoS: q, ID: uint16(i + 1)})
				ack := wire.Want[*mqtt.Ack](p)
				if ack.Code == mqtt.QuotaExceeded {
					refused++
				} else if q == 2 {
					p.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: ack.ID})
					wire.Want[*mqtt.Ack](p)
				}
			}
			if refused != 15 {
				t.Errorf("%v: %d of 20 were refused, want 15", policy, refused)
			}
			p.Send(&mqtt.Publish{Topic: []byte("a")})
			p.Ping()
			p.Next()
			if got := b.Stats().Dropped[plugin.MessageRateTooHigh]; got != 16 {
				t.Errorf("%v: %d are counted", policy, got)
			}
			time.Sleep(time.Second)
			for i := range 6 {
				p.Send(&mqtt.Publish{Topic: []byte("a"), QoS: 1, ID: 1})
				if ack := wire.Want[*mqtt.Ack](p); ack.Code.IsError() != (i == 5) {
					t.Errorf("%v: message %d a second later is answered %v", policy, i, ack.Code)
				}
			}
			b.Stop()
		}
	})
}

// A 3.1.1 client cannot be told no: with reject it waits, with drop it is acknowledged.
func TestOlderClientsBeyondTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 1, limit.Rule{Name: "reject", Clients: []string{"r"}, Policy: limit.Reject, MessagesIn: rate(10, 5)},
			limit.Rule{Name: "drop", Clients: []string{"d"}, Policy: limit.Drop, MessagesIn: rate(10, 5)})
		s := clean(t, b, mqtt.V5, "s")
		s.Subscribe(1, 0, "a")
		r := clean(t, b, mqtt.V311, "r")
		begin := time.Now()
		flood(r, 25, 1, 2)
		for i := range 25 {
			s.WantPublish("a", fmt.Sprintf("%-2d", i))
			r.WantAck(mqtt.PUBACK, uint16(i+1))
		}
		if took := time.Since(begin); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("20 messages beyond the burst took %v, want 2 s", took)
		}
		d := clean(t, b, mqtt.V311, "d")
		begin = time.Now()
		flood(d, 25, 1, 2)
		for i := range 25 {
			d.WantAck(mqtt.PUBACK, uint16(i+1))
		}
		if took := time.Since(begin); took > 100*time.Millisecond {
			t.Errorf("with drop they took %v", took)
		}
		if got := len(arrivals(t, s, 0, time.Second)); got != 5 {
			t.Errorf("%d messages came, want the burst", got)
		}
		if got := b.Stats().Dropped[plugin.MessageRateTooHigh]; got != 20 || hits(b, "drop", limit.Dropped) != 20 {
			t.Errorf("%d are counted, want 20", got)
		}
		if got := b.Drops().Drops(journal.Query{Limit: 100}); len(got) == 0 {
			t.Error("the journal knows nothing of acknowledged messages that were dropped")
		}
	})
}

func TestDisconnectSaysWhichLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 1, limit.Rule{Clients: []string{"m"}, Policy: limit.Disconnect, MessagesIn: rate(10, 5)},
			limit.Rule{Clients: []string{"b"}, Policy: limit.Disconnect, BytesIn: rate(1000, 0)})
		m := clean(t, b, mqtt.V5, "m")
		flood(m, 6, 0, 10)
		if code := m.WantClosed(); code != mqtt.MessageRateTooHigh {
			t.Errorf("got %v", code)
		}
		c := clean(t, b, mqtt.V5, "b")
		flood(c, 2, 0, 600)
		if code := c.WantClosed(); code != mqtt.QuotaExceeded {
			t.Errorf("got %v", code)
		}
		old := clean(t, b, mqtt.V311, "m")
		flood(old, 20, 0, 10)
		old.WantClosed()
		if s := b.Stats(); s.Closed[plugin.MessageRateTooHigh] != 2 || s.Closed[plugin.QuotaExceeded] != 1 {
			t.Errorf("%v", s.Closed)
		}
	})
}

// What goes out beyond a rate waits, in order, and is not lost; for sessions with and without a store.
func TestOutgoingIsShaped(t *testing.T) {
	for i, q := range []mqtt.QoS{0, 1, 0} {
		for _, lasts := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := rate(200, 20)
				b := withRules(t, 2, limit.Rule{Clients: []string{"s"}, MessagesOut: r})
				s, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("s"), CleanStart: true})
				if lasts {
					s.Disconnect()
					s, _ = lasting(t, b, "s")
				}
				s.Subscribe(1, q, "a")
				p := clean(t, b, mqtt.V311, "p")
				flood(p, 3000, q, []int{20, 20, 5000}[i]) // large ones go by reference
				at := arrivals(t, s, 0, 10*time.Second)
				wantRate(t, at, r, 10*time.Second)
				rest := arrivals(t, s, len(at), 10*time.Second)
				if len(at)+len(rest) != 3000 {
					t.Errorf("QoS %d, lasting %v: %d messages came, want 3000", q, lasts, len(at)+len(rest))
				}
				if st := b.Stats(); hits(b, "r0", limit.Shaped) == 0 || st.Queued != 0 || st.QueuedBytes != 0 {
					t.Errorf("%+v", st.Rules)
				}
			})
		}
	}
}

// What waits for its turn is bounded like any queue.
func TestShapedQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 1, limit.Rule{Clients: []string{"s"}, BytesOut: rate(1000, 1000), Caps: limit.Caps{MaxQueueMessages: 10, MaxQoS: 2}})
		s := clean(t, b, mqtt.V5, "s")
		s.Subscribe(1, 0, "a")
		p := clean(t, b, mqtt.V5, "p")
		flood(p, 100, 0, 93) // deliveries of 100 bytes
		time.Sleep(time.Second / 100)
		if got := b.Stats().Dropped[plugin.QueueFull]; got != 80 {
			t.Errorf("%d are dropped, want all but the burst of 10 and the queue of 10", got)
		}
		at := arrivals(t, s, 0, 5*time.Second)
		if len(at) != 20 {
			t.Errorf("%d came", len(at))
		}
		s.Disconnect()
	})
}

func TestConnectRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 2, limit.Rule{Per: limit.PerAddress, Connects: rate(2, 3)})
		from := func(ip string, v mqtt.Version) mqtt.ReasonCode {
			c := wire.New(t, b.DialFrom(&net.TCPAddr{IP: net.ParseIP(ip), Port: 1}), v)
			c.SendConnect(mqtt.Connect{ClientID: []byte("c"), CleanStart: true})
			defer c.Conn.Close()
			return wire.Want[*mqtt.Connack](c).Code
		}
		for i := range 6 {
			want := mqtt.Success
			if i >= 3 {
				want = mqtt.ConnectionRateExceeded
			}
			if got := from("192.0.2.1", mqtt.V5); got != want {
				t.Errorf("connection %d: %v", i, got)
			}
		}
		if got := from("192.0.2.1", mqtt.V311); got != mqtt.ServerUnavailable {
			t.Errorf("3.1.1: %v, want return code 3", got)
		}
		if got := from("192.0.2.2", mqtt.V5); got != mqtt.Success {
			t.Errorf("another address: %v", got)
		}
		time.Sleep(time.Second)
		for i, want := range []bool{true, true, false} {
			if got := from("192.0.2.1", mqtt.V5); (got == mqtt.Success) != want {
				t.Errorf("a second later, connection %d: %v", i, got)
			}
		}
		// Addresses of one /64 are one.
		for i := range 4 {
			if got := from(fmt.Sprintf("2001:db8::%d", i), mqtt.V5); (got == mqtt.Success) != (i < 3) {
				t.Errorf("2001:db8::%d: %v", i, got)
			}
		}
		if got := b.Stats().Refused[plugin.ConnectionRate]; got != 6 {
			t.Errorf("%d are counted, want 6", got)
		}
	})
}

func TestConnectionsPerUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 2, limit.Rule{Per: limit.PerUser, MaxConnections: 2})
		open := func(id, user string) (*wire.Client, mqtt.ReasonCode) {
			c := wire.New(t, b.Dial(), mqtt.V5)
			c.SendConnect(mqtt.Connect{ClientID: []byte(id), CleanStart: true, HasUsername: true, Username: []byte(user)})
			return c, wire.Want[*mqtt.Connack](c).Code
		}
		one, _ := open("1", "u")
		open("2", "u")
		if _, code := open("3", "u"); code != mqtt.QuotaExceeded {
			t.Errorf("third connection: %v", code)
		}
		if _, code := open("4", "v"); code != mqtt.Success {
			t.Errorf("another user: %v", code)
		}
		again, code := open("1", "u")
		if code != mqtt.Success {
			t.Errorf("a takeover: %v", code)
		}
		if code := one.WantClosed(); code != mqtt.SessionTakenOver {
			t.Errorf("the one before: %v", code)
		}
		again.Disconnect()
		synctest.Wait()
		if _, code := open("3", "u"); code != mqtt.Success {
			t.Errorf("after one has gone: %v", code)
		}
	})
}

// grouper lets everybody in, with the user name as group.
type grouper struct{}

func (grouper) Name() string { return "test.grouper" }
func (grouper) Authenticate(_ context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	return plugin.Decision{Verdict: plugin.Allow}, plugin.Identity{Groups: []string{l.Client.Username}}, nil
}

// Of rules that count by the same the first that matches holds, and groups are known only after the login.
func TestFirstMatchingRuleHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := broker.DefaultLimits()
		l.Rules = []limit.Rule{
			{Name: "gateways", Groups: []string{"gw"}, Per: limit.PerAddress, Connects: rate(100, 0), Caps: limit.Caps{MaxQoS: 1}},
			{Name: "others", Per: limit.PerAddress, Connects: rate(1, 0), Caps: limit.Caps{MaxQoS: 0, MaxPacket: 1000}},
			{Name: "all", Per: limit.PerRule, Caps: limit.Caps{MaxQoS: 2, MaxSubscriptions: 1, MaxSessionExpiry: time.Minute, ReceiveMaximum: 7, MaxTopicLevels: 2}},
		}
		b := brokertest.New(t, broker.Options{Loops: 2, Limits: &l, Plugins: []plugin.Plugin{grouper{}}})
		open := func(id, user string) (*wire.Client, *mqtt.Connack) {
			c := wire.New(t, b.Dial(), mqtt.V5)
			c.SendConnect(mqtt.Connect{ClientID: []byte(id), Properties: expiry(3600), HasUsername: true, Username: []byte(user)})
			return c, wire.Want[*mqtt.Connack](c)
		}
		for i := range 20 {
			c, ack := open(fmt.Sprint("g", i), "gw")
			if ack.Code != mqtt.Success {
				t.Fatalf("gateway %d: %v", i, ack.Code)
			}
			q, _ := ack.Properties.Byte(mqtt.PropMaximumQoS)
			e, _ := ack.Properties.Uint32(mqtt.PropSessionExpiryInterval)
			m, _ := ack.Properties.Uint16(mqtt.PropReceiveMaximum)
			if size, _ := ack.Properties.Uint32(mqtt.PropMaximumPacketSize); q != 1 || e != 60 || m != 7 || size != 1<<20 {
				t.Errorf("granted QoS %d, expiry %d, receive maximum %d, packet %d", q, e, m, size)
			}
			c.Send(&mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{
				{Filter: []byte("a"), QoS: 2}, {Filter: []byte("b")}, {Filter: []byte("a/b/c")}}})
			got := wire.Want[*mqtt.Suback](c)
			if fmt.Sprint(got.Codes) != fmt.Sprint([]mqtt.ReasonCode{1, mqtt.QuotaExceeded, mqtt.QuotaExceeded}) {
				t.Errorf("got %v", got.Codes)
			}
		}
		c, ack := open("o", "x")
		if size, _ := ack.Properties.Uint32(mqtt.PropMaximumPacketSize); size != 1000 || ack.Code != mqtt.Success {
			t.Errorf("another: %v, packet %d", ack.Code, size)
		}
		if _, ack := open("p", "x"); ack.Code != mqtt.ConnectionRateExceeded {
			t.Errorf("a second other: %v", ack.Code)
		}
		c.Send(&mqtt.Publish{Topic: []byte("a"), Payload: make([]byte, 1000)})
		if code := c.WantClosed(); code != mqtt.PacketTooLarge {
			t.Errorf("a packet above the cap: %v", code)
		}
	})
}

// A change of the rules holds for who is connected at once, paused ones too; a wrong one changes nothing.
func TestRulesChangeLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 2)
		s := clean(t, b, mqtt.V5, "s")
		s.Subscribe(1, 0, "a")
		p := clean(t, b, mqtt.V5, "p")
		l := b.Limits()
		set := func(rules ...limit.Rule) {
			t.Helper()
			l.Rules = rules
			if err := b.SetLimits(l); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		slow := limit.Rule{Name: "slow", Clients: []string{"p"}, MessagesIn: rate(1, 1), Caps: limit.Caps{MaxQoS: 2}}
		set(slow)
		flood(p, 1000, 0, 10)
		came := len(arrivals(t, s, 0, 10*time.Second))
		if n := came; n < 10 || n > 12 {
			t.Errorf("%d messages in ten seconds, want 11", n)
		}
		for _, bad := range [][]limit.Rule{{{}}, {slow, slow}, {{Name: "x", Addresses: []string{"y"}}}, {{Name: "x", Connects: rate(1<<40, 0)}}} {
			l.Rules = bad
			if b.SetLimits(l) == nil {
				t.Errorf("%+v is accepted", bad)
			}
		}
		if len(b.Stats().Rules) != 1 {
			t.Error("a rule that is not valid changed something")
		}
		set(slow, limit.Rule{Name: "more", Clients: []string{"q"}, MessagesIn: rate(1, 1)})
		if hits(b, "slow", limit.Paused) == 0 {
			t.Error("a rule that did not change lost its counts")
		}
		set()
		if n := len(arrivals(t, s, came, time.Second)); n != 1000-came {
			t.Errorf("without rules %d messages came, want the rest", n)
		}
	})
}

// Who goes away and comes again has the tokens that were left; accounts of those who are gone are forgotten.
func TestReconnectDoesNotFillTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withRules(t, 1, limit.Rule{Policy: limit.Reject, MessagesIn: rate(1, 5)})
		for round := range 3 {
			p := clean(t, b, mqtt.V5, "p")
			for i := range 5 {
				p.Send(&mqtt.Publish{Topic: []byte("a"), QoS: 1, ID: 1})
				if ack := wire.Want[*mqtt.Ack](p); ack.Code.IsError() != (round > 0) {
					t.Errorf("round %d, message %d: %v", round, i, ack.Code)
				}
			}
			p.Disconnect()
		}
		for i := range 1000 {
			clean(t, b, mqtt.V5, fmt.Sprint("q", i)).Disconnect()
			synctest.Wait()
		}
		if n := b.Stats().Rules[0].Accounts; n > 100 {
			t.Errorf("%d accounts are remembered", n)
		}
	})
}

// A user has as many retained messages as the rule says, those from before a restart and those of other connections included.
func TestRetainedPerUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &lasts{Store: store.NewMemory(store.Options{})}
		defer kept.Store.Close()
		retain := func(c *wire.Client, topic string, size int) mqtt.ReasonCode {
			c.Send(&mqtt.Publish{Topic: []byte(topic), Payload: make([]byte, size), QoS: 1, ID: 1, Retain: true})
			return wire.Want[*mqtt.Ack](c).Code
		}
		l := broker.DefaultLimits()
		l.Rules = []limit.Rule{{Name: "r", Per: limit.PerUser, MaxRetained: 3, MaxRetainedBytes: 1000, Caps: limit.Caps{MaxQoS: 2}}}
		run := func(f func(b *brokertest.Broker, u, v *wire.Client)) {
			b := brokertest.New(t, broker.Options{Loops: 2, Limits: &l, Store: kept, Durability: store.InMemory, Policy: broker.Policy{AllowAnonymous: broker.Everywhere}})
			var cs []*wire.Client
			for _, user := range []string{"u", "v"} {
				c, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte(user), CleanStart: true, HasUsername: true, Username: []byte(user)})
				cs = append(cs, c)
			}
			synctest.Wait()
			f(b, cs[0], cs[1])
			b.Stop()
		}
		want := func(c *wire.Client, topic string, size int, refused bool) {
			t.Helper()
			if got := retain(c, topic, size); (got == mqtt.QuotaExceeded) != refused {
				t.Errorf("%s of %d bytes: %v, refused should be %v", topic, size, got, refused)
			}
			synctest.Wait()
		}
		run(func(b *brokertest.Broker, u, v *wire.Client) {
			want(u, "1", 10, false)
			want(u, "2", 10, false)
			want(u, "3", 10, false)
			want(u, "4", 10, true)
			want(u, "3", 900, false) // in place of its own
			want(u, "3", 990, true)
			want(v, "4", 10, false)
			want(v, "3", 10, false) // in place of another's
			want(u, "5", 10, false)
			want(u, "1", 0, false) // taken out
			want(u, "6", 10, false)
			want(u, "7", 10, true)
			if n := b.Stats().Dropped[plugin.RetainedLimit]; n != 3 || hits(b, "r", limit.RetainedRefused) != 3 {
				t.Errorf("%d are counted", n)
			}
		})
		run(func(b *brokertest.Broker, u, v *wire.Client) {
			want(u, "8", 10, true) // 2, 5 and 6 are there
			want(v, "8", 10, false)
			want(v, "9", 10, true) // 3, 4 and 8
			u.Send(&mqtt.Publish{Topic: []byte("2"), Retain: true})
			u.Send(&mqtt.Publish{Topic: []byte("8"), Payload: []byte("x")}) // not to be retained
			synctest.Wait()
			want(u, "9", 10, false)
		})
	})
}

// lasts is a store that a broker cannot close.
type lasts struct{ store.Store }

func (lasts) Close() error { return nil }

// slowClaims is a store that answers claims when it is told to.
type slowClaims struct {
	store.Store
	claims chan *store.Claim
}

func (s *slowClaims) ProposeClaim(c *store.Claim) { s.claims <- c }

// Rules that change while a connection waits for its session hold for it.
func TestRulesChangeWhileASessionIsClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &slowClaims{store.NewMemory(store.Options{}), make(chan *store.Claim, 10)}
		b := brokertest.New(t, broker.Options{Loops: 2, Store: kept, Durability: store.InMemory})
		p := wire.New(t, b.Dial(), mqtt.V5)
		p.SendConnect(mqtt.Connect{ClientID: []byte("p"), Properties: expiry(60)})
		claim := <-kept.claims
		l := b.Limits()
		l.Rules = []limit.Rule{{Name: "r", Policy: limit.Reject, MessagesIn: rate(1, 1), Caps: limit.Caps{MaxQoS: 2}}}
		if err := b.SetLimits(l); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		kept.Store.ProposeClaim(claim)
		if ack := wire.Want[*mqtt.Connack](p); ack.Code != mqtt.Success {
			t.Fatalf("got %v", ack.Code)
		}
		for i := range 2 {
			p.Send(&mqtt.Publish{Topic: []byte("a"), QoS: 1, ID: 1})
			if ack := wire.Want[*mqtt.Ack](p); ack.Code.IsError() != (i == 1) {
				t.Errorf("message %d: %v", i, ack.Code)
			}
		}
		p.Disconnect()
		synctest.Wait()
		if n := b.Stats().Rules[0].Accounts; n > 1 {
			t.Errorf("%d accounts", n)
		}
	})
}
