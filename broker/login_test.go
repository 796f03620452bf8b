// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// tickets lets everybody in for as long as the password, or the data of the method "ticket", says.
type tickets struct{ named }

func (tickets) judge(text string) (plugin.Decision, plugin.Identity) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return plugin.Decision{Verdict: plugin.Deny}, plugin.Identity{}
	}
	return plugin.Decision{Verdict: plugin.Allow}, plugin.Identity{Username: "ann", Grant: &plugin.Grant{Expires: time.Now().Add(d)}}
}

func (t tickets) Authenticate(_ context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	d, id := t.judge(string(l.Password))
	return d, id, nil
}

func (tickets) Method() string { return "ticket" }
func (t tickets) Begin(context.Context, *plugin.Client) (plugin.Exchange, error) {
	return t, nil
}

func (t tickets) Next(_ context.Context, data []byte) ([]byte, bool, plugin.Decision, plugin.Identity, error) {
	d, id := t.judge(string(data))
	return nil, true, d, id, nil
}

func ticket(data string) mqtt.Properties {
	p := mqtt.AppendPropString(nil, mqtt.PropAuthenticationMethod, "ticket")
	return mqtt.AppendPropString(p, mqtt.PropAuthenticationData, data)
}

// A login that ends takes its connection with it, however busy that is.
func TestLoginEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{tickets{"auth.test"}}})
		c, _ := connect(t, b, mqtt.V5, login("ann", "10s"))
		old, _ := connect(t, b, mqtt.V311, login("bob", "10s"))
		long, _ := connect(t, b, mqtt.V5, login("eve", "1000000h"))
		for range 9 {
			time.Sleep(time.Second)
			c.Ping()
			c.Next()
		}
		time.Sleep(time.Second + 10*time.Millisecond)
		if d := wire.Want[*mqtt.Disconnect](c); d.Code != mqtt.NotAuthorized {
			t.Errorf("told %v", d.Code)
		}
		c.WantClosed()
		old.WantClosed()
		long.WantQuiet()
		if s := b.Stats(); s.Closed[plugin.LoginExpired] != 2 || s.Connected != 1 {
			t.Errorf("counted %v, %d are connected", s.Closed, s.Connected)
		}
		if code := refusal(t, b, mqtt.V5, login("ann", "-1s")); code != mqtt.NotAuthorized {
			t.Errorf("a login that has ended: %v", code)
		}
		b.Stop()
	})
}

// A client that logged in by a method may do so again before its time is up, and has the new one; it must come before the old one ends.
func TestReauthenticationPutsTheEndOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{tickets{"auth.test"}}})
		c, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("c"), Properties: ticket("10s")})
		for _, next := range []string{"10s", "20s", "5s"} {
			time.Sleep(9 * time.Second)
			c.Send(&mqtt.Auth{Code: mqtt.ReAuthenticate, Properties: ticket(next)})
			if a := wire.Want[*mqtt.Auth](c); a.Code != mqtt.Success {
				t.Fatalf("told %v", a.Code)
			}
		}
		time.Sleep(4 * time.Second)
		c.WantQuiet()
		time.Sleep(time.Second)
		if d := wire.Want[*mqtt.Disconnect](c); d.Code != mqtt.NotAuthorized {
			t.Errorf("told %v", d.Code)
		}
		c.WantClosed()
		b.Stop()
	})
}
