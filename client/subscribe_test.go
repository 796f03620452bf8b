// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/mqtt"
)

func filters(k *mqtt.Subscribe) (names []string) {
	for _, s := range k.Subscriptions {
		names = append(names, string(s.Filter))
	}
	return names
}

func TestSubscribeReportsWhatWasGranted(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		c := s.client(s.options())
		p := s.welcome(false)
		go func() {
			k := want[*mqtt.Subscribe](p)
			p.send(&mqtt.Suback{ID: k.ID, Codes: []mqtt.ReasonCode{mqtt.GrantedQoS1, mqtt.UnspecifiedError}})
		}()
		codes, err := c.Subscribe(t.Context(), Subscription{Filter: "a", QoS: 2}, Subscription{Filter: "b"})
		if e, ok := errors.AsType[*ReasonError](err); !ok || e.Filter != "b" || e.Packet != mqtt.SUBACK {
			t.Errorf("the error is %v", err)
		}
		if !slices.Equal(codes, []mqtt.ReasonCode{mqtt.GrantedQoS1, mqtt.UnspecifiedError}) {
			t.Errorf("the codes are %v", codes)
		}
		p.conn.Cut()
		if got := filters(s.welcome(false).suback()); !slices.Equal(got, []string{"a"}) {
			t.Errorf("subscribed again: %q", got)
		}
	})
}

func TestSubscriptionsAreMadeAgainIfTheSessionWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.Subscriptions = []Subscription{{Filter: "a", QoS: 1, NoLocal: true, User: []UserProperty{{"k", "v"}}}, {Filter: "b"}}
		c := s.client(o)
		p := s.welcome(true) // the session may be there; they are made anyway
		if k := p.suback(); !slices.Equal(filters(k), []string{"a", "b"}) || !k.Subscriptions[0].NoLocal || k.Properties.CountUser() != 1 {
			t.Errorf("got %v", k)
		}
		go c.Subscribe(t.Context(), Subscription{Filter: "c", QoS: 2})
		p.suback()
		go c.Unsubscribe(t.Context(), "b")
		u := want[*mqtt.Unsubscribe](p)
		p.send(&mqtt.Unsuback{ID: u.ID, Codes: []mqtt.ReasonCode{mqtt.Success}})
		synctest.Wait()

		p.conn.Cut()
		p = s.welcome(true)
		p.wantQuiet()

		p.conn.Cut()
		p = s.welcome(false)
		first, second := p.suback(), p.suback()
		if !slices.Equal(filters(first), []string{"a"}) || !slices.Equal(filters(second), []string{"c"}) || !first.Subscriptions[0].NoLocal {
			t.Errorf("got %v and %v", first, second)
		}
		p.wantQuiet()
		p.conn.Cut() // once more, with both answered
		p = s.welcome(false)
		p.suback()
		p.suback()
	})
}

func TestSubscribeWaitsForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V311)
		c := s.client(s.options())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Subscribe(ctx, Subscription{Filter: "given/up"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		done := make(chan error)
		go func() {
			_, err := c.Subscribe(t.Context(), Subscription{Filter: "a"})
			done <- err
		}()
		p := s.welcome(false)
		want[*mqtt.Subscribe](p) // without an answer
		p.conn.Cut()
		if got := filters(s.welcome(true).suback()); !slices.Equal(got, []string{"a"}) {
			t.Errorf("got %q", got)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestMessagesGoToTheirHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		got := map[string][]string{}
		to := func(name string) Handler {
			return func(_ context.Context, m *Message) { got[name] = append(got[name], m.Topic) }
		}
		o.Subscriptions = []Subscription{{Filter: "a/#", Handler: to("wide")}}
		o.Handler = to("rest")
		c := s.client(o)
		p := s.welcome(false)
		wide := p.suback()
		var share *mqtt.Subscribe
		go c.Subscribe(t.Context(), Subscription{Filter: "$share/g/a/+", Handler: to("shared")})
		share = p.suback()
		synctest.Wait()
		identifier := func(k *mqtt.Subscribe) uint32 {
			id, _ := k.Properties.VarInt(mqtt.PropSubscriptionIdentifier)
			return id
		}
		send := func(topic string, ids ...uint32) {
			k := &mqtt.Publish{Topic: []byte(topic)}
			for _, id := range ids {
				k.Properties = mqtt.AppendPropVarInt(k.Properties, mqtt.PropSubscriptionIdentifier, id)
			}
			p.send(k)
		}
		send("a/1")                   // no identifier: all that match
		send("a/2", identifier(wide)) // one copy for each
		send("a/2", identifier(share))
		send("a/3", identifier(wide), identifier(share)) // one copy for both
		send("a/b/c", identifier(share))                 // of another run of the program: by filter
		send("b")
		synctest.Wait()
		want := map[string][]string{"wide": {"a/1", "a/2", "a/3", "a/b/c"}, "shared": {"a/1", "a/2", "a/3"}, "rest": {"b"}}
		for name := range want {
			if !slices.Equal(got[name], want[name]) {
				t.Errorf("%s got %q, want %q", name, got[name], want[name])
			}
		}
	})
}

func TestWhatTheServerHasNotIsNotAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		c := s.client(s.options())
		p := s.welcome(false, u8(mqtt.PropWildcardSubscriptionAvailable, 0), u8(mqtt.PropSharedSubscriptionAvailable, 0),
			u8(mqtt.PropSubscriptionIdentifierAvailable, 0), u32(mqtt.PropMaximumPacketSize, 40))
		for code, sub := range map[mqtt.ReasonCode]Subscription{
			mqtt.WildcardSubscriptionsNotSupported:   {Filter: "a/+"},
			mqtt.SharedSubscriptionsNotSupported:     {Filter: "$share/g/a"},
			mqtt.SubscriptionIdentifiersNotSupported: {Filter: "a", Identifier: 3},
			mqtt.PacketTooLarge:                      {Filter: fmt.Sprintf("%050d", 0)},
		} {
			_, err := c.Subscribe(t.Context(), sub)
			if e, ok := errors.AsType[*mqtt.Error](err); !ok || e.Code != code {
				t.Errorf("%s: the error is %v", sub.Filter, err)
			}
		}
		go c.Subscribe(t.Context(), Subscription{Filter: "plain"})
		if k := p.suback(); k.Properties.Has(mqtt.PropSubscriptionIdentifier) {
			t.Error("an identifier of our own was sent")
		}
	})
}

func TestPacketIdentifiersOfMessagesAndSubscriptionsDoNotMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V311)
		c := s.client(s.options())
		p := s.welcome(false)
		synctest.Wait()
		c.mu.Lock()
		c.sess.Out.Resume(nil, 0xFFFE) // as after many messages
		c.mu.Unlock()
		go c.Subscribe(t.Context(), Subscription{Filter: "a"})
		k := want[*mqtt.Subscribe](p)
		if k.ID != 0xFFFF {
			t.Fatalf("the SUBSCRIBE has %d", k.ID)
		}
		async(t, c, 1, "1")
		async(t, c, 1, "2")
		if id := p.wantPublish("1", false).ID; id != 0xFFFE {
			t.Fatalf("the first PUBLISH has %d", id)
		}
		p.wantQuiet() // 0xFFFF is taken
		p.send(&mqtt.Suback{ID: k.ID, Codes: []mqtt.ReasonCode{0}})
		p.wantPublish("2", false)
	})
}

func TestRequestGetsItsResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		c := s.client(s.options())
		p := s.welcome(false, mqtt.AppendPropString(nil, mqtt.PropResponseInformation, "answers/c/"))
		type result struct {
			m   *Message
			err error
		}
		results := make(chan result, 2)
		request := func(payload string) {
			m, err := c.Request(t.Context(), Message{Topic: "ask", Payload: []byte(payload)})
			results <- result{m, err}
		}
		go request("1")
		sub := p.suback()
		topic := string(sub.Subscriptions[0].Filter)
		if len(topic) < 12 || topic[:10] != "answers/c/" {
			t.Errorf("responses come to %q", topic)
		}
		one := want[*mqtt.Publish](p)
		synctest.Wait()
		go request("2")
		two := want[*mqtt.Publish](p) // without another SUBSCRIBE
		for _, k := range []*mqtt.Publish{two, one} {
			data := propBytes(k.Properties, mqtt.PropCorrelationData)
			if response, _ := k.Properties.String(mqtt.PropResponseTopic); response != topic {
				t.Errorf("the response topic is %q", response)
			}
			answer := &mqtt.Publish{Topic: []byte(topic), Payload: append([]byte("to "), k.Payload...),
				Properties: mqtt.AppendPropBytes(nil, mqtt.PropCorrelationData, data)}
			p.send(answer, answer) // the second is nobody's
			r := <-results
			if r.err != nil || string(r.m.Payload) != "to "+string(k.Payload) {
				t.Errorf("got %v, %v", r.m, r.err)
			}
		}
		synctest.Wait()
		if n := c.Stats().Unhandled; n != 2 {
			t.Errorf("%d are unhandled, want 2", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Request(ctx, Message{Topic: "ask"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a response: %v", err)
		}
	})
}

func TestRespondGoesWhereTheRequestSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		var c *Client
		o.Handler = func(ctx context.Context, m *Message) { c.Respond(ctx, m, Message{Payload: []byte("yes")}) }
		c = s.client(o)
		p := s.welcome(false)
		p.send(&mqtt.Publish{Topic: []byte("q"), Properties: mqtt.AppendPropBytes(
			mqtt.AppendPropString(nil, mqtt.PropResponseTopic, "r"), mqtt.PropCorrelationData, []byte("7"))})
		k := p.wantPublish("yes", false)
		if string(k.Topic) != "r" || string(propBytes(k.Properties, mqtt.PropCorrelationData)) != "7" {
			t.Errorf("got %v", k)
		}
		if err := c.Respond(t.Context(), &Message{Topic: "q"}, Message{}); err == nil {
			t.Error("a message without response topic was responded to")
		}
	})
}
