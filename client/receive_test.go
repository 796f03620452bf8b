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

// collector is a handler that shows what it gets.
func collector() (Handler, chan *Message) {
	got := make(chan *Message, 100)
	return func(_ context.Context, m *Message) { got <- m }, got
}

func (p *peer) publish(qos mqtt.QoS, id uint16, payload string) {
	p.t.Helper()
	p.send(&mqtt.Publish{Topic: []byte("t"), QoS: qos, ID: id, Payload: []byte(payload)})
}

func wantMessages(t *testing.T, got <-chan *Message, payloads ...string) {
	t.Helper()
	synctest.Wait()
	for _, want := range payloads {
		select {
		case m := <-got:
			if string(m.Payload) != want {
				t.Fatalf("got %q, want %q", m.Payload, want)
			}
		default:
			t.Fatalf("%q has not come", want)
		}
	}
	select {
	case m := <-got:
		t.Fatalf("got %q too", m.Payload)
	default:
	}
}

func TestReceivedMessagesAreAcknowledgedAfterTheirHandler(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		o := s.options()
		finish := make(chan struct{})
		o.Handler = func(context.Context, *Message) { <-finish }
		s.client(o)
		p := s.welcome(false)
		p.publish(0, 0, "zero")
		p.publish(1, 7, "one")
		p.publish(2, 8, "two")
		p.wantQuiet()
		close(finish)
		p.wantAck(mqtt.PUBACK, 7)
		p.wantAck(mqtt.PUBREC, 8)
		p.ack(mqtt.PUBREL, 8)
		p.wantAck(mqtt.PUBCOMP, 8)
	})
}

// Exactly once, whichever step of QoS 2 loses its connection [MQTT-4.3.3-10].
func TestReceivedQoS2IsDeliveredOnce(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, v)
			o := s.options()
			calls, finish := make(chan *Message, 10), make(chan struct{})
			o.Handler = func(_ context.Context, m *Message) { calls <- m; <-finish }
			s.client(o)
			p := s.welcome(false)
			p.publish(2, 5, "x")
			wantMessages(t, calls, "x")

			p.conn.Cut() // the handler is at work
			p = s.welcome(true)
			p.send(&mqtt.Publish{Topic: []byte("t"), QoS: 2, ID: 5, Payload: []byte("x"), Dup: true})
			p.wantQuiet()
			finish <- struct{}{}
			p.wantAck(mqtt.PUBREC, 5)

			p.conn.Cut() // PUBREC is lost
			p = s.welcome(true)
			p.send(&mqtt.Publish{Topic: []byte("t"), QoS: 2, ID: 5, Payload: []byte("x"), Dup: true})
			p.wantAck(mqtt.PUBREC, 5)
			p.ack(mqtt.PUBREL, 5)
			p.wantAck(mqtt.PUBCOMP, 5)

			p.conn.Cut() // PUBCOMP is lost
			p = s.welcome(true)
			p.ack(mqtt.PUBREL, 5)
			p.wantAck(mqtt.PUBCOMP, 5)
			wantMessages(t, calls)
			p.publish(2, 5, "new")
			wantMessages(t, calls, "new")
			finish <- struct{}{}
			p.wantAck(mqtt.PUBREC, 5)
		})
	}
}

// [MQTT-4.6.0-2]
func TestManualAcknowledgementsKeepTheOrder(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		c := s.client(s.options())
		p := s.welcome(false)
		manual, held := collector()
		automatic, got := collector()
		go c.Subscribe(t.Context(), Subscription{Filter: "m", QoS: 2, Handler: manual, ManualAck: true})
		p.suback()
		go c.Subscribe(t.Context(), Subscription{Filter: "a", QoS: 1, Handler: automatic})
		p.suback()
		synctest.Wait()
		for id := range uint16(3) {
			p.send(&mqtt.Publish{Topic: []byte("m"), QoS: 1, ID: id + 1})
		}
		p.send(&mqtt.Publish{Topic: []byte("a"), QoS: 1, ID: 4})
		p.send(&mqtt.Publish{Topic: []byte("m"), QoS: 2, ID: 5})
		synctest.Wait()
		<-got
		m := []*Message{<-held, <-held, <-held, <-held}
		m[2].Ack()
		m[1].Ack()
		p.wantQuiet()
		m[0].Ack()
		m[0].Ack() // once is enough
		for id := range uint16(4) {
			p.wantAck(mqtt.PUBACK, id+1)
		}
		p.wantQuiet()
		if s.version == mqtt.V5 {
			m[3].Reject(mqtt.QuotaExceeded)
			if a := want[*mqtt.Ack](p); a.Type != mqtt.PUBREC || a.Code != mqtt.QuotaExceeded {
				t.Errorf("got %v", a)
			}
		}
	})
}

func TestAcknowledgementOfALostConnectionIsNotSentOnTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		h, got := collector()
		o.Subscriptions = []Subscription{{Filter: "t", QoS: 1, Handler: h, ManualAck: true}}
		s.client(o)
		p := s.welcome(false)
		p.suback()
		p.publish(1, 1, "x")
		old := <-got
		p.conn.Cut()
		p = s.welcome(true)
		old.Ack()
		p.wantQuiet()
		p.publish(1, 9, "x")
		(<-got).Ack()
		p.wantAck(mqtt.PUBACK, 9)
	})
}

func TestServerBeyondOurReceiveMaximumIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.ReceiveMaximum = 2
		finish := make(chan struct{})
		defer close(finish)
		o.Handler = func(context.Context, *Message) { <-finish }
		s.client(o)
		p := s.welcome(false)
		if n, _ := p.connect.Properties.Uint16(mqtt.PropReceiveMaximum); n != 2 {
			t.Errorf("Receive Maximum is %d", n)
		}
		for id := range uint16(3) {
			p.publish(1, id+1, "x")
		}
		if d := want[*mqtt.Disconnect](p); d.Code != mqtt.ReceiveMaximumExceeded {
			t.Errorf("got %v", d)
		}
	})
}

func TestBadPacketsEndTheConnection(t *testing.T) {
	cases := map[string]struct {
		bytes []byte
		code  mqtt.ReasonCode
	}{
		"malformed":    {[]byte{0x30, 2, 0, 5}, mqtt.MalformedPacket},
		"type 0":       {[]byte{0, 0}, mqtt.MalformedPacket},
		"CONNECT":      {(&mqtt.Connect{Version: mqtt.V5}).Append(nil), mqtt.ProtocolError},
		"second":       {(&mqtt.Connack{}).Append(nil, mqtt.V5), mqtt.ProtocolError},
		"alias":        {(&mqtt.Publish{Topic: []byte("t"), Properties: u16(mqtt.PropTopicAlias, 9)}).Append(nil, mqtt.V5), mqtt.TopicAliasInvalid},
		"large":        {[]byte{0x30, 0x80, 0x80, 0x01}, mqtt.PacketTooLarge},
		"reauthentic.": {(&mqtt.Auth{Code: mqtt.ContinueAuthentication, Properties: appendAuth(nil, "m", nil)}).Append(nil, mqtt.V5), mqtt.ProtocolError},
	}
	for name, k := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, mqtt.V5)
				o := s.options()
				o.MaxPacket = 1000
				var cause error
				o.OnDisconnected = func(d Disconnected) { cause = errors.Join(cause, d.Cause) }
				s.client(o)
				p := s.welcome(false)
				p.conn.Write(k.bytes)
				if d := want[*mqtt.Disconnect](p); d.Code != k.code {
					t.Errorf("got %v", d)
				}
				p.wantClosed()
				synctest.Wait()
				if e, ok := errors.AsType[*mqtt.Error](cause); !ok || e.Code != k.code {
					t.Errorf("the cause is %v", cause)
				}
				s.accept() // and it comes back
			})
		})
	}
}

func TestSlowHandlersHoldTheServerBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.MaxInbox, o.KeepAlive, o.PingTimeout = 2, 10*time.Second, time.Second
		finish := make(chan struct{})
		n := 0
		o.Handler = func(context.Context, *Message) { n++; <-finish }
		c := s.client(o)
		p := s.welcome(false)
		for i := range 10 {
			p.publish(0, 0, fmt.Sprint(i))
		}
		time.Sleep(time.Minute) // of virtual time: a PINGRESP cannot be read, and none is missed
		if s := c.Stats(); s.Missed != 0 || s.Connections != 1 || s.Inbox != 2 {
			t.Errorf("%+v", s)
		}
		close(finish)
		synctest.Wait()
		if n != 10 {
			t.Errorf("%d messages came", n)
		}
	})
}

// A handler that waits for an acknowledgement must get it, however full the inbox is.
func TestHandlersMayWaitForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.MaxInbox = 1
		var c *Client
		answered := 0
		ready := make(chan struct{})
		o.Handler = func(ctx context.Context, m *Message) {
			<-ready
			if err := c.Publish(ctx, Message{Topic: "answer", QoS: 1}); err != nil {
				t.Error(err)
			}
			answered++
		}
		c = s.client(o)
		p := s.welcome(false)
		for range 5 {
			p.publish(0, 0, "x")
		}
		close(ready)
		synctest.Wait()
		for {
			p.ack(mqtt.PUBACK, want[*mqtt.Publish](p).ID)
			synctest.Wait()
			if st := c.Stats(); st.Inbox == 0 && st.Inflight == 0 {
				break
			}
		}
		synctest.Wait()
		if missed := int(c.Stats().Missed); answered+missed != 5 || answered < 2 {
			t.Errorf("%d were answered, %d missed", answered, missed)
		}
	})
}

func TestEventsAndMessagesKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		var log []string
		o.OnConnected = func(e Connected) { log = append(log, fmt.Sprint("up ", e.SessionPresent)) }
		o.OnDisconnected = func(e Disconnected) { log = append(log, fmt.Sprint("down ", e.Was, e.Again, e.Wait)) }
		o.Handler = func(_ context.Context, m *Message) { log = append(log, string(m.Payload)) }
		s.client(o)
		p := s.welcome(false)
		p.publish(0, 0, "a")
		synctest.Wait()
		p.conn.Cut()
		p = s.welcome(true)
		p.publish(0, 0, "b")
		synctest.Wait()
		if want := []string{"up false", "a", "down true true 1s", "up true", "b"}; !slices.Equal(log, want) {
			t.Errorf("got %q, want %q", log, want)
		}
	})
}
