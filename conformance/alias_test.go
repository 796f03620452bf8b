// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// aliasRules are about topic aliases, both ways (section 3.3.2.3.4).
var aliasRules = []rule{
	{"aliases_of_server_within_maximum", "", "MQTT-3.1.2-26 MQTT-3.3.2-11", serverAliases},
	{"no_aliases_of_server_without_maximum", "", "MQTT-3.1.2-27", noServerAliases},
	{"aliases_end_with_connection", "", "MQTT-3.3.2-7", aliasesEnd},
	{"alias_0", "", "MQTT-3.3.2-8", aliasZero},
	{"alias_above_maximum", "", "MQTT-3.3.2-9 MQTT-3.2.2-17", aliasAboveMaximum},
	{"alias_without_maximum", "", "MQTT-3.2.2-18", aliasWithoutMaximum},
	{"all_aliases_accepted", "", "MQTT-3.3.2-12", allAliases},
	{"alias_remapped", "", "MQTT-3.3.2-12", aliasRemapped},
	{"alias_unknown", "", "MQTT-3.3.2-7", aliasUnknown},
	{"neither_name_nor_alias", "", "MQTT-4.7.3-1", neitherNameNorAlias},
}

func aliasMaximum(n uint16) option {
	return withProps(mqtt.AppendPropUint16(nil, mqtt.PropTopicAliasMaximum, n))
}

// aliases resolves the aliases of what a server sends, as a client has to.
type aliases map[uint16]string

func (a aliases) name(t *T, p *mqtt.Publish, maximum uint16) string {
	t.Helper()
	alias, ok := p.Properties.Uint16(mqtt.PropTopicAlias)
	switch {
	case !ok:
		return string(p.Topic)
	case alias == 0 || alias > maximum:
		t.Fatalf("topic alias %d, the maximum is %d", alias, maximum)
	case len(p.Topic) > 0:
		a[alias] = string(p.Topic)
	case a[alias] == "":
		t.Fatalf("topic alias %d was never given a name", alias)
	}
	return a[alias]
}

// serverAliases sends ten topics, again and again, to a client that knows two aliases.
func serverAliases(t *T) {
	for _, maximum := range []uint16{1, 2} {
		sub, pub := t.Connect("sub", aliasMaximum(maximum)), t.Connect("pub")
		t.Subscribe(sub, 2, t.Topic("#"))
		known := aliases{}
		for i := range 40 {
			name := t.Topic(fmt.Sprint("a long topic name/", i%10))
			t.Publish(pub, mqtt.QoS(i%3), name, fmt.Sprint(i))
			p := wire.Want[*mqtt.Publish](sub)
			t.ack(sub, p)
			equal(t, "topic name", known.name(t, p, maximum), name)
			equal(t, "payload", string(p.Payload), fmt.Sprint(i))
		}
		t.Leave(sub)
	}
}

func noServerAliases(t *T) {
	for _, o := range [][]option{nil, {aliasMaximum(0)}} {
		sub, pub := t.Connect("sub", o...), t.Connect("pub")
		t.Subscribe(sub, 1, t.Topic("x"))
		for range 10 {
			t.Publish(pub, 1, t.Topic("x"), "x")
			if t.Take(sub, t.Topic("x"), "x").Properties.Has(mqtt.PropTopicAlias) {
				t.Fatal("there is a topic alias")
			}
		}
		t.Leave(sub)
	}
}

// aliasOf connects a client, and gives the server's Topic Alias Maximum, which has to be above 0.
func (t *T) aliasOf(id string, o ...option) (*wire.Client, uint16) {
	t.Helper()
	c, p := t.Connack(id, o...)
	n, _ := p.Properties.Uint16(mqtt.PropTopicAliasMaximum)
	if n == 0 {
		t.Skip("that broker takes no topic aliases")
	}
	return c, n
}

func aliased(alias uint16, topic, payload string) *mqtt.Publish {
	return &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload),
		Properties: mqtt.AppendPropUint16(nil, mqtt.PropTopicAlias, alias)}
}

func aliasesEnd(t *T) {
	sub := t.Connect("sub")
	t.Subscribe(sub, 0, t.Topic("x"))
	c, _ := t.aliasOf("a", persistent)
	c.Send(aliased(1, t.Topic("x"), "1"), aliased(1, "", "2"))
	sub.WantPublish(t.Topic("x"), "1")
	sub.WantPublish(t.Topic("x"), "2")
	t.Cut(c)
	c, _ = t.aliasOf("a", persistent)
	c.Send(aliased(1, "", "3"))
	t.Closed(c, mqtt.ProtocolError, mqtt.TopicAliasInvalid)
	t.Nothing(sub)
}

func aliasZero(t *T) {
	c, _ := t.aliasOf("a")
	c.Send(aliased(0, t.Topic("x"), "x"))
	t.Closed(c, mqtt.TopicAliasInvalid)
}

func aliasAboveMaximum(t *T) {
	c, n := t.aliasOf("a")
	if n == 0xFFFF {
		t.Skip("that broker takes every topic alias")
	}
	c.Send(aliased(n+1, t.Topic("x"), "x"))
	t.Closed(c, mqtt.TopicAliasInvalid)
}

func aliasWithoutMaximum(t *T) {
	t.Limits(func(l *broker.Limits) { l.TopicAliasMaximum = 0 })
	c, p := t.Connack("a")
	if n, _ := p.Properties.Uint16(mqtt.PropTopicAliasMaximum); n != 0 {
		t.Fatalf("Topic Alias Maximum is %d", n)
	}
	c.Send(aliased(1, t.Topic("x"), "x"))
	t.Closed(c, mqtt.TopicAliasInvalid)
}

// allAliases uses every alias, the highest first, at every QoS.
func allAliases(t *T) {
	sub := t.Connect("sub")
	t.Subscribe(sub, 2, t.Topic("+"))
	c, n := t.aliasOf("a")
	n = min(n, 500)
	send := func(topic string, alias uint16) {
		p := *aliased(alias, topic, fmt.Sprint(alias))
		p.QoS = mqtt.QoS(alias % 3)
		t.publish(c, p)
		t.Take(sub, t.Topic(fmt.Sprint("name", alias)), fmt.Sprint(alias))
	}
	for alias := n; alias > 0; alias-- {
		send(t.Topic(fmt.Sprint("name", alias)), alias)
	}
	for alias := uint16(1); alias <= n; alias++ {
		send("", alias)
	}
}

func aliasRemapped(t *T) {
	sub := t.Connect("sub")
	t.Subscribe(sub, 0, t.Topic("+"))
	c, _ := t.aliasOf("a")
	c.Send(aliased(1, t.Topic("x"), "1"), aliased(1, "", "2"), aliased(1, t.Topic("y"), "3"), aliased(1, "", "4"))
	sub.WantPublish(t.Topic("x"), "1")
	sub.WantPublish(t.Topic("x"), "2")
	sub.WantPublish(t.Topic("y"), "3")
	sub.WantPublish(t.Topic("y"), "4")
	t.Nothing(sub)
}

func aliasUnknown(t *T) {
	c, _ := t.aliasOf("a")
	c.Send(aliased(1, "", "x"))
	t.Closed(c, mqtt.ProtocolError, mqtt.TopicAliasInvalid)
	other, _ := t.aliasOf("other") // each connection has its own
	other.Send(aliased(1, t.Topic("x"), "x"))
	other.WantQuiet()
	c, _ = t.aliasOf("a")
	c.Send(aliased(1, "", "x"))
	t.Closed(c, mqtt.ProtocolError, mqtt.TopicAliasInvalid)
}

func neitherNameNorAlias(t *T) {
	c := t.Connect("a")
	c.Send(&mqtt.Publish{Payload: []byte("x")})
	t.Closed(c, mqtt.ProtocolError, mqtt.TopicNameInvalid, mqtt.MalformedPacket)
}
