// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// qosRules are about packet identifiers and the two handshakes (sections 2.3.1, 4.3 and 4.6).
var qosRules = []rule{
	{"server_ids_differ", "MQTT-2.3.1-4 MQTT-4.3.2-1 MQTT-4.3.3-1", "MQTT-2.2.1-4 MQTT-4.3.2-1 MQTT-4.3.3-1", serverIDsDiffer},
	{"acks_repeat_the_id", "MQTT-2.3.1-6", "MQTT-2.2.1-5 MQTT-4.3.3-4 MQTT-4.3.3-11", acksRepeatID},
	{"qos_1_id_again", "MQTT-4.3.2-2", "MQTT-4.3.2-5", qos1Again},
	{"qos_2_repeated_publish", "MQTT-4.3.3-2", "MQTT-4.3.3-10", qos2Repeated},
	{"qos_2_repeated_publish_after_reconnect", "MQTT-4.3.3-2", "MQTT-4.3.3-10", qos2RepeatedLater},
	{"qos_2_id_again", "MQTT-4.3.3-2", "MQTT-4.3.3-12", qos2Again},
	{"qos_2_pubrel_repeated", "MQTT-4.3.3-2", "MQTT-4.3.3-11", pubrelRepeated},
	{"qos_2_refused_id_again", "", "MQTT-4.3.3-9", qos2RefusedAgain},
	{"qos_2_goes_on_after_expiry", "", "MQTT-4.3.3-13", qos2GoesOnAfterExpiry},
	{"no_expiry_once_sent", "", "MQTT-4.3.3-7", noExpiryOnceSent},
	{"puback_codes", "", "MQTT-3.4.2-1", pubackCodes},
	{"pubrec_codes", "", "MQTT-3.5.2-1", pubrecCodes},
	{"pubrel_codes", "", "MQTT-3.6.2-1", pubrelCodes},
	{"pubcomp_codes", "", "MQTT-3.7.2-1", pubcompCodes},
	{"order_per_qos", "MQTT-4.6.0-5 MQTT-4.6.0-6", "MQTT-4.6.0-5 MQTT-4.6.0-6", orderPerQoS},
	{"order_while_away", "MQTT-4.6.0-6", "MQTT-4.6.0-5", orderWhileAway},
}

// receiver makes a client with a session that is kept and a subscription to x at QoS 2, and a publisher.
func (t *T) receiver(options ...option) (sub, pub *wire.Client) {
	t.Helper()
	sub = t.Connect("sub", append([]option{persistent}, options...)...)
	t.Subscribe(sub, 2, t.Topic("x"))
	return sub, t.Connect("pub")
}

// serverIDsDiffer leaves 15 messages unacknowledged, acknowledges some, and sees that no identifier is used twice at a time.
func serverIDsDiffer(t *T) {
	sub, pub := t.receiver()
	used := map[uint16]bool{}
	var last uint16
	take := func(n int, q mqtt.QoS) {
		for i := range n {
			t.Publish(pub, q, t.Topic("x"), fmt.Sprint(i))
			p := sub.WantPublish(t.Topic("x"), fmt.Sprint(i))
			equal(t, "DUP", p.Dup, false)
			if p.ID == 0 || used[p.ID] {
				t.Fatalf("packet identifier %d is 0 or in use: %v", p.ID, used)
			}
			used[p.ID] = true
			last = p.ID
		}
	}
	take(5, 1)
	take(5, 2)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: last}) // it is free only after PUBCOMP
	sub.WantAck(mqtt.PUBREL, last)
	take(5, 1)
}

func acksRepeatID(t *T) {
	sub, pub := t.receiver()
	for _, id := range []uint16{1, 0x1234, 0xFFFF} {
		t.publish(pub, mqtt.Publish{QoS: 1, ID: id, Topic: []byte(t.Topic("y"))})
		pub.Send(&mqtt.Publish{QoS: 2, ID: id, Topic: []byte(t.Topic("y"))})
		pub.WantAck(mqtt.PUBREC, id)
		pub.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: id})
		pub.WantAck(mqtt.PUBCOMP, id)
	}
	for range 3 {
		t.Publish(pub, 2, t.Topic("x"), "x")
		p := sub.WantPublish(t.Topic("x"), "x")
		sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
		a := sub.WantAck(mqtt.PUBREL, p.ID)
		equal(t, "code of PUBREL", a.Code, mqtt.Success)
		equal(t, "first byte of PUBREL", sub.Last[0], 0x62)
		sub.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
	}
	sub.WantQuiet()
}

// qos1Again publishes twice with one identifier, the second time with DUP: these are two messages.
func qos1Again(t *T) {
	sub, pub := t.receiver()
	p := mqtt.Publish{QoS: 1, ID: 7, Topic: []byte(t.Topic("x")), Payload: []byte("x")}
	t.publish(pub, p)
	p.Dup = true
	t.publish(pub, p)
	t.Take(sub, t.Topic("x"), "x")
	t.Take(sub, t.Topic("x"), "x")
	t.Nothing(sub)
}

func qos2Repeated(t *T) {
	sub, pub := t.receiver()
	p := &mqtt.Publish{QoS: 2, ID: 7, Topic: []byte(t.Topic("x")), Payload: []byte("x")}
	for range 4 {
		pub.Send(p)
		equal(t, "code of PUBREC", pub.WantAck(mqtt.PUBREC, 7).Code.IsError(), false)
		p.Dup = true
	}
	pub.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 7})
	equal(t, "code of PUBCOMP", pub.WantAck(mqtt.PUBCOMP, 7).Code, mqtt.Success)
	t.Take(sub, t.Topic("x"), "x")
	t.Nothing(sub)
}

func qos2RepeatedLater(t *T) {
	sub, _ := t.receiver()
	pub := t.Connect("b", persistent)
	p := &mqtt.Publish{QoS: 2, ID: 7, Topic: []byte(t.Topic("x")), Payload: []byte("x")}
	pub.Send(p)
	pub.WantAck(mqtt.PUBREC, 7)
	t.Cut(pub)
	pub = t.Connect("b", persistent)
	p.Dup = true
	pub.Send(p)
	equal(t, "code of PUBREC", pub.WantAck(mqtt.PUBREC, 7).Code.IsError(), false)
	t.Cut(pub)
	pub = t.Connect("b", persistent)
	pub.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 7})
	equal(t, "code of PUBCOMP", pub.WantAck(mqtt.PUBCOMP, 7).Code, mqtt.Success)
	t.Take(sub, t.Topic("x"), "x")
	t.Nothing(sub)
}

func qos2Again(t *T) {
	sub, pub := t.receiver()
	p := mqtt.Publish{QoS: 2, ID: 7, Topic: []byte(t.Topic("x")), Payload: []byte("x")}
	for range 3 {
		t.publish(pub, p)
		t.Take(sub, t.Topic("x"), "x")
		p.Dup = true // which says nothing, the identifier being free
	}
	t.Nothing(sub)
}

// pubrelRepeated repeats PUBREL, as a client does that has missed PUBCOMP.
func pubrelRepeated(t *T) {
	c := t.Connect("a")
	t.publish(c, mqtt.Publish{QoS: 2, ID: 7, Topic: []byte(t.Topic("x"))})
	c.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 7})
	c.WantAck(mqtt.PUBCOMP, 7)
	c.WantQuiet()
}

func deniedTopics() broker.Options {
	return broker.Options{Plugins: plugins(rights{}), Policy: broker.Policy{AllowAnonymous: broker.Everywhere}}
}

func qos2RefusedAgain(t *T) {
	t.Options(deniedTopics())
	sub, pub := t.receiver()
	pub.Send(&mqtt.Publish{QoS: 2, ID: 7, Topic: []byte(t.Topic("denied"))})
	equal(t, "code of PUBREC", pub.WantAck(mqtt.PUBREC, 7).Code, mqtt.NotAuthorized)
	t.publish(pub, mqtt.Publish{QoS: 2, ID: 7, Topic: []byte(t.Topic("x")), Payload: []byte("x")})
	t.Take(sub, t.Topic("x"), "x")
	t.Nothing(sub)
}

// qos2GoesOnAfterExpiry waits with each step, in both directions, until the message has expired.
func qos2GoesOnAfterExpiry(t *T) {
	sub, pub := t.receiver()
	p := t.expiringMessage(2, 1)
	p.ID = 7
	pub.Send(&p)
	pub.WantAck(mqtt.PUBREC, 7)
	got := sub.WantPublish(t.Topic("x"), "x")
	time.Sleep(2 * time.Second)
	pub.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 7})
	equal(t, "code of PUBCOMP", pub.WantAck(mqtt.PUBCOMP, 7).Code, mqtt.Success)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: got.ID})
	equal(t, "code of PUBREL", sub.WantAck(mqtt.PUBREL, got.ID).Code, mqtt.Success)
	time.Sleep(2 * time.Second)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: got.ID})
	sub.WantQuiet()
}

func noExpiryOnceSent(t *T) {
	sub, pub := t.receiver()
	for q := mqtt.QoS(1); q <= 2; q++ {
		t.publish(pub, t.expiringMessage(q, 1))
	}
	first, second := sub.WantPublish(t.Topic("x"), "x"), sub.WantPublish(t.Topic("x"), "x")
	t.Cut(sub)
	time.Sleep(3 * time.Second)
	sub = t.Connect("sub", persistent)
	for _, before := range []*mqtt.Publish{first, second} {
		again := t.Take(sub, t.Topic("x"), "x")
		equal(t, "packet identifier", again.ID, before.ID)
		equal(t, "DUP", again.Dup, true)
	}
}

// pubackCodes provokes the codes that we can: the message has receivers, has none, is denied.
func pubackCodes(t *T) {
	if own() {
		t.Options(deniedTopics())
	}
	sub, pub := t.receiver()
	for name, codes := range map[string][]mqtt.ReasonCode{
		"x": {mqtt.Success}, "nobody": {mqtt.Success, mqtt.NoMatchingSubscribers}, "denied": {mqtt.NotAuthorized}} {
		pub.Send(&mqtt.Publish{QoS: 1, ID: 1, Topic: []byte(t.Topic(name))})
		if got := pub.WantAck(mqtt.PUBACK, 1).Code; own() && !slices.Contains(codes, got) {
			t.Errorf("%s: code %v, want one of %v", name, got, codes)
		}
	}
	sub.WantPublish(t.Topic("x"), "")
}

func pubrecCodes(t *T) {
	if own() {
		t.Options(deniedTopics())
	}
	sub, pub := t.receiver()
	for name, codes := range map[string][]mqtt.ReasonCode{
		"x": {mqtt.Success}, "nobody": {mqtt.Success, mqtt.NoMatchingSubscribers}, "denied": {mqtt.NotAuthorized}} {
		pub.Send(&mqtt.Publish{QoS: 2, ID: 1, Topic: []byte(t.Topic(name))})
		got := pub.WantAck(mqtt.PUBREC, 1).Code
		if own() && !slices.Contains(codes, got) {
			t.Errorf("%s: code %v, want one of %v", name, got, codes)
		}
		if !got.IsError() {
			pub.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 1})
			pub.WantAck(mqtt.PUBCOMP, 1)
		}
	}
	sub.WantPublish(t.Topic("x"), "")
}

// pubrelCodes says PUBREC for a message that the server never sent. The answer, if there is one, is PUBREL 0x92.
func pubrelCodes(t *T) {
	c := t.Connect("a")
	c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: 77})
	if own() {
		equal(t, "code of PUBREL", c.WantAck(mqtt.PUBREL, 77).Code, mqtt.PacketIdentifierNotFound)
		c.WantQuiet()
		return
	}
	if p, err := c.Read(quiet()); err == nil {
		if a, ok := p.(*mqtt.Ack); ok && a.Type == mqtt.PUBREL {
			equal(t, "code of PUBREL", a.Code, mqtt.PacketIdentifierNotFound)
		}
	}
}

func pubcompCodes(t *T) {
	c := t.Connect("a")
	c.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 77})
	a := c.WantAck(mqtt.PUBCOMP, 77)
	if own() {
		equal(t, "code of PUBCOMP", a.Code, mqtt.PacketIdentifierNotFound)
	}
	c.WantQuiet()
}

// orderPerQoS has three publishers number their messages, at each QoS.
func orderPerQoS(t *T) {
	sub := t.Connect("sub")
	t.Subscribe(sub, 2, t.Topic("#"))
	const publishers, messages = 3, 30
	pubs := make([]*wire.Client, publishers)
	for i := range pubs {
		pubs[i] = t.Connect(fmt.Sprint("pub", i))
	}
	for q := range mqtt.QoS(3) {
		next := map[string]int{}
		for n := range messages {
			for i, pub := range pubs {
				t.Publish(pub, q, t.Topic(fmt.Sprint(i)), fmt.Sprint(n))
			}
		}
		for _, p := range t.Collect(sub, publishers*messages) {
			equal(t, "number of the message", string(p.Payload), fmt.Sprint(next[string(p.Topic)]))
			next[string(p.Topic)]++
		}
	}
}

func orderWhileAway(t *T) {
	sub, pub := t.receiver()
	t.Cut(sub)
	const messages = 40
	for q := mqtt.QoS(1); q <= 2; q++ {
		for n := range messages {
			t.Publish(pub, q, t.Topic("x"), fmt.Sprint(n))
		}
	}
	sub = t.Connect("sub", persistent)
	next := [3]int{}
	for _, p := range t.Collect(sub, 2*messages) {
		equal(t, "number of the message", string(p.Payload), fmt.Sprint(next[p.QoS]))
		next[p.QoS]++
	}
}
