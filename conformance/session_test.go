// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// sessionRules are about the state that outlives a connection (sections 3.1.2.4 and 4.1).
var sessionRules = []rule{
	{"session_resumed", "MQTT-3.1.2-4 MQTT-3.1.4-3 MQTT-4.1.0-1", "MQTT-3.1.2-5 MQTT-3.1.2-23 MQTT-3.1.4-4", sessionResumed},
	{"stored_while_away", "MQTT-3.1.2-5 MQTT-4.5.0-1", "MQTT-3.1.2-5 MQTT-4.5.0-1", storedWhileAway},
	{"clean_drops_the_session", "MQTT-3.1.2-6 MQTT-3.1.4-3", "MQTT-3.1.2-4 MQTT-3.1.4-4", cleanDrops},
	{"clean_leaves_nothing", "MQTT-3.1.2-6", "MQTT-3.1.2-6", cleanLeavesNothing},
	{"clean_drops_unacknowledged", "MQTT-3.1.2-6", "MQTT-3.1.2-4", cleanDropsInflight},
	{"retained_outlives_session", "MQTT-3.1.2-7", "", retainedOutlivesSession},
	{"client_id_names_the_session", "MQTT-3.1.3-2", "MQTT-3.1.3-2", clientIDNamesSession},
	{"session_lasts_as_its_connection", "MQTT-4.1.0-2", "MQTT-4.1.0-1", sessionLastsAsConnection},
	{"session_expires", "", "MQTT-4.1.0-2", sessionExpires},
	{"session_kept_until_expiry", "", "MQTT-3.1.2-23", sessionKept},
	{"session_expiry_0", "", "MQTT-4.1.0-2", sessionExpiryNone},
	{"session_expiry_never", "", "MQTT-3.1.2-23", sessionExpiryNever},
	{"session_expiry_changed_at_disconnect", "", "MQTT-3.1.2-23 MQTT-4.1.0-2", expiryChanged},
	{"session_expiry_0_cannot_be_raised", "", "MQTT-4.13.1-1", expiryRaised},
	{"session_expiry_of_the_server", "", "MQTT-4.1.0-2", expiryCapped},
	{"clean_start_with_expiry", "", "MQTT-3.1.2-4 MQTT-3.1.2-23", cleanStartWithExpiry},
}

func sessionResumed(t *T) {
	c := t.Connect("a", persistent)
	t.Subscribe(c, 1, t.Topic("a"), t.Topic("b/+"))
	t.Cut(c)
	c, p := t.Connack("a", persistent)
	equal(t, "session present", p.SessionPresent, true)
	pub := t.Connect("pub")
	t.Publish(pub, 1, t.Topic("a"), "1")
	t.Publish(pub, 1, t.Topic("b/c"), "2")
	equal(t, "QoS", t.Take(c, t.Topic("a"), "1").QoS, 1)
	equal(t, "QoS", t.Take(c, t.Topic("b/c"), "2").QoS, 1)
}

// storedWhileAway has messages wait for each way in which a connection may end.
func storedWhileAway(t *T) {
	pub := t.Connect("pub")
	for i, end := range []func(*wire.Client){t.Cut, t.Leave} {
		c := t.Connect("a", persistent)
		t.Subscribe(c, 2, t.Topic("x"))
		end(c)
		for q := mqtt.QoS(1); q <= 2; q++ {
			t.Publish(pub, q, t.Topic("x"), fmt.Sprint(i, q))
		}
		c, _ = t.Connack("a", persistent)
		for q := mqtt.QoS(1); q <= 2; q++ {
			equal(t, "QoS", t.Take(c, t.Topic("x"), fmt.Sprint(i, q)).QoS, q)
		}
		c.WantQuiet()
		t.Leave(c)
	}
}

func cleanDrops(t *T) {
	c := t.Connect("a", persistent)
	t.Subscribe(c, 1, t.Topic("x"))
	t.Leave(c)
	pub := t.Connect("pub")
	t.Publish(pub, 1, t.Topic("x"), "waits")
	c, p := t.Connack("a")
	equal(t, "session present", p.SessionPresent, false)
	t.Publish(pub, 1, t.Topic("x"), "later")
	t.Nothing(c)
}

func cleanLeavesNothing(t *T) {
	c := t.Connect("a")
	t.Subscribe(c, 1, t.Topic("x"))
	t.Cut(c)
	pub := t.Connect("pub")
	t.Publish(pub, 1, t.Topic("x"), "away")
	c, p := t.Connack("a", persistent)
	equal(t, "session present", p.SessionPresent, false)
	t.Publish(pub, 1, t.Topic("x"), "later")
	t.Nothing(c)
}

// cleanDropsInflight leaves a message of each direction unfinished: nothing of it goes on in a clean session.
func cleanDropsInflight(t *T) {
	c := t.Connect("a", persistent)
	t.Subscribe(c, 2, t.Topic("x"))
	pub := t.Connect("pub")
	t.Publish(pub, 2, t.Topic("x"), "out")
	c.WantPublish(t.Topic("x"), "out")
	c.Send(&mqtt.Publish{QoS: 2, ID: 9, Topic: []byte(t.Topic("y")), Payload: []byte("in")})
	c.WantAck(mqtt.PUBREC, 9)
	t.Cut(c)
	c = t.Connect("a")
	t.Nothing(c)
	c.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 9})
	a := c.WantAck(mqtt.PUBCOMP, 9)
	if t.V == mqtt.V5 && own() {
		equal(t, "code of PUBCOMP", a.Code, mqtt.PacketIdentifierNotFound)
	}
}

func retainedOutlivesSession(t *T) {
	c := t.Connect("a")
	t.Retain(c, 1, t.Topic("x"), "kept")
	t.Leave(c)
	c = t.Connect("a")
	t.Subscribe(c, 1, t.Topic("x"))
	equal(t, "RETAIN", t.Take(c, t.Topic("x"), "kept").Retain, true)
}

func clientIDNamesSession(t *T) {
	a, b := t.Connect("a", persistent), t.Connect("A", persistent)
	t.Subscribe(a, 1, t.Topic("a"))
	t.Subscribe(b, 1, t.Topic("b"))
	t.Cut(a)
	t.Cut(b)
	pub := t.Connect("pub")
	t.Publish(pub, 1, t.Topic("a"), "to a")
	t.Publish(pub, 1, t.Topic("b"), "to b")
	a, b = t.Connect("a", persistent), t.Connect("A", persistent)
	t.Take(a, t.Topic("a"), "to a")
	t.Take(b, t.Topic("b"), "to b")
	t.Nothing(a, b)
}

// sessionLastsAsConnection stays connected for longer than the session would be kept.
func sessionLastsAsConnection(t *T) {
	o := []option{persistent}
	if t.V == mqtt.V5 {
		o = []option{expiring(1)}
	}
	c, clean := t.Connect("a", o...), t.Connect("b")
	t.Subscribe(c, 1, t.Topic("x"))
	t.Subscribe(clean, 1, t.Topic("x"))
	time.Sleep(3 * time.Second)
	t.Publish(t.Connect("pub"), 1, t.Topic("x"), "x")
	t.Take(c, t.Topic("x"), "x")
	t.Take(clean, t.Topic("x"), "x")
}

// back connects again after a while and reports whether the session was there.
func (t *T) back(id string, after time.Duration) bool {
	t.Helper()
	time.Sleep(after)
	c, p := t.Connack(id, resuming)
	t.Leave(c)
	return p.SessionPresent
}

func sessionExpires(t *T) {
	for _, end := range []func(*wire.Client){t.Cut, t.Leave} {
		c := t.Connect("a", expiring(1))
		t.Subscribe(c, 1, t.Topic("x"))
		end(c)
		pub := t.Connect("pub")
		t.Publish(pub, 1, t.Topic("x"), "waits")
		time.Sleep(3 * time.Second)
		c, p := t.Connack("a", expiring(1))
		equal(t, "session present", p.SessionPresent, false)
		t.Publish(pub, 1, t.Topic("x"), "later")
		t.Nothing(c)
		t.Leave(c)
		time.Sleep(3 * time.Second)
		t.Leave(pub)
	}
}

func sessionKept(t *T) {
	t.Cut(t.Connect("a", expiring(10)))
	equal(t, "session present in time", t.back("a", 3*time.Second), true)
}

func sessionExpiryNone(t *T) {
	t.Cut(t.Connect("a", resuming)) // no property is an interval of 0
	equal(t, "session present", t.back("a", 0), false)
	t.Cut(t.Connect("b", expiring(0)))
	equal(t, "session present", t.back("b", 0), false)
}

func sessionExpiryNever(t *T) {
	if own() {
		l := broker.DefaultLimits()
		l.MaxSessionExpiry = 0                                                        // no cap
		t.Options(broker.Options{Limits: &l, Policy: broker.Policy{SysInterval: -1}}) // nothing to do meanwhile
	}
	t.Cut(t.Connect("a", expiring(0xFFFFFFFF)))
	after := 3 * time.Second
	if own() {
		after = 40 * 24 * time.Hour
	}
	equal(t, "session present", t.back("a", after), true)
}

func (t *T) leaveWithExpiry(id string, connect, disconnect uint32) {
	t.Helper()
	c := t.Connect(id, expiring(connect))
	c.Send(&mqtt.Disconnect{Properties: mqtt.AppendPropUint32(nil, mqtt.PropSessionExpiryInterval, disconnect)})
	c.WantClosed()
	t.settle()
}

func expiryChanged(t *T) {
	t.leaveWithExpiry("shorter", 100, 1)
	t.leaveWithExpiry("longer", 1, 100)
	t.leaveWithExpiry("now", 100, 0)
	equal(t, "session present after an interval of 0", t.back("now", 0), false)
	equal(t, "session present after a shortened interval", t.back("shorter", 3*time.Second), false)
	equal(t, "session present after a lengthened interval", t.back("longer", 0), true)
}

func expiryRaised(t *T) {
	c := t.Connect("a")
	c.Send(&mqtt.Disconnect{Properties: mqtt.AppendPropUint32(nil, mqtt.PropSessionExpiryInterval, 100)})
	t.Closed(c, mqtt.ProtocolError)
	equal(t, "session present", t.back("a", 0), false)
}

// expiryCapped asks for more than the server grants: it says so, and obeys itself.
func expiryCapped(t *T) {
	t.Limits(func(l *broker.Limits) { l.MaxSessionExpiry = 2 * time.Second })
	c, p := t.Connack("a", expiring(100))
	v, ok := p.Properties.Uint32(mqtt.PropSessionExpiryInterval)
	if !ok || v != 2 {
		t.Fatalf("CONNACK has a Session Expiry Interval of %d, %v, want 2", v, ok)
	}
	t.Cut(c)
	equal(t, "session present", t.back("a", 4*time.Second), false)
}

func cleanStartWithExpiry(t *T) {
	keep := withProps(mqtt.AppendPropUint32(nil, mqtt.PropSessionExpiryInterval, 100))
	c := t.Connect("a", keep)
	t.Subscribe(c, 1, t.Topic("old"))
	t.Cut(c)
	c, p := t.Connack("a", keep)
	equal(t, "session present", p.SessionPresent, false)
	t.Subscribe(c, 1, t.Topic("new"))
	t.Cut(c)
	pub := t.Connect("pub")
	t.Publish(pub, 1, t.Topic("old"), "old")
	t.Publish(pub, 1, t.Topic("new"), "new")
	c, p = t.Connack("a", persistent)
	equal(t, "session present", p.SessionPresent, true)
	t.Take(c, t.Topic("new"), "new")
	t.Nothing(c)
}
