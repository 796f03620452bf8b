// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"strings"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// rules31 are the rules of MQTT 3.1 where it differs from 3.1.1, and a few that show that the rest works there too.
var rules31 = []rule31{
	{"protocol_name_and_level", "MQTT31-1", name31},
	{"other_level", "MQTT31-2", level31},
	{"empty_client_id", "MQTT31-3", emptyID31},
	{"client_id_1_to_23_bytes", "MQTT31-4", clientID31},
	{"subscribe_with_dup", "MQTT31-5", subscribeDup31},
	{"pubrel_with_dup", "MQTT31-6", pubrelDup31},
	{"no_session_present", "MQTT31-7", noSessionPresent31},
	{"suback_order", "MQTT31-8", subackOrder},
	{"credentials_missing_at_the_end", "MQTT31-9", credentials31},
	{"session_resumed", "MQTT31-10", session31},
	{"will_after_cut", "MQTT31-11", willAfterCut},
	{"will_dropped_by_disconnect", "MQTT31-11", willDropped},
	{"between_versions", "MQTT31-12", betweenVersions},
}

func name31(t *T) {
	c := t.Dial()
	c.Raw([]byte("\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3C\x00\x03" + "abc")...)
	wire.Want[*mqtt.Connack](c)
	equal(t, "CONNACK", string(c.Last), "\x20\x02\x00\x00")
	t.Leave(c)
	for _, name := range []string{"MQTT", "mqisdp", "MQIsdq", "MQIsd"} {
		c := t.Dial()
		c.Raw(t.connectNamed(name, 3, flagClean, field(t.ID("a")))...)
		if answer := c.Rest(); len(answer) >= 4 && answer[3] == 0 {
			t.Errorf("%q: the answer is % x", name, answer)
		}
	}
}

func level31(t *T) {
	for _, level := range []byte{0, 1, 2, 5, 99} {
		t.unsupported(t.connectNamed("MQIsdp", level, flagClean, field(t.ID("a"))), fmt.Sprint("level ", level))
	}
}

func emptyID31(t *T) {
	for _, flags := range []byte{0, flagClean} {
		c := t.Dial()
		c.Raw(t.connectPacket(flags, field(""))...)
		equal(t, "the answer", string(c.Rest()), "\x20\x02\x00\x02")
	}
}

func clientID31(t *T) {
	for n := 1; n <= 23; n++ {
		c := t.Dial()
		c.Connect(t.connect("", func(p *mqtt.Connect) { p.ClientID = []byte(strings.Repeat("x", n)) }))
		t.Leave(c)
	}
}

// subscribeDup31 repeats SUBSCRIBE and UNSUBSCRIBE with the DUP flag, which 3.1 has there.
func subscribeDup31(t *T) {
	c, pub := t.Connect("a"), t.Connect("pub")
	packet := t.subscribePacket(1, field(t.Topic("x")), []byte{1})
	for _, first := range []byte{0x82, 0x8A} {
		packet[0] = first
		c.Raw(packet...)
		c.WantSuback(1)
	}
	t.Publish(pub, 1, t.Topic("x"), "x")
	t.Take(c, t.Topic("x"), "x")
	packet = t.unsubscribePacket(2, field(t.Topic("x")))
	for _, first := range []byte{0xA2, 0xAA} {
		packet[0] = first
		c.Raw(packet...)
		equal(t, "UNSUBACK of", wire.Want[*mqtt.Unsuback](c).ID, 2)
	}
	t.Publish(pub, 1, t.Topic("x"), "x")
	t.Nothing(c)
}

func pubrelDup31(t *T) {
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 2, t.Topic("x"))
	pub.Send(&mqtt.Publish{QoS: 2, ID: 5, Topic: []byte(t.Topic("x")), Payload: []byte("x")})
	pub.WantAck(mqtt.PUBREC, 5)
	for _, first := range []byte{0x62, 0x6A} {
		pub.Raw(first, 2, 0, 5)
		pub.WantAck(mqtt.PUBCOMP, 5)
	}
	t.Take(sub, t.Topic("x"), "x")
	t.Nothing(sub)
}

func noSessionPresent31(t *T) {
	c := t.Connect("a", persistent)
	t.Leave(c)
	c = t.Connect("a", persistent)
	equal(t, "CONNACK", string(c.Last), "\x20\x02\x00\x00")
}

// credentials31 announces a user name and a password that are not there: in 3.1 the length of the packet counts.
func credentials31(t *T) {
	for _, packet := range [][]byte{
		t.connectPacket(flagClean|flagUser, field(t.ID("a"))),
		t.connectPacket(flagClean|flagUser|flagPassword, field(t.ID("a"))),
		t.connectPacket(flagClean|flagUser|flagPassword, field(t.ID("a")), field("me")),
	} {
		c := t.Dial()
		c.Raw(packet...)
		equal(t, "code of CONNACK", wire.Want[*mqtt.Connack](c).Code, mqtt.Success)
		t.Leave(c)
	}
}

func session31(t *T) {
	c, pub := t.Connect("a", persistent), t.Connect("pub")
	t.Subscribe(c, 2, t.Topic("x"))
	t.Cut(c)
	for q := range mqtt.QoS(3) {
		t.Publish(pub, q, t.Topic("x"), fmt.Sprint(q))
	}
	c = t.Connect("a", persistent)
	got := t.Collect(c, 2)
	equal(t, "what waited", string(got[0].Payload)+string(got[1].Payload), "12")
	t.Leave(c)
	c = t.Connect("a") // clean
	t.Publish(pub, 1, t.Topic("x"), "x")
	t.Nothing(c)
}

// betweenVersions sends a message from each version to each.
func betweenVersions(t *T) {
	versions := []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}
	for _, from := range versions {
		for _, to := range versions {
			sub, pub := t.speaking(to), t.speaking(from)
			t.Subscribe(sub, 2, t.Topic("x"))
			for q := range mqtt.QoS(3) {
				t.Publish(pub, q, t.Topic("x"), fmt.Sprint(from, to))
				equal(t, "QoS", t.Take(sub, t.Topic("x"), fmt.Sprint(from, to)).QoS, q)
			}
		}
	}
}

// speaking connects a client of another version.
func (t *T) speaking(v mqtt.Version) *wire.Client {
	t.Helper()
	other := &T{T: t.T, V: v, broker: t.broker, prefix: t.prefix}
	c := other.Connect(unique())
	t.broker = other.broker
	return c
}
