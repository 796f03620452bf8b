// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"time"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// resendRules are about what is sent again, and when (sections 4.3, 4.4 and 4.6). The connection is cut at every step of
// both handshakes.
var resendRules = []rule{
	{"qos_1_cut_before_puback", "MQTT-3.3.1-1 MQTT-4.3.2-1 MQTT-4.4.0-1", "MQTT-3.3.1-1 MQTT-4.3.2-3 MQTT-4.4.0-1", cutBeforePuback},
	{"qos_1_cut_after_puback", "MQTT-4.3.2-1", "MQTT-4.3.2-3", cutAfterPuback},
	{"qos_2_cut_before_pubrec", "MQTT-3.3.1-1 MQTT-4.3.3-1 MQTT-4.4.0-1", "MQTT-3.3.1-1 MQTT-4.3.3-3 MQTT-4.4.0-1", cutBeforePubrec},
	{"qos_2_cut_before_pubrel", "MQTT-4.3.3-1 MQTT-4.4.0-1", "MQTT-4.3.3-5 MQTT-4.3.3-6 MQTT-4.4.0-1", cutBeforePubrel},
	{"qos_2_cut_before_pubcomp", "MQTT-4.3.3-1 MQTT-4.4.0-1", "MQTT-4.3.3-5 MQTT-4.3.3-6 MQTT-4.4.0-1", cutBeforePubcomp},
	{"qos_2_cut_after_pubcomp", "MQTT-4.3.3-1", "MQTT-4.3.3-5", cutAfterPubcomp},
	{"qos_2_cut_at_each_step_inbound", "MQTT-4.3.3-2 MQTT-4.4.0-1", "MQTT-4.3.3-10 MQTT-4.3.3-11", cutInbound},
	{"resent_in_order", "MQTT-4.6.0-1", "MQTT-4.6.0-1", resentInOrder},
	{"resent_before_new", "MQTT-4.6.0-1", "MQTT-4.6.0-1 MQTT-4.6.0-5", resentBeforeNew},
	{"never_resent_on_one_connection", "", "MQTT-4.4.0-1", neverResentOnConnection},
	{"not_resent_to_a_clean_session", "", "MQTT-4.4.0-1", notResentClean},
	{"error_acknowledges", "", "MQTT-4.4.0-2", errorAcknowledges},
	{"resent_after_takeover", "MQTT-4.4.0-1", "MQTT-4.4.0-1", resentAfterTakeover},
}

// sent publishes x at a QoS and gives the delivery, unacknowledged.
func (t *T) sent(sub, pub *wire.Client, q mqtt.QoS) *mqtt.Publish {
	t.Helper()
	t.Publish(pub, q, t.Topic("x"), "x")
	p := sub.WantPublish(t.Topic("x"), "x")
	equal(t, "DUP at first", p.Dup, false)
	return p
}

// again cuts the receiver's connection and opens the next one.
func (t *T) again(sub *wire.Client) *wire.Client {
	t.Helper()
	t.Cut(sub)
	return t.Connect("sub", persistent)
}

// resent wants a message again.
func (t *T) resent(sub *wire.Client, first *mqtt.Publish) {
	t.Helper()
	p := sub.WantPublish(string(first.Topic), string(first.Payload))
	equal(t, "DUP", p.Dup, true)
	equal(t, "packet identifier", p.ID, first.ID)
	equal(t, "QoS", p.QoS, first.QoS)
}

func cutBeforePuback(t *T) {
	sub, pub := t.receiver()
	first := t.sent(sub, pub, 1)
	for range 3 {
		sub = t.again(sub)
		t.resent(sub, first)
	}
	sub.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: first.ID})
	sub.WantQuiet()
	sub = t.again(sub)
	t.Nothing(sub)
}

func cutAfterPuback(t *T) {
	sub, pub := t.receiver()
	t.ack(sub, t.sent(sub, pub, 1))
	sub.WantQuiet()
	t.Nothing(t.again(sub))
}

func cutBeforePubrec(t *T) {
	sub, pub := t.receiver()
	first := t.sent(sub, pub, 2)
	for range 3 {
		sub = t.again(sub)
		t.resent(sub, first)
	}
	t.ack(sub, first)
	sub.WantQuiet()
	t.Nothing(t.again(sub))
}

// cutBeforePubrel cuts with PUBREC on its way: whether or not it arrived, the handshake comes to its end.
func cutBeforePubrel(t *T) {
	sub, pub := t.receiver()
	first := t.sent(sub, pub, 2)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: first.ID})
	sub = t.again(sub)
	switch p := sub.Next().(type) {
	case *mqtt.Publish: // it did not
		equal(t, "DUP", p.Dup, true)
		equal(t, "packet identifier", p.ID, first.ID)
		t.ack(sub, p)
	case *mqtt.Ack:
		equal(t, "packet", fmt.Sprint(p.Type, p.ID), fmt.Sprint(mqtt.PUBREL, first.ID))
		sub.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: first.ID})
	}
	sub.WantQuiet()
	t.Nothing(t.again(sub))
}

func cutBeforePubcomp(t *T) {
	sub, pub := t.receiver()
	first := t.sent(sub, pub, 2)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: first.ID})
	sub.WantAck(mqtt.PUBREL, first.ID)
	for range 3 {
		sub = t.again(sub)
		sub.WantAck(mqtt.PUBREL, first.ID)
		t.Nothing(sub)
	}
	sub.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: first.ID})
	sub.WantQuiet()
	t.Nothing(t.again(sub))
}

func cutAfterPubcomp(t *T) {
	sub, pub := t.receiver()
	t.ack(sub, t.sent(sub, pub, 2))
	sub.WantQuiet()
	t.Nothing(t.again(sub))
}

// cutInbound cuts the publisher's connection after each packet of a QoS 2 handshake, and repeats that packet.
func cutInbound(t *T) {
	sub, _ := t.receiver()
	pub := t.Connect("b", persistent)
	next := func() {
		t.Cut(pub)
		pub = t.Connect("b", persistent)
	}
	p := &mqtt.Publish{QoS: 2, ID: 9, Topic: []byte(t.Topic("x")), Payload: []byte("x")}
	pub.Send(p)
	next() // PUBREC may have been lost
	p.Dup = true
	pub.Send(p)
	pub.WantAck(mqtt.PUBREC, 9)
	next()
	pub.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 9})
	next() // PUBCOMP may have been lost
	pub.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 9})
	pub.WantAck(mqtt.PUBCOMP, 9)
	t.Take(sub, t.Topic("x"), "x")
	t.Nothing(sub)
	p.Dup = false
	t.publish(pub, *p) // the identifier is free
	t.Take(sub, t.Topic("x"), "x")
}

func resentInOrder(t *T) {
	sub, pub := t.receiver()
	var first []*mqtt.Publish
	for n := range 6 {
		t.Publish(pub, mqtt.QoS(1+n%2), t.Topic("x"), fmt.Sprint(n))
		first = append(first, sub.WantPublish(t.Topic("x"), fmt.Sprint(n)))
	}
	for range 2 {
		sub = t.again(sub)
		for _, p := range first {
			t.resent(sub, p)
		}
	}
	for _, p := range first {
		t.ack(sub, p)
	}
	sub.WantQuiet()
}

// resentBeforeNew has messages wait behind unacknowledged ones.
func resentBeforeNew(t *T) {
	sub, pub := t.receiver()
	first := t.sent(sub, pub, 1)
	t.Cut(sub)
	for n := range 3 {
		t.Publish(pub, 1, t.Topic("x"), fmt.Sprint(n))
	}
	sub = t.Connect("sub", persistent)
	t.resent(sub, first)
	t.ack(sub, first)
	for n := range 3 {
		equal(t, "DUP", t.Take(sub, t.Topic("x"), fmt.Sprint(n)).Dup, false)
	}
}

func neverResentOnConnection(t *T) {
	sub, pub := t.receiver()
	t.sent(sub, pub, 1)
	second := t.sent(sub, pub, 2)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: second.ID})
	sub.WantAck(mqtt.PUBREL, second.ID)
	wait := 50 * time.Second // less than the keep alive
	if !own() {
		wait = 8 * time.Second
	}
	sub.WantSilence(wait)
}

func notResentClean(t *T) {
	sub, pub := t.receiver()
	t.sent(sub, pub, 1)
	t.Cut(sub)
	t.Nothing(t.Connect("sub"))
}

// errorAcknowledges answers 0x80 to a message of QoS 1 and one of QoS 2: neither comes again, and neither keeps its place.
func errorAcknowledges(t *T) {
	receiveMaximum := withProps(mqtt.AppendPropUint16(nil, mqtt.PropReceiveMaximum, 1))
	sub, pub := t.receiver(receiveMaximum)
	p := t.sent(sub, pub, 1)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID, Code: mqtt.UnspecifiedError})
	p = t.sent(sub, pub, 2)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID, Code: mqtt.UnspecifiedError})
	sub.WantQuiet()
	t.ack(sub, t.sent(sub, pub, 1))
	sub.WantQuiet()
	t.Nothing(t.again(sub))
}

func resentAfterTakeover(t *T) {
	sub, pub := t.receiver()
	first := t.sent(sub, pub, 1)
	second := t.sent(sub, pub, 2)
	next := t.Connect("sub", persistent)
	t.resent(next, first)
	t.resent(next, second)
	t.Closed(sub, mqtt.SessionTakenOver)
	t.ack(next, first)
	t.ack(next, second)
	next.WantQuiet()
}
