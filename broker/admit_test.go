// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/attempt"
	"github.com/noctule/noctule/broker/ban"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

func from(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 4000} }

// told is the code that a login from an address is answered with.
func told(t *testing.T, b *brokertest.Broker, v mqtt.Version, ip string, p mqtt.Connect) mqtt.ReasonCode {
	t.Helper()
	c := wire.New(t, b.DialFrom(from(ip)), v)
	c.SendConnect(p)
	a := wire.Want[*mqtt.Connack](c)
	if a.Code == mqtt.Success {
		c.Disconnect()
	} else {
		c.WantClosed()
	}
	return a.Code
}

func TestGuessersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &logins{named: "auth.test", passwords: map[string]string{"ann": "a", "bob": "b"}}
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{l},
			Policy: broker.Policy{LoginAttempts: attempt.Policy{Free: 3, Delay: 10 * time.Second, Most: time.Minute}}})
		want := func(v mqtt.Version, ip, user, password string, code mqtt.ReasonCode, when string) {
			t.Helper()
			if got := told(t, b, v, ip, login(user, password)); got != code {
				t.Errorf("%s: %v, want %v", when, got, code)
			}
		}
		want(mqtt.V5, "192.0.2.1", "ann", "a", mqtt.Success, "at first")
		for range 4 {
			want(mqtt.V5, "192.0.2.9", "ann", "guess", mqtt.BadUserNameOrPassword, "free")
		}
		want(mqtt.V5, "192.0.2.9", "ann", "a", mqtt.ConnectionRateExceeded, "right, too soon")
		want(mqtt.V311, "192.0.2.9", "ann", "a", mqtt.ServerUnavailable, "likewise 3.1.1")
		want(mqtt.V5, "192.0.2.8", "ann", "a", mqtt.ConnectionRateExceeded, "from elsewhere")
		want(mqtt.V5, "192.0.2.1", "ann", "a", mqtt.Success, "from where the user is known")
		want(mqtt.V5, "192.0.2.9", "bob", "b", mqtt.Success, "another user from the guesser's address")
		time.Sleep(10 * time.Second)
		want(mqtt.V5, "192.0.2.9", "ann", "a", mqtt.Success, "after the wait")
		l.fail = errors.New("the database is away")
		for range 20 {
			want(mqtt.V5, "192.0.2.9", "bob", "b", mqtt.BadUserNameOrPassword, "while the authenticator fails")
		}
		l.fail = nil
		want(mqtt.V5, "192.0.2.9", "bob", "b", mqtt.Success, "when it is back")
		nobody := mqtt.Connect{ClientID: []byte("x"), CleanStart: true}
		for range 20 { // who gives nothing guesses nothing
			if got := told(t, b, mqtt.V5, "192.0.2.9", nobody); got != mqtt.NotAuthorized {
				t.Errorf("without a login: %v", got)
			}
		}
		if s := b.Stats(); s.Refused[plugin.TooManyAttempts] != 3 || s.Refused[plugin.AuthenticatorFailed] != 20 {
			t.Errorf("counted %v", s.Refused)
		}
		b.Stop()
	})
}

func TestBans(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{
		&logins{named: "auth.test", passwords: map[string]string{"ann": "a", "bob": "b"}}}})
	for _, x := range []ban.Ban{{Kind: ban.Client, Value: "c-ann"}, {Kind: ban.User, Value: "ann"}, {Kind: ban.Address, Value: "192.0.2.0/24"},
		{Kind: ban.ClientPattern, Value: "c-a*"}, {Kind: ban.UserPattern, Value: "?nn"}} {
		dial := func(user, password string) *wire.Client {
			c := wire.New(t, b.DialFrom(from("192.0.2.7")), mqtt.V5)
			c.Connect(login(user, password))
			return c
		}
		in := dial("ann", "a")
		other := wire.New(t, b.DialFrom(from("198.51.100.1")), mqtt.V5)
		other.Connect(login("bob", "b"))
		if _, err := b.Ban(x); err != nil {
			t.Fatal(err)
		}
		if d := wire.Want[*mqtt.Disconnect](in); d.Code != mqtt.AdministrativeAction {
			t.Errorf("%s: an open connection is told %v", x.Kind, d.Code)
		}
		in.WantClosed()
		if got := told(t, b, mqtt.V5, "192.0.2.7", login("ann", "wrong")); got != mqtt.Banned {
			t.Errorf("%s: told %v", x.Kind, got)
		}
		if got := told(t, b, mqtt.V311, "192.0.2.7", login("ann", "a")); got != mqtt.NotAuthorized {
			t.Errorf("%s: a 3.1.1 client is told %v", x.Kind, got)
		}
		other.Ping()
		other.Next()
		other.Disconnect()
		if ok, err := b.Unban(x.Kind, x.Value); !ok || err != nil || len(b.Bans()) != 0 {
			t.Errorf("%s: not lifted: %v, %v", x.Kind, ok, err)
		}
		dial("ann", "a").Disconnect()
	}
	if n := b.Stats().Refused[plugin.Banned]; n != 10 {
		t.Errorf("%d refusals were counted", n)
	}
}

func TestFlappingClientsAreBanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{&logins{named: "auth.test", passwords: map[string]string{"ann": "a", "bob": "b"}}},
			Policy: broker.Policy{Flapping: ban.FlappingPolicy{Connects: 3, Window: time.Minute, For: 5 * time.Minute}}})
		for range 3 {
			told(t, b, mqtt.V5, "192.0.2.1", login("ann", "a"))
		}
		for range 20 { // who cannot log in bans nobody
			if got := told(t, b, mqtt.V5, "192.0.2.2", login("bob", "x")); got != mqtt.BadUserNameOrPassword {
				t.Fatal(got)
			}
		}
		for range 2 {
			if got := told(t, b, mqtt.V5, "192.0.2.1", login("ann", "a")); got != mqtt.Banned {
				t.Errorf("told %v", got)
			}
		}
		if all := b.Bans(); len(all) != 1 || all[0].By != "flapping" || all[0].Value != "c-ann" {
			t.Errorf("bans %+v", all)
		}
		time.Sleep(5 * time.Minute)
		if got := told(t, b, mqtt.V5, "192.0.2.1", login("ann", "a")); got != mqtt.Success {
			t.Errorf("after the ban: %v", got)
		}
		b.Stop()
	})
}
