// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/mqtt"
)

// publishRules are about PUBLISH (section 3.3) but for retained messages, properties and acknowledgements.
var publishRules = []rule{
	{"answers_by_qos", "MQTT-3.3.4-1", "MQTT-3.3.4-1 MQTT-4.3.2-4 MQTT-4.3.3-8", answersByQoS},
	{"dup_0_at_qos_0", "MQTT-3.3.1-2 MQTT-4.3.1-1", "MQTT-3.3.1-2 MQTT-4.3.1-1", dupAtQoS0},
	{"dup_at_qos_0_from_client", "MQTT-3.3.1-2", "MQTT-3.3.1-2", dupAtQoS0FromClient},
	{"dup_is_not_passed_on", "MQTT-3.3.1-3", "MQTT-3.3.1-3 MQTT-4.3.2-2 MQTT-4.3.3-2", dupNotPassedOn},
	{"qos_3", "MQTT-3.3.1-4", "MQTT-3.3.1-4", qos3},
	{"wildcard_in_topic_name", "MQTT-3.3.2-2 MQTT-4.7.1-1", "MQTT-3.3.2-2 MQTT-4.7.0-1", wildcardInName},
	{"delivered_name_matches", "MQTT-3.3.2-3", "MQTT-3.3.2-3", nameMatches},
	{"denied_publish", "MQTT-3.3.5-2", "", deniedPublish},
	{"qos_0_without_identifier", "MQTT-2.3.1-5", "MQTT-2.2.1-2", noIDAtQoS0},
	{"payload_of_any_bytes", "MQTT-7.1.1-1", "MQTT-4.2-1", payloadOfAnyBytes},
}

func answersByQoS(t *T) {
	c := t.Connect("a")
	c.Send(&mqtt.Publish{Topic: []byte(t.Topic("x")), Payload: []byte("x")})
	c.WantQuiet()
	for _, id := range []uint16{1, 2, 255, 256, 0xFFFF} {
		c.Send(&mqtt.Publish{QoS: 1, ID: id, Topic: []byte(t.Topic("x")), Payload: []byte("x")})
		a := c.WantAck(mqtt.PUBACK, id)
		if a.Code.IsError() {
			t.Errorf("PUBACK says %v", a.Code)
		}
		c.WantQuiet()
		c.Send(&mqtt.Publish{QoS: 2, ID: id, Topic: []byte(t.Topic("x")), Payload: []byte("x")})
		a = c.WantAck(mqtt.PUBREC, id)
		if a.Code.IsError() {
			t.Errorf("PUBREC says %v", a.Code)
		}
		c.WantQuiet()
		c.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: id})
		c.WantAck(mqtt.PUBCOMP, id)
		c.WantQuiet()
	}
}

func dupAtQoS0(t *T) {
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 0, t.Topic("x"))
	for q := range mqtt.QoS(3) {
		t.Publish(pub, q, t.Topic("x"), "x")
		p := sub.WantPublish(t.Topic("x"), "x")
		equal(t, "first byte", sub.Last[0], 0x30)
		equal(t, "DUP", p.Dup, false)
	}
	t.Nothing(sub)
}

// dupAtQoS0FromClient is malformed. A server that is not ours may overlook it, but does not pass it on.
func dupAtQoS0FromClient(t *T) {
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 0, t.Topic("x"))
	pub.Raw(t.publishPacket(8, t.Topic("x"), -1, "x")...)
	if own() {
		t.Closed(pub, mqtt.MalformedPacket)
		t.Nothing(sub)
		return
	}
	if p, err := sub.Read(quiet()); err == nil && sub.Last[0]&8 != 0 {
		t.Fatalf("%v was passed on with DUP", p)
	}
}

func dupNotPassedOn(t *T) {
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 2, t.Topic("x"))
	for q := mqtt.QoS(1); q <= 2; q++ {
		t.publish(pub, mqtt.Publish{Dup: true, QoS: q, Topic: []byte(t.Topic("x")), Payload: []byte("x")})
		equal(t, "DUP", t.Take(sub, t.Topic("x"), "x").Dup, false)
		sub.WantQuiet()
	}
}

func qos3(t *T) {
	watch := t.Connect("watch")
	t.Subscribe(watch, 2, t.Topic("x"))
	for _, flags := range []byte{6, 7, 14, 15} {
		c := t.Connect("a")
		c.Raw(t.publishPacket(flags, t.Topic("x"), 1, "x")...)
		t.Closed(c, mqtt.MalformedPacket)
	}
	t.Nothing(watch)
}

func wildcardInName(t *T) {
	watch := t.Connect("watch")
	t.Subscribe(watch, 2, t.Topic("#"))
	for _, name := range []string{"a/#", "a/+", "+/a", "a+", "a#", "a/+/b", "#", "+"} {
		for q := range mqtt.QoS(3) {
			c := t.Connect("a")
			c.Send(&mqtt.Publish{QoS: q, ID: 1, Topic: []byte(t.Topic(name)), Payload: []byte("x")})
			t.Closed(c, mqtt.TopicNameInvalid, mqtt.ProtocolError, mqtt.MalformedPacket)
		}
	}
	for _, name := range []string{"#", "+"} {
		c := t.Connect("a")
		c.Send(&mqtt.Publish{Topic: []byte(name), Payload: []byte("x")})
		t.Closed(c, mqtt.TopicNameInvalid, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
	t.Nothing(watch)
}

// matches says slowly and obviously whether a filter without $ topics matches a name (section 4.7).
func matches(filter, name []string) bool {
	switch {
	case len(filter) > 0 && filter[0] == "#":
		return true
	case len(filter) == 0 || len(name) == 0:
		return len(filter) == len(name)
	}
	if filter[0] != "+" && filter[0] != name[0] {
		return false
	}
	if len(name) == 1 && len(filter) == 2 && filter[1] == "#" { // a/# matches a
		return true
	}
	return matches(filter[1:], name[1:])
}

// nameMatches lets chance choose filters and names, and compares what comes with a matcher of its own.
func nameMatches(t *T) {
	const seed = 20190307
	r := rand.New(rand.NewPCG(seed, uint64(t.V)))
	words := []string{"a", "b", "", "a b", "A", "ä"}
	level := func(wild bool) string {
		if wild && r.IntN(3) == 0 {
			return "+"
		}
		return words[r.IntN(len(words))]
	}
	path := func(wild bool) string {
		var levels []string
		for range 1 + r.IntN(4) {
			levels = append(levels, level(wild))
		}
		if wild && r.IntN(3) == 0 {
			levels = append(levels, "#")
		}
		return t.Topic(strings.Join(levels, "/"))
	}
	sub, pub := t.Connect("sub"), t.Connect("pub")
	for range 60 {
		filter := path(true)
		t.Subscribe(sub, 0, filter)
		var want []string
		for range 20 {
			name := path(false)
			t.Publish(pub, 0, name, filter)
			if matches(strings.Split(filter, "/"), strings.Split(name, "/")) {
				want = append(want, name)
			}
		}
		pub.WantQuiet()
		for _, name := range want {
			sub.WantPublish(name, filter)
		}
		sub.Send(&mqtt.Unsubscribe{ID: 1, Filters: [][]byte{[]byte(filter)}})
		if p, ok := sub.Next().(*mqtt.Unsuback); !ok {
			t.Fatalf("filter %q: got %v, want UNSUBACK", filter, p)
		}
	}
}

// deniedPublish is acknowledged as usual before 5.0, and goes nowhere.
func deniedPublish(t *T) {
	t.Options(broker.Options{Plugins: plugins(rights{}), Policy: broker.Policy{AllowAnonymous: broker.Everywhere}})
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 2, t.Topic("#"))
	for q := range mqtt.QoS(3) {
		t.Publish(pub, q, t.Topic("denied"), "x")
	}
	t.Nothing(sub)
	t.Publish(pub, 1, t.Topic("fine"), "x")
	t.Take(sub, t.Topic("fine"), "x")
}

func noIDAtQoS0(t *T) {
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 2, t.Topic("x"))
	t.Publish(pub, 0, t.Topic("x"), "x")
	sub.WantPublish(t.Topic("x"), "x")
	name := t.Topic("x")
	want := append([]byte{0x30, byte(2 + len(name) + len(t.block()) + 1)}, field(name)...)
	want = append(append(want, t.block()...), 'x')
	equal(t, "PUBLISH", fmt.Sprintf("% x", sub.Last), fmt.Sprintf("% x", want))
}

// payloadOfAnyBytes sends payloads of many sizes that hold every byte.
func payloadOfAnyBytes(t *T) {
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 2, t.Topic("x"))
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 100, 127, 128, 16_383, 16_384, 70_000, 300_000} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		for q := range mqtt.QoS(3) {
			t.Publish(pub, q, t.Topic("x"), string(b))
			t.Take(sub, t.Topic("x"), string(b))
		}
	}
}
