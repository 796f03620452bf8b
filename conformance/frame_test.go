// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/mqtt"
)

// frameRules are about what all packets have in common (chapter 2), and about violations (section 4.8 of 3.1.1, 4.13 of 5.0).
var frameRules = []rule{
	{"every_packet_of_the_server", "MQTT-2.2.2-1", "MQTT-2.1.3-1 MQTT-1.5.5-1 MQTT-2.2.2-1", everyPacket},
	{"wrong_flags", "MQTT-2.2.2-2", "MQTT-2.1.3-1", wrongFlags},
	{"pubrel_flags", "MQTT-3.6.1-1", "MQTT-3.6.1-1", flagsOf(6)},
	{"subscribe_flags", "MQTT-3.8.1-1", "MQTT-3.8.1-1", flagsOf(8)},
	{"unsubscribe_flags", "MQTT-3.10.1-1", "MQTT-3.10.1-1", flagsOf(10)},
	{"packet_id_0", "MQTT-2.3.1-1", "MQTT-2.2.1-3", packetID0},
	{"overlong_lengths", "", "MQTT-1.5.5-1", overlongLengths},
	{"pingresp", "MQTT-3.12.4-1", "MQTT-3.12.4-1", pingresp},
	{"violation_ends_its_connection", "MQTT-4.8.0-1", "MQTT-4.13.1-1", violationEnds},
	{"truncated_packets", "MQTT-4.8.0-1", "MQTT-4.13.1-1", truncated},
	{"overlong_packets", "MQTT-4.8.0-1", "MQTT-4.13.1-1", overlong},
	{"packets_of_a_server", "MQTT-4.8.0-1", "MQTT-4.13.1-1", packetsOfServer},
	{"wrong_codes", "", "MQTT-4.13.1-1", wrongCodes},
	{"packets_in_pieces", "MQTT-7.1.1-1", "MQTT-4.2-1", packetsInPieces},
	{"nothing_but_the_standard", "MQTT-7.0.0-2", "", nothingButStandard},
}

// everyPacket provokes one of each packet that a server sends; form looks at them.
func everyPacket(t *T) {
	if own() && t.V == mqtt.V5 {
		t.withDialogue()
	}
	c, pub := t.Connect("a"), t.Connect("pub")
	t.Subscribe(c, 2, t.Topic("x"))
	for q := range mqtt.QoS(3) {
		t.Publish(pub, q, t.Topic("x"), "x")
		t.Take(c, t.Topic("x"), "x")
	}
	t.unsubscribe(c, t.Topic("x"))
	c.WantQuiet()
	if t.V == mqtt.V5 {
		c.Raw(0, 0)
		t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError)
		if own() {
			t.loggedIn()
		}
	}
}

// fromClient is one good packet of each type that a client sends after CONNECT.
func (t *T) fromClient() map[byte][]byte {
	all := map[byte][]byte{
		4:  {0x40, 2, 0, 1},
		5:  {0x50, 2, 0, 1},
		6:  {0x62, 2, 0, 1},
		7:  {0x70, 2, 0, 1},
		8:  t.subscribePacket(1, field(t.Topic("x")), []byte{0}),
		10: t.unsubscribePacket(1, field(t.Topic("x"))),
		12: {0xC0, 0},
		14: {0xE0, 0},
	}
	if t.V == mqtt.V5 {
		all[15] = frame(0xF0, []byte{0x19}, t.block(textProperty(0x15, "x")...))
	}
	return all
}

// wrongFlags sends every packet type with each of the flags that it does not have.
func wrongFlags(t *T) {
	for kind := range t.fromClient() {
		flagsOf(kind)(t)
	}
	connect := t.connectPacket(flagClean, field(t.ID("a")))
	for flags := byte(1); flags < 16; flags++ {
		connect[0] = 0x10 | flags
		t.refused("CONNECT", connect)
	}
}

// flagsOf sends one packet type with each of the wrong flags.
func flagsOf(kind byte) func(*T) {
	return func(t *T) {
		packet := slices.Clone(t.fromClient()[kind])
		good := packet[0] & 0xF
		for flags := range byte(16) {
			if flags == good {
				continue
			}
			c := t.Connect("a")
			packet[0] = kind<<4 | flags
			c.Raw(packet...)
			t.Closed(c, mqtt.MalformedPacket)
		}
	}
}

func packetID0(t *T) {
	for _, packet := range [][]byte{
		t.publishPacket(2, t.Topic("x"), 0, "x"), t.publishPacket(4, t.Topic("x"), 0, "x"),
		t.subscribePacket(0, field(t.Topic("x")), []byte{0}), t.unsubscribePacket(0, field(t.Topic("x"))),
	} {
		c := t.Connect("a")
		c.Raw(packet...)
		t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError)
	}
}

// overlongLengths writes lengths with more bytes than they need, and with five.
func overlongLengths(t *T) {
	body := slices.Concat(field(t.Topic("x")), t.block(), []byte("x"))
	for what, packet := range map[string][]byte{
		"remaining length in two bytes": slices.Concat([]byte{0x30, byte(len(body)) | 0x80, 0}, body),
		"remaining length in four":      slices.Concat([]byte{0x30, byte(len(body)) | 0x80, 0x80, 0x80, 0}, body),
		"remaining length in five":      slices.Concat([]byte{0x30, byte(len(body)) | 0x80, 0x80, 0x80, 0x80, 0}, body),
		"property length in two":        frame(0x30, field(t.Topic("x")), []byte{0x80, 0}, []byte("x")),
		"property length in five":       frame(0x30, field(t.Topic("x")), []byte{0x80, 0x80, 0x80, 0x80, 0}, []byte("x")),
		"identifier in two":             frame(0x82, short(1), t.block(0x0B, 0x81, 0), field(t.Topic("x")), []byte{0}),
		"PINGREQ in two":                {0xC0, 0x80, 0},
	} {
		t.Log(what)
		c := t.Connect("a")
		c.Raw(packet...)
		t.Closed(c, mqtt.MalformedPacket)
	}
}

func pingresp(t *T) {
	c := t.Connect("a")
	for range 3 {
		c.WantQuiet()
		equal(t, "PINGRESP", string(c.Last), "\xD0\x00")
	}
	c.Raw(0xC0, 0, 0xC0, 0, 0xC0, 0)
	for range 3 {
		c.Next()
		equal(t, "PINGRESP", string(c.Last), "\xD0\x00")
	}
}

// violationEnds breaks the rules on one connection; another one goes on.
func violationEnds(t *T) {
	good := t.Connect("good")
	t.Subscribe(good, 1, t.Topic("x"))
	for _, packet := range [][]byte{{0x00, 0}, {0x36, 0}, {0xD0, 0}, {0x20, 2, 0, 0}, {0xF1, 0}, {0x30, 1, 0}, {0x82, 2, 0, 1}} {
		c := t.Connect("bad")
		c.Raw(append(t.publishPacket(0, t.Topic("x"), -1, "before"), packet...)...)
		t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError)
		t.Take(good, t.Topic("x"), "before")
		t.Publish(good, 1, t.Topic("y"), "y")
	}
	good.WantQuiet()
}

// sized is a packet's first byte and body, and the lengths at which the body is whole.
type sized struct {
	name  string
	first byte
	body  []byte
	whole []int
}

// bodies are packets of every type to cut short.
func (t *T) bodies() []sized {
	x := field(t.Topic("x"))
	if t.V != mqtt.V5 {
		return []sized{
			{"PUBLISH", 0x32, slices.Concat(x, short(1)), []int{len(x) + 2}},
			{"PUBACK", 0x40, short(1), []int{2}},
			{"PUBREC", 0x50, short(1), []int{2}},
			{"PUBREL", 0x62, short(1), []int{2}},
			{"PUBCOMP", 0x70, short(1), []int{2}},
			{"SUBSCRIBE", 0x82, slices.Concat(short(1), x, []byte{0}, x, []byte{0}), []int{3 + len(x), 4 + 2*len(x)}},
			{"UNSUBSCRIBE", 0xA2, slices.Concat(short(1), x, x), []int{2 + len(x), 2 + 2*len(x)}},
			{"PINGREQ", 0xC0, nil, []int{0}},
			{"DISCONNECT", 0xE0, nil, []int{0}},
		}
	}
	props := t.block(userProperty("k", "v")...)
	acked := slices.Concat(short(1), []byte{0}, props)
	return []sized{
		{"PUBLISH", 0x32, slices.Concat(x, short(1), props), []int{len(x) + 2 + len(props)}},
		{"PUBACK", 0x40, acked, []int{2, 3, len(acked)}},
		{"PUBREC", 0x50, acked, []int{2, 3, len(acked)}},
		{"PUBREL", 0x62, acked, []int{2, 3, len(acked)}},
		{"PUBCOMP", 0x70, acked, []int{2, 3, len(acked)}},
		{"SUBSCRIBE", 0x82, slices.Concat(short(1), props, x, []byte{0}, x, []byte{0}),
			[]int{3 + len(props) + len(x), 4 + len(props) + 2*len(x)}},
		{"UNSUBSCRIBE", 0xA2, slices.Concat(short(1), props, x, x), []int{2 + len(props) + len(x), 2 + len(props) + 2*len(x)}},
		{"PINGREQ", 0xC0, nil, []int{0}},
		{"DISCONNECT", 0xE0, slices.Concat([]byte{0}, props), []int{0, 1, 1 + len(props)}},
	}
}

// truncated cuts every packet short at every byte, with the remaining length to fit.
func truncated(t *T) {
	for _, p := range t.bodies() {
		for n := range p.body {
			if slices.Contains(p.whole, n) {
				continue
			}
			t.Logf("%s of %d bytes", p.name, n)
			c := t.Connect("a")
			c.Raw(frame(p.first, p.body[:n])...)
			t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError)
		}
	}
}

// overlong puts bytes behind every packet that does not end in a payload, with the remaining length to fit.
func overlong(t *T) {
	for _, p := range t.bodies()[1:] {
		for _, extra := range [][]byte{{0}, {0, 9, 1}, {1, 2, 3, 4, 5}} {
			t.Logf("%s with % x", p.name, extra)
			c := t.Connect("a")
			c.Raw(frame(p.first, p.body, extra)...)
			t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError)
		}
	}
}

func packetsOfServer(t *T) {
	for _, packet := range [][]byte{
		{0x00, 0}, {0x20, 2, 0, 0}, frame(0x90, short(1), t.block(), []byte{0}), frame(0xB0, short(1), t.block()), {0xD0, 0},
	} {
		c := t.Connect("a")
		c.Raw(packet...)
		t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
	if t.V != mqtt.V5 {
		c := t.Connect("a")
		c.Raw(0xF0, 0)
		t.Closed(c)
	}
}

// wrongCodes sends reason codes that a packet does not have, some of which no packet has.
func wrongCodes(t *T) {
	for what, packet := range map[string][]byte{
		"PUBACK 0x01":     {0x40, 3, 0, 1, 0x01},
		"PUBACK 0x92":     {0x40, 3, 0, 1, 0x92},
		"PUBREC 0x92":     {0x50, 3, 0, 1, 0x92},
		"PUBREL 0x10":     {0x62, 3, 0, 1, 0x10},
		"PUBREL 0x80":     {0x62, 3, 0, 1, 0x80},
		"PUBCOMP 0x80":    {0x70, 3, 0, 1, 0x80},
		"PUBCOMP 0xFF":    {0x70, 3, 0, 1, 0xFF},
		"DISCONNECT 0x01": {0xE0, 1, 0x01},
		"DISCONNECT 0x7F": {0xE0, 1, 0x7F},
	} {
		t.Log(what)
		c := t.Connect("a")
		c.Raw(packet...)
		t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
}

// packetsInPieces sends packets byte by byte, and many at once.
func packetsInPieces(t *T) {
	c := t.Dial()
	p := t.connect("a")
	stream := p.Append(nil)
	stream = append(stream, t.subscribePacket(1, field(t.Topic("x")), []byte{1})...)
	for i := range 5 {
		stream = append(stream, t.publishPacket(2, t.Topic("x"), i+1, fmt.Sprint(i))...)
	}
	for _, b := range stream {
		c.Raw(b)
	}
	t.checkStream(c)

	c = t.Dial()
	c.Raw(stream...)
	t.checkStream(c)
}

// nothingButStandard is the plainest client there can be, byte by byte.
func nothingButStandard(t *T) {
	t.Options(broker.Options{})
	c := t.Dial()
	c.Raw([]byte("\x10\x0F\x00\x04MQTT\x04\x02\x00\x00\x00\x03abc")...)
	c.Raw([]byte("\x82\x06\x00\x01\x00\x01t\x00")...)
	c.Raw([]byte("\x30\x05\x00\x01thi")...)
	c.Raw([]byte("\xE0\x00")...)
	equal(t, "what the server says", string(c.Rest()), "\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x05\x00\x01thi")
}
