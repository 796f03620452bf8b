// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// authRules are about AUTH and enhanced authentication (sections 3.15 and 4.12).
var authRules = []rule{
	{"auth_method_unknown", "", "MQTT-4.12.0-1", methodUnknown},
	{"auth_in_steps", "", "MQTT-4.12.0-2 MQTT-4.12.0-5 MQTT-3.15.2-1", authInSteps},
	{"auth_in_one_step", "", "MQTT-4.12.0-5", authInOneStep},
	{"auth_wrong_code", "", "MQTT-4.12.0-3", authWrongCode},
	{"auth_refused", "", "MQTT-4.12.0-4", authRefused},
	{"auth_other_method", "", "MQTT-4.12.0-5", authOtherMethod},
	{"no_auth_without_method", "", "MQTT-4.12.0-6", noAuthWithoutMethod},
	{"auth_without_method", "", "MQTT-4.12.0-7", authWithoutMethod},
	{"only_auth_before_connack", "", "MQTT-3.1.2-30", onlyAuth},
	{"auth_cancelled", "", "MQTT-3.1.2-30", authCancelled},
	{"nothing_after_refused_auth", "", "MQTT-3.1.4-6", nothingAfterRefusedAuth},
	{"reauthentication", "", "MQTT-4.12.0-5 MQTT-3.15.2-1", reauthentication},
	{"reauthentication_other_method", "", "MQTT-4.12.1-1", reauthOtherMethod},
	{"reauthentication_wrong_code", "", "MQTT-4.12.1-1", reauthWrongCode},
	{"reauthentication_refused", "", "MQTT-4.12.1-2", reauthRefused},
	{"auth_codes_from_client", "", "MQTT-3.15.2-1", authCodesFromClient},
	{"auth_flags", "", "MQTT-3.15.1-1", authFlags},
}

// withDialogue starts a broker that knows the method.
func (t *T) withDialogue() {
	t.Helper()
	t.Options(broker.Options{Plugins: plugins(dialogue{}), Policy: broker.Policy{AllowAnonymous: broker.Everywhere}})
}

// authProps are Authentication Method and Data.
func authProps(method, data string) mqtt.Properties {
	p := mqtt.AppendPropString(nil, mqtt.PropAuthenticationMethod, method)
	if data != "" {
		p = mqtt.AppendPropString(p, mqtt.PropAuthenticationData, data)
	}
	return p
}

func authenticating(data string) option { return withProps(authProps(method, data)) }

func answer(code mqtt.ReasonCode, data string) *mqtt.Auth {
	return &mqtt.Auth{Code: code, Properties: authProps(method, data)}
}

// asked begins a dialogue up to the server's question.
func (t *T) asked(o ...option) *wire.Client {
	t.Helper()
	c := t.Dial()
	c.SendConnect(t.connect("a", append(o, authenticating("hello"))...))
	t.wantAuth(c, mqtt.ContinueAuthentication, "challenge")
	return c
}

func (t *T) wantAuth(c *wire.Client, code mqtt.ReasonCode, data string) {
	t.Helper()
	p := wire.Want[*mqtt.Auth](c)
	equal(t, "code of AUTH", p.Code, code)
	m, _ := p.Properties.String(mqtt.PropAuthenticationMethod)
	equal(t, "method of AUTH", m, method)
	d, _ := p.Properties.String(mqtt.PropAuthenticationData)
	equal(t, "data of AUTH", d, data)
}

// loggedIn goes through the dialogue.
func (t *T) loggedIn() *wire.Client {
	t.Helper()
	c := t.asked()
	c.Send(answer(mqtt.ContinueAuthentication, "good"))
	t.wantWelcome(c, "welcome")
	return c
}

func (t *T) wantWelcome(c *wire.Client, data string) {
	t.Helper()
	p := wire.Want[*mqtt.Connack](c)
	equal(t, "code of CONNACK", p.Code, mqtt.Success)
	m, _ := p.Properties.String(mqtt.PropAuthenticationMethod)
	equal(t, "method of CONNACK", m, method)
	d, _ := p.Properties.String(mqtt.PropAuthenticationData)
	equal(t, "data of CONNACK", d, data)
}

func methodUnknown(t *T) {
	for _, m := range []string{"no such method", "", "test-dialogue"} {
		c := t.Dial()
		c.SendConnect(t.connect("a", withProps(authProps(m, "hello"))))
		t.Closed(c, mqtt.BadAuthenticationMethod, mqtt.NotAuthorized)
	}
}

func authInSteps(t *T) {
	t.withDialogue()
	c := t.loggedIn()
	c.WantQuiet()
	t.Publish(c, 1, t.Topic("x"), "x")
}

func authInOneStep(t *T) {
	t.withDialogue()
	c := t.Dial()
	c.SendConnect(t.connect("a", authenticating("good at once")))
	t.wantWelcome(c, "")
}

func authWrongCode(t *T) {
	t.withDialogue()
	for _, code := range []mqtt.ReasonCode{mqtt.Success, mqtt.ReAuthenticate, 0x80, 0x17} {
		c := t.asked()
		c.Send(answer(code, "good"))
		t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
}

func authRefused(t *T) {
	t.withDialogue()
	c := t.asked()
	c.Send(answer(mqtt.ContinueAuthentication, "bad"))
	p := wire.Want[*mqtt.Connack](c)
	equal(t, "code", p.Code, mqtt.NotAuthorized)
	equal(t, "what follows", len(c.Rest()), 0)
}

func authOtherMethod(t *T) {
	t.withDialogue()
	c := t.asked()
	c.Send(&mqtt.Auth{Code: mqtt.ContinueAuthentication, Properties: authProps("other", "good")})
	t.Closed(c, mqtt.ProtocolError, mqtt.BadAuthenticationMethod)
	c = t.asked()
	c.Raw(0xF0, 2, 0x18, 0) // no method at all
	t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
}

func noAuthWithoutMethod(t *T) {
	if own() {
		t.withDialogue()
	}
	c, p := t.Connack("a")
	if p.Properties.Has(mqtt.PropAuthenticationMethod) || p.Properties.Has(mqtt.PropAuthenticationData) {
		t.Error("CONNACK has a method or data")
	}
	t.Nothing(c)
}

func authWithoutMethod(t *T) {
	if own() {
		t.withDialogue()
	}
	for _, code := range []mqtt.ReasonCode{mqtt.ReAuthenticate, mqtt.ContinueAuthentication} {
		c := t.Connect("a")
		c.Send(answer(code, "hello"))
		t.Closed(c, mqtt.ProtocolError)
	}
}

// onlyAuth sends everything else amid the dialogue: the connection ends, and nothing was done.
func onlyAuth(t *T) {
	t.withDialogue()
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("#"))
	for _, packet := range [][]byte{
		t.publishPacket(0, t.Topic("x"), -1, "x"), t.publishPacket(2, t.Topic("x"), 1, "x"), {0x40, 2, 0, 1}, {0x62, 2, 0, 1},
		t.subscribePacket(1, field("x"), []byte{0}), t.unsubscribePacket(1, field("x")), {0xC0, 0},
		t.connectPacket(flagClean, field(t.ID("a"))),
	} {
		c := t.asked()
		c.Raw(packet...)
		t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
	t.Nothing(watch)
}

func authCancelled(t *T) {
	t.withDialogue()
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("will"))
	c := t.asked(withWill(t.testament(0)))
	c.Send(&mqtt.Disconnect{Code: mqtt.DisconnectWithWillMessage})
	t.Closed(c)
	t.Nothing(watch)
	t.loggedIn().WantQuiet()
}

func nothingAfterRefusedAuth(t *T) {
	t.withDialogue()
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("x"))
	c := t.asked()
	b := answer(mqtt.ContinueAuthentication, "bad").Append(nil, mqtt.V5)
	c.Raw(append(b, t.publishPacket(0, t.Topic("x"), -1, "x")...)...)
	t.Closed(c, mqtt.NotAuthorized)
	t.Nothing(watch)
}

// reauthentication repeats the dialogue on an open connection, twice, with other packets in between.
func reauthentication(t *T) {
	t.withDialogue()
	c := t.loggedIn()
	for range 2 {
		c.Send(answer(mqtt.ReAuthenticate, "hello"))
		t.wantAuth(c, mqtt.ContinueAuthentication, "challenge")
		t.Publish(c, 1, t.Topic("x"), "x")
		c.Send(answer(mqtt.ContinueAuthentication, "good"))
		t.wantAuth(c, mqtt.Success, "welcome")
		c.WantQuiet()
	}
	c.Send(answer(mqtt.ReAuthenticate, "good at once"))
	t.wantAuth(c, mqtt.Success, "")
}

func reauthOtherMethod(t *T) {
	t.withDialogue()
	c := t.loggedIn()
	c.Send(&mqtt.Auth{Code: mqtt.ReAuthenticate, Properties: authProps("other", "hello")})
	t.Closed(c, mqtt.ProtocolError, mqtt.BadAuthenticationMethod)
}

func reauthWrongCode(t *T) {
	t.withDialogue()
	c := t.loggedIn()
	c.Send(answer(mqtt.ContinueAuthentication, "good"))
	t.Closed(c, mqtt.ProtocolError)
	c = t.loggedIn()
	c.Send(answer(mqtt.ReAuthenticate, "hello"))
	t.wantAuth(c, mqtt.ContinueAuthentication, "challenge")
	c.Send(answer(mqtt.ReAuthenticate, "hello"))
	t.Closed(c, mqtt.ProtocolError)
}

func reauthRefused(t *T) {
	t.withDialogue()
	c := t.loggedIn()
	c.Send(answer(mqtt.ReAuthenticate, "hello"))
	t.wantAuth(c, mqtt.ContinueAuthentication, "challenge")
	c.Send(answer(mqtt.ContinueAuthentication, "bad"))
	t.Closed(c, mqtt.NotAuthorized)
}

// authCodesFromClient sends codes that AUTH does not have, and the one that is the server's.
func authCodesFromClient(t *T) {
	t.withDialogue()
	for _, code := range []mqtt.ReasonCode{mqtt.Success, 0x01, 0x80, 0x87} {
		c := t.loggedIn()
		c.Send(answer(code, "hello"))
		t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
	c := t.loggedIn()
	c.Raw(0xF0, 0)
	t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
}

func authFlags(t *T) {
	if own() {
		t.withDialogue()
	}
	for flags := byte(1); flags < 16; flags++ {
		c := t.Connect("a")
		b := answer(mqtt.ReAuthenticate, "hello").Append(nil, mqtt.V5)
		b[0] |= flags
		c.Raw(b...)
		t.Closed(c, mqtt.MalformedPacket)
	}
}
