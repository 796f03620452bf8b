// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// propertyRules are about the properties of PUBLISH (section 3.3.2.3) but for topic aliases.
var propertyRules = []rule{
	{"payload_format_passed_on", "", "MQTT-3.3.2-4", payloadFormat},
	{"response_topic_passed_on", "", "MQTT-3.3.2-15", responseTopic},
	{"correlation_data_passed_on", "", "MQTT-3.3.2-16", correlationData},
	{"user_properties_passed_on", "", "MQTT-3.3.2-17 MQTT-3.3.2-18", userProperties},
	{"content_type_passed_on", "", "MQTT-3.3.2-20", contentType},
	{"all_properties_passed_on", "", "MQTT-3.3.2-15 MQTT-3.3.2-16 MQTT-3.3.2-17 MQTT-3.3.2-20", allProperties},
	{"properties_survive_waiting", "", "MQTT-3.3.2-17", propertiesSurvive},
	{"response_topic_wildcard", "", "MQTT-3.3.2-14", responseTopicWildcard},
	{"subscription_identifier_from_client", "", "MQTT-3.3.4-6", identifierFromClient},
	{"message_expires", "", "MQTT-3.3.2-5", messageExpires},
	{"message_expires_behind_quota", "", "MQTT-3.3.2-5", messageExpiresBehindQuota},
	{"message_expiry_counts_down_behind_quota", "", "MQTT-3.3.2-6", messageCountsDownBehindQuota},
	{"message_expiry_counts_down", "", "MQTT-3.3.2-6", messageCountsDown},
	{"property_length_0", "", "MQTT-2.2.2-1", propertyLength0},
	{"wrong_properties", "", "MQTT-4.13.1-1", wrongProperties},
}

// messageProperties is one of each property that travels with a message, but for the expiry.
func messageProperties() mqtt.Properties {
	p := mqtt.AppendPropByte(nil, mqtt.PropPayloadFormatIndicator, 1)
	p = mqtt.AppendPropString(p, mqtt.PropContentType, "text/plain")
	p = mqtt.AppendPropString(p, mqtt.PropResponseTopic, "answers/here")
	p = mqtt.AppendPropBytes(p, mqtt.PropCorrelationData, []byte{0, 1, 0xFF, 0})
	p = mqtt.AppendPropUser(p, "k", "2")
	p = mqtt.AppendPropUser(p, "k", "1")
	return mqtt.AppendPropUser(p, "", "")
}

// sameProperties compares property by property: kinds may change places, but not those of one kind.
func sameProperties(t *T, got, want mqtt.Properties) {
	t.Helper()
	list := func(p mqtt.Properties) []string {
		var all []string
		for prop := range p.All() {
			all = append(all, fmt.Sprintf("%02x %d %q %q", byte(prop.ID), prop.Uint, prop.Key, prop.Value))
		}
		slices.SortStableFunc(all, func(a, b string) int { return strings.Compare(a[:2], b[:2]) })
		return all
	}
	if g, w := list(got), list(want); !slices.Equal(g, w) {
		t.Fatalf("properties are %s, want %s", g, w)
	}
}

// passes publishes with these properties at each QoS, and wants them back.
func (t *T) passes(props mqtt.Properties) {
	t.Helper()
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 2, t.Topic("x"))
	for q := range mqtt.QoS(3) {
		t.publish(pub, mqtt.Publish{QoS: q, Topic: []byte(t.Topic("x")), Payload: []byte("x"), Properties: props})
		sameProperties(t, t.Take(sub, t.Topic("x"), "x").Properties, props)
	}
}

func payloadFormat(t *T) {
	t.passes(mqtt.AppendPropByte(nil, mqtt.PropPayloadFormatIndicator, 0))
	t.passes(mqtt.AppendPropByte(nil, mqtt.PropPayloadFormatIndicator, 1))
	t.passes(nil)
}

func responseTopic(t *T) {
	for _, name := range []string{"a", "a/b/c", "/", "$x", "ä\uFEFF/ö"} {
		t.passes(mqtt.AppendPropString(nil, mqtt.PropResponseTopic, name))
	}
}

func correlationData(t *T) {
	for _, data := range []string{"", "\x00", "\x00\xFF\x00\xFE", strings.Repeat("\x00\x01", 1000)} {
		t.passes(mqtt.AppendPropString(nil, mqtt.PropCorrelationData, data))
	}
}

func userProperties(t *T) {
	var p mqtt.Properties
	for _, pair := range [][2]string{{"b", "1"}, {"a", "2"}, {"b", "1"}, {"", ""}, {"b", "0"}, {"ä", "\uFEFF"}, {"a", ""}} {
		p = mqtt.AppendPropUser(p, pair[0], pair[1])
	}
	t.passes(p)
	p = nil
	for i := range 50 {
		p = mqtt.AppendPropUser(p, fmt.Sprint((i*7)%50), fmt.Sprint(i))
	}
	t.passes(p)
}

func contentType(t *T) {
	for _, s := range []string{"", "text/plain; charset=utf-8", "日本"} {
		t.passes(mqtt.AppendPropString(nil, mqtt.PropContentType, s))
	}
}

func allProperties(t *T) { t.passes(messageProperties()) }

// propertiesSurvive has a message wait in a session and as a retained one.
func propertiesSurvive(t *T) {
	c := t.Connect("a", persistent)
	t.Subscribe(c, 1, t.Topic("x"))
	t.Cut(c)
	t.publish(t.Connect("pub"), mqtt.Publish{QoS: 1, Retain: true, Topic: []byte(t.Topic("x")), Payload: []byte("x"), Properties: messageProperties()})
	c = t.Connect("a", persistent)
	sameProperties(t, t.Take(c, t.Topic("x"), "x").Properties, messageProperties())
	sameProperties(t, t.Take(t.newcomer(1, t.Topic("x")), t.Topic("x"), "x").Properties, messageProperties())
	t.Retain(c, 0, t.Topic("x"), "")
}

// wrong sends a PUBLISH with these properties and wants the connection closed with one of the codes.
func (t *T) wrong(what string, props []byte, codes ...mqtt.ReasonCode) {
	t.Helper()
	t.Logf("%s: % x", what, props)
	for _, flags := range []byte{0, 2, 4} {
		c := t.Connect("a")
		body := field(t.Topic("x"))
		if flags != 0 {
			body = append(body, 0, 1)
		}
		c.Raw(frame(0x30|flags, body, t.block(props...), []byte("x"))...)
		t.Closed(c, codes...)
	}
}

func responseTopicWildcard(t *T) {
	for _, name := range []string{"a/#", "+", "a/+/b"} {
		t.wrong("Response Topic", mqtt.AppendPropString(nil, mqtt.PropResponseTopic, name),
			mqtt.ProtocolError, mqtt.TopicNameInvalid, mqtt.MalformedPacket)
	}
}

func identifierFromClient(t *T) {
	t.wrong("Subscription Identifier", []byte{0x0B, 1}, mqtt.ProtocolError)
}

func wrongProperties(t *T) {
	t.wrong("unknown", []byte{0x7F, 1}, mqtt.MalformedPacket)
	t.wrong("of another packet", []byte{0x11, 0, 0, 0, 1}, mqtt.MalformedPacket, mqtt.ProtocolError)
	t.wrong("Payload Format Indicator 2", []byte{0x01, 2}, mqtt.ProtocolError, mqtt.MalformedPacket)
	t.wrong("Payload Format Indicator twice", []byte{0x01, 1, 0x01, 1}, mqtt.ProtocolError)
	t.wrong("Message Expiry Interval twice", []byte{0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1}, mqtt.ProtocolError)
	t.wrong("Message Expiry Interval cut off", []byte{0x02, 0, 0, 1}, mqtt.MalformedPacket)
	t.wrong("Content Type twice", []byte{0x03, 0, 1, 'x', 0x03, 0, 1, 'x'}, mqtt.ProtocolError)
	t.wrong("Content Type runs over", []byte{0x03, 0, 9, 'x'}, mqtt.MalformedPacket)
	t.wrong("Correlation Data twice", []byte{0x09, 0, 1, 'x', 0x09, 0, 1, 'x'}, mqtt.ProtocolError)
	t.wrong("user property cut off", []byte{0x26, 0, 1, 'x'}, mqtt.MalformedPacket)
}

// expiring is a message with an expiry interval.
func (t *T) expiringMessage(q mqtt.QoS, seconds uint32) mqtt.Publish {
	return mqtt.Publish{QoS: q, Topic: []byte(t.Topic("x")), Payload: []byte("x"),
		Properties: mqtt.AppendPropUint32(nil, mqtt.PropMessageExpiryInterval, seconds)}
}

func messageExpires(t *T) {
	c := t.Connect("a", persistent)
	t.Subscribe(c, 2, t.Topic("x"))
	t.Cut(c)
	pub := t.Connect("pub")
	for q := range mqtt.QoS(3) {
		t.publish(pub, t.expiringMessage(q, 1))
	}
	t.Publish(pub, 1, t.Topic("x"), "stays")
	time.Sleep(3 * time.Second)
	c = t.Connect("a", persistent)
	t.Take(c, t.Topic("x"), "stays")
	t.Nothing(c)
}

// waiting has messages of QoS 1 and 2 wait for the window of clients that are there, for three seconds.
func (t *T) waiting(seconds uint32, then func(sub *wire.Client)) {
	t.Helper()
	for _, o := range []option{resuming, persistent} {
		sub, pub := t.Connect("sub", o, receiveMaximum(1)), t.Connect("pub")
		t.Subscribe(sub, 2, t.Topic("x"))
		t.Publish(pub, 1, t.Topic("x"), "first")
		first := sub.WantPublish(t.Topic("x"), "first")
		for q := mqtt.QoS(1); q <= 2; q++ {
			t.publish(pub, t.expiringMessage(q, seconds))
		}
		t.Publish(pub, 1, t.Topic("x"), "stays")
		time.Sleep(3 * time.Second)
		t.ack(sub, first)
		then(sub)
		t.Take(sub, t.Topic("x"), "stays")
		t.Nothing(sub)
		t.Leave(sub)
	}
}

func messageExpiresBehindQuota(t *T) { t.waiting(1, func(*wire.Client) {}) }

func messageCountsDownBehindQuota(t *T) {
	t.waiting(10, func(sub *wire.Client) {
		t.expiryLeft(t.Take(sub, t.Topic("x"), "x"), 7)
		t.expiryLeft(t.Take(sub, t.Topic("x"), "x"), 7)
	})
}

// expiryLeft checks a Message Expiry Interval, a second more or less.
func (t *T) expiryLeft(p *mqtt.Publish, want uint32) {
	t.Helper()
	got, ok := p.Properties.Uint32(mqtt.PropMessageExpiryInterval)
	if !ok || got < want-1 || got > want+1 {
		t.Fatalf("Message Expiry Interval is %d, %v, want about %d", got, ok, want)
	}
}

func messageCountsDown(t *T) {
	c := t.Connect("a", persistent)
	t.Subscribe(c, 2, t.Topic("x"))
	pub := t.Connect("pub")
	t.publish(pub, t.expiringMessage(1, 10))
	got, _ := t.Take(c, t.Topic("x"), "x").Properties.Uint32(mqtt.PropMessageExpiryInterval)
	equal(t, "Message Expiry Interval without waiting", got, 10)
	t.Cut(c)
	for q := mqtt.QoS(1); q <= 2; q++ {
		t.publish(pub, t.expiringMessage(q, 10))
	}
	time.Sleep(3 * time.Second)
	c = t.Connect("a", persistent)
	for range 2 {
		t.expiryLeft(t.Take(c, t.Topic("x"), "x"), 7)
	}
}

// propertyLength0 looks at the length of properties where there are none.
func propertyLength0(t *T) {
	c := t.Connect("a")
	t.Subscribe(c, 0, t.Topic("x"))
	equal(t, "SUBACK", fmt.Sprintf("% x", c.Last), "90 04 50 01 00 00")
	t.Publish(c, 0, t.Topic("x"), "x")
	c.WantPublish(t.Topic("x"), "x")
	equal(t, "property length of PUBLISH", c.Last[len(c.Last)-2], 0)
	c.Send(&mqtt.Unsubscribe{ID: 3, Filters: [][]byte{[]byte(t.Topic("x"))}})
	c.Next()
	equal(t, "UNSUBACK", fmt.Sprintf("% x", c.Last), "b0 04 00 03 00 00")
}
