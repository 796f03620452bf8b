// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package jwt

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// A whole broker: a token as password, and by AUTH, again and again; connections end with their tokens.
func TestTokensInABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := withSecret()
		o.Leeway = 0
		a, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{a}})
		token := func(sub string, d time.Duration) string {
			return sign(t, "HS256", "", []byte(secret), jwt.MapClaims{"sub": sub, "exp": time.Now().Add(d).Unix()})
		}
		props := func(token string) mqtt.Properties {
			p := mqtt.AppendPropString(nil, mqtt.PropAuthenticationMethod, "JWT")
			return mqtt.AppendPropString(p, mqtt.PropAuthenticationData, token)
		}
		byPassword := wire.New(t, b.Dial(), mqtt.V311)
		if k := byPassword.Connect(mqtt.Connect{ClientID: []byte("p"), CleanStart: true, HasUsername: true, Username: []byte("whatever"), HasPassword: true, Password: []byte(token("ann", 10*time.Second))}); k.Code != mqtt.Success {
			t.Fatal(k.Code)
		}
		c := wire.New(t, b.Dial(), mqtt.V5)
		if k := c.Connect(mqtt.Connect{ClientID: []byte("c"), CleanStart: true, Properties: props(token("ann", 10*time.Second))}); k.Code != mqtt.Success {
			t.Fatal(k.Code)
		}
		time.Sleep(8 * time.Second)
		c.Send(&mqtt.Auth{Code: mqtt.ReAuthenticate, Properties: props(token("ann", 10*time.Second))})
		if r := wire.Want[*mqtt.Auth](c); r.Code != mqtt.Success {
			t.Fatal(r.Code)
		}
		time.Sleep(3 * time.Second)
		byPassword.WantClosed()
		c.WantQuiet()
		time.Sleep(8 * time.Second)
		if d := wire.Want[*mqtt.Disconnect](c); d.Code != mqtt.NotAuthorized {
			t.Errorf("told %v", d.Code)
		}
		c.WantClosed()
		// Another's token does not re-authenticate.
		c = wire.New(t, b.Dial(), mqtt.V5)
		c.Connect(mqtt.Connect{ClientID: []byte("c"), CleanStart: true, Properties: props(token("ann", time.Hour))})
		c.Send(&mqtt.Auth{Code: mqtt.ReAuthenticate, Properties: props(token("bob", time.Hour))})
		if d := wire.Want[*mqtt.Disconnect](c); d.Code != mqtt.NotAuthorized {
			t.Errorf("told %v", d.Code)
		}
		c.WantClosed()
		b.Stop()
	})
}
