// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// subscribeRules are about SUBSCRIBE and SUBACK (sections 3.8 and 3.9), and deliveries to overlapping subscriptions.
var subscribeRules = []rule{
	{"subscribe_without_filter", "MQTT-3.8.3-3", "MQTT-3.8.3-2", subscribeWithoutFilter},
	{"reserved_subscription_options", "MQTT-3.8.3-4", "MQTT-3.8.3-5", reservedOptions},
	{"retain_handling_3", "", "MQTT-3.8.3-5", retainHandling3},
	{"wildcards_unavailable", "MQTT-3.8.3-2", "", wildcardsUnavailable},
	{"no_local", "", "MQTT-3.8.3-3", noLocal},
	{"no_local_on_shared", "", "MQTT-3.8.3-4", noLocalShared},
	{"suback", "MQTT-3.8.4-1 MQTT-3.8.4-2 MQTT-2.3.1-7", "MQTT-3.8.4-1 MQTT-3.8.4-2 MQTT-2.2.1-6", subackAnswers},
	{"resubscribe_replaces", "MQTT-3.8.4-3", "MQTT-3.8.4-3", resubscribeReplaces},
	{"resubscribe_sends_retained_again", "MQTT-3.8.4-3", "MQTT-3.8.4-4", resubscribeRetained},
	{"resubscribe_loses_nothing", "MQTT-3.8.4-3", "MQTT-3.8.4-4", resubscribeLosesNothing},
	{"many_filters", "MQTT-3.8.4-4 MQTT-3.8.4-5", "MQTT-3.8.4-5 MQTT-3.8.4-6", manyFilters},
	{"granted_qos", "MQTT-3.8.4-5", "MQTT-3.8.4-7", grantedQoS},
	{"suback_order", "MQTT-3.9.3-1", "MQTT-3.9.3-1", subackOrder},
	{"suback_codes", "MQTT-3.9.3-2", "MQTT-3.9.3-2 MQTT-3.8.4-7", subackCodes},
	{"delivery_qos", "MQTT-3.8.4-6", "MQTT-3.8.4-8", deliveryQoS},
	{"overlapping_subscriptions", "MQTT-3.3.5-1", "MQTT-3.3.4-2", overlapping},
	{"overlapping_while_away", "MQTT-3.3.5-1", "MQTT-3.3.4-2", overlappingAway},
	{"subscription_identifier", "", "MQTT-3.3.4-3", subscriptionIdentifier},
	{"all_subscription_identifiers", "", "MQTT-3.3.4-4 MQTT-3.3.4-5", allIdentifiers},
	{"subscription_identifier_replaced", "", "MQTT-3.3.4-3", identifierReplaced},
	{"subscription_identifier_kept", "", "MQTT-3.3.4-3", identifierKept},
	{"subscription_identifier_wrong", "", "MQTT-4.13.1-1", identifierWrong},
}

func subscribeWithoutFilter(t *T) {
	c := t.Connect("a")
	c.Raw(t.subscribePacket(1)...)
	t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
}

func reservedOptions(t *T) {
	bad := []byte{0x03, 0x40, 0x80, 0xC1}
	if t.V != mqtt.V5 {
		bad = []byte{0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC}
	}
	for _, options := range bad {
		c := t.Connect("a")
		c.Raw(t.subscribePacket(1, field(t.Topic("x")), []byte{options})...)
		t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError)
		c = t.Connect("a") // the second filter counts too, and the first one is not subscribed to
		c.Raw(t.subscribePacket(1, field(t.Topic("x")), []byte{0}, field(t.Topic("y")), []byte{options})...)
		t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError)
	}
}

func retainHandling3(t *T) {
	c := t.Connect("a")
	c.Raw(t.subscribePacket(1, field(t.Topic("x")), []byte{0x30})...)
	t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
}

func wildcardsUnavailable(t *T) {
	t.Limits(func(l *broker.Limits) { l.WildcardAvailable = false })
	c := t.Connect("a")
	c.Raw(t.subscribePacket(1, field(t.Topic("+")), []byte{0}, field(t.Topic("x")), []byte{1}, field(t.Topic("#")), []byte{0})...)
	equal(t, "codes", string(wire.Want[*mqtt.Suback](c).Codes), "\x80\x01\x80")
}

func noLocal(t *T) {
	a, b := t.Connect("a"), t.Connect("b")
	for _, c := range []*wire.Client{a, b} {
		t.SubscribeWith(c, 0, mqtt.Subscription{Filter: []byte(t.Topic("x")), QoS: 1, NoLocal: true})
	}
	for q := range mqtt.QoS(3) {
		t.Publish(a, q, t.Topic("x"), "of a")
		t.Take(b, t.Topic("x"), "of a")
	}
	t.Publish(b, 1, t.Topic("x"), "of b")
	t.Take(a, t.Topic("x"), "of b")
	t.Nothing(a, b)
	t.Retain(a, 1, t.Topic("r"), "of a")
	own := mqtt.Subscription{Filter: []byte(t.Topic("r")), QoS: 1, NoLocal: true}
	t.SubscribeWith(a, 0, own)
	t.SubscribeWith(b, 0, own)
	t.Take(b, t.Topic("r"), "of a")
	t.Nothing(a, b)
	t.SubscribeWith(a, 0, mqtt.Subscription{Filter: []byte(t.Topic("x")), QoS: 1}) // without it, they come
	t.Publish(a, 0, t.Topic("x"), "of a")
	t.Take(a, t.Topic("x"), "of a")
}

func noLocalShared(t *T) {
	c := t.Connect("a")
	c.Raw(t.subscribePacket(1, field("$share/g/"+t.Topic("x")), []byte{0x04})...)
	t.Closed(c, mqtt.ProtocolError)
}

func subackAnswers(t *T) {
	c := t.Connect("a")
	for _, id := range []uint16{1, 0x1234, 0xFFFF} {
		c.Subscribe(id, 1, t.Topic("x"))
		c.Send(&mqtt.Unsubscribe{ID: id, Filters: [][]byte{[]byte(t.Topic("x"))}})
		equal(t, "UNSUBACK of", wire.Want[*mqtt.Unsuback](c).ID, id)
	}
	c.WantQuiet()
}

func resubscribeReplaces(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	for _, q := range []mqtt.QoS{2, 0, 1} {
		t.Subscribe(c, q, t.Topic("x"))
		t.Publish(pub, 2, t.Topic("x"), "x")
		equal(t, "QoS", t.Take(c, t.Topic("x"), "x").QoS, q)
		t.Nothing(c)
	}
	c.Send(&mqtt.Unsubscribe{ID: 1, Filters: [][]byte{[]byte(t.Topic("x"))}}) // there was but one
	wire.Want[*mqtt.Unsuback](c)
	t.Publish(pub, 2, t.Topic("x"), "x")
	t.Nothing(c)
}

func resubscribeRetained(t *T) {
	t.Retain(t.Connect("pub"), 1, t.Topic("x"), "kept")
	c := t.Connect("a")
	for range 3 {
		t.Subscribe(c, 1, t.Topic("x"))
		equal(t, "RETAIN", t.Take(c, t.Topic("x"), "kept").Retain, true)
	}
	t.Nothing(c)
}

// resubscribeLosesNothing changes the QoS again and again while messages flow.
func resubscribeLosesNothing(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	t.Subscribe(c, 1, t.Topic("x"))
	const messages = 60
	for n := range messages {
		pub.Send(&mqtt.Publish{QoS: 1, ID: uint16(n + 1), Topic: []byte(t.Topic("x")), Payload: []byte(fmt.Sprint(n))})
		if n%3 == 0 {
			c.Send(&mqtt.Subscribe{ID: uint16(n + 1), Subscriptions: []mqtt.Subscription{
				{Filter: []byte(t.Topic("x")), QoS: mqtt.QoS(1 + n%2)}}})
		}
	}
	for next := 0; next < messages; {
		switch p := c.Next().(type) {
		case *mqtt.Publish:
			equal(t, "number of the message", string(p.Payload), fmt.Sprint(next))
			c.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID})
			next++
		case *mqtt.Suback:
		default:
			t.Fatalf("got %v", p)
		}
	}
}

func manyFilters(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	filters := []string{t.Topic("a"), t.Topic("b/+"), t.Topic("c/#"), t.Topic("d/e"), t.Topic("f")}
	a := c.Subscribe(9, 1, filters...)
	equal(t, "number of codes", len(a.Codes), len(filters))
	for _, name := range []string{"a", "b/x", "c/x/y", "d/e", "f"} {
		t.Publish(pub, 1, t.Topic(name), name)
		t.Take(c, t.Topic(name), name)
	}
	c.WantQuiet()
}

func grantedQoS(t *T) {
	c := t.Connect("a")
	for q := range mqtt.QoS(3) {
		a := c.Subscribe(1, q, t.Topic("x"))
		equal(t, "code", a.Codes[0], mqtt.ReasonCode(q))
	}
}

func subackOrder(t *T) {
	c := t.Connect("a")
	var body [][]byte
	want := ""
	for i, q := range []byte{0, 1, 2, 2, 1, 0, 2, 0} {
		body = append(body, field(t.Topic(fmt.Sprint(i))), []byte{q})
		want += string(q)
	}
	c.Raw(t.subscribePacket(1, body...)...)
	equal(t, "codes", string(wire.Want[*mqtt.Suback](c).Codes), want)
}

// subackCodes mixes filters that are granted, denied and not valid.
func subackCodes(t *T) {
	if own() {
		t.Options(deniedTopics())
	}
	c := t.Connect("a")
	c.Raw(t.subscribePacket(1, field(t.Topic("x")), []byte{1}, field(t.Topic("denied")), []byte{1},
		field(t.Topic("a#")), []byte{1}, field(t.Topic("y")), []byte{2})...)
	if !own() { // form looks at what comes
		if _, err := c.Read(c.Patience); err != nil {
			t.Log("closed, which is allowed")
		}
		return
	}
	want := "\x01\x80\x80\x02"
	if t.V == mqtt.V5 {
		want = "\x01\x87\x8F\x02"
	}
	equal(t, "codes", string(wire.Want[*mqtt.Suback](c).Codes), want)
}

func deliveryQoS(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	for granted := range mqtt.QoS(3) {
		t.Subscribe(c, granted, t.Topic("x"))
		for q := range mqtt.QoS(3) {
			t.Publish(pub, q, t.Topic("x"), "x")
			equal(t, "QoS", t.Take(c, t.Topic("x"), "x").QoS, min(q, granted))
		}
	}
}

// copies gives what comes of one message: our server sends one copy, others may send more.
func (t *T) copies(c *wire.Client) (all []*mqtt.Publish) {
	t.Helper()
	for {
		p, err := c.Read(quiet())
		if err == wire.ErrQuiet {
			break
		}
		switch p := p.(type) {
		case *mqtt.Publish:
			all = append(all, p)
			t.begin(c, p)
		case *mqtt.Ack:
			equal(t, "packet", p.Type, mqtt.PUBREL)
			c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
		default:
			t.Fatalf("got %v, %v, want PUBLISH or PUBREL", p, err)
		}
	}
	if len(all) == 0 || own() && len(all) > 1 {
		t.Fatalf("%d copies came", len(all))
	}
	return all
}

func highest(all []*mqtt.Publish) (q mqtt.QoS) {
	for _, p := range all {
		q = max(q, p.QoS)
	}
	return q
}

func overlapping(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	t.Subscribe(c, 2, t.Topic("a/#"))
	t.Subscribe(c, 1, t.Topic("a/+"))
	t.Subscribe(c, 0, t.Topic("a/b"))
	for q := range mqtt.QoS(3) {
		t.Publish(pub, q, t.Topic("a/b"), "x")
		equal(t, "highest QoS", highest(t.copies(c)), q)
	}
	c.Send(&mqtt.Unsubscribe{ID: 1, Filters: [][]byte{[]byte(t.Topic("a/#"))}})
	wire.Want[*mqtt.Unsuback](c)
	t.Publish(pub, 2, t.Topic("a/b"), "x")
	equal(t, "highest QoS", highest(t.copies(c)), 1)
}

func overlappingAway(t *T) {
	c, pub := t.Connect("a", persistent), t.Connect("pub")
	t.Subscribe(c, 1, t.Topic("a/#"))
	t.Subscribe(c, 2, t.Topic("a/+"))
	t.Subscribe(c, 0, t.Topic("a/b"))
	t.Cut(c)
	t.Publish(pub, 2, t.Topic("a/b"), "x")
	equal(t, "highest QoS", highest(t.copies(t.Connect("a", persistent))), 2)
}

// identifiers gives the subscription identifiers of a delivery, sorted.
func identifiers(p *mqtt.Publish) []uint32 {
	return slices.Sorted(p.Properties.VarInts(mqtt.PropSubscriptionIdentifier))
}

func (t *T) plain(filter string, q mqtt.QoS) mqtt.Subscription {
	return mqtt.Subscription{Filter: []byte(t.Topic(filter)), QoS: q}
}

func subscriptionIdentifier(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	for _, id := range []uint32{1, 127, 128, 16_383, 16_384, 268_435_455} {
		t.SubscribeWith(c, id, t.plain("x", 2))
		for q := range mqtt.QoS(3) {
			t.Publish(pub, q, t.Topic("x"), "x")
			equal(t, "identifiers", fmt.Sprint(identifiers(t.Take(c, t.Topic("x"), "x"))), fmt.Sprint([]uint32{id}))
		}
	}
	t.SubscribeWith(c, 5, t.plain("r", 1))
	t.Retain(pub, 1, t.Topic("r"), "x")
	t.Take(c, t.Topic("r"), "x")
	t.SubscribeWith(c, 6, t.plain("r", 1))
	equal(t, "identifiers of a retained message", fmt.Sprint(identifiers(t.Take(c, t.Topic("r"), "x"))), "[6]")
}

func allIdentifiers(t *T) {
	c, pub := t.Connect("a", persistent), t.Connect("pub")
	t.SubscribeWith(c, 1, t.plain("a/#", 1))
	t.SubscribeWith(c, 2, t.plain("a/+", 2))
	t.SubscribeWith(c, 0, t.plain("a/b", 0)) // has none
	t.SubscribeWith(c, 2, t.plain("+/b", 0)) // the same number
	t.SubscribeWith(c, 3, t.plain("c", 1))   // does not match
	check := func(c *wire.Client, q mqtt.QoS) {
		t.Publish(pub, q, t.Topic("a/b"), "x")
		t.checkIdentifiers(t.copies(c))
	}
	for q := range mqtt.QoS(3) {
		check(c, q)
	}
	t.Cut(c)
	t.Publish(pub, 1, t.Topic("a/b"), "x")
	t.checkIdentifiers(t.copies(t.Connect("a", persistent)))
}

// checkIdentifiers wants 1 and 2, which may stand there twice, in one copy; or one identifier at most in each of several copies.
func (t *T) checkIdentifiers(all []*mqtt.Publish) {
	t.Helper()
	var together []uint32
	for _, p := range all {
		ids := identifiers(p)
		if len(all) > 1 && len(ids) > 1 {
			t.Fatalf("one of several copies has the identifiers %v", ids)
		}
		together = append(together, ids...)
	}
	slices.Sort(together)
	equal(t, "identifiers", fmt.Sprint(slices.Compact(together)), "[1 2]")
}

func identifierReplaced(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	for _, id := range []uint32{1, 2, 0} {
		t.SubscribeWith(c, id, t.plain("x", 1))
		t.Publish(pub, 1, t.Topic("x"), "x")
		want := []uint32{id}
		if id == 0 {
			want = nil
		}
		equal(t, "identifiers", fmt.Sprint(identifiers(t.Take(c, t.Topic("x"), "x"))), fmt.Sprint(want))
	}
}

// identifierKept finds the identifier in a resumed session.
func identifierKept(t *T) {
	c, pub := t.Connect("a", persistent), t.Connect("pub")
	t.SubscribeWith(c, 1234, t.plain("x", 1))
	t.Cut(c)
	t.Publish(pub, 1, t.Topic("x"), "away")
	c = t.Connect("a", persistent)
	equal(t, "identifiers", fmt.Sprint(identifiers(t.Take(c, t.Topic("x"), "away"))), "[1234]")
	t.Publish(pub, 1, t.Topic("x"), "back")
	equal(t, "identifiers", fmt.Sprint(identifiers(t.Take(c, t.Topic("x"), "back"))), "[1234]")
}

func identifierWrong(t *T) {
	for what, props := range map[string][]byte{
		"0": {0x0B, 0}, "twice": {0x0B, 1, 0x0B, 2}, "five bytes": {0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 1}, "cut off": {0x0B}} {
		t.Logf("identifier %s", what)
		c := t.Connect("a")
		c.Raw(frame(0x82, short(1), t.block(props...), field(t.Topic("x")), []byte{0})...)
		t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
}
