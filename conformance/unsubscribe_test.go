// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// unsubscribeRules are about UNSUBSCRIBE and UNSUBACK (sections 3.10 and 3.11).
var unsubscribeRules = []rule{
	{"unsubscribe_without_filter", "MQTT-3.10.3-2", "MQTT-3.10.3-2", unsubscribeWithoutFilter},
	{"unsubscribe_compares_characters", "MQTT-3.10.4-1", "MQTT-3.10.4-1", unsubscribeCompares},
	{"nothing_after_unsubscribe", "MQTT-3.10.4-2", "MQTT-3.10.4-2", nothingAfterUnsubscribe},
	{"unsubscribe_lasts", "MQTT-3.10.4-2", "MQTT-3.10.4-2", unsubscribeLasts},
	{"unsubscribe_completes_deliveries", "MQTT-3.10.4-3", "MQTT-3.10.4-3", unsubscribeCompletes},
	{"unsuback", "MQTT-3.10.4-4 MQTT-2.3.1-7", "MQTT-3.10.4-4 MQTT-2.2.1-6", unsubackAnswers},
	{"unsuback_of_nothing", "MQTT-3.10.4-5", "MQTT-3.10.4-5", unsubackOfNothing},
	{"unsubscribe_many", "MQTT-3.10.4-6", "MQTT-3.10.4-6", unsubscribeMany},
	{"unsuback_order", "", "MQTT-3.11.3-1", unsubackOrder},
	{"unsuback_codes", "", "MQTT-3.11.3-2", unsubackCodes},
}

// unsubscribe ends subscriptions and gives the answer.
func (t *T) unsubscribe(c *wire.Client, filters ...string) *mqtt.Unsuback {
	t.Helper()
	p := &mqtt.Unsubscribe{ID: 0x5003}
	for _, f := range filters {
		p.Filters = append(p.Filters, []byte(f))
	}
	c.Send(p)
	a := wire.Want[*mqtt.Unsuback](c)
	equal(t, "UNSUBACK of", a.ID, p.ID)
	return a
}

func unsubscribeWithoutFilter(t *T) {
	c := t.Connect("a")
	c.Raw(t.unsubscribePacket(1)...)
	t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
}

func unsubscribeCompares(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	filters := []string{t.Topic("a/b"), t.Topic("ä/+"), t.Topic("c/#"), t.Topic("d/")}
	t.Subscribe(c, 1, filters...)
	t.unsubscribe(c, t.Topic("a/+"), t.Topic("#"), t.Topic("A/b"), t.Topic("a/b/"), t.Topic("a\u0308/+"), t.Topic("c"),
		t.Topic("c/+"), t.Topic("d"), "/"+t.Topic("a/b"))
	for _, name := range []string{"a/b", "ä/x", "c/x", "d/"} {
		t.Publish(pub, 1, t.Topic(name), name)
		t.Take(c, t.Topic(name), name)
	}
	for i, f := range filters {
		if a := t.unsubscribe(c, f); t.V == mqtt.V5 {
			equal(t, "code", a.Codes[0], mqtt.Success)
		}
		t.Publish(pub, 1, t.Topic([]string{"a/b", "ä/x", "c/x", "d/"}[i]), "x")
	}
	t.Nothing(c)
}

func nothingAfterUnsubscribe(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	for q := range mqtt.QoS(3) {
		t.Subscribe(c, q, t.Topic("x"))
		t.Publish(pub, q, t.Topic("x"), "x")
		t.Take(c, t.Topic("x"), "x")
		t.unsubscribe(c, t.Topic("x"))
		t.Publish(pub, q, t.Topic("x"), "x")
		t.Nothing(c)
	}
}

// unsubscribeLasts has the session wait afterwards, and resumes it.
func unsubscribeLasts(t *T) {
	c, pub := t.Connect("a", persistent), t.Connect("pub")
	t.Subscribe(c, 1, t.Topic("x"))
	t.unsubscribe(c, t.Topic("x"))
	t.Cut(c)
	t.Publish(pub, 1, t.Topic("x"), "away")
	c = t.Connect("a", persistent)
	t.Publish(pub, 1, t.Topic("x"), "back")
	t.Nothing(c)
}

// unsubscribeCompletes ends the subscription amid a QoS 2 handshake, and with a QoS 1 message unacknowledged.
func unsubscribeCompletes(t *T) {
	sub, pub := t.receiver()
	second := t.sent(sub, pub, 2)
	first := t.sent(sub, pub, 1)
	t.unsubscribe(sub, t.Topic("x"))
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: second.ID})
	sub.WantAck(mqtt.PUBREL, second.ID)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: second.ID})
	sub = t.again(sub)
	t.resent(sub, first)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: first.ID})
	sub.WantQuiet()
	t.Nothing(t.again(sub))
}

func unsubackAnswers(t *T) {
	c := t.Connect("a")
	for _, id := range []uint16{1, 0x1234, 0xFFFF} {
		t.Subscribe(c, 1, t.Topic("x"))
		c.Raw(t.unsubscribePacket(id, field(t.Topic("x")))...)
		equal(t, "UNSUBACK of", wire.Want[*mqtt.Unsuback](c).ID, id)
		want := fmt.Sprintf("b0 02 %02x %02x", id>>8, id&0xFF)
		if t.V == mqtt.V5 {
			want = fmt.Sprintf("b0 04 %02x %02x 00 00", id>>8, id&0xFF)
		}
		equal(t, "UNSUBACK", fmt.Sprintf("% x", c.Last), want)
	}
}

func unsubackOfNothing(t *T) {
	a := t.unsubscribe(t.Connect("a"), t.Topic("never"))
	if t.V == mqtt.V5 {
		equal(t, "code", a.Codes[0], mqtt.NoSubscriptionExisted)
	}
}

func unsubscribeMany(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	t.Subscribe(c, 1, t.Topic("a"), t.Topic("b"), t.Topic("c"), t.Topic("d"))
	a := t.unsubscribe(c, t.Topic("a"), t.Topic("never"), t.Topic("c"))
	if t.V == mqtt.V5 {
		equal(t, "number of codes", len(a.Codes), 3)
	}
	c.WantQuiet() // there is no second UNSUBACK
	for _, name := range []string{"a", "b", "c", "d"} {
		t.Publish(pub, 1, t.Topic(name), name)
	}
	t.Take(c, t.Topic("b"), "b")
	t.Take(c, t.Topic("d"), "d")
	t.Nothing(c)
}

func unsubackOrder(t *T) {
	c := t.Connect("a")
	t.Subscribe(c, 1, t.Topic("a"), t.Topic("b"))
	a := t.unsubscribe(c, t.Topic("never"), t.Topic("b"), t.Topic("a"), t.Topic("a"))
	equal(t, "codes", string(a.Codes), "\x11\x00\x00\x11")
}

// unsubackCodes asks for filters that cannot exist. Our server says so; others may close.
func unsubackCodes(t *T) {
	c := t.Connect("a")
	c.Raw(t.unsubscribePacket(1, field(t.Topic("a#")), field(t.Topic("never")))...)
	p, err := c.Read(c.Patience)
	if a, ok := p.(*mqtt.Unsuback); ok && own() {
		equal(t, "codes", string(a.Codes), "\x8F\x11")
	} else if own() {
		t.Fatalf("got %v, %v, want UNSUBACK", p, err)
	}
}
