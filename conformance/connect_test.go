// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"slices"
	"strings"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// connectRules are about CONNECT (section 3.1) but for sessions and wills.
var connectRules = []rule{
	{"first_packet_is_connect", "MQTT-3.1.0-1", "MQTT-3.1.0-1", firstPacketIsConnect},
	{"second_connect", "MQTT-3.1.0-2", "MQTT-3.1.0-2", secondConnect},
	{"protocol_name", "MQTT-3.1.2-1", "MQTT-3.1.2-1", protocolName},
	{"protocol_level", "MQTT-3.1.2-2", "MQTT-3.1.2-2", protocolLevel},
	{"reserved_connect_flag", "MQTT-3.1.2-3", "MQTT-3.1.2-3", reservedConnectFlag},
	{"will_flag_without_will", "MQTT-3.1.2-9", "MQTT-3.1.2-9", willFlagWithoutWill},
	{"no_will_but_will_qos", "MQTT-3.1.2-11 MQTT-3.1.2-13", "MQTT-3.1.2-11", willQoSWithoutWill},
	{"no_will_but_will_retain", "MQTT-3.1.2-11 MQTT-3.1.2-15", "MQTT-3.1.2-13", willRetainWithoutWill},
	{"no_will_but_will_fields", "MQTT-3.1.2-11", "", willFieldsWithoutFlag},
	{"will_qos_3", "MQTT-3.1.2-14", "MQTT-3.1.2-12", willQoS3},
	{"user_name_without_flag", "MQTT-3.1.2-18", "MQTT-3.1.2-16", userWithoutFlag},
	{"user_name_missing", "MQTT-3.1.2-19", "MQTT-3.1.2-17", userMissing},
	{"password_without_flag", "MQTT-3.1.2-20", "MQTT-3.1.2-18", passwordWithoutFlag},
	{"password_missing", "MQTT-3.1.2-21", "MQTT-3.1.2-19", passwordMissing},
	{"password_without_user_name", "MQTT-3.1.2-22", "", passwordWithoutUser},
	{"password_without_user_name_is_allowed", "", "MQTT-3.1.2-19", passwordAlone},
	{"keep_alive", "MQTT-3.1.2-24", "MQTT-3.1.2-22 MQTT-3.2.2-22", keepAliveEnds},
	{"keep_alive_kept", "MQTT-3.1.2-24", "MQTT-3.1.2-22", keepAliveKept},
	{"keep_alive_0", "MQTT-3.1.2-24", "MQTT-3.1.2-22", keepAliveNone},
	{"keep_alive_by_server", "", "MQTT-3.1.2-21 MQTT-3.2.2-21", serverKeepAlive},
	{"payload_order", "MQTT-3.1.3-1", "MQTT-3.1.3-1", payloadOrder},
	{"client_id_missing", "MQTT-3.1.3-3", "MQTT-3.1.3-3", clientIDMissing},
	{"client_id_23_bytes", "MQTT-3.1.3-5", "MQTT-3.1.3-5", clientID23},
	{"client_id_empty", "MQTT-3.1.3-6", "MQTT-3.1.3-6", clientIDEmpty},
	{"client_id_assigned", "", "MQTT-3.1.3-7 MQTT-3.2.2-16", clientIDAssigned},
	{"client_id_empty_without_clean_session", "MQTT-3.1.3-7 MQTT-3.1.3-8", "", clientIDEmptyKept},
	{"client_id_refused", "MQTT-3.1.3-9", "MQTT-3.1.3-8", clientIDRefused},
	{"malformed_connect", "MQTT-3.1.4-1", "MQTT-3.1.4-1", malformedConnect},
	{"takeover", "MQTT-3.1.4-2", "MQTT-3.1.4-3", takeover},
	{"nothing_after_refusal", "MQTT-3.1.4-5", "MQTT-3.1.4-6", nothingAfterRefusal},
}

// refused sends bytes on a connection of its own and wants it closed. 3.1.1 gets no answer; 5.0 may get a CONNACK that says it
// is malformed or a protocol error.
func (t *T) refused(what string, packet []byte) {
	t.Helper()
	c := t.Dial()
	c.Raw(packet...)
	got := c.WantClosed()
	if t.V != mqtt.V5 && got != mqtt.Success {
		t.Fatalf("%s: a CONNACK came: %v", what, got)
	}
	if got != mqtt.Success && got != mqtt.MalformedPacket && got != mqtt.ProtocolError && got != mqtt.UnspecifiedError &&
		got != mqtt.TopicNameInvalid && got != mqtt.ClientIdentifierNotValid {
		t.Fatalf("%s: the CONNACK says %v", what, got)
	}
}

func firstPacketIsConnect(t *T) {
	first := map[string][]byte{
		"CONNACK":     {0x20, 2, 0, 0},
		"PUBLISH":     t.publishPacket(0, t.Topic("x"), -1, "x"),
		"PUBLISH 1":   t.publishPacket(2, t.Topic("x"), 1, "x"),
		"PUBACK":      {0x40, 2, 0, 1},
		"PUBREL":      {0x62, 2, 0, 1},
		"SUBSCRIBE":   t.subscribePacket(1, field("x"), []byte{0}),
		"UNSUBSCRIBE": t.unsubscribePacket(1, field("x")),
		"PINGREQ":     {0xC0, 0},
		"DISCONNECT":  {0xE0, 0},
		"AUTH":        {0xF0, 0},
		"nothing":     {0x00, 0},
	}
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("#"))
	for name, packet := range first {
		c := t.Dial()
		c.Raw(packet...)
		if rest := c.Rest(); len(rest) > 0 && rest[0]>>4 != 2 {
			t.Errorf("%s as the first packet: the answer is % x", name, rest)
		}
	}
	t.Nothing(watch)
}

func secondConnect(t *T) {
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("will"))
	c := t.Connect("a", withWill(mqtt.Will{Topic: []byte(t.Topic("will")), Payload: []byte("w")}))
	c.SendConnect(t.connect("a"))
	t.Closed(c, mqtt.ProtocolError)
	t.Take(watch, t.Topic("will"), "w")

	c = t.Connect("b")
	c.SendConnect(t.connect("other"))
	t.Closed(c, mqtt.ProtocolError)
}

// unsupported wants a connection closed after nothing but a CONNACK that says so, in the words of 3.1.1 or of 5.0.
func (t *T) unsupported(packet []byte, what string) {
	t.Helper()
	c := t.Dial()
	c.Raw(packet...)
	answer := string(c.Rest())
	ok := answer == "\x20\x02\x00\x01" || answer == "" && t.V == mqtt.V5
	if t.V == mqtt.V5 {
		ok = ok || strings.HasPrefix(answer, "\x20") && len(answer) >= 5 && answer[2:4] == "\x00\x84"
	}
	if !ok {
		t.Errorf("%s: the answer is % x", what, answer)
	}
}

func protocolName(t *T) {
	for _, name := range []string{"MQTX", "mqtt", "MQTT ", "MQT", "MQTTT", "", "HTTP", "MQIsdp"} {
		c := t.Dial()
		c.Raw(t.connectNamed(name, byte(t.V), flagClean, field(t.ID("a")))...)
		if answer := c.Rest(); len(answer) >= 4 && answer[3] == 0 {
			t.Errorf("%q: the answer is % x", name, answer)
		}
	}
}

func protocolLevel(t *T) {
	for _, level := range []byte{0, 1, 2, 3, 6, 7, 99, 127, 255} {
		t.unsupported(t.connectNamed("MQTT", level, flagClean, field(t.ID("a"))), "level "+string('0'+level%10))
	}
}

func reservedConnectFlag(t *T) {
	t.refused("reserved flag", t.connectPacket(flagClean|flagReserved, field(t.ID("a"))))
}

func willFlagWithoutWill(t *T) {
	flags := byte(flagClean | flagWill)
	t.refused("no will fields", t.connectPacket(flags, field(t.ID("a"))))
	t.refused("no will payload", t.connectPacket(flags, field(t.ID("a")), t.block(), field(t.Topic("w"))))
	if t.V == mqtt.V5 {
		t.refused("no will properties", t.connectPacket(flags, field(t.ID("a")), field(t.Topic("w")), field("w")))
	}
}

func willQoSWithoutWill(t *T) {
	t.refused("QoS 1", t.connectPacket(flagClean|flagWillQoS1, field(t.ID("a"))))
	t.refused("QoS 2", t.connectPacket(flagClean|flagWillQoS2, field(t.ID("a"))))
}

func willRetainWithoutWill(t *T) {
	t.refused("retain", t.connectPacket(flagClean|flagWillRetain, field(t.ID("a"))))
}

func willFieldsWithoutFlag(t *T) {
	t.refused("fields", t.connectPacket(flagClean, field(t.ID("a")), t.block(), field(t.Topic("w")), field("w")))
}

func willQoS3(t *T) {
	t.refused("QoS 3", t.connectPacket(flagClean|flagWill|flagWillQoS1|flagWillQoS2, field(t.ID("a")), t.block(), field(t.Topic("w")), field("w")))
}

func userWithoutFlag(t *T) {
	t.refused("user name", t.connectPacket(flagClean, field(t.ID("a")), field("user")))
}

func userMissing(t *T) {
	t.refused("user name", t.connectPacket(flagClean|flagUser, field(t.ID("a"))))
}

func passwordWithoutFlag(t *T) {
	t.refused("password", t.connectPacket(flagClean|flagUser, field(t.ID("a")), field("user"), field("pass")))
}

func passwordMissing(t *T) {
	t.refused("password", t.connectPacket(flagClean|flagUser|flagPassword, field(t.ID("a")), field("user")))
}

func passwordWithoutUser(t *T) {
	t.refused("password alone", t.connectPacket(flagClean|flagPassword, field(t.ID("a")), field("pass")))
}

// passwordAlone sends a password without a user name, which 5.0 allows: the authenticator gets it.
func passwordAlone(t *T) {
	seen := &login{}
	t.Options(broker.Options{Plugins: plugins(seen), Policy: broker.Policy{AllowAnonymous: broker.Everywhere}})
	t.Connect("a", func(p *mqtt.Connect) { p.HasPassword, p.Password = true, []byte("token") })
	equal(t, "password", seen.last(), " token")
}

func keepAliveEnds(t *T) {
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("will"))
	c, connack := t.Connack("a", keepAlive(2), withWill(mqtt.Will{Topic: []byte(t.Topic("will")), Payload: []byte("w")}))
	if connack.Properties.Has(mqtt.PropServerKeepAlive) {
		t.Fatal("there is a Server Keep Alive although the client's is short")
	}
	from := time.Now()
	c.Patience = 10 * time.Second
	t.Closed(c, mqtt.KeepAliveTimeout)
	latest := 4 * time.Second
	if !own() {
		latest = 8 * time.Second
	}
	if took := time.Since(from); took < 2900*time.Millisecond || took > latest {
		t.Errorf("closed after %v, want 3 s", took)
	}
	t.Take(watch, t.Topic("will"), "w")
}

// keepAliveKept sends each kind of packet in time: all of them count.
func keepAliveKept(t *T) {
	c := t.Connect("a", keepAlive(2))
	t.Subscribe(c, 0, t.Topic("x"))
	for _, q := range []mqtt.QoS{0, 1, 2} {
		time.Sleep(1900 * time.Millisecond)
		t.Publish(c, q, t.Topic("y"), "y")
	}
	time.Sleep(1900 * time.Millisecond)
	c.WantQuiet()
	time.Sleep(1900 * time.Millisecond)
	t.Subscribe(c, 0, t.Topic("z"))
	c.WantQuiet()
}

func keepAliveNone(t *T) {
	c, connack := t.Connack("a", keepAlive(0))
	if v, ok := connack.Properties.Uint16(mqtt.PropServerKeepAlive); ok && v < 5 {
		t.Fatalf("Server Keep Alive is %d", v)
	}
	time.Sleep(5 * time.Second)
	c.WantQuiet()
}

func serverKeepAlive(t *T) {
	t.Limits(func(l *broker.Limits) { l.MaxKeepAlive = 2 * time.Second })
	for _, wish := range []uint16{0, 60} {
		c, connack := t.Connack("a", keepAlive(wish))
		if v, _ := connack.Properties.Uint16(mqtt.PropServerKeepAlive); v != 2 {
			t.Fatalf("Server Keep Alive is %d, want 2", v)
		}
		from := time.Now()
		t.Closed(c, mqtt.KeepAliveTimeout)
		if took := time.Since(from); took < 2900*time.Millisecond || took > 4*time.Second {
			t.Errorf("closed after %v, want 3 s", took)
		}
	}
	_, connack := t.Connack("b", keepAlive(1))
	if connack.Properties.Has(mqtt.PropServerKeepAlive) {
		t.Error("a keep alive below the maximum was replaced")
	}
}

// payloadOrder fills every field, and finds each one where it belongs.
func payloadOrder(t *T) {
	seen := &login{}
	if own() {
		t.Options(broker.Options{Plugins: plugins(seen), Policy: broker.Policy{AllowAnonymous: broker.Everywhere}})
	}
	flags, name, password := byte(flagClean|flagWill|flagUser|flagPassword), "me", "secret"
	if !own() && *user != "" {
		name, password = *user, *pass
	}
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("topic"))
	c := t.Dial()
	c.Raw(t.connectPacket(flags, field(t.ID("a")), t.block(), field(t.Topic("topic")), field("payload"), field(name), field(password))...)
	if !own() && *user == "" {
		if p, _ := c.Read(c.Patience); p != nil && p.(*mqtt.Connack).Code == mqtt.BadUserNameOrPassword {
			t.Skip("nobody is called " + name + " there; give -user and -pass")
		}
	} else {
		equal(t, "code of CONNACK", wire.Want[*mqtt.Connack](c).Code, mqtt.Success)
	}
	c.Conn.Close()
	t.Take(watch, t.Topic("topic"), "payload")
	if own() {
		equal(t, "user name and password", seen.last(), "me secret")
	}
}

func clientIDMissing(t *T) {
	t.refused("no client identifier", t.connectPacket(flagClean))
}

func clientID23(t *T) {
	const all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	ids := []string{"7", all[:23], all[23:46], all[39:]}
	for n := 2; n < 23; n++ {
		ids = append(ids, all[:n])
	}
	for _, id := range ids {
		c := t.Dial()
		c.Connect(t.connect("", func(p *mqtt.Connect) { p.ClientID = []byte(id) }))
		t.Leave(c)
	}
}

func noID(p *mqtt.Connect) { p.ClientID = nil }

// clientIDEmpty connects two clients without identifiers: neither takes the other's place.
func clientIDEmpty(t *T) {
	a, b := t.Connect("", noID), t.Connect("", noID)
	t.Subscribe(a, 1, t.Topic("a"))
	t.Subscribe(b, 1, t.Topic("b"))
	t.Publish(b, 1, t.Topic("a"), "to a")
	t.Take(a, t.Topic("a"), "to a")
	t.Publish(a, 1, t.Topic("b"), "to b")
	t.Take(b, t.Topic("b"), "to b")
	a.WantQuiet()
	b.WantQuiet()
}

func clientIDAssigned(t *T) {
	a, first := t.Connack("", noID, expiring(100))
	b, second := t.Connack("", noID, expiring(100))
	ida, _ := first.Properties.String(mqtt.PropAssignedClientIdentifier)
	idb, _ := second.Properties.String(mqtt.PropAssignedClientIdentifier)
	if ida == "" || idb == "" || ida == idb {
		t.Fatalf("assigned are %q and %q", ida, idb)
	}
	t.Subscribe(a, 1, t.Topic("a"))
	t.Cut(a)
	t.Publish(b, 1, t.Topic("a"), "kept")
	a, connack := t.Connack("", persistent, func(p *mqtt.Connect) { p.ClientID = []byte(ida) })
	equal(t, "session present", connack.SessionPresent, true)
	if connack.Properties.Has(mqtt.PropAssignedClientIdentifier) {
		t.Error("an identifier was assigned to a client that has one")
	}
	t.Take(a, t.Topic("a"), "kept")
}

func clientIDEmptyKept(t *T) {
	c := t.Dial()
	c.Raw(t.connectPacket(0, field(""))...)
	equal(t, "the answer", string(c.Rest()), "\x20\x02\x00\x02")
}

// clientIDRefused breaks the only rule for identifiers that the broker has: their length.
func clientIDRefused(t *T) {
	t.Limits(func(l *broker.Limits) { l.MaxClientID = 30 })
	t.Leave(t.Connect(strings.Repeat("x", 29)))
	c := t.Dial()
	c.SendConnect(t.connect(strings.Repeat("x", 30), persistent))
	equal(t, "code of CONNACK", wire.Want[*mqtt.Connack](c).Code, mqtt.ClientIdentifierNotValid)
	c.WantClosed()
	if t.V != mqtt.V5 {
		equal(t, "CONNACK", string(c.Last), "\x20\x02\x00\x02")
	}
}

// malformedConnect cuts a CONNECT short at every byte, makes it longer, and breaks its parts.
func malformedConnect(t *T) {
	whole := t.connectPacket(flagClean|flagWill|flagUser|flagPassword,
		field(t.ID("a")), t.block(), field(t.Topic("w")), field("w"), field("u"), field("p"))
	body := whole[2:]
	for n := range body {
		t.refused("cut short", frame(0x10, body[:n]))
	}
	t.refused("a byte too long", frame(0x10, body, []byte{0}))
	t.refused("length that runs over", slices.Concat([]byte{0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, body))
	t.refused("flags in the header", frame(0x11, body))
	if t.V != mqtt.V5 {
		return
	}
	bad := map[string][]byte{
		"unknown property":                {0x7F, 0},
		"property of another packet":      {0x23, 0, 1},
		"Session Expiry Interval twice":   {0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1},
		"Session Expiry Interval cut off": {0x11, 0, 0},
		"Receive Maximum 0":               {0x21, 0, 0},
		"Receive Maximum twice":           {0x21, 0, 1, 0x21, 0, 1},
		"Maximum Packet Size 0":           {0x27, 0, 0, 0, 0},
		"Topic Alias Maximum twice":       {0x22, 0, 1, 0x22, 0, 1},
		"Request Response Information 2":  {0x19, 2},
		"Request Problem Information 2":   {0x17, 2},
		"Authentication Data alone":       {0x16, 0, 1, 'x'},
		"user property cut off":           {0x26, 0, 1, 'x'},
	}
	for what, props := range bad {
		t.refused(what, frame(0x10, field("MQTT"), []byte{5, flagClean}, short(60), t.block(props...), field(t.ID("a"))))
	}
	t.refused("properties run over", frame(0x10, field("MQTT"), []byte{5, flagClean}, short(60), []byte{100}, field(t.ID("a"))))
	t.refused("overlong property length", frame(0x10, field("MQTT"), []byte{5, flagClean}, short(60), []byte{0x80, 0}, field(t.ID("a"))))
}

func takeover(t *T) {
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("will"))
	first := t.Connect("a", withWill(mqtt.Will{Topic: []byte(t.Topic("will")), Payload: []byte("w")}))
	second := t.Connect("a")
	t.Closed(first, mqtt.SessionTakenOver)
	second.WantQuiet()
	t.Take(watch, t.Topic("will"), "w")
	third, _ := t.Connack("a", persistent)
	t.Closed(second, mqtt.SessionTakenOver)
	fourth, connack := t.Connack("a", persistent)
	equal(t, "session present", connack.SessionPresent, true)
	t.Closed(third, mqtt.SessionTakenOver)
	fourth.WantQuiet()
}

// refusable is a CONNECT that no server grants.
func (t *T) refusable(id string, options ...option) mqtt.Connect {
	p := t.connect(id, options...)
	if t.V == mqtt.V5 {
		p.Properties = mqtt.AppendPropString(p.Properties, mqtt.PropAuthenticationMethod, "no such method")
	} else {
		p.ClientID, p.CleanStart = nil, false
	}
	return p
}

func nothingAfterRefusal(t *T) {
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("x"))
	c := t.Dial()
	p := t.refusable("a")
	packets := p.Append(nil)
	packets = append(packets, t.publishPacket(0, t.Topic("x"), -1, "QoS 0")...)
	packets = append(packets, t.publishPacket(2, t.Topic("x"), 1, "QoS 1")...)
	packets = append(packets, t.subscribePacket(1, field(t.Topic("x")), []byte{0})...)
	c.Raw(packets...)
	if code := c.WantClosed(); own() && !code.IsError() {
		t.Error("there was no refusing CONNACK")
	}
	t.Nothing(watch)
}
