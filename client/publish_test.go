// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/mqtt"
)

var versions = []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}

// forVersions runs a test in a bubble of virtual time for each version.
func forVersions(t *testing.T, f func(t *testing.T, s *server)) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newServer(t, v)) })
		})
	}
}

// async publishes and fails the test if that waits or fails.
func async(t *testing.T, c *Client, qos mqtt.QoS, payload string) *Token {
	t.Helper()
	token, err := c.PublishAsync(t.Context(), Message{Topic: "t", QoS: qos, Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func wantDone(t *testing.T, token *Token, want error) {
	t.Helper()
	synctest.Wait()
	select {
	case <-token.Done():
		if !errors.Is(token.Err(), want) {
			t.Fatalf("the message ended with %v, want %v", token.Err(), want)
		}
	default:
		t.Fatal("the message has not ended")
	}
}

func wantPending(t *testing.T, tokens ...*Token) {
	t.Helper()
	synctest.Wait()
	for i, token := range tokens {
		select {
		case <-token.Done():
			t.Fatalf("message %d has ended with %v", i, token.Err())
		default:
		}
	}
}

func TestPublishEndsWithItsAcknowledgement(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		c := s.client(s.options())
		p := s.welcome(false)
		zero := async(t, c, 0, "zero")
		one := async(t, c, 1, "one")
		two := async(t, c, 2, "two")
		p.wantPublish("zero", false)
		id1, id2 := p.wantPublish("one", false).ID, p.wantPublish("two", false).ID
		wantDone(t, zero, nil)
		wantPending(t, one, two)
		p.ack(mqtt.PUBACK, id1)
		wantDone(t, one, nil)
		p.ack(mqtt.PUBREC, id2)
		p.wantAck(mqtt.PUBREL, id2)
		wantPending(t, two)
		p.ack(mqtt.PUBCOMP, id2)
		wantDone(t, two, nil)
	})
}

// A connection may be lost at each step of QoS 1 and 2 [MQTT-4.4.0-1].
func TestDeliveryGoesOnAfterALostConnection(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		c := s.client(s.options())
		p := s.welcome(false)
		one, two := async(t, c, 1, "one"), async(t, c, 2, "two")
		id1, id2 := p.wantPublish("one", false).ID, p.wantPublish("two", false).ID

		present := s.version != mqtt.V31 // which has no such flag: the session counts as lost
		p.conn.Cut()
		p = s.welcome(present)
		again := p.wantPublish("one", present)
		if present && again.ID != id1 {
			t.Errorf("the identifier is %d, it was %d", again.ID, id1)
		}
		id1 = again.ID
		if id := p.wantPublish("two", present).ID; present && id != id2 {
			t.Errorf("the identifier is %d, it was %d", id, id2)
		} else {
			id2 = id
		}
		p.ack(mqtt.PUBREC, id2)
		p.wantAck(mqtt.PUBREL, id2)

		p.conn.Cut()
		p = s.welcome(present)
		if !present { // PUBREC had come: there is nothing left to do for the other
			id1 = p.wantPublish("one", false).ID
			p.ack(mqtt.PUBACK, id1)
			wantDone(t, one, nil)
			wantDone(t, two, nil)
			p.wantQuiet()
			return
		}
		released, sent := 0, 0
		for range 2 { // each kind has its order, there is none between them [MQTT-4.6.0-1]
			switch k := p.next().(type) {
			case *mqtt.Publish:
				if k.ID == id1 && k.Dup {
					sent++
				}
			case *mqtt.Ack:
				if k.ID == id2 && k.Type == mqtt.PUBREL {
					released++
				}
			}
		}
		if released != 1 || sent != 1 {
			t.Fatalf("PUBREL came %d times, PUBLISH %d times", released, sent)
		}
		wantPending(t, one, two)
		p.ack(mqtt.PUBCOMP, id2)
		p.ack(mqtt.PUBACK, id1)
		wantDone(t, two, nil)
		wantDone(t, one, nil)
	})
}

func TestLostSessionHasMessagesSentAnew(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		c := s.client(s.options())
		p := s.welcome(false)
		one, two, half := async(t, c, 1, "one"), async(t, c, 2, "two"), async(t, c, 2, "half")
		p.wantPublish("one", false)
		p.wantPublish("two", false)
		id := p.wantPublish("half", false).ID
		p.ack(mqtt.PUBREC, id)
		p.wantAck(mqtt.PUBREL, id)
		p.conn.Cut()
		synctest.Wait()
		later := async(t, c, 1, "later")
		p = s.welcome(false)
		wantDone(t, half, nil) // the server had it
		p.ack(mqtt.PUBACK, p.wantPublish("one", false).ID)
		id = p.wantPublish("two", false).ID
		p.ack(mqtt.PUBACK, p.wantPublish("later", false).ID)
		p.ack(mqtt.PUBREC, id)
		p.wantAck(mqtt.PUBREL, id)
		p.ack(mqtt.PUBCOMP, id)
		for _, token := range []*Token{one, two, later} {
			wantDone(t, token, nil)
		}
	})
}

// [MQTT-4.9.0-2], also for what is repeated.
func TestReceiveMaximumOfTheServerIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		c := s.client(s.options())
		var tokens []*Token
		for i := range 5 {
			tokens = append(tokens, async(t, c, 1, fmt.Sprint(i)))
		}
		p := s.welcome(false, u16(mqtt.PropReceiveMaximum, 3))
		ids := []uint16{p.wantPublish("0", false).ID, p.wantPublish("1", false).ID, p.wantPublish("2", false).ID}
		p.wantQuiet()
		p.ack(mqtt.PUBACK, ids[1])
		p.wantPublish("3", false)
		p.wantQuiet()

		p.conn.Cut() // 0, 2 and 3 are under way
		p = s.welcome(true, u16(mqtt.PropReceiveMaximum, 2))
		a, b := p.wantPublish("0", true), p.wantPublish("2", true)
		p.wantQuiet()
		p.ack(mqtt.PUBACK, b.ID)
		p.wantQuiet()
		p.ack(mqtt.PUBACK, a.ID)
		a, b = p.wantPublish("3", true), p.wantPublish("4", false)
		p.ack(mqtt.PUBACK, a.ID)
		p.ack(mqtt.PUBACK, b.ID)
		for _, token := range tokens {
			wantDone(t, token, nil)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestMaxInflightIsObeyed(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		o := s.options()
		o.MaxInflight = 1
		c := s.client(o)
		p := s.welcome(false)
		async(t, c, 1, "1")
		async(t, c, 2, "2")
		id := p.wantPublish("1", false).ID
		p.wantQuiet()
		p.ack(mqtt.PUBACK, id)
		p.wantPublish("2", false)
	})
}

func TestRefusalsAreErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		c := s.client(s.options())
		p := s.welcome(false)
		for _, packet := range []struct {
			t   mqtt.PacketType
			qos mqtt.QoS
		}{{mqtt.PUBACK, 1}, {mqtt.PUBREC, 2}} {
			token := async(t, c, packet.qos, "x")
			id := want[*mqtt.Publish](p).ID
			p.send(&mqtt.Ack{Type: packet.t, ID: id, Code: mqtt.NotAuthorized,
				Properties: mqtt.AppendPropString(nil, mqtt.PropReasonString, "not you")})
			synctest.Wait()
			e, ok := errors.AsType[*ReasonError](token.Err())
			if !ok || e.Code != mqtt.NotAuthorized || e.Packet != packet.t || e.Reason() != "not you" {
				t.Errorf("%v: the error is %v", packet.t, token.Err())
			}
		}
		ok := async(t, c, 1, "y")
		p.send(&mqtt.Ack{Type: mqtt.PUBACK, ID: want[*mqtt.Publish](p).ID, Code: mqtt.NoMatchingSubscribers})
		wantDone(t, ok, nil)
		if code, _ := ok.Ack(); code != mqtt.NoMatchingSubscribers {
			t.Errorf("the code is %v", code)
		}
	})
}

func TestWhatTheServerDoesNotTakeIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		c := s.client(s.options())
		p := s.welcome(false, u8(mqtt.PropMaximumQoS, 1), u8(mqtt.PropRetainAvailable, 0), u32(mqtt.PropMaximumPacketSize, 30))
		for code, m := range map[mqtt.ReasonCode]Message{
			mqtt.QoSNotSupported:    {Topic: "t", QoS: 2},
			mqtt.RetainNotSupported: {Topic: "t", Retain: true},
			mqtt.PacketTooLarge:     {Topic: "t", QoS: 1, Payload: make([]byte, 30)},
		} {
			e, ok := errors.AsType[*mqtt.Error](c.Publish(t.Context(), m))
			if !ok || e.Code != code {
				t.Errorf("the error is %v, want %v", e, code)
			}
		}
		go c.Publish(t.Context(), Message{Topic: "t", QoS: 1, Payload: []byte("fits")})
		p.ack(mqtt.PUBACK, p.wantPublish("fits", false).ID)
	})
}

// CVE-2025-10543 of another client: lengths of 16 bits that wrap.
func TestLongAndBadStringsAreRefusedBeforeTheyAreEncoded(t *testing.T) {
	long := strings.Repeat("x", mqtt.MaxString+1)
	c, err := New(Options{Servers: []string{"mqtt://s"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	for name, m := range map[string]Message{
		"topic":            {Topic: long},
		"empty topic":      {},
		"wildcard":         {Topic: "a/+"},
		"NUL":              {Topic: "a\x00b"},
		"UTF-8":            {Topic: "a\xff"},
		"QoS":              {Topic: "t", QoS: 3},
		"content type":     {Topic: "t", ContentType: long},
		"response topic":   {Topic: "t", ResponseTopic: "a/#"},
		"correlation":      {Topic: "t", CorrelationData: []byte(long)},
		"user name":        {Topic: "t", User: []UserProperty{{long, ""}}},
		"user value":       {Topic: "t", User: []UserProperty{{"", long}}},
		"expiry":           {Topic: "t", Expiry: -1},
		"raw properties":   {Topic: "t", Properties: mqtt.Properties{0x01}},
		"twice":            {Topic: "t", UTF8: true, Properties: u8(mqtt.PropPayloadFormatIndicator, 1)},
		"alias":            {Topic: "t", Properties: u16(mqtt.PropTopicAlias, 1)},
		"server's":         {Topic: "t", Properties: mqtt.AppendPropVarInt(nil, mqtt.PropSubscriptionIdentifier, 1)},
		"larger than ever": {Topic: "t", Payload: make([]byte, mqtt.MaxRemaining)},
	} {
		if _, err := c.PublishAsync(t.Context(), m); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
	for name, o := range map[string]Options{
		"no server":     {},
		"scheme":        {Servers: []string{"http://s"}},
		"no host":       {Servers: []string{"mqtt://"}},
		"no path":       {Servers: []string{"unix://"}},
		"client id":     {Servers: []string{"mqtt://s"}, ClientID: long},
		"user name":     {Servers: []string{"mqtt://s"}, Username: long},
		"password":      {Servers: []string{"mqtt://s"}, Password: []byte(long)},
		"will topic":    {Servers: []string{"mqtt://s"}, Will: &Will{Message: Message{Topic: long}}},
		"will payload":  {Servers: []string{"mqtt://s"}, Will: &Will{Message: Message{Topic: "t", Payload: []byte(long)}}},
		"user property": {Servers: []string{"mqtt://s"}, User: []UserProperty{{long, ""}}},
		"keep alive":    {Servers: []string{"mqtt://s"}, KeepAlive: 65536 * time.Second},
		"3.1 without":   {Servers: []string{"mqtt://s"}, Version: mqtt.V31},
		"3.1.1 without": {Servers: []string{"mqtt://s"}, Version: mqtt.V311},
		"version":       {Servers: []string{"mqtt://s"}, Version: 7},
		"filter":        {Servers: []string{"mqtt://s"}, Subscriptions: []Subscription{{Filter: "a/#/b"}}},
	} {
		if c, err := New(o); err == nil {
			t.Errorf("options, %s: they were accepted", name)
			c.Close(t.Context())
		}
	}
}

func TestQueueIsBoundedByItsPolicy(t *testing.T) {
	for _, policy := range []Overflow{Block, Refuse, DropOldest} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, mqtt.V5)
			o := s.options()
			o.MaxQueue, o.Overflow = 2, policy
			c := s.client(o)
			first, second := async(t, c, 1, "first"), async(t, c, 1, "second")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			third, err := c.PublishAsync(ctx, Message{Topic: "t", QoS: 1, Payload: []byte("third")})
			switch policy {
			case Block:
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Block: %v", err)
				}
				wantPending(t, first, second)
			case Refuse:
				if !errors.Is(err, ErrQueueFull) {
					t.Errorf("Refuse: %v", err)
				}
				wantPending(t, first, second)
			case DropOldest:
				wantDone(t, first, ErrDropped)
				wantPending(t, second, third)
				if n := c.Stats().Dropped; n != 1 {
					t.Errorf("%d are counted as dropped", n)
				}
			}
		})
	}
}

func TestBlockedPublishGoesOnWhenThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.MaxQueue = 1
		c := s.client(o)
		async(t, c, 1, "0")
		done := make(chan error, 3)
		for range 3 {
			go func() { done <- c.Publish(t.Context(), Message{Topic: "t", QoS: 1, Payload: []byte("x")}) }()
		}
		synctest.Wait()
		p := s.welcome(false)
		for range 4 {
			p.ack(mqtt.PUBACK, want[*mqtt.Publish](p).ID)
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestBytesBoundTheQueueToo(t *testing.T) {
	c, err := New(Options{Servers: []string{"mqtt://s"}, MaxQueueBytes: 100, Overflow: Refuse})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.PublishAsync(t.Context(), Message{Topic: "t", Payload: make([]byte, 60)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PublishAsync(t.Context(), Message{Topic: "t", Payload: make([]byte, 60)}); !errors.Is(err, ErrQueueFull) {
		t.Errorf("the error is %v", err)
	}
}

func TestPublishThatGivesUpIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V311)
		c := s.client(s.options())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Publish(ctx, Message{Topic: "t", QoS: 1, Payload: []byte("gone")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		async(t, c, 0, "stays")
		s.welcome(false).wantPublish("stays", false)
	})
}

func TestMessagesExpireInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		c := s.client(s.options())
		publish := func(expiry time.Duration) *Token {
			token, err := c.PublishAsync(t.Context(), Message{Topic: "t", QoS: 1, Expiry: expiry})
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		short, long := publish(5*time.Second), publish(60*time.Second)
		time.Sleep(20 * time.Second) // of virtual time
		p := s.welcome(false)
		wantDone(t, short, ErrExpired)
		if left, _ := want[*mqtt.Publish](p).Properties.Uint32(mqtt.PropMessageExpiryInterval); left != 40 {
			t.Errorf("%d s are left, want 40", left) // [MQTT-3.3.2-6]
		}
		wantPending(t, long)
	})
}

func TestTopicAliasesAreUsedUpToWhatTheServerTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.TopicAliasesOut = 10
		c := s.client(o)
		p := s.welcome(false, u16(mqtt.PropTopicAliasMaximum, 1))
		for _, round := range []struct {
			topic, sent string
			alias       uint16
		}{{"long/one", "long/one", 1}, {"long/one", "", 1}, {"long/two", "long/two", 0}} {
			if err := c.Publish(t.Context(), Message{Topic: round.topic}); err != nil {
				t.Fatal(err)
			}
			k := want[*mqtt.Publish](p)
			if alias, _ := k.Properties.Uint16(mqtt.PropTopicAlias); string(k.Topic) != round.sent || alias != round.alias {
				t.Errorf("%s was sent as %q with alias %d", round.topic, k.Topic, alias)
			}
		}
	})
}

func TestPropertiesTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		got := make(chan *Message, 1)
		o.Handler = func(_ context.Context, m *Message) { got <- m }
		c := s.client(o)
		p := s.welcome(false)
		sent := Message{
			Topic: "t", Payload: []byte("x"), UTF8: true, ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte{0, 1},
			Expiry: 1500 * time.Millisecond, User: []UserProperty{{"a", "1"}, {"a", "2"}},
		}
		if err := c.Publish(t.Context(), sent); err != nil {
			t.Fatal(err)
		}
		back := want[*mqtt.Publish](p)
		back.Properties = mqtt.AppendPropVarInt(back.Properties, mqtt.PropSubscriptionIdentifier, 7)
		p.send(back)
		m := <-got
		if !m.UTF8 || m.ContentType != "text/plain" || m.ResponseTopic != "r" || string(m.CorrelationData) != "\x00\x01" ||
			m.Expiry != 2*time.Second || len(m.User) != 2 || m.User[1] != sent.User[1] || len(m.Identifiers) != 1 || m.Identifiers[0] != 7 {
			t.Errorf("%+v", m)
		}
	})
}
