// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// sharedRules are about shared subscriptions (section 4.8.2).
var sharedRules = []rule{
	{"share_name", "", "MQTT-4.8.2-1 MQTT-4.8.2-2", shareName},
	{"shared_to_one_member", "", "MQTT-4.8.2-2", sharedOnce},
	{"shared_qos_of_member", "", "MQTT-4.8.2-3", sharedQoS},
	{"shared_qos_2_completed_to_member", "", "MQTT-4.8.2-4", sharedCompleted},
	{"shared_qos_2_completed_after_pubrec", "", "MQTT-4.8.2-4", sharedCompletedPubrec},
	{"shared_qos_2_ends_with_session", "", "MQTT-4.8.2-5", sharedEnds},
	{"shared_refused_by_member", "", "MQTT-4.8.2-6", sharedRefused},
	{"shared_without_retained", "", "MQTT-3.3.1-9", sharedRetained},
	{"shared_unsubscribe", "", "MQTT-3.10.4-2", sharedUnsubscribe},
	{"shared_subscriptions_unavailable", "", "MQTT-3.9.3-2", sharedUnavailable},
}

func shareName(t *T) {
	for _, filter := range []string{"$share//x", "$share/", "$share/n", "$share/n/", "$share/a+/x", "$share/+/x", "$share/#/x",
		"$share/a#/x", "$share/n/a#", "$share/n/#/a"} {
		t.badFilter(filter)
	}
	c := t.Connect("a")
	t.Subscribe(c, 1, "$share/a name/"+t.Topic("x"), "$share/ä/"+t.Topic("#"), "$share/$/"+t.Topic("+"))
}

// members are clients that share t.Topic("x") under a name of this test's own.
func (t *T) members(n int, q mqtt.QoS, options ...option) []*wire.Client {
	t.Helper()
	cs := make([]*wire.Client, n)
	for i := range cs {
		cs[i] = t.Connect(fmt.Sprint("m", i), options...)
		t.Subscribe(cs[i], q, t.share())
	}
	return cs
}

func (t *T) share() string { return "$share/" + t.prefix + "/" + t.Topic("x") }

// chosen gives the number of the member that a message went to; the others get nothing.
func (t *T) chosen(cs []*wire.Client) (int, *mqtt.Publish) {
	t.Helper()
	at, got := -1, (*mqtt.Publish)(nil)
	for i, c := range cs {
		p, err := c.Read(quiet())
		if err == wire.ErrQuiet {
			continue
		}
		if err != nil || at >= 0 {
			t.Fatalf("member %d got %v, %v after member %d got %v", i, p, err, at, got)
		}
		at, got = i, p.(*mqtt.Publish)
	}
	if at < 0 {
		t.Fatal("no member got the message")
	}
	return at, got
}

// sharedOnce sends to two shares and a plain subscription: one member of each share gets each message.
func sharedOnce(t *T) {
	cs, other, plain, pub := t.members(3, 1), t.Connect("other"), t.Connect("plain"), t.Connect("pub")
	t.Subscribe(other, 1, "$share/"+t.prefix+"2/"+t.Topic("x"))
	t.Subscribe(plain, 1, t.Topic("x"))
	hit := map[int]int{}
	for n := range 12 {
		t.Publish(pub, mqtt.QoS(n%2), t.Topic("x"), fmt.Sprint(n))
		i, p := t.chosen(cs)
		equal(t, "payload", string(p.Payload), fmt.Sprint(n))
		t.ack(cs[i], p)
		hit[i]++
		t.Take(other, t.Topic("x"), fmt.Sprint(n))
		t.Take(plain, t.Topic("x"), fmt.Sprint(n))
	}
	if own() && len(hit) != 3 {
		t.Errorf("messages per member: %v", hit)
	}
}

func sharedQoS(t *T) {
	low, high, pub := t.Connect("low"), t.Connect("high"), t.Connect("pub")
	t.Subscribe(low, 0, t.share())
	t.Subscribe(high, 2, t.share())
	seen := map[int]bool{}
	for n := range 40 {
		t.Publish(pub, 2, t.Topic("x"), fmt.Sprint(n))
		i, p := t.chosen([]*wire.Client{low, high})
		if i == 1 {
			t.ack(high, p)
		}
		equal(t, "QoS", p.QoS, []mqtt.QoS{0, 2}[i])
		if seen[i] = true; len(seen) == 2 {
			return
		}
	}
	t.Fatal("one member got all messages")
}

// begun has a QoS 2 delivery begun to one of two members.
func (t *T) begun(options ...option) (member string, c, other *wire.Client, p *mqtt.Publish) {
	t.Helper()
	cs := t.members(2, 2, options...)
	t.Publish(t.Connect("pub"), 2, t.Topic("x"), "x")
	i, p := t.chosen(cs)
	return fmt.Sprint("m", i), cs[i], cs[1-i], p
}

func sharedCompleted(t *T) {
	member, c, other, p := t.begun(persistent)
	t.Cut(c)
	t.Nothing(other)
	c = t.Connect(member, persistent)
	t.resent(c, p)
	t.ack(c, p)
	t.Nothing(c, other)
}

func sharedCompletedPubrec(t *T) {
	member, c, other, p := t.begun(persistent)
	c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
	c.WantAck(mqtt.PUBREL, p.ID)
	t.Cut(c)
	t.Nothing(other)
	c = t.Connect(member, persistent)
	c.WantAck(mqtt.PUBREL, p.ID)
	c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
	t.Nothing(c, other)
}

// sharedEnds ends the member's session amid a QoS 2 delivery in three ways.
func sharedEnds(t *T) {
	for _, pubrec := range []bool{false, true} {
		for _, end := range []func(member string, c *wire.Client){
			func(_ string, c *wire.Client) { t.Cut(c) },                               // with its connection
			func(member string, _ *wire.Client) { t.Leave(t.Connect(member)) },        // by a clean start
			func(_ string, c *wire.Client) { c.Raw(0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0) }, // by DISCONNECT
		} {
			member, c, other, p := t.begun()
			if pubrec {
				c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
				c.WantAck(mqtt.PUBREL, p.ID)
			}
			end(member, c)
			t.Nothing(other)
			t.Leave(other)
		}
	}
}

func sharedRefused(t *T) {
	cs, pub := t.members(2, 2), t.Connect("pub")
	for q := mqtt.QoS(1); q <= 2; q++ {
		t.Publish(pub, q, t.Topic("x"), "x")
		i, p := t.chosen(cs)
		kind := mqtt.PUBACK
		if q == 2 {
			kind = mqtt.PUBREC
		}
		cs[i].Send(&mqtt.Ack{Type: kind, ID: p.ID, Code: mqtt.UnspecifiedError})
		t.Nothing(cs...)
	}
	t.Leave(cs[0])
	t.Nothing(cs[1])
}

func sharedRetained(t *T) {
	t.Retain(t.Connect("pub"), 1, t.Topic("x"), "kept")
	t.Nothing(t.members(2, 1)...)
}

func sharedUnsubscribe(t *T) {
	cs, pub := t.members(2, 1), t.Connect("pub")
	t.unsubscribe(cs[0], t.share())
	for range 4 {
		t.Publish(pub, 1, t.Topic("x"), "x")
		t.Take(cs[1], t.Topic("x"), "x")
	}
	t.unsubscribe(cs[1], t.share())
	t.Publish(pub, 1, t.Topic("x"), "x")
	t.Nothing(cs...)
}

// sharedUnavailable switches off what a server may leave out: CONNACK and SUBACK say so.
func sharedUnavailable(t *T) {
	t.Limits(func(l *broker.Limits) {
		l.SharedAvailable, l.WildcardAvailable, l.IdentifierAvailable = false, false, false
	})
	c, p := t.Connack("a")
	for _, id := range []mqtt.PropertyID{mqtt.PropSharedSubscriptionAvailable, mqtt.PropWildcardSubscriptionAvailable,
		mqtt.PropSubscriptionIdentifierAvailable} {
		if v, ok := p.Properties.Byte(id); !ok || v != 0 {
			t.Errorf("%v is %d, %v, want 0", id, v, ok)
		}
	}
	c.Raw(t.subscribePacket(1, field("$share/g/x"), []byte{0}, field("a/#"), []byte{0}, field("x"), []byte{1})...)
	equal(t, "codes", string(wire.Want[*mqtt.Suback](c).Codes), "\x9E\xA2\x01")
	c.Send(&mqtt.Subscribe{ID: 2, Properties: mqtt.Properties{0x0B, 1}, Subscriptions: []mqtt.Subscription{t.plain("x", 0)}})
	if a, ok := c.Next().(*mqtt.Suback); ok {
		equal(t, "codes", string(a.Codes), "\xA1")
	} else {
		t.Closed(c, mqtt.SubscriptionIdentifiersNotSupported)
	}
}
