// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"strings"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// topicRules are about topic names and filters (section 4.7).
var topicRules = []rule{
	{"hash_in_the_wrong_place", "MQTT-4.7.1-2", "MQTT-4.7.1-1", wrongHash},
	{"hash_matches_all_below", "MQTT-4.7.1-2", "MQTT-4.7.1-1", hashMatches},
	{"plus_in_the_wrong_place", "MQTT-4.7.1-3", "MQTT-4.7.1-2", wrongPlus},
	{"plus_matches_a_level", "MQTT-4.7.1-3", "MQTT-4.7.1-2", plusMatches},
	{"dollar_topics", "MQTT-4.7.2-1", "MQTT-4.7.2-1", dollarTopics},
	{"dollar_topics_retained", "MQTT-4.7.2-1", "MQTT-4.7.2-1", dollarRetained},
	{"empty_topic_name", "MQTT-4.7.3-1", "MQTT-4.7.3-1", emptyName},
	{"empty_filter", "MQTT-4.7.3-1", "MQTT-4.7.3-1", emptyFilter},
	{"topic_of_65535_bytes", "MQTT-4.7.3-3", "MQTT-4.7.3-3", longestTopic},
	{"no_normalisation", "MQTT-4.7.3-4", "MQTT-4.7.3-4", noNormalisation},
}

// badFilter subscribes to a filter that is none: SUBACK says so, or the connection ends.
func (t *T) badFilter(filter string) {
	t.Helper()
	c := t.Connect("bad")
	c.Raw(t.subscribePacket(1, field(filter), []byte{0})...)
	p, _ := c.Read(c.Patience)
	switch p := p.(type) {
	case *mqtt.Suback:
		want := mqtt.UnspecifiedError
		if t.V == mqtt.V5 && own() {
			want = mqtt.TopicFilterInvalid
		}
		if got := p.Codes[0]; got != want && (own() || !got.IsError()) {
			t.Errorf("%q: SUBACK says %v", filter, got)
		}
	case *mqtt.Disconnect:
		t.among(p.Code, mqtt.TopicFilterInvalid, mqtt.ProtocolError, mqtt.MalformedPacket)
	case nil:
	default:
		t.Errorf("%q: got %v", filter, p)
	}
	t.Cut(c)
}

func wrongHash(t *T) {
	for _, filter := range []string{"a#", "a/b#", "#a", "#/a", "a/#/b", "a/##", "##", "a/#/", "+#", "a/+#"} {
		t.badFilter(filter)
	}
}

func wrongPlus(t *T) {
	for _, filter := range []string{"a+", "+a", "a/b+", "a/+b", "++", "a/++/b", "a+/b"} {
		t.badFilter(filter)
	}
}

// hits subscribes, publishes to names, and wants those that match.
func (t *T) hits(filter string, match, miss []string) {
	t.Helper()
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 1, t.Topic(filter))
	for _, name := range miss {
		t.Publish(pub, 1, t.Topic(name), filter)
	}
	for _, name := range match {
		t.Publish(pub, 1, t.Topic(name), filter)
		t.Take(sub, t.Topic(name), filter)
	}
	t.Nothing(sub)
	t.Leave(sub)
	t.Leave(pub)
}

func hashMatches(t *T) {
	t.hits("a/#", []string{"a", "a/", "a/b", "a/b/c", "a//"}, []string{"ab", "b/a", "/a"})
	t.hits("a/+/#", []string{"a/b", "a/", "a/b/c"}, []string{"a", "b/b/c"})
}

func plusMatches(t *T) {
	t.hits("+", []string{"a", "", "a b"}, []string{"a/b", "/"})
	t.hits("a/+/c", []string{"a/b/c", "a//c"}, []string{"a/c", "a/b/d", "a/b/b/c", "a/b/c/d"})
	t.hits("+/+", []string{"a/b", "/", "/b", "a/"}, []string{"a", "a/b/c"})
	t.hits("a/+", []string{"a/b", "a/"}, []string{"a", "a/b/c"})
}

// only reads messages until one with this payload, and fails at one whose topic begins with $ before it.
func (t *T) only(c *wire.Client, payload string) {
	t.Helper()
	for {
		p := wire.Want[*mqtt.Publish](c)
		t.ack(c, p)
		if p.Topic[0] == '$' {
			t.Fatalf("%q was delivered to a filter that begins with a wildcard", p.Topic)
		}
		if string(p.Payload) == payload {
			return
		}
	}
}

// dollarTopics publishes to $ topics of our own making; a server may take them or not, but "#" does not match them.
func dollarTopics(t *T) {
	name := "$" + t.Topic("x")
	all, plus, exact, pub := t.Connect("all"), t.Connect("plus"), t.Connect("exact"), t.Connect("pub")
	t.Subscribe(all, 1, "#")
	t.Subscribe(plus, 1, "+/x")
	t.Subscribe(exact, 1, name, "$"+t.Topic("#"), "$"+t.Topic("+"))
	for q := range mqtt.QoS(2) {
		t.Publish(pub, q, name, "hidden")
	}
	t.Publish(pub, 1, t.Topic("x"), "end"+t.prefix)
	t.only(all, "end"+t.prefix)
	t.Publish(pub, 1, t.prefix+"y/x", "end"+t.prefix)
	t.only(plus, "end"+t.prefix)
	if own() {
		equal(t, "payload for a filter that begins with $", string(wire.Want[*mqtt.Publish](exact).Payload), "hidden")
	}
}

func dollarRetained(t *T) {
	if own() {
		t.settle() // the server's own $SYS topics are retained too
	}
	pub := t.Connect("pub")
	t.Retain(pub, 1, "$"+t.Topic("x"), "hidden")
	t.Retain(pub, 1, t.Topic("x"), "end"+t.prefix)
	for _, filter := range []string{"#", "+/x", "+/+", "+/#"} {
		if !own() && filter != "+/x" {
			continue // others' retained messages are none of our business
		}
		c := t.Connect("sub")
		t.Subscribe(c, 1, filter)
		t.only(c, "end"+t.prefix)
		t.Leave(c)
	}
}

func emptyName(t *T) {
	for q := range mqtt.QoS(3) {
		c := t.Connect("a")
		c.Send(&mqtt.Publish{QoS: q, ID: 1, Payload: []byte("x")})
		t.Closed(c, mqtt.TopicNameInvalid, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
	c := t.Dial()
	c.SendConnect(t.connect("b", withWill(mqtt.Will{Payload: []byte("w")})))
	c.WantClosed()
}

func emptyFilter(t *T) {
	t.badFilter("")
	c := t.Connect("a")
	c.Raw(t.unsubscribePacket(1, field(""))...)
	switch p, err := c.Read(c.Patience); p := p.(type) {
	case *mqtt.Unsuback:
		if t.V == mqtt.V5 && !p.Codes[0].IsError() {
			t.Errorf("UNSUBACK says %v", p.Codes[0])
		}
	case *mqtt.Disconnect:
		t.among(p.Code, mqtt.TopicFilterInvalid, mqtt.ProtocolError, mqtt.MalformedPacket)
	default:
		if err == wire.ErrQuiet {
			t.Error("there was no answer")
		}
	}
}

func longestTopic(t *T) {
	name := t.Topic("")
	name += strings.Repeat("x", 65535-len(name))
	sub, pub := t.Connect("sub"), t.Connect("pub")
	t.Subscribe(sub, 2, name)
	for q := range mqtt.QoS(3) {
		t.Publish(pub, q, name, "x")
		t.Take(sub, name, "x")
	}
	t.unsubscribe(sub, name)
	t.Subscribe(sub, 0, t.Topic("+"))
	t.Publish(pub, 0, name, "x")
	t.Take(sub, name, "x")
}

func noNormalisation(t *T) {
	names := []string{"A/B", "a/b", "A//B", "A/B/", "/A/B", "\u00C5", "A\u030A", "\u212B", "ss", "\u00DF", "fi", "\uFB01", "A/B ", "A\u200B/B"}
	pub := t.Connect("pub")
	for _, filter := range names {
		sub := t.Connect("sub")
		t.Subscribe(sub, 0, t.Topic(filter))
		for _, name := range names {
			t.Publish(pub, 0, t.Topic(name), name)
		}
		t.Take(sub, t.Topic(filter), filter)
		t.Nothing(sub)
		t.Leave(sub)
	}
}
