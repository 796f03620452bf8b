// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"github.com/noctule/noctule/mqtt"
)

// utf8Rules are about text (sections 1.5.3 of 3.1.1, 1.5.4 and 1.5.7 of 5.0), in every field that holds some.
var utf8Rules = []rule{
	{"ill_formed_text", "MQTT-1.5.3-1", "MQTT-1.5.4-1", illFormed},
	{"nul_in_text", "MQTT-1.5.3-2 MQTT-4.7.3-2", "MQTT-1.5.4-2 MQTT-4.7.3-2", nul},
	{"byte_order_mark", "MQTT-1.5.3-3", "MQTT-1.5.4-3", byteOrderMark},
	{"text_of_all_sizes", "MQTT-1.5.3-1", "MQTT-1.5.4-1", goodText},
	{"string_pairs", "", "MQTT-1.5.7-1", stringPairs},
	{"client_id_text", "MQTT-3.1.3-4", "MQTT-3.1.3-4", badText("client id")},
	{"will_topic_text", "MQTT-3.1.3-10", "MQTT-3.1.3-11", badText("will topic")},
	{"user_name_text", "MQTT-3.1.3-11", "MQTT-3.1.3-12", badText("user name")},
	{"topic_name_text", "MQTT-3.3.2-1", "MQTT-3.3.2-1", badText("topic name")},
	{"response_topic_text", "", "MQTT-3.3.2-13", badText("response topic")},
	{"content_type_text", "", "MQTT-3.3.2-19", badText("content type")},
	{"subscribe_filter_text", "MQTT-3.8.3-1", "MQTT-3.8.3-1", badText("subscribe filter")},
	{"unsubscribe_filter_text", "MQTT-3.10.3-1", "MQTT-3.10.3-1", badText("unsubscribe filter")},
}

// illFormedTexts break each rule of UTF-8.
var illFormedTexts = []string{
	"\x80", "\xFF", "\xFE", "\xC3", "a\xC3(", "\xE2\x82", "\xF0\x9F\x98", // lone, cut off
	"\xC0\x80", "\xC1\xBF", "\xE0\x80\xAF", "\xF0\x80\x80\xAF", // longer than needed
	"\xED\xA0\x80", "\xED\xAF\xBF", "\xED\xB0\x80", "\xED\xBF\xBF", "\xED\xA0\xBD\xED\xB8\x80", // surrogates, alone and in pairs
	"\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xF8\x88\x80\x80\x80", "\xFC\x84\x80\x80\x80\x80", // above U+10FFFF
}

// place is a field that holds text.
type place struct {
	versions []mqtt.Version
	first    bool // in CONNECT
	packet   func(t *T, text string) []byte
}

var both, only5 = []mqtt.Version{mqtt.V311, mqtt.V5}, []mqtt.Version{mqtt.V5}

// user is a user property.
func userProperty(key, value string) []byte {
	return append(append([]byte{0x26}, field(key)...), field(value)...)
}

func textProperty(id byte, s string) []byte { return append([]byte{id}, field(s)...) }

// connecting is a CONNECT of 5.0 with properties, and a will with properties.
func (t *T) connecting(props, willProps []byte) []byte {
	return frame(0x10, field("MQTT"), []byte{5, flagClean | flagWill}, short(60), t.block(props...), field(t.ID("a")),
		t.block(willProps...), field(t.Topic("w")), field("w"))
}

// publishing is a PUBLISH of 5.0 with properties.
func (t *T) publishing(props []byte) []byte {
	return frame(0x30, field(t.Topic("x")), t.block(props...), []byte("x"))
}

// places are all fields of text that a client sends.
var places = map[string]place{
	"client id": {both, true, func(t *T, s string) []byte { return t.connectPacket(flagClean, field(s)) }},
	"will topic": {both, true, func(t *T, s string) []byte {
		return t.connectPacket(flagClean|flagWill, field(t.ID("a")), t.block(), field(s), field("w"))
	}},
	"user name": {both, true, func(t *T, s string) []byte {
		return t.connectPacket(flagClean|flagUser, field(t.ID("a")), field(s))
	}},
	"topic name":         {both, false, func(t *T, s string) []byte { return t.publishPacket(0, s, -1, "x") }},
	"topic name, QoS 1":  {both, false, func(t *T, s string) []byte { return t.publishPacket(2, "a/"+s, 1, "x") }},
	"topic name, QoS 2":  {both, false, func(t *T, s string) []byte { return t.publishPacket(4, s+"/a", 1, "x") }},
	"subscribe filter":   {both, false, func(t *T, s string) []byte { return t.subscribePacket(1, field(s), []byte{0}) }},
	"second filter":      {both, false, func(t *T, s string) []byte { return t.subscribePacket(1, field("x"), []byte{0}, field(s), []byte{0}) }},
	"unsubscribe filter": {both, false, func(t *T, s string) []byte { return t.unsubscribePacket(1, field(s)) }},

	"authentication method": {only5, true, func(t *T, s string) []byte { return t.connecting(textProperty(0x15, s), nil) }},
	"will content type":     {only5, true, func(t *T, s string) []byte { return t.connecting(nil, textProperty(0x03, s)) }},
	"will response topic":   {only5, true, func(t *T, s string) []byte { return t.connecting(nil, textProperty(0x08, s)) }},
	"response topic":        {only5, false, func(t *T, s string) []byte { return t.publishing(textProperty(0x08, s)) }},
	"content type":          {only5, false, func(t *T, s string) []byte { return t.publishing(textProperty(0x03, s)) }},
	"reason string of PUBACK": {only5, false, func(t *T, s string) []byte {
		return frame(0x40, short(1), []byte{0x80}, t.block(textProperty(0x1F, s)...))
	}},
	"reason string of PUBREC": {only5, false, func(t *T, s string) []byte {
		return frame(0x50, short(1), []byte{0x80}, t.block(textProperty(0x1F, s)...))
	}},
	"reason string of PUBREL": {only5, false, func(t *T, s string) []byte {
		return frame(0x62, short(1), []byte{0x92}, t.block(textProperty(0x1F, s)...))
	}},
	"reason string of PUBCOMP": {only5, false, func(t *T, s string) []byte {
		return frame(0x70, short(1), []byte{0x92}, t.block(textProperty(0x1F, s)...))
	}},
	"reason string of DISCONNECT": {only5, false, func(t *T, s string) []byte {
		return frame(0xE0, []byte{0}, t.block(textProperty(0x1F, s)...))
	}},
}

// pairs are all packets in which a client may send user properties.
var pairs = map[string]place{
	"CONNECT": {only5, true, func(t *T, s string) []byte { return t.connecting([]byte(s), nil) }},
	"will":    {only5, true, func(t *T, s string) []byte { return t.connecting(nil, []byte(s)) }},
	"PUBLISH": {only5, false, func(t *T, s string) []byte { return t.publishing([]byte(s)) }},
	"PUBACK":  {only5, false, func(t *T, s string) []byte { return frame(0x40, short(1), []byte{0}, t.block([]byte(s)...)) }},
	"PUBREC":  {only5, false, func(t *T, s string) []byte { return frame(0x50, short(1), []byte{0}, t.block([]byte(s)...)) }},
	"PUBREL":  {only5, false, func(t *T, s string) []byte { return frame(0x62, short(1), []byte{0}, t.block([]byte(s)...)) }},
	"PUBCOMP": {only5, false, func(t *T, s string) []byte { return frame(0x70, short(1), []byte{0}, t.block([]byte(s)...)) }},
	"SUBSCRIBE": {only5, false, func(t *T, s string) []byte {
		return frame(0x82, short(1), t.block([]byte(s)...), field("x"), []byte{0})
	}},
	"UNSUBSCRIBE": {only5, false, func(t *T, s string) []byte { return frame(0xA2, short(1), t.block([]byte(s)...), field("x")) }},
	"DISCONNECT":  {only5, false, func(t *T, s string) []byte { return frame(0xE0, []byte{0}, t.block([]byte(s)...)) }},
}

// bad sends a text in a place, and wants the connection closed.
func (t *T) bad(name string, p place, text string) {
	t.Helper()
	t.Logf("%s: %q", name, text)
	c := t.Dial()
	if !p.first {
		c.Connect(t.connect("a"))
	}
	c.Raw(p.packet(t, text)...)
	switch got := c.WantClosed(); {
	case t.V != mqtt.V5 && got != mqtt.Success:
		t.Fatalf("a code came before the end: %v", got)
	case t.V != mqtt.V5, p.first && got == mqtt.Success:
	case own():
		t.among(got, mqtt.MalformedPacket)
	default:
		t.among(got, mqtt.MalformedPacket, mqtt.ProtocolError, mqtt.TopicNameInvalid, mqtt.TopicFilterInvalid,
			mqtt.ClientIdentifierNotValid, mqtt.UnspecifiedError)
	}
}

// everywhere sends texts in every place.
func (t *T) everywhere(texts ...string) {
	for name, p := range places {
		for _, v := range p.versions {
			if v != t.V {
				continue
			}
			for _, text := range texts {
				t.bad(name, p, text)
			}
		}
	}
}

func illFormed(t *T) { t.everywhere(illFormedTexts...) }

func nul(t *T) { t.everywhere("\x00", "a\x00", "\x00a", "a\x00b") }

func badText(name string) func(*T) {
	return func(t *T) {
		for _, text := range append(illFormedTexts, "a\x00") {
			t.bad(name, places[name], text)
		}
	}
}

func stringPairs(t *T) {
	for name, p := range pairs {
		for _, text := range append(illFormedTexts, "a\x00") {
			t.bad(name+", name", p, string(userProperty(text, "x")))
			t.bad(name+", value", p, string(userProperty("x", text)))
		}
	}
}

// byteOrderMark publishes with and without U+FEFF, in front and within: it is a character like any other.
func byteOrderMark(t *T) {
	names := []string{t.Topic("\uFEFFx"), t.Topic("x"), t.Topic("x\uFEFF"), "\uFEFF" + t.Topic("x")}
	pub := t.Connect("pub")
	for _, filter := range names {
		sub := t.Connect("\uFEFFsub")
		t.Subscribe(sub, 1, filter)
		for _, name := range names {
			t.Publish(pub, 1, name, name)
		}
		t.Take(sub, filter, filter)
		t.Nothing(sub)
		t.Leave(sub)
	}
	first, second := t.Connect("id"), t.Connect("\uFEFFid") // two different clients
	first.WantQuiet()
	second.WantQuiet()
}

// goodText uses characters of every size, up to the last one.
func goodText(t *T) {
	sub, pub := t.Connect("sub \u00E4\u20AC\U0001F600"), t.Connect("pub")
	for _, s := range []string{"a", "\u00A0", "\u07FF", "\u0800", "\uD7FF", "\uE000", "\uFFFD", "\U00010000", "\U0010FFFD"} {
		t.Subscribe(sub, 1, t.Topic(s))
		t.Publish(pub, 1, t.Topic(s), s)
		t.Take(sub, t.Topic(s), s)
	}
}
