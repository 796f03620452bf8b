// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"strings"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// connackRules are about CONNACK (section 3.2).
var connackRules = []rule{
	{"connack_success", "MQTT-3.1.4-4 MQTT-3.2.2-3", "MQTT-3.1.4-5 MQTT-3.2.2-1 MQTT-2.2.2-1", connackSuccess},
	{"connack_comes_first", "MQTT-3.2.0-1", "MQTT-3.2.0-1", connackFirst},
	{"connack_once", "", "MQTT-3.2.0-2", connackOnce},
	{"session_present_0_if_clean", "MQTT-3.2.2-1", "MQTT-3.2.2-2", presentIfClean},
	{"session_present_1_if_there", "MQTT-3.2.2-2", "MQTT-3.2.2-3", presentIfThere},
	{"session_present_0_if_none", "MQTT-3.2.2-3", "MQTT-3.2.2-3 MQTT-3.1.2-6", presentIfNone},
	{"refusal_over_a_session", "MQTT-3.2.2-4 MQTT-3.2.2-5", "MQTT-3.2.2-6 MQTT-3.2.2-7", refusalOverSession},
	{"refusal_closes", "MQTT-3.2.2-5", "MQTT-3.2.2-7 MQTT-3.2.2-8 MQTT-4.13.2-1", refusalCloses},
	{"no_fitting_return_code", "MQTT-3.2.2-6", "", noFittingCode},
	{"wrong_password", "", "MQTT-3.1.4-2", wrongPassword},
	{"wrong_password_311", "MQTT-3.2.2-5", "", wrongPassword311},
	{"maximum_qos_announced", "", "MQTT-3.2.2-9", maximumQoSAnnounced},
	{"maximum_qos_subscribe", "", "MQTT-3.2.2-10", maximumQoSSubscribe},
	{"maximum_qos_publish", "", "MQTT-3.2.2-11", maximumQoSPublish},
	{"maximum_qos_will", "", "MQTT-3.2.2-12", maximumQoSWill},
	{"retain_unavailable_will", "", "MQTT-3.2.2-13", retainUnavailableWill},
	{"retain_unavailable_publish", "", "MQTT-3.2.2-14", retainUnavailablePublish},
	{"small_refusal", "", "MQTT-3.2.2-19 MQTT-3.2.2-20", smallRefusal},
	{"response_information", "", "MQTT-3.1.2-28", responseInformation},
}

func connackSuccess(t *T) {
	c, p := t.Connack("a")
	equal(t, "session present", p.SessionPresent, false)
	if t.V != mqtt.V5 {
		equal(t, "CONNACK", string(c.Last), "\x20\x02\x00\x00")
		return
	}
	equal(t, "first byte, flags and code", string([]byte{c.Last[0], c.Last[2], c.Last[3]}), "\x20\x00\x00")
	if len(c.Last) < 5 {
		t.Fatal("there is no property length")
	}
}

// connackFirst resumes a session in which messages wait: none of them overtakes the CONNACK.
func connackFirst(t *T) {
	c := t.Connect("a", persistent)
	t.Subscribe(c, 1, t.Topic("#"))
	t.Cut(c)
	pub := t.Connect("pub")
	for i := range 20 {
		t.Publish(pub, 1, t.Topic("x"), fmt.Sprint(i))
	}
	c = t.Dial()
	c.SendConnect(t.connect("a", persistent))
	t.Publish(pub, 1, t.Topic("x"), "20")
	wire.Want[*mqtt.Connack](c)
	for i := range 21 {
		t.Take(c, t.Topic("x"), fmt.Sprint(i))
	}
}

// connackOnce reads all that a connection brings for a while, which holds one CONNACK.
func connackOnce(t *T) {
	c := t.Connect("a")
	t.Subscribe(c, 2, t.Topic("x"))
	t.Publish(c, 0, t.Topic("x"), "x")
	t.Take(c, t.Topic("x"), "x")
	c.WantQuiet()
	c.SendConnect(t.connect("a"))
	for {
		p, err := c.Read(c.Patience)
		if err != nil {
			break
		}
		if _, ok := p.(*mqtt.Connack); ok {
			t.Fatal("a second CONNACK came")
		}
	}
}

func presentIfClean(t *T) {
	c := t.Connect("a", persistent)
	t.Subscribe(c, 1, t.Topic("x"))
	t.Cut(c)
	_, p := t.Connack("a")
	equal(t, "session present", p.SessionPresent, false)
}

func presentIfThere(t *T) {
	c := t.Connect("a", persistent)
	t.Cut(c)
	c, p := t.Connack("a", persistent)
	equal(t, "session present after a cut", p.SessionPresent, true)
	t.Leave(c)
	c, p = t.Connack("a", resuming)
	equal(t, "session present after DISCONNECT", p.SessionPresent, true)
	equal(t, "connect acknowledge flags", c.Last[2], 1)
}

func presentIfNone(t *T) {
	c, p := t.Connack("a", persistent)
	equal(t, "session present at first", p.SessionPresent, false)
	t.Leave(c)
	c = t.Connect("a") // clean: drops it, and leaves none
	t.Leave(c)
	_, p = t.Connack("a", persistent)
	equal(t, "session present after a clean session", p.SessionPresent, false)
}

// refusalOverSession has a CONNECT refused whose client has a session.
func refusalOverSession(t *T) {
	t.Options(broker.Options{Plugins: plugins(&login{want: "good"}), Policy: broker.Policy{AllowAnonymous: broker.Nowhere}})
	password := func(s string) option {
		return func(p *mqtt.Connect) {
			p.HasUsername, p.Username, p.HasPassword, p.Password = true, []byte("me"), true, []byte(s)
		}
	}
	t.Cut(t.Connect("a", persistent, password("good")))
	c := t.Dial()
	c.SendConnect(t.connect("a", persistent, password("bad")))
	p := wire.Want[*mqtt.Connack](c)
	equal(t, "code", p.Code, mqtt.BadUserNameOrPassword)
	equal(t, "connect acknowledge flags", c.Last[2], 0)
	equal(t, "what follows", len(c.Rest()), 0)
	_, p = t.Connack("a", persistent, password("good"))
	equal(t, "session present afterwards", p.SessionPresent, true)
}

// refusalCloses collects refusals of several kinds. Their codes are looked at by form.
func refusalCloses(t *T) {
	if t.V != mqtt.V5 {
		c := t.Dial()
		c.SendConnect(t.refusable("a"))
		equal(t, "code", wire.Want[*mqtt.Connack](c).Code, mqtt.ClientIdentifierNotValid)
		equal(t, "what follows", len(c.Rest()), 0)
		return
	}
	c := t.Dial()
	c.SendConnect(t.refusable("a"))
	t.Closed(c, mqtt.BadAuthenticationMethod, mqtt.NotAuthorized)
	c = t.Dial()
	c.Raw(t.connectPacket(flagClean|flagReserved, field(t.ID("a")))...)
	t.Closed(c, mqtt.MalformedPacket)
	c = t.Dial()
	c.Raw(frame(0x10, field("MQTT"), []byte{5, flagClean}, short(60), t.block(0x21, 0, 0), field(t.ID("a")))...)
	t.Closed(c, mqtt.ProtocolError)
	c = t.Dial()
	c.SendConnect(t.connect("a", withWill(mqtt.Will{Topic: []byte("a/#"), Payload: []byte("w")})))
	t.Closed(c, mqtt.TopicNameInvalid, mqtt.MalformedPacket, mqtt.ProtocolError)
}

// noFittingCode is refused for a reason that 3.1.1 has no code for.
func noFittingCode(t *T) {
	t.Limits(func(l *broker.Limits) { l.MaxQoS = 0 })
	c := t.Dial()
	c.SendConnect(t.connect("a", withWill(mqtt.Will{Topic: []byte("w"), Payload: []byte("w"), QoS: 1})))
	equal(t, "the answer", string(c.Rest()), "")
}

func wrongPassword(t *T) {
	t.Options(broker.Options{Plugins: plugins(&login{want: "good"})})
	c := t.Dial()
	c.SendConnect(t.connect("a", func(p *mqtt.Connect) {
		p.HasUsername, p.Username, p.HasPassword, p.Password = true, []byte("me"), true, []byte("bad")
	}))
	equal(t, "code", wire.Want[*mqtt.Connack](c).Code, mqtt.BadUserNameOrPassword)
	equal(t, "what follows", len(c.Rest()), 0)
}

func wrongPassword311(t *T) {
	t.Options(broker.Options{Plugins: plugins(&login{want: "good"})})
	c := t.Dial()
	c.SendConnect(t.connect("a", func(p *mqtt.Connect) {
		p.HasUsername, p.Username, p.HasPassword, p.Password = true, []byte("me"), true, []byte("bad")
	}))
	equal(t, "the answer", string(c.Rest()), "\x20\x02\x00\x04")
	c = t.Dial()
	c.SendConnect(t.connect("a"))
	equal(t, "the answer to a stranger", string(c.Rest()), "\x20\x02\x00\x05")
}

func limitQoS(q mqtt.QoS) func(*broker.Limits) {
	return func(l *broker.Limits) { l.MaxQoS = q }
}

func maximumQoSAnnounced(t *T) {
	t.Limits(limitQoS(1))
	_, p := t.Connack("a")
	v, ok := p.Properties.Byte(mqtt.PropMaximumQoS)
	if !ok || v != 1 {
		t.Fatalf("Maximum QoS is %d, %v, want 1", v, ok)
	}
}

func maximumQoSSubscribe(t *T) {
	for limit := range mqtt.QoS(2) {
		t.Limits(limitQoS(limit))
		c := t.Connect("a")
		for q := range mqtt.QoS(3) {
			a := c.Subscribe(1, q, t.Topic("x"))
			equal(t, "granted QoS", a.Codes[0], mqtt.ReasonCode(min(q, limit)))
		}
	}
}

func maximumQoSPublish(t *T) {
	t.Limits(limitQoS(0))
	for q := mqtt.QoS(1); q <= 2; q++ {
		c := t.Connect("a")
		c.Send(&mqtt.Publish{QoS: q, ID: 1, Topic: []byte("x")})
		t.Closed(c, mqtt.QoSNotSupported)
	}
}

func maximumQoSWill(t *T) {
	t.Limits(limitQoS(1))
	c := t.Dial()
	c.SendConnect(t.connect("a", withWill(mqtt.Will{Topic: []byte("w"), QoS: 2})))
	equal(t, "code", wire.Want[*mqtt.Connack](c).Code, mqtt.QoSNotSupported)
	equal(t, "what follows", len(c.Rest()), 0)
}

func noRetain(l *broker.Limits) { l.RetainAvailable = false }

func retainUnavailableWill(t *T) {
	t.Limits(noRetain)
	c, p := t.Connack("a")
	if v, ok := p.Properties.Byte(mqtt.PropRetainAvailable); !ok || v != 0 {
		t.Fatalf("Retain Available is %d, %v, want 0", v, ok)
	}
	t.Leave(c)
	c = t.Dial()
	c.SendConnect(t.connect("a", withWill(mqtt.Will{Topic: []byte("w"), Retain: true})))
	equal(t, "code", wire.Want[*mqtt.Connack](c).Code, mqtt.RetainNotSupported)
	equal(t, "what follows", len(c.Rest()), 0)
}

func retainUnavailablePublish(t *T) {
	t.Limits(noRetain)
	c := t.Connect("a")
	c.Send(&mqtt.Publish{Retain: true, Topic: []byte("x"), Payload: []byte("x")})
	t.Closed(c, mqtt.RetainNotSupported)
}

// smallRefusal lets refusals of every kind be no larger than what the client takes.
func smallRefusal(t *T) {
	for size := uint32(5); size < 60; size++ {
		c := t.Dial()
		c.Inspect = nil
		c.SendConnect(t.refusable(strings.Repeat("x", 8), maxPacket(size)))
		if answer := c.Rest(); len(answer) > int(size) {
			t.Fatalf("a CONNACK of %d bytes for a client that takes %d: % x", len(answer), size, answer)
		}
	}
}

func responseInformation(t *T) {
	if own() {
		t.Options(broker.Options{Policy: broker.Policy{ResponseInformation: "answers/%c"}})
	}
	for _, wish := range []mqtt.Properties{nil, {0x19, 0}} {
		c, p := t.Connack("a", withProps(wish))
		if p.Properties.Has(mqtt.PropResponseInformation) {
			t.Error("there is Response Information that nobody asked for")
		}
		c.Disconnect()
		time.Sleep(10 * time.Millisecond)
	}
	if _, p := t.Connack("a", withProps(mqtt.Properties{0x19, 1})); own() {
		info, _ := p.Properties.String(mqtt.PropResponseInformation)
		equal(t, "Response Information", info, "answers/"+t.ID("a"))
	}
}
