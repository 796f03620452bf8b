// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"io"
	"strings"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// sizeRules are about Maximum Packet Size, both ways, and Request Problem Information.
var sizeRules = []rule{
	{"nothing_above_maximum_packet_size", "", "MQTT-3.1.2-24", maximumPacketSize},
	{"connack_within_maximum_packet_size", "", "MQTT-3.1.2-24", connackWithinMaximum},
	{"auth_within_maximum_packet_size", "", "MQTT-3.1.2-24", authWithinMaximum},
	{"too_large_counts_as_delivered", "", "MQTT-3.1.2-25", tooLargeCounts},
	{"too_large_while_away", "", "MQTT-3.1.2-25", tooLargeWhileAway},
	{"maximum_packet_size_of_server", "", "MQTT-3.2.2-15", serverMaximumPacket},
	{"small_puback", "", "MQTT-3.4.2-2 MQTT-3.4.2-3", smallPuback},
	{"small_pubrec", "", "MQTT-3.5.2-2 MQTT-3.5.2-3", smallPubrec},
	{"small_pubrel", "", "MQTT-3.6.2-2 MQTT-3.6.2-3", smallPubrel},
	{"small_pubcomp", "", "MQTT-3.7.2-2 MQTT-3.7.2-3", smallPubcomp},
	{"small_suback", "", "MQTT-3.9.2-1 MQTT-3.9.2-2", smallSuback},
	{"small_unsuback", "", "MQTT-3.11.2-1 MQTT-3.11.2-2", smallUnsuback},
	{"small_disconnect", "", "MQTT-3.14.2-3 MQTT-3.14.2-4", smallDisconnect},
	{"small_auth", "", "MQTT-3.15.2-2 MQTT-3.15.2-3", smallAuth},
	{"request_problem_information_0", "", "MQTT-3.1.2-29", noProblemInformation},
}

// maximumPacketSize sends messages of every size around the client's limit: those that fit come, byte by byte.
func maximumPacketSize(t *T) {
	const limit = 60
	sub, pub := t.Connect("sub", maxPacket(limit)), t.Connect("pub")
	t.Subscribe(sub, 2, t.Topic("x"))
	for q := range mqtt.QoS(3) {
		head := mqtt.PublishSize(len(t.Topic("x")), q, mqtt.V5, 0, 0)
		for n := limit - head - 3; n <= limit-head+3; n++ {
			payload := strings.Repeat("x", n)
			t.Publish(pub, q, t.Topic("x"), payload)
			t.Publish(pub, q, t.Topic("x"), "next")
			want := []string{payload, "next"}
			if head+n > limit {
				want = want[1:]
			}
			for i, p := range t.Collect(sub, len(want)) {
				equal(t, "payload", string(p.Payload), want[i])
			}
		}
	}
}

// connackWithinMaximum takes even the CONNACK to be a packet: it has to fit, or may not be sent.
func connackWithinMaximum(t *T) {
	for size := uint32(1); size < 40; size++ {
		c := t.Dial()
		c.SendConnect(t.connect("a", maxPacket(size)))
		p, err := c.Read(c.Patience)
		switch {
		case err == nil && len(c.Last) > int(size):
			t.Errorf("%v, %d bytes for a client that takes %d", p, len(c.Last), size)
		case err != nil && err != io.EOF:
			t.Errorf("Maximum Packet Size %d: %v", size, err)
		}
		t.Cut(c)
	}
}

// tooLargeCounts floods a client of Receive Maximum 1 with messages that are too large: they take no quota.
func tooLargeCounts(t *T) {
	sub, pub := t.Connect("sub", maxPacket(100), receiveMaximum(1)), t.Connect("pub")
	t.Subscribe(sub, 2, t.Topic("x"))
	for range 5 {
		for q := range mqtt.QoS(3) {
			t.Publish(pub, q, t.Topic("x"), strings.Repeat("x", 100))
		}
	}
	t.Publish(pub, 1, t.Topic("x"), "fits")
	t.Take(sub, t.Topic("x"), "fits")
	t.Publish(pub, 2, t.Topic("x"), "fits too")
	t.Take(sub, t.Topic("x"), "fits too")
	t.Nothing(sub)
}

// tooLargeWhileAway has them wait in a session for a client that takes less than before.
func tooLargeWhileAway(t *T) {
	sub, pub := t.receiver()
	t.Publish(pub, 1, t.Topic("x"), strings.Repeat("1", 200))
	sub.WantPublish(t.Topic("x"), strings.Repeat("1", 200)) // and is not acknowledged
	t.Cut(sub)
	for q := mqtt.QoS(1); q <= 2; q++ {
		t.Publish(pub, q, t.Topic("x"), strings.Repeat("2", 200))
		t.Publish(pub, q, t.Topic("x"), "fits")
	}
	sub = t.Connect("sub", persistent, maxPacket(100), receiveMaximum(1))
	t.Take(sub, t.Topic("x"), "fits")
	t.Take(sub, t.Topic("x"), "fits")
	t.Nothing(sub)
	t.Cut(sub)
	t.Nothing(t.Connect("sub", persistent)) // they count as delivered
}

func serverMaximumPacket(t *T) {
	if own() {
		t.Limits(func(l *broker.Limits) { l.MaxPacket = 2000 })
	}
	c, p := t.Connack("a")
	n, ok := p.Properties.Uint32(mqtt.PropMaximumPacketSize)
	if !ok || n > 1<<21 {
		t.Skip("that broker takes packets of any size")
	}
	payload := make([]byte, int(n)-mqtt.PublishSize(len(t.Topic("x")), 0, mqtt.V5, 0, 1<<14)+1<<14)
	c.Send(&mqtt.Publish{Topic: []byte(t.Topic("x")), Payload: payload[:len(payload)-2]})
	c.WantQuiet()
	c.Send(&mqtt.Publish{Topic: []byte(t.Topic("x")), Payload: append(payload, "too large"...)})
	t.Closed(c, mqtt.PacketTooLarge)
}

// small provokes an answer from clients of every small Maximum Packet Size: it fits, or the server closes the connection.
func (t *T) small(provoke func(*wire.Client), want mqtt.PacketType) {
	t.Helper()
	if own() {
		t.Options(deniedTopics())
	}
	seen := 0
	for size := uint32(30); size < 250; size += 3 {
		c := t.Dial()
		c.SendConnect(t.connect("a", maxPacket(size)))
		p, err := c.Read(c.Patience)
		if err != nil {
			continue // not even the CONNACK fits
		}
		equal(t, "code", p.(*mqtt.Connack).Code, mqtt.Success)
		provoke(c)
		for {
			if _, err := c.Read(quiet()); err != nil {
				break
			}
			if len(c.Last) > int(size) {
				t.Fatalf("% x for a client that takes %d bytes", c.Last, size)
			}
			if mqtt.PacketType(c.Last[0]>>4) == want {
				seen++
				break
			}
		}
		c.Conn.Close()
	}
	if seen == 0 {
		t.Fatalf("there was no %v", want)
	}
}

func smallPuback(t *T) {
	t.small(func(c *wire.Client) {
		c.Send(&mqtt.Publish{QoS: 1, ID: 1, Topic: []byte(t.Topic("denied"))})
	}, mqtt.PUBACK)
}

func smallPubrec(t *T) {
	t.small(func(c *wire.Client) {
		c.Send(&mqtt.Publish{QoS: 2, ID: 1, Topic: []byte(t.Topic("denied"))})
	}, mqtt.PUBREC)
}

func smallPubrel(t *T) {
	t.small(func(c *wire.Client) {
		t.Subscribe(c, 2, t.Topic("x"))
		t.Publish(t.Connect("pub"), 1, t.Topic("x"), "")
		p := c.WantPublish(t.Topic("x"), "")
		c.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID})
		t.Publish(t.Connect("pub"), 2, t.Topic("x"), "")
		p = c.WantPublish(t.Topic("x"), "")
		c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
	}, mqtt.PUBREL)
}

func smallPubcomp(t *T) {
	t.small(func(c *wire.Client) { c.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 77}) }, mqtt.PUBCOMP)
}

func smallSuback(t *T) {
	t.small(func(c *wire.Client) {
		c.Send(&mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte(t.Topic("denied"))}}})
	}, mqtt.SUBACK)
}

func smallUnsuback(t *T) {
	t.small(func(c *wire.Client) {
		c.Send(&mqtt.Unsubscribe{ID: 1, Filters: [][]byte{[]byte(t.Topic("never subscribed"))}})
	}, mqtt.UNSUBACK)
}

// smallDisconnect provokes a DISCONNECT; a server that is not ours may close without.
func smallDisconnect(t *T) {
	if !own() {
		t.Skip("a server may close without DISCONNECT; ours does not")
	}
	t.small(func(c *wire.Client) { c.Send(&mqtt.Publish{Payload: []byte("x")}) }, mqtt.DISCONNECT)
}

func authWithinMaximum(t *T) { t.questions(10, 40) }

func smallAuth(t *T) { t.questions(40, 250) }

// questions begins a dialogue with clients that take ever larger packets.
func (t *T) questions(from, to uint32) {
	t.Helper()
	t.Options(broker.Options{Plugins: plugins(dialogue{})})
	seen := 0
	for size := from; size < to; size++ {
		c := t.Dial()
		c.SendConnect(t.connect("a", maxPacket(size), authenticating("hello")))
		if _, err := c.Read(quiet()); err == nil {
			if len(c.Last) > int(size) {
				t.Fatalf("% x for a client that takes %d bytes", c.Last, size)
			}
			if mqtt.PacketType(c.Last[0]>>4) == mqtt.AUTH {
				seen++
			}
		}
		c.Conn.Close()
	}
	if seen == 0 {
		t.Fatal("there was no AUTH")
	}
}

// noProblemInformation provokes every kind of error: words come in DISCONNECT at most.
func noProblemInformation(t *T) {
	if own() {
		t.Options(deniedTopics())
	}
	silent := withProps(mqtt.AppendPropByte(nil, mqtt.PropRequestProblemInformation, 0))
	c := t.Connect("a", silent)
	c.Send(
		&mqtt.Publish{QoS: 1, ID: 1, Topic: []byte(t.Topic("denied"))},
		&mqtt.Publish{QoS: 1, ID: 1, Topic: []byte(t.Topic("nobody"))},
		&mqtt.Publish{QoS: 2, ID: 2, Topic: []byte(t.Topic("denied"))},
		&mqtt.Ack{Type: mqtt.PUBREL, ID: 77},
		&mqtt.Ack{Type: mqtt.PUBREC, ID: 78},
		&mqtt.Subscribe{ID: 3, Subscriptions: []mqtt.Subscription{{Filter: []byte(t.Topic("denied"))}, {Filter: []byte("a#")}}},
		&mqtt.Unsubscribe{ID: 4, Filters: [][]byte{[]byte("never")}},
	)
	kinds := map[string]bool{}
	for {
		p, err := c.Read(quiet())
		if err != nil {
			break
		}
		var props mqtt.Properties
		switch p := p.(type) {
		case *mqtt.Ack:
			kinds[p.Type.String()], props = true, p.Properties
		case *mqtt.Suback:
			kinds["SUBACK"], props = true, p.Properties
		case *mqtt.Unsuback:
			kinds["UNSUBACK"], props = true, p.Properties
		case *mqtt.Disconnect: // may have them
		}
		if props.Has(mqtt.PropReasonString) || props.CountUser() > 0 {
			t.Errorf("%v has a reason string or user properties", p)
		}
	}
	if own() {
		equal(t, "what came", fmt.Sprint(kinds), "map[PUBACK:true PUBCOMP:true PUBREC:true PUBREL:true SUBACK:true UNSUBACK:true]")
	}
}
