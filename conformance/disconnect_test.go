// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"slices"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// disconnectRules are about DISCONNECT (section 3.14).
var disconnectRules = []rule{
	{"disconnect_flags", "MQTT-3.14.1-1", "MQTT-3.14.1-1", disconnectFlags},
	{"server_closes_after_disconnect", "MQTT-3.14.4-1", "MQTT-3.14.4-2", serverCloses},
	{"nothing_after_disconnect", "MQTT-3.14.4-2", "MQTT-3.14.4-1", nothingAfterDisconnect},
	{"no_disconnect_before_connack", "", "MQTT-3.14.0-1", noDisconnectBeforeConnack},
	{"disconnect_codes", "", "MQTT-3.14.2-1 MQTT-4.13.2-1", disconnectCodes},
	{"disconnect_codes_from_client", "", "MQTT-3.14.2-1", disconnectCodesFromClient},
	{"disconnect_without_session_expiry", "", "MQTT-3.14.2-2", disconnectWithoutExpiry},
}

func disconnectFlags(t *T) {
	watch := t.watch()
	for flags := byte(1); flags < 16; flags++ {
		c := t.Connect("a", withWill(t.testament(0)))
		c.Raw(0xE0|flags, 0)
		t.Closed(c, mqtt.MalformedPacket)
		t.died(watch) // for this was none
	}
}

func serverCloses(t *T) {
	c := t.Connect("a")
	c.Send(&mqtt.Disconnect{})
	equal(t, "what follows", len(c.Rest()), 0)
	if t.V == mqtt.V5 {
		c = t.Connect("a")
		c.Raw(0, 0)
		t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError) // form sees to it that nothing follows a DISCONNECT of the server
	}
}

func nothingAfterDisconnect(t *T) {
	watch := t.Connect("watch")
	t.Subscribe(watch, 1, t.Topic("#"))
	c := t.Connect("a")
	c.Raw(slices.Concat([]byte{0xE0, 0}, t.publishPacket(0, t.Topic("x"), -1, "x"), t.publishPacket(2, t.Topic("x"), 1, "x"),
		[]byte{0xC0, 0}, t.connectPacket(flagClean, field(t.ID("a"))))...)
	equal(t, "what follows", len(c.Rest()), 0)
	t.Nothing(watch)
}

// noDisconnectBeforeConnack refuses CONNECTs in many ways; form fails the test if a DISCONNECT comes first.
func noDisconnectBeforeConnack(t *T) {
	whole := t.connectPacket(flagClean|flagWill, field(t.ID("a")), t.block(), field(t.Topic("w")), field("w"))
	for _, packet := range [][]byte{
		whole[:len(whole)-1], frame(0x10), frame(0x10, whole[2:9]), t.connectPacket(flagClean|flagReserved, field(t.ID("a"))),
		t.connecting(textProperty(0x15, "no such method"), nil), t.connecting([]byte{0x21, 0, 0}, nil),
		{0xC0, 0}, {0xE0, 0}, {0x00, 0}, {0xF0, 0}, {0x10, 0xFF, 0xFF, 0xFF, 0xFF},
	} {
		c := t.Dial()
		c.Raw(packet...)
		for {
			if _, err := c.Read(quiet()); err != nil {
				break
			}
		}
		c.Conn.Close()
	}
}

// ended provokes ends of a connection by the server, and gives the last words.
func (t *T) ended() (words []*mqtt.Disconnect) {
	t.Helper()
	expiry := expiring(100)
	provoke := func(packet ...byte) {
		c := t.Connect("a", expiry)
		c.Raw(packet...)
		words = append(words, t.lastWord(c))
	}
	provoke(0, 0)
	provoke(t.publishPacket(6, t.Topic("x"), 1, "x")...)
	provoke(t.publishPacket(0, t.Topic("#"), -1, "x")...)
	provoke(t.publishPacket(0, "", -1, "x")...)
	provoke(t.publishing([]byte{0x23, 0, 0})...)
	provoke(t.connectPacket(flagClean, field(t.ID("a")))...)
	c := t.Connect("a", expiry)
	t.Connect("a", expiry)
	return append(words, t.lastWord(c))
}

// lastWord gives the server's DISCONNECT, which closes the connection; another's server may be silent.
func (t *T) lastWord(c *wire.Client) *mqtt.Disconnect {
	t.Helper()
	p, err := c.Read(c.Patience)
	d, ok := p.(*mqtt.Disconnect)
	if !ok && own() {
		t.Fatalf("got %v, %v, want DISCONNECT", p, err)
	}
	if ok {
		equal(t, "what follows", len(c.Rest()), 0)
	}
	return d
}

func disconnectCodes(t *T) {
	want := []mqtt.ReasonCode{mqtt.MalformedPacket, mqtt.MalformedPacket, mqtt.TopicNameInvalid, mqtt.ProtocolError,
		mqtt.TopicAliasInvalid, mqtt.ProtocolError, mqtt.SessionTakenOver}
	for i, d := range t.ended() {
		if own() {
			equal(t, "code", d.Code, want[i])
		}
	}
}

// disconnectCodesFromClient sends the codes that are the server's, or nobody's; and all that are a client's.
func disconnectCodesFromClient(t *T) {
	for _, code := range []byte{0x01, 0x05, 0x10, 0x7F, 0x84, 0x87, 0x8B, 0x8D, 0x8E, 0x9C, 0xFF} {
		c := t.Connect("a")
		c.Raw(0xE0, 1, code)
		t.Closed(c, mqtt.ProtocolError, mqtt.MalformedPacket)
	}
	for _, code := range []byte{0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99} {
		c := t.Connect("a")
		c.Raw(0xE0, 1, code)
		equal(t, "what follows", len(c.Rest()), 0)
	}
}

func disconnectWithoutExpiry(t *T) {
	for _, d := range t.ended() {
		if d != nil && d.Properties.Has(mqtt.PropSessionExpiryInterval) {
			t.Errorf("%v has a Session Expiry Interval", d)
		}
	}
}
