// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// named gives a plug-in its name.
type named string

func (n named) Name() string { return string(n) }

// logins is an authenticator with a table of passwords.
type logins struct {
	named
	passwords map[string]string
	fail      error
	wait      chan struct{}
}

func (l *logins) Authenticate(ctx context.Context, in *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	if l.wait != nil {
		select {
		case <-l.wait:
		case <-ctx.Done():
			return plugin.Decision{}, plugin.Identity{}, ctx.Err()
		}
	}
	if l.fail != nil {
		return plugin.Decision{}, plugin.Identity{}, l.fail
	}
	if in.Client.Username == "panic" {
		panic("on purpose")
	}
	want, ok := l.passwords[in.Client.Username]
	if !ok || want != string(in.Password) {
		return plugin.Decision{Verdict: plugin.Deny}, plugin.Identity{}, nil
	}
	return plugin.Decision{Verdict: plugin.Allow}, plugin.Identity{Groups: []string{"all"}}, nil
}

func login(user, password string) mqtt.Connect {
	return mqtt.Connect{ClientID: []byte("c-" + user), CleanStart: true, HasUsername: true, Username: []byte(user),
		HasPassword: true, Password: []byte(password)}
}

func refusal(t *testing.T, b *brokertest.Broker, v mqtt.Version, p mqtt.Connect) mqtt.ReasonCode {
	t.Helper()
	c := wire.New(t, b.Dial(), v)
	c.SendConnect(p)
	return c.WantClosed()
}

func TestLogins(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 3, Plugins: []plugin.Plugin{
		&logins{named: "auth.test", passwords: map[string]string{"ann": "a"}}}})
	for range 5 { // identifiers with homes on several loops
		connect(t, b, mqtt.V311, login("ann", "a"))
	}
	for _, bad := range []mqtt.Connect{login("ann", "b"), login("bob", "a"), login("panic", "a")} {
		if code := refusal(t, b, mqtt.V5, bad); code != mqtt.BadUserNameOrPassword {
			t.Errorf("%s was told %v: all refused logins look alike", bad.Username, code)
		}
		if code := refusal(t, b, mqtt.V311, bad); code != mqtt.BadUserNameOrPassword {
			t.Errorf("3.1.1: %s was told %v", bad.Username, code)
		}
	}
	anonymous := mqtt.Connect{ClientID: []byte("x"), CleanStart: true}
	if code := refusal(t, b, mqtt.V5, anonymous); code != mqtt.NotAuthorized {
		t.Errorf("a client without a login was told %v", code)
	}
	if n := b.Stats().Counts[broker.PluginPanics]; n != 2 {
		t.Errorf("%d panics were counted, want 2", n)
	}
}

// An authenticator that fails, or does not answer, lets nobody in.
func TestLoginsFailClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &logins{named: "auth.test", wait: make(chan struct{})}
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{l}})
		c := wire.New(t, b.Dial(), mqtt.V5)
		c.Patience = time.Minute
		c.SendConnect(login("ann", "a"))
		if code := c.WantClosed(); code != mqtt.BadUserNameOrPassword {
			t.Errorf("after the timeout: %v", code)
		}
		close(l.wait)
		l.fail = errors.New("the database is away")
		if code := refusal(t, b, mqtt.V5, login("ann", "a")); code != mqtt.BadUserNameOrPassword {
			t.Errorf("after an error: %v", code)
		}
		b.Stop()
	})
}

func TestSessionBelongsToItsUser(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{
		&logins{named: "auth.test", passwords: map[string]string{"ann": "a", "bob": "b"}}}})
	mine := login("ann", "a")
	mine.ClientID, mine.CleanStart, mine.Properties = []byte("shared-id"), false, expiry(600)
	c, _ := connect(t, b, mqtt.V5, mine)
	other := login("bob", "b")
	other.ClientID = mine.ClientID
	if code := refusal(t, b, mqtt.V5, other); code != mqtt.NotAuthorized {
		t.Errorf("takeover by another user: %v, want 0x87", code)
	}
	c.WantQuiet()
	c.Disconnect()
	if code := refusal(t, b, mqtt.V5, other); code != mqtt.NotAuthorized {
		t.Errorf("another user's stored session: %v, want 0x87", code)
	}
}

// rules allows what is in the list: "publish a/b".
type rules struct {
	named
	allow []string
	slow  bool
}

func (r *rules) judge(a *plugin.Access) plugin.Decision {
	if slices.Contains(r.allow, a.Action.String()+" "+a.Topic) {
		return plugin.Decision{Verdict: plugin.Allow}
	}
	return plugin.Decision{Verdict: plugin.Deny, Rule: "test"}
}

func (r *rules) Authorize(a *plugin.Access) plugin.Decision {
	if r.slow {
		return plugin.Decision{}
	}
	return r.judge(a)
}

func (r *rules) AuthorizeSlow(_ context.Context, a *plugin.Access) (plugin.Decision, error) {
	return r.judge(a), nil
}

func TestAccess(t *testing.T) {
	for _, slow := range []bool{false, true} {
		r := &rules{named: "acl.test", allow: []string{"publish ok", "subscribe ok", "subscribe #", "will ok"}, slow: slow}
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{r}})
		s := clean(t, b, mqtt.V5, "s")
		s.Send(&mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte("ok"), QoS: 1}, {Filter: []byte("no"), QoS: 1},
			{Filter: []byte("$share/g/no"), QoS: 1}, {Filter: []byte("#"), QoS: 2}}})
		ack := wire.Want[*mqtt.Suback](s)
		if want := []mqtt.ReasonCode{1, mqtt.NotAuthorized, mqtt.NotAuthorized, 2}; !slices.Equal(ack.Codes, want) {
			t.Errorf("slow %v: SUBACK %v, want %v", slow, ack.Codes, want)
		}
		p := clean(t, b, mqtt.V5, "p")
		for i, c := range []struct {
			topic string
			qos   mqtt.QoS
			want  mqtt.ReasonCode
		}{{"ok", 1, 0}, {"no", 1, mqtt.NotAuthorized}, {"ok", 2, 0}, {"no", 2, mqtt.NotAuthorized}, {"$SYS/x", 1, mqtt.NotAuthorized}} {
			m := publish(c.topic, "x", c.qos, uint16(i+1))
			p.Send(&m)
			if a := wire.Want[*mqtt.Ack](p); a.Code != c.want {
				t.Errorf("slow %v: publish to %s at %d: %v, want %v", slow, c.topic, c.qos, a, c.want)
			}
		}
		old := clean(t, b, mqtt.V311, "old")
		old.Publish(publish("no", "x", 1, 1)) // acknowledged as usual, not delivered [MQTT-3.3.5-2]
		for _, m := range collect(t, s, 2) {
			if string(m.Topic) != "ok" {
				t.Errorf("slow %v: got %v", slow, m)
			}
		}
		s.WantQuiet()
		bad := mqtt.Connect{ClientID: []byte("w"), CleanStart: true, HasWill: true, Will: mqtt.Will{Topic: []byte("no")}}
		if code := refusal(t, b, mqtt.V5, bad); code != mqtt.NotAuthorized {
			t.Errorf("slow %v: a will that is not allowed: %v", slow, code)
		}
		b.Stop()
	}
}

// shouter changes what is published, and refuses some; hider hides messages from a client.
type shouter struct{ named }

func (shouter) InterceptPublish(_ *plugin.Client, m *mqtt.Message) mqtt.ReasonCode {
	if string(m.Payload) == "secret" {
		return mqtt.ImplementationSpecificError
	}
	m.Payload = []byte(strings.ToUpper(string(m.Payload)))
	return mqtt.Success
}

func (shouter) InterceptSubscribe(_ *plugin.Client, s *plugin.Subscription) mqtt.ReasonCode {
	s.QoS = min(s.QoS, 1)
	return mqtt.Success
}

func (shouter) InterceptDeliver(c *plugin.Client, m *mqtt.Message) (*mqtt.Message, bool) {
	return m, c.ID != "blind"
}

func TestInterceptors(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{shouter{"shouter"}}})
	s, blind := clean(t, b, mqtt.V5, "s"), clean(t, b, mqtt.V5, "blind")
	if ack := s.Subscribe(1, 2, "#"); ack.Codes[0] != 1 {
		t.Errorf("granted %v, want 1", ack.Codes[0])
	}
	blind.Subscribe(1, 1, "#")
	p := clean(t, b, mqtt.V5, "p")
	p.Publish(publish("a", "quiet", 0, 0))
	p.Publish(publish("a", "loud", 1, 1))
	m := publish("a", "secret", 1, 2)
	p.Send(&m)
	if a := p.WantAck(mqtt.PUBACK, 2); a.Code != mqtt.ImplementationSpecificError {
		t.Errorf("refused with %v", a)
	}
	for i, got := range collect(t, s, 2) {
		if want := []string{"QUIET", "LOUD"}[i]; string(got.Payload) != want {
			t.Errorf("got %q, want %q", got.Payload, want)
		}
	}
	s.WantQuiet()
	blind.WantQuiet()
	if n := b.Stats().Dropped[plugin.DeliveryRefused]; n != 2 {
		t.Errorf("%d deliveries were refused, want 2", n)
	}
}

// watcher writes down what it is told.
type watcher struct {
	named
	mu  sync.Mutex
	log []string
}

func (w *watcher) note(words ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, strings.Join(words, " "))
}

func (w *watcher) Events() *plugin.Events {
	session := func(what string) func(plugin.SessionEvent) {
		return func(e plugin.SessionEvent) { w.note(what, e.ClientID) }
	}
	message := func(what string) func(plugin.MessageEvent) {
		return func(e plugin.MessageEvent) {
			if !strings.HasPrefix(e.Message.Topic, "$SYS") {
				w.note(what, e.ClientID, e.Message.Topic, e.Cause.String())
			}
		}
	}
	return &plugin.Events{
		Broker:         func(e plugin.BrokerEvent) { w.note("broker", e.Phase.String()) },
		Opened:         func(e plugin.ConnectionEvent) { w.note("opened", e.Client.ID) },
		Closed:         func(e plugin.ConnectionEvent) { w.note("closed", e.Client.ID, e.Cause.String()) },
		Refused:        func(e plugin.ConnectionEvent) { w.note("refused", e.Cause.String()) },
		SessionCreated: session("created"), SessionResumed: session("resumed"), SessionTakenOver: session("taken_over"),
		SessionEnded: session("ended"),
		Subscribed:   func(e plugin.SubscriptionEvent) { w.note("subscribed", e.Client.ID, e.Subscription.Filter) },
		Unsubscribed: func(e plugin.SubscriptionEvent) { w.note("unsubscribed", e.Client.ID, e.Subscription.Filter) },
		Received:     message("received"), Delivered: message("delivered"), Acknowledged: message("acknowledged"),
		Dropped: message("dropped"), Expired: message("expired"), RetainedSet: message("retained_set"),
		RetainedCleared: message("retained_cleared"), WillFired: message("will_fired"),
	}
}

func TestObserversAreToldEverything(t *testing.T) {
	w := &watcher{named: "watcher"}
	b := brokertest.New(t, broker.Options{Loops: 1, Plugins: []plugin.Plugin{w}})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "a")
	p, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("p"), CleanStart: true, HasWill: true,
		Will: mqtt.Will{Topic: []byte("w")}})
	m := publish("a", "x", 1, 1)
	m.Retain = true
	p.Publish(m)
	answer(s, s.WantPublish("a", "x"))
	m.Payload = nil
	p.Publish(m)
	answer(s, s.WantPublish("a", ""))
	s.Send(&mqtt.Unsubscribe{ID: 2, Filters: [][]byte{[]byte("a")}})
	wire.Want[*mqtt.Unsuback](s)
	p.Raw(0xF0, 0) // AUTH without a method
	p.WantClosed()
	refusal(t, b, mqtt.V311, mqtt.Connect{})
	again, _ := lasting(t, b, "s")
	s.WantClosed()
	end := clean(t, b, mqtt.V5, "s") // clean start, no expiry
	again.WantClosed()
	end.Send(&mqtt.Disconnect{})
	end.WantClosed()
	b.Stop()
	for _, want := range []string{"broker configured", "broker ready", "opened s", "created s", "subscribed s a", "received p a none",
		"delivered s a none", "acknowledged s a none", "retained_set p a none", "retained_cleared p a none", "unsubscribed s a",
		"closed p protocol_error", "will_fired p w none", "ended p", "refused client_id_invalid", "taken_over s", "closed s taken_over",
		"resumed s", "ended s", "closed s client_disconnected", "broker draining", "broker stopped"} {
		if !slices.Contains(w.log, want) {
			t.Errorf("not told: %q", want)
		}
	}
	if t.Failed() {
		t.Logf("told:\n%s", strings.Join(w.log, "\n"))
	}
}
