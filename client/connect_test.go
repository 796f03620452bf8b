// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/mqtt"
)

func TestPausesGrowUntilAConnectionIsSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		var waits []time.Duration
		o.OnDisconnected = func(d Disconnected) { waits = append(waits, d.Wait) }
		var up atomic.Bool
		dial := o.Dial
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !up.Load() {
				return nil, errors.New("no route")
			}
			return dial(ctx, network, address)
		}
		s.client(o)
		time.Sleep(500 * time.Second)
		synctest.Wait()
		if want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 120, 120, 120}; !slices.EqualFunc(waits[:10], want, func(a, b time.Duration) bool { return a == b*time.Second }) {
			t.Errorf("the pauses were %v", waits)
		}
		up.Store(true)
		p := s.welcome(false)
		p.conn.Cut()
		p = s.welcome(false) // it was not steady
		synctest.Wait()
		if last := waits[len(waits)-1]; last != 120*time.Second {
			t.Errorf("after a short connection the pause is %v", last)
		}
		time.Sleep(time.Minute)
		p.conn.Cut()
		s.welcome(false)
		synctest.Wait()
		if last := waits[len(waits)-1]; last != time.Second {
			t.Errorf("after a steady connection the pause is %v", last)
		}
	})
}

func TestBackoffHasJitterWithinItsBounds(t *testing.T) {
	low, _ := Backoff{Random: func() float64 { return 0 }}.Wait(3, nil)
	high, again := Backoff{Random: func() float64 { return 1 }}.Wait(3, nil)
	far, _ := Backoff{Max: time.Hour, Random: func() float64 { return 1 }}.Wait(1<<30, nil)
	if low != 2*time.Second || high != 4*time.Second || far != time.Hour || !again {
		t.Errorf("low %v, high %v, far %v, again %v", low, high, far, again)
	}
}

func TestDialFailsWithTheFirstAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		go func() {
			p := s.accept()
			p.send(&mqtt.Connack{Code: mqtt.UseAnotherServer, Properties: mqtt.AppendPropString(nil, mqtt.PropServerReference, "other:1883")})
		}()
		_, err := Dial(t.Context(), s.options())
		e, ok := errors.AsType[*ReasonError](err)
		if !ok || e.Packet != mqtt.CONNACK || e.Code != mqtt.UseAnotherServer || e.ServerReference() != "other:1883" {
			t.Errorf("the error is %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Dial(ctx, s.options()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("of a server that is silent: %v", err)
		}
	})
}

func TestConnectTimeoutEndsASilentAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.ConnectTimeout = 3 * time.Second
		_, err := Dial(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestConnectSaysWhatTheOptionsSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.Servers = []string{"mqtt://ann:secret@server"}
		o.CleanStart, o.KeepAlive, o.SessionExpiry = true, 90*time.Second, time.Hour
		o.MaxPacket, o.TopicAliasesIn, o.RequestResponseInformation, o.NoProblemInformation = 5000, 6, true, true
		o.User = []UserProperty{{"k", "v"}}
		o.Will = &Will{Message: Message{Topic: "w", Payload: []byte("gone"), QoS: 1, Retain: true, ContentType: "x"}, Delay: 5 * time.Second}
		s.client(o)
		k := s.accept().connect
		want := "CONNECT 5.0"
		if k.Version != mqtt.V5 || !k.CleanStart || k.KeepAlive != 90 || string(k.ClientID) != "c" || string(k.Username) != "ann" || string(k.Password) != "secret" {
			t.Errorf("got %v, want %v ...", k, want)
		}
		expiry, _ := k.Properties.Uint32(mqtt.PropSessionExpiryInterval)
		size, _ := k.Properties.Uint32(mqtt.PropMaximumPacketSize)
		aliases, _ := k.Properties.Uint16(mqtt.PropTopicAliasMaximum)
		response, _ := k.Properties.Byte(mqtt.PropRequestResponseInformation)
		problem, ok := k.Properties.Byte(mqtt.PropRequestProblemInformation)
		if expiry != 3600 || size != 5000 || aliases != 6 || response != 1 || problem != 0 || !ok || k.Properties.CountUser() != 1 {
			t.Errorf("got %v", k)
		}
		delay, _ := k.Will.Properties.Uint32(mqtt.PropWillDelayInterval)
		if !k.HasWill || string(k.Will.Topic) != "w" || string(k.Will.Payload) != "gone" || k.Will.QoS != 1 || !k.Will.Retain || delay != 5 {
			t.Errorf("the will is %+v", k.Will)
		}
	})
}

func TestCleanStartIsForTheFirstConnection(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		o := s.options()
		o.CleanStart = true
		s.client(o)
		p := s.welcome(false)
		synctest.Wait()
		p.conn.Cut()
		if again := s.accept().connect.CleanStart; again != (s.version < mqtt.V5) || !p.connect.CleanStart {
			t.Errorf("the first says %v, the second %v", p.connect.CleanStart, again)
		}
	})
}

func TestAssignedClientIdentifierIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.ClientID = ""
		c := s.client(o)
		p := s.welcome(false, mqtt.AppendPropString(nil, mqtt.PropAssignedClientIdentifier, "given"))
		synctest.Wait()
		if id := c.ClientID(); id != "given" {
			t.Errorf("the client identifier is %q", id)
		}
		p.conn.Cut()
		if id := s.accept().connect.ClientID; string(id) != "given" {
			t.Errorf("the next connection says %q", id)
		}
	})
}

func TestCredentialsAreAskedForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		n := byte('0')
		o.Credentials = func(context.Context) (string, []byte, error) { n++; return "ann", []byte{n}, nil }
		s.client(o)
		s.accept().send(&mqtt.Connack{Code: mqtt.NotAuthorized})
		if k := s.accept().connect; string(k.Password) != "2" {
			t.Errorf("the second password is %q", k.Password)
		}
	})
}

func TestServersAreTriedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.Servers = []string{"mqtt://one", "tcp://two:99", "unix:///three"}
		var dialled []string
		o.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
			dialled = append(dialled, network+" "+address)
			return nil, io.ErrUnexpectedEOF
		}
		s.client(o)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if want := []string{"tcp one:1883", "tcp two:99", "unix /three", "tcp one:1883"}; !slices.Equal(dialled, want) {
			t.Errorf("dialled %q", dialled)
		}
	})
}

// [MQTT-3.1.2-20]
func TestKeepAliveSendsPingreq(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V311)
		o := s.options()
		o.KeepAlive = 20 * time.Second
		c := s.client(o)
		p := s.welcome(false)
		last := time.Now()
		for range 5 {
			want[pingreq](p)
			if d := time.Since(last); d != 15*time.Second {
				t.Errorf("PINGREQ after %v", d)
			}
			last = time.Now()
			p.conn.Write(mqtt.AppendPingresp(nil))
		}
		want[pingreq](p) // without an answer
		p.wantClosedAfter(t, 10*time.Second)
		s.welcome(false)
		synctest.Wait()
		if e := c.lastError(); !errors.Is(e, ErrKeepAlive) {
			t.Errorf("the cause is %v", e)
		}
	})
}

// wantClosedAfter checks that the connection ends after d, in whatever way.
func (p *peer) wantClosedAfter(t *testing.T, d time.Duration) {
	t.Helper()
	began := time.Now()
	if _, ok := p.next().(error); !ok || time.Since(began) != d {
		t.Errorf("it did not end after %v but %v", d, time.Since(began))
	}
}

// [MQTT-3.2.2-21]
func TestServerKeepAliveIsObeyed(t *testing.T) {
	for _, k := range []uint16{0, 40} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, mqtt.V5)
			o := s.options()
			o.KeepAlive = 20 * time.Second
			s.client(o)
			p := s.welcome(false, u16(mqtt.PropServerKeepAlive, k))
			if k == 0 {
				p.wantQuiet()
				return
			}
			began := time.Now()
			want[pingreq](p)
			if d := time.Since(began); d != 30*time.Second {
				t.Errorf("PINGREQ after %v", d)
			}
		})
	}
}

func TestDisconnectOfTheServerIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		events := make(chan Disconnected, 1)
		o.OnDisconnected = func(d Disconnected) { events <- d }
		o.Reconnect = func(int, error) (time.Duration, bool) { return 0, false }
		c := s.client(o)
		s.welcome(false).send(&mqtt.Disconnect{Code: mqtt.SessionTakenOver})
		d := <-events
		if e, ok := errors.AsType[*ReasonError](d.Cause); !ok || e.Packet != mqtt.DISCONNECT || e.Code != mqtt.SessionTakenOver || !d.Was || d.Again {
			t.Errorf("%+v", d)
		}
		<-c.Done()
		if err := c.Err(); !errors.Is(err, ErrClosed) || !errors.Is(err, d.Cause) {
			t.Errorf("the client ended with %v", err)
		}
		if err := c.Publish(t.Context(), Message{Topic: "t"}); !errors.Is(err, ErrClosed) {
			t.Errorf("publish says %v", err)
		}
		if _, err := c.Subscribe(t.Context(), Subscription{Filter: "t"}); !errors.Is(err, ErrClosed) {
			t.Errorf("subscribe says %v", err)
		}
	})
}

func TestCloseSendsWhatWasPublishedAndDisconnect(t *testing.T) {
	forVersions(t, func(t *testing.T, s *server) {
		c := s.client(s.options())
		p := s.welcome(false)
		synctest.Wait()
		async(t, c, 0, "last")
		waits := async(t, c, 1, "unacknowledged")
		done := make(chan error)
		go func() { done <- c.CloseWith(t.Context(), mqtt.Disconnect{Code: mqtt.DisconnectWithWillMessage}) }()
		p.wantPublish("last", false)
		p.wantPublish("unacknowledged", false)
		if d := want[*mqtt.Disconnect](p); s.version == mqtt.V5 && d.Code != mqtt.DisconnectWithWillMessage {
			t.Errorf("got %v", d)
		}
		p.publish(1, 1, "too late") // nothing follows DISCONNECT [MQTT-3.14.4-2]
		p.conn.CloseWrite()
		p.wantClosed()
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantDone(t, waits, ErrClosed)
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("closing again says %v", err)
		}
		if err := c.Flush(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("flush says %v", err)
		}
	})
}

func TestCloseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		c := s.client(s.options())
		p := s.welcome(false)
		synctest.Wait()
		p.conn.Freeze(true)
		async(t, c, 0, strings.Repeat("x", 1<<20))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close says %v", err)
		}
		<-c.Done()
	})
}

// exchangeOf is an authentication of three steps that checks the server's data.
type exchangeOf struct{ t *testing.T }

func (exchangeOf) Method() string                        { return "STEPS" }
func (exchangeOf) Start(context.Context) ([]byte, error) { return []byte("first"), nil }
func (e exchangeOf) Done(_ context.Context, data []byte) error {
	if string(data) != "proof" {
		return errors.New("no proof")
	}
	return nil
}

func (e exchangeOf) Continue(_ context.Context, data []byte) ([]byte, error) {
	return append([]byte("answer to "), data...), nil
}

func (p *peer) challenge(data string, code mqtt.ReasonCode) {
	p.send(&mqtt.Auth{Code: code, Properties: appendAuth(nil, "STEPS", []byte(data))})
}

func (p *peer) wantAuth(data string, code mqtt.ReasonCode) {
	p.t.Helper()
	a := want[*mqtt.Auth](p)
	if got := propBytes(a.Properties, mqtt.PropAuthenticationData); string(got) != data || a.Code != code {
		p.t.Errorf("got %v with data %q", a, got)
	}
}

func TestEnhancedAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.Auth = exchangeOf{t}
		c := s.client(o)
		p := s.accept()
		if got := propBytes(p.connect.Properties, mqtt.PropAuthenticationData); string(got) != "first" {
			t.Errorf("CONNECT has %q", got)
		}
		p.challenge("one", mqtt.ContinueAuthentication)
		p.wantAuth("answer to one", mqtt.ContinueAuthentication)
		p.send(&mqtt.Connack{Properties: appendAuth(nil, "STEPS", []byte("proof"))})
		if err := c.Connected(t.Context()); err != nil {
			t.Fatal(err)
		}

		done := make(chan error)
		go func() { done <- c.Reauthenticate(t.Context()) }()
		p.wantAuth("first", mqtt.ReAuthenticate)
		p.challenge("two", mqtt.ContinueAuthentication)
		p.wantAuth("answer to two", mqtt.ContinueAuthentication)
		p.challenge("proof", mqtt.Success)
		if err := <-done; err != nil {
			t.Error(err)
		}

		go func() { done <- c.Reauthenticate(t.Context()) }()
		p.wantAuth("first", mqtt.ReAuthenticate)
		p.challenge("forged", mqtt.Success)
		if err := <-done; err == nil || err.Error() != "no proof" {
			t.Errorf("a forged proof gives %v", err)
		}
		if _, ok := p.next().(error); !ok {
			t.Error("the connection goes on")
		}
	})
}
