// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// flowRules are about Receive Maximum, both ways (section 4.9).
var flowRules = []rule{
	{"receive_maximum_of_client", "", "MQTT-3.3.4-9 MQTT-4.9.0-1 MQTT-4.9.0-2", clientReceiveMaximum},
	{"receive_maximum_of_client_qos_2", "", "MQTT-3.3.4-9 MQTT-4.9.0-2", clientReceiveMaximumQoS2},
	{"receive_maximum_after_reconnect", "", "MQTT-3.3.4-9 MQTT-4.9.0-1", receiveMaximumReconnect},
	{"receive_maximum_of_retained", "", "MQTT-3.3.4-9", receiveMaximumRetained},
	{"quota_refilled_once", "", "MQTT-4.9.0-2", quotaRefilledOnce},
	{"other_packets_at_quota_0", "", "MQTT-3.3.4-10 MQTT-4.9.0-3", otherPackets},
	{"receive_maximum_of_server", "", "MQTT-3.3.4-7 MQTT-4.9.0-1", serverReceiveMaximum},
	{"receive_maximum_of_server_refilled", "", "MQTT-3.3.4-7", serverQuotaRefilled},
}

func receiveMaximum(n uint16) option {
	return withProps(mqtt.AppendPropUint16(nil, mqtt.PropReceiveMaximum, n))
}

// flood publishes numbered messages at a QoS.
func (t *T) flood(pub *wire.Client, q mqtt.QoS, n int) {
	t.Helper()
	for i := range n {
		t.Publish(pub, q, t.Topic("x"), fmt.Sprint(i))
	}
}

func clientReceiveMaximum(t *T) {
	for _, limit := range []int{1, 2, 5} {
		sub := t.Connect("sub", receiveMaximum(uint16(limit)))
		t.Subscribe(sub, 1, t.Topic("x"))
		t.flood(t.Connect("pub"), 1, 10)
		var open []*mqtt.Publish
		for i := range limit {
			open = append(open, sub.WantPublish(t.Topic("x"), fmt.Sprint(i)))
		}
		t.Nothing(sub)
		for i := limit; i < 10; i++ {
			sub.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: open[0].ID})
			open = append(open[1:], sub.WantPublish(t.Topic("x"), fmt.Sprint(i)))
			t.Nothing(sub)
		}
	}
}

// clientReceiveMaximumQoS2 sees that PUBREC does not make room, and PUBCOMP does.
func clientReceiveMaximumQoS2(t *T) {
	sub := t.Connect("sub", receiveMaximum(2))
	t.Subscribe(sub, 2, t.Topic("x"))
	t.flood(t.Connect("pub"), 2, 5)
	first, second := sub.WantPublish(t.Topic("x"), "0"), sub.WantPublish(t.Topic("x"), "1")
	t.Nothing(sub)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: first.ID})
	sub.WantAck(mqtt.PUBREL, first.ID)
	t.Nothing(sub)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: first.ID})
	sub.WantPublish(t.Topic("x"), "2")
	t.Nothing(sub)
	sub.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: second.ID, Code: mqtt.UnspecifiedError}) // makes room at once
	sub.WantPublish(t.Topic("x"), "3")
	t.Nothing(sub)
}

// receiveMaximumReconnect comes back with another maximum: what is sent again counts.
func receiveMaximumReconnect(t *T) {
	sub := t.Connect("sub", persistent, receiveMaximum(4))
	t.Subscribe(sub, 1, t.Topic("x"))
	t.flood(t.Connect("pub"), 1, 8)
	for i := range 4 {
		sub.WantPublish(t.Topic("x"), fmt.Sprint(i))
	}
	t.Cut(sub)
	sub = t.Connect("sub", persistent, receiveMaximum(2))
	for i := range 2 {
		p := sub.WantPublish(t.Topic("x"), fmt.Sprint(i))
		equal(t, "DUP", p.Dup, true)
	}
	t.Nothing(sub)
	t.Cut(sub)
	sub = t.Connect("sub", persistent, receiveMaximum(2))
	for i := range 8 {
		p := t.Take(sub, t.Topic("x"), fmt.Sprint(i))
		equal(t, "DUP", p.Dup, i < 4)
	}
	t.Nothing(sub)
}

func receiveMaximumRetained(t *T) {
	pub := t.Connect("pub")
	for i := range 5 {
		t.Retain(pub, 1, t.Topic(fmt.Sprint(i)), "x")
	}
	sub := t.Connect("sub", receiveMaximum(2))
	t.Subscribe(sub, 1, t.Topic("+"))
	first, second := wire.Want[*mqtt.Publish](sub), wire.Want[*mqtt.Publish](sub)
	t.Nothing(sub)
	t.ack(sub, first)
	t.ack(sub, second)
	for range 3 {
		t.ack(sub, wire.Want[*mqtt.Publish](sub))
	}
	t.Nothing(sub)
}

// quotaRefilledOnce acknowledges twice, and what was never sent: that makes no room.
func quotaRefilledOnce(t *T) {
	sub := t.Connect("sub", receiveMaximum(2))
	t.Subscribe(sub, 1, t.Topic("x"))
	t.flood(t.Connect("pub"), 1, 6)
	first := sub.WantPublish(t.Topic("x"), "0")
	second := sub.WantPublish(t.Topic("x"), "1")
	sub.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: first.ID})
	third := sub.WantPublish(t.Topic("x"), "2")
	free := uint16(1)
	for free == first.ID || free == second.ID || free == third.ID {
		free++
	}
	again := first.ID
	if again == third.ID {
		again = free
	}
	sub.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: again}, &mqtt.Ack{Type: mqtt.PUBACK, ID: free}, &mqtt.Ack{Type: mqtt.PUBCOMP, ID: free})
	if _, err := sub.Read(quiet()); err != wire.ErrQuiet && own() {
		t.Fatal("an acknowledgement of nothing made room")
	}
}

func otherPackets(t *T) {
	sub, pub := t.Connect("sub", receiveMaximum(1)), t.Connect("pub")
	t.Subscribe(sub, 1, t.Topic("x"))
	t.flood(pub, 1, 3)
	first := sub.WantPublish(t.Topic("x"), "0")
	sub.WantQuiet()
	t.Subscribe(sub, 0, t.Topic("y"))
	t.Publish(sub, 1, t.Topic("z"), "z")
	t.Publish(sub, 2, t.Topic("z"), "z")
	t.Publish(pub, 0, t.Topic("y"), "QoS 0")
	sub.WantPublish(t.Topic("y"), "QoS 0")
	sub.Send(&mqtt.Unsubscribe{ID: 3, Filters: [][]byte{[]byte(t.Topic("y"))}})
	equal(t, "UNSUBACK of", wire.Want[*mqtt.Unsuback](sub).ID, 3)
	t.ack(sub, first)
	sub.WantPublish(t.Topic("x"), "1")
}

// serverMaximum gives the server's Receive Maximum, small if it is ours.
func (t *T) serverMaximum() (*wire.Client, int) {
	t.Helper()
	if own() {
		t.Limits(func(l *broker.Limits) { l.ReceiveMaximum = 3 })
	}
	c, p := t.Connack("a")
	n, ok := p.Properties.Uint16(mqtt.PropReceiveMaximum)
	if !ok {
		n = 0xFFFF
	}
	if own() {
		equal(t, "Receive Maximum", n, 3)
	}
	if n > 2000 {
		t.Skip("that broker's Receive Maximum is too large to exceed in a test")
	}
	return c, int(n)
}

func serverReceiveMaximum(t *T) {
	c, n := t.serverMaximum()
	for id := 1; id <= n; id++ {
		c.Send(&mqtt.Publish{QoS: 2, ID: uint16(id), Topic: []byte(t.Topic("x"))})
		c.WantAck(mqtt.PUBREC, uint16(id))
	}
	c.Send(&mqtt.Publish{QoS: 2, ID: uint16(n), Dup: true, Topic: []byte(t.Topic("x"))}) // is one of them
	c.WantAck(mqtt.PUBREC, uint16(n))
	c.Send(&mqtt.Publish{Topic: []byte(t.Topic("x"))}) // does not count
	c.WantQuiet()
	c.Send(&mqtt.Publish{QoS: 2, ID: uint16(n + 1), Topic: []byte(t.Topic("x"))})
	t.Closed(c, mqtt.ReceiveMaximumExceeded)
}

func serverQuotaRefilled(t *T) {
	c, n := t.serverMaximum()
	for range 3 {
		for id := 1; id <= n; id++ {
			c.Send(&mqtt.Publish{QoS: 2, ID: uint16(id), Topic: []byte(t.Topic("x"))})
			c.WantAck(mqtt.PUBREC, uint16(id))
		}
		for id := 1; id <= n; id++ {
			c.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: uint16(id)})
			c.WantAck(mqtt.PUBCOMP, uint16(id))
		}
		for id := 1; id <= 2*n; id++ {
			c.Send(&mqtt.Publish{QoS: 1, ID: uint16(id), Topic: []byte(t.Topic("x"))})
			c.WantAck(mqtt.PUBACK, uint16(id))
		}
	}
}
