// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"slices"
	"testing"
)

// golden is a packet in its three forms: bytes, fields, and words for people.
type golden struct {
	name string
	v    Version
	wire string
	p    packet
	dump string
}

var goldens = slices.Concat(goldenConnect, goldenPublish, goldenSubscribe, goldenRest)

var goldenConnect = []golden{
	{"3.1", V31, "10 14 0006'MQIsdp' 03 02 003C 0006'client'",
		&connectPacket{Connect{Version: V31, ProtocolName: []byte("MQIsdp"), CleanStart: true, KeepAlive: 60,
			ClientID: []byte("client")}},
		`CONNECT version=3.1 clean keepalive=60 client="client"`},
	{"3.1 bridge", V31, "10 0F 0006'MQIsdp' 83 00 0000 0001'b'",
		&connectPacket{Connect{Version: V31, Bridge: true, ProtocolName: []byte("MQIsdp"), ClientID: []byte("b")}},
		`CONNECT version=3.1 bridge keepalive=0 client="b"`},
	{"3.1.1 empty client identifier", V311, "10 0C 0004'MQTT' 04 02 0000 0000",
		&connectPacket{Connect{Version: V311, ProtocolName: []byte("MQTT"), CleanStart: true}},
		`CONNECT version=3.1.1 clean keepalive=0 client=""`},
	{"3.1.1 bridge", V311, "10 0D 0004'MQTT' 84 00 000A 0001'b'",
		&connectPacket{Connect{Version: V311, Bridge: true, ProtocolName: []byte("MQTT"), KeepAlive: 10, ClientID: []byte("b")}},
		`CONNECT version=3.1.1 bridge keepalive=10 client="b"`},
	{"3.1.1 with everything", V311, "10 20 0004'MQTT' 04 EC FFFF 0001'c' 0003'w/t' 0002 FF00 0004'user' 0002'pw'",
		&connectPacket{Connect{Version: V311, ProtocolName: []byte("MQTT"), KeepAlive: 65535, ClientID: []byte("c"),
			HasWill: true, Will: Will{Topic: []byte("w/t"), Payload: []byte{0xFF, 0}, QoS: 1, Retain: true},
			HasUsername: true, Username: []byte("user"), HasPassword: true, Password: []byte("pw")}},
		`CONNECT version=3.1.1 keepalive=65535 client="c" will="w/t" willqos=1 willretain willsize=2 user="user" password`},
	{"5.0", V5, "10 0D 0004'MQTT' 05 00 0000 00 0000",
		&connectPacket{Connect{Version: V5, ProtocolName: []byte("MQTT")}},
		`CONNECT version=5.0 keepalive=0 client=""`},
	{"5.0 password without user name", V5, "10 11 0004'MQTT' 05 40 0000 00 0000 0002'pw'",
		&connectPacket{Connect{Version: V5, ProtocolName: []byte("MQTT"), HasPassword: true, Password: []byte("pw")}},
		`CONNECT version=5.0 keepalive=0 client="" password`},
	{"5.0 with everything", V5, "10 47 0004'MQTT' 05 D6 003C" +
		"1D 11 00000E10 21 0014 27 00010000 22 000A 19 01 17 00 15 0001'm' 16 0002 0102" +
		"0001'c' 11 18 00000005 02 0000003C 26 0001'k' 0001'v' 0001'w' 0000 0001'u' 0000",
		&connectPacket{Connect{Version: V5, ProtocolName: []byte("MQTT"), CleanStart: true, KeepAlive: 60,
			Properties: Properties("\x11\x00\x00\x0E\x10\x21\x00\x14\x27\x00\x01\x00\x00\x22\x00\x0A\x19\x01\x17\x00" +
				"\x15\x00\x01m\x16\x00\x02\x01\x02"),
			ClientID: []byte("c"), HasWill: true, Will: Will{Topic: []byte("w"), QoS: 2,
				Properties: Properties("\x18\x00\x00\x00\x05\x02\x00\x00\x00\x3C\x26\x00\x01k\x00\x01v")},
			HasUsername: true, Username: []byte("u"), HasPassword: true}},
		`CONNECT version=5.0 clean keepalive=60 client="c" will="w" willqos=2 willsize=0` +
			` {Will Delay Interval=5, Message Expiry Interval=60, "k"="v"} user="u" password` +
			` {Session Expiry Interval=3600, Receive Maximum=20, Maximum Packet Size=65536, Topic Alias Maximum=10,` +
			` Request Response Information=1, Request Problem Information=0, Authentication Method="m", Authentication Data=2 bytes}`},
}

var goldenPublish = []golden{
	{"3.1 QoS 0 with DUP", V31, "38 04 0001'a' 'x'",
		&Publish{Dup: true, Topic: []byte("a"), Payload: []byte("x")}, `PUBLISH topic="a" qos=0 dup size=1`},
	{"3.1.1 QoS 0", V311, "30 07 0003'a/b' 'hi'",
		&Publish{Topic: []byte("a/b"), Payload: []byte("hi")}, `PUBLISH topic="a/b" qos=0 size=2`},
	{"3.1.1 QoS 1 retained", V311, "33 07 0003'a/b' 000A",
		&Publish{QoS: 1, Retain: true, Topic: []byte("a/b"), ID: 10}, `PUBLISH topic="a/b" qos=1 id=10 retain size=0`},
	{"3.1.1 QoS 2 again", V311, "3C 08 0003'a/b' FFFF 00",
		&Publish{Dup: true, QoS: 2, Topic: []byte("a/b"), ID: 65535, Payload: []byte{0}},
		`PUBLISH topic="a/b" qos=2 id=65535 dup size=1`},
	{"3.1.1 U+FEFF and U+0001 are characters", V311, "30 06 0004 EFBBBF 01",
		&Publish{Topic: []byte("\uFEFF\x01")}, `PUBLISH topic="\ufeff\x01" qos=0 size=0`},
	{"5.0 QoS 0", V5, "30 08 0003'a/b' 00 'hi'",
		&Publish{Topic: []byte("a/b"), Payload: []byte("hi")}, `PUBLISH topic="a/b" qos=0 size=2`},
	{"5.0 topic alias", V5, "32 0A 0000 0001 03 23 0007 'hi'",
		&Publish{QoS: 1, ID: 1, Properties: Properties("\x23\x00\x07"), Payload: []byte("hi")},
		`PUBLISH topic="" qos=1 id=1 size=2 {Topic Alias=7}`},
	{"5.0 with everything", V5, "34 29 0001'a' 0002 21 01 01 02 00000E10 03 0001't' 08 0001'r' 09 0001 00 0B 01 0B 8001" +
		"23 0001 26 0001'k' 0000 'hi'",
		&Publish{QoS: 2, ID: 2, Topic: []byte("a"), Payload: []byte("hi"),
			Properties: Properties("\x01\x01\x02\x00\x00\x0E\x10\x03\x00\x01t\x08\x00\x01r\x09\x00\x01\x00\x0B\x01" +
				"\x0B\x80\x01\x23\x00\x01\x26\x00\x01k\x00\x00")},
		`PUBLISH topic="a" qos=2 id=2 size=2 {Payload Format Indicator=1, Message Expiry Interval=3600, Content Type="t",` +
			` Response Topic="r", Correlation Data=1 bytes, Subscription Identifier=1, Subscription Identifier=128,` +
			` Topic Alias=1, "k"=""}`},
}

var goldenSubscribe = []golden{
	{"SUBSCRIBE 3.1", V31, "82 06 0001 0001'#' 01",
		&Subscribe{ID: 1, Subscriptions: []Subscription{{Filter: []byte("#"), QoS: 1}}},
		`SUBSCRIBE id=1 filter="#" qos=1`},
	{"SUBSCRIBE 3.1.1", V311, "82 0C 000A 0003'a/b' 02 0001'+' 00",
		&Subscribe{ID: 10, Subscriptions: []Subscription{{Filter: []byte("a/b"), QoS: 2}, {Filter: []byte("+")}}},
		`SUBSCRIBE id=10 filter="a/b" qos=2 filter="+" qos=0`},
	{"SUBSCRIBE 5.0", V5, "82 1A 000A 00 0001'a' 2D 0010'$share/group/a/b' 01",
		&Subscribe{ID: 10, Subscriptions: []Subscription{
			{Filter: []byte("a"), QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
			{Filter: []byte("$share/group/a/b"), QoS: 1}}},
		`SUBSCRIBE id=10 filter="a" qos=1 nolocal rap rh=2 filter="$share/group/a/b" qos=1`},
	{"SUBSCRIBE 5.0 with properties", V5, "82 12 000A 0B 0B FFFFFF7F 26 0001'k' 0000 0001'a' 10",
		&Subscribe{ID: 10, Properties: Properties("\x0B\xFF\xFF\xFF\x7F\x26\x00\x01k\x00\x00"),
			Subscriptions: []Subscription{{Filter: []byte("a"), RetainHandling: 1}}},
		`SUBSCRIBE id=10 filter="a" qos=0 rh=1 {Subscription Identifier=268435455, "k"=""}`},
	{"SUBACK 3.1", V31, "90 03 0001 02", &Suback{ID: 1, Codes: []ReasonCode{GrantedQoS2}}, `SUBACK id=1 code=0x02`},
	{"SUBACK 3.1.1", V311, "90 06 0001 00 01 02 80",
		&Suback{ID: 1, Codes: []ReasonCode{GrantedQoS0, GrantedQoS1, GrantedQoS2, UnspecifiedError}},
		`SUBACK id=1 code=0x00 code=0x01 code=0x02 code=0x80`},
	{"SUBACK 5.0", V5, "90 0A 0001 05 1F 0002'no' 87 00",
		&Suback{ID: 1, Properties: Properties("\x1F\x00\x02no"), Codes: []ReasonCode{NotAuthorized, GrantedQoS0}},
		`SUBACK id=1 code=0x87 code=0x00 {Reason String="no"}`},
	{"UNSUBSCRIBE 3.1", V31, "A2 05 0001 0001'a'", &Unsubscribe{ID: 1, Filters: [][]byte{[]byte("a")}},
		`UNSUBSCRIBE id=1 filter="a"`},
	{"UNSUBSCRIBE 3.1.1", V311, "A2 0A 0001 0001'a' 0003'b/#'",
		&Unsubscribe{ID: 1, Filters: [][]byte{[]byte("a"), []byte("b/#")}}, `UNSUBSCRIBE id=1 filter="a" filter="b/#"`},
	{"UNSUBSCRIBE 5.0", V5, "A2 0B 0001 05 26 0000 0000 0001'a'",
		&Unsubscribe{ID: 1, Properties: Properties("\x26\x00\x00\x00\x00"), Filters: [][]byte{[]byte("a")}},
		`UNSUBSCRIBE id=1 filter="a" {""=""}`},
	{"UNSUBACK 3.1", V31, "B0 02 0001", &Unsuback{ID: 1}, `UNSUBACK id=1`},
	{"UNSUBACK 3.1.1", V311, "B0 02 0001", &Unsuback{ID: 1}, `UNSUBACK id=1`},
	{"UNSUBACK 5.0", V5, "B0 05 0001 00 00 11", &Unsuback{ID: 1, Codes: []ReasonCode{Success, NoSubscriptionExisted}},
		`UNSUBACK id=1 code=0x00 code=0x11`},
}

var goldenRest = []golden{
	{"CONNACK 3.1", V31, "20 02 00 00", &Connack{}, `CONNACK`},
	{"CONNACK 3.1.1 session present", V311, "20 02 01 00", &Connack{SessionPresent: true}, `CONNACK present`},
	{"CONNACK 3.1.1 refused", V311, "20 02 00 05", &Connack{Code: NotAuthorized}, `CONNACK code=0x87 (Not authorized)`},
	{"CONNACK 5.0", V5, "20 03 00 00 00", &Connack{}, `CONNACK`},
	{"CONNACK 5.0 refused", V5, "20 09 00 9D 06 1C 0003'b:1'",
		&Connack{Code: ServerMoved, Properties: Properties("\x1C\x00\x03b:1")},
		`CONNACK code=0x9D (Server moved) {Server Reference="b:1"}`},
	{"CONNACK 5.0 with properties", V5, "20 32 01 00 2F 11 00000001 21 0002 24 01 25 00 27 00000003 12 0001'c' 22 0004" +
		"1F 0000 28 01 29 00 2A 01 13 0005 1A 0001'i' 15 0001'm' 16 0000",
		&Connack{SessionPresent: true, Properties: Properties("\x11\x00\x00\x00\x01\x21\x00\x02\x24\x01\x25\x00" +
			"\x27\x00\x00\x00\x03\x12\x00\x01c\x22\x00\x04\x1F\x00\x00\x28\x01\x29\x00\x2A\x01\x13\x00\x05\x1A\x00\x01i" +
			"\x15\x00\x01m\x16\x00\x00")},
		`CONNACK present {Session Expiry Interval=1, Receive Maximum=2, Maximum QoS=1, Retain Available=0,` +
			` Maximum Packet Size=3, Assigned Client Identifier="c", Topic Alias Maximum=4, Reason String="",` +
			` Wildcard Subscription Available=1, Subscription Identifier Available=0, Shared Subscription Available=1,` +
			` Server Keep Alive=5, Response Information="i", Authentication Method="m", Authentication Data=0 bytes}`},
	{"PUBACK 3.1", V31, "40 02 0001", &Ack{Type: PUBACK, ID: 1}, `PUBACK id=1`},
	{"PUBACK 3.1.1", V311, "40 02 0102", &Ack{Type: PUBACK, ID: 0x102}, `PUBACK id=258`},
	{"PUBREC 3.1.1", V311, "50 02 FFFF", &Ack{Type: PUBREC, ID: 65535}, `PUBREC id=65535`},
	{"PUBREL 3.1.1", V311, "62 02 0001", &Ack{Type: PUBREL, ID: 1}, `PUBREL id=1`},
	{"PUBCOMP 3.1.1", V311, "70 02 0001", &Ack{Type: PUBCOMP, ID: 1}, `PUBCOMP id=1`},
	{"PUBACK 5.0 without code", V5, "40 02 0001", &Ack{Type: PUBACK, ID: 1}, `PUBACK id=1`},
	{"PUBACK 5.0 without properties", V5, "40 03 0001 10", &Ack{Type: PUBACK, ID: 1, Code: NoMatchingSubscribers},
		`PUBACK id=1 code=0x10 (No matching subscribers)`},
	{"PUBREC 5.0", V5, "50 0B 0001 97 07 1F 0004'full'",
		&Ack{Type: PUBREC, ID: 1, Code: QuotaExceeded, Properties: Properties("\x1F\x00\x04full")},
		`PUBREC id=1 code=0x97 (Quota exceeded) {Reason String="full"}`},
	{"PUBREL 5.0", V5, "62 03 0001 92", &Ack{Type: PUBREL, ID: 1, Code: PacketIdentifierNotFound},
		`PUBREL id=1 code=0x92 (Packet Identifier not found)`},
	{"PUBCOMP 5.0 success with properties", V5, "70 09 0001 00 05 26 0000 0000",
		&Ack{Type: PUBCOMP, ID: 1, Properties: Properties("\x26\x00\x00\x00\x00")}, `PUBCOMP id=1 {""=""}`},
	{"DISCONNECT 3.1", V31, "E0 00", &Disconnect{}, `DISCONNECT`},
	{"DISCONNECT 3.1.1", V311, "E0 00", &Disconnect{}, `DISCONNECT`},
	{"DISCONNECT 5.0", V5, "E0 00", &Disconnect{}, `DISCONNECT`},
	{"DISCONNECT 5.0 without properties", V5, "E0 01 04", &Disconnect{Code: DisconnectWithWillMessage},
		`DISCONNECT code=0x04 (Disconnect with Will Message)`},
	{"DISCONNECT 5.0 with properties", V5, "E0 07 00 05 11 00000000",
		&Disconnect{Properties: Properties("\x11\x00\x00\x00\x00")}, `DISCONNECT {Session Expiry Interval=0}`},
	{"AUTH success", V5, "F0 00", &Auth{}, `AUTH`},
	{"AUTH", V5, "F0 0B 18 09 15 0001'm' 16 0002 FF00",
		&Auth{Code: ContinueAuthentication, Properties: Properties("\x15\x00\x01m\x16\x00\x02\xFF\x00")},
		`AUTH code=0x18 (Continue authentication) {Authentication Method="m", Authentication Data=2 bytes}`},
}

func TestGolden(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			want := raw(t, g.wire)
			if got := g.p.Append(nil, g.v); !bytes.Equal(got, want) {
				t.Errorf("Append\n got % X\nwant % X", got, want)
			}
			p, err := decodeWhole(want, g.v)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fields(p), fields(g.p); got != want {
				t.Errorf("Decode\n got %s\nwant %s", got, want)
			}
			if got := p.String(); got != g.dump {
				t.Errorf("String\n got %s\nwant %s", got, g.dump)
			}
			h, n, _ := DecodeHeader(want, g.v)
			if got := Dump(h, want[n:], g.v); got != g.dump {
				t.Errorf("Dump\n got %s\nwant %s", got, g.dump)
			}
		})
	}
}

// A receiver that was used before holds nothing of the earlier packet.
func TestDecodeReusesReceiver(t *testing.T) {
	used := map[PacketType]packet{}
	for range 2 {
		for _, g := range goldens {
			b := raw(t, g.wire)
			h, n, err := DecodeHeader(b, g.v)
			if err != nil {
				t.Fatal(err)
			}
			if used[h.Type] == nil {
				used[h.Type] = newPacket(h.Type)
			}
			if err := used[h.Type].Decode(h, b[n:], g.v); err != nil {
				t.Fatalf("%s: %v", g.name, err)
			}
			if got, want := fields(used[h.Type]), fields(g.p); got != want {
				t.Errorf("%s\n got %s\nwant %s", g.name, got, want)
			}
		}
	}
}

func TestAppendAppends(t *testing.T) {
	for _, g := range goldens {
		got := g.p.Append([]byte("before"), g.v)
		if want := append([]byte("before"), raw(t, g.wire)...); !bytes.Equal(got, want) {
			t.Errorf("%s: got % X", g.name, got)
		}
	}
}

func TestPing(t *testing.T) {
	if got := AppendPingresp(AppendPingreq(nil)); !bytes.Equal(got, raw(t, "C0 00 D0 00")) {
		t.Errorf("got % X", got)
	}
	if got := Dump(Header{Type: PINGREQ}, nil, V5); got != "PINGREQ" {
		t.Errorf("Dump says %q", got)
	}
}

// 3.1 lets the length of CONNECT take precedence over the user name and password flags.
func TestConnect31WithoutAnnouncedCredentials(t *testing.T) {
	for _, test := range []struct {
		wire           string
		user, password bool
	}{
		{"10 0F 0006'MQIsdp' 03 C2 0000 0001'c'", false, false},
		{"10 12 0006'MQIsdp' 03 C2 0000 0001'c' 0001'u'", true, false},
		{"10 15 0006'MQIsdp' 03 C2 0000 0001'c' 0001'u' 0001'p'", true, true},
	} {
		p, err := decodeWhole(raw(t, test.wire), 0)
		if err != nil {
			t.Errorf("%s: %v", test.wire, err)
			continue
		}
		if c := p.(*connectPacket); c.HasUsername != test.user || c.HasPassword != test.password {
			t.Errorf("%s: user name %v, password %v", test.wire, c.HasUsername, c.HasPassword)
		}
	}
}

// What 5.0 knows and the older versions do not is translated or left out.
func TestAppendForOlderVersions(t *testing.T) {
	props := AppendPropString(nil, PropReasonString, "because")
	for _, test := range []struct {
		p    packet
		want string
	}{
		{&Connack{Code: ServerBusy, Properties: props}, "20 02 00 03"},
		{&Connack{Code: Banned, SessionPresent: true}, "20 02 00 05"},
		{&Publish{Topic: []byte("a"), Properties: AppendPropUint16(nil, PropTopicAlias, 1)}, "30 03 0001'a'"},
		{&Ack{Type: PUBACK, ID: 1, Code: QuotaExceeded, Properties: props}, "40 02 0001"},
		{&Suback{ID: 1, Properties: props, Codes: []ReasonCode{NotAuthorized, GrantedQoS1}}, "90 04 0001 80 01"},
		{&Unsuback{ID: 1, Properties: props, Codes: []ReasonCode{NoSubscriptionExisted}}, "B0 02 0001"},
		{&Subscribe{ID: 1, Subscriptions: []Subscription{{Filter: []byte("a"), NoLocal: true, RetainHandling: 1}}},
			"82 06 0001 0001'a' 00"},
		{&Disconnect{Code: DisconnectWithWillMessage, Properties: props}, "E0 00"},
	} {
		if got, want := test.p.Append(nil, V311), raw(t, test.want); !bytes.Equal(got, want) {
			t.Errorf("%v\n got % X\nwant % X", test.p, got, want)
		}
	}
	if got := (&Connack{SessionPresent: true}).Append(nil, V31); !bytes.Equal(got, raw(t, "20 02 00 00")) {
		t.Errorf("3.1 has no session present: % X", got)
	}
}

func TestPublishSize(t *testing.T) {
	payload := make([]byte, 3<<20)
	for _, v := range []Version{V31, V311, V5} {
		for _, size := range []int{0, 1, 100, 117, 118, 119, 120, 121, 122, 123, 16370, 16380, 2097140, 2097150, len(payload)} {
			for qos := range QoS(3) {
				p := Publish{QoS: qos, ID: 1, Topic: []byte("topic"), Payload: payload[:size]}
				want := len(p.Append(nil, v))
				if got := PublishSize(5, qos, v, 0, size); got != want {
					t.Errorf("%v, QoS %d, payload of %d: got %d, want %d", v, qos, size, got, want)
				}
			}
		}
	}
	props := AppendPropBytes(nil, PropCorrelationData, make([]byte, 200))
	p := Publish{Topic: []byte("t"), Properties: props}
	if got, want := PublishSize(1, 0, V5, len(props), 0), len(p.Append(nil, V5)); got != want {
		t.Errorf("with properties: got %d, want %d", got, want)
	}
}

// A field or packet that is too long would shift all that follows: Append panics instead.
func TestAppendRefusesTooLong(t *testing.T) {
	long := string(make([]byte, MaxString+1))
	for name, f := range map[string]func(){
		"topic":    func() { AppendPublishHeader(nil, 0, long, 0, V311, nil, 0) },
		"payload":  func() { AppendPublishHeader(nil, 0, "a", 0, V311, nil, MaxRemaining) },
		"property": func() { AppendPropString(nil, PropReasonString, long) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
	AppendPublishHeader(nil, 0, long[1:], 0, V311, nil, 0) // as long as may be
	AppendPublishHeader(nil, 0, "a", 0, V311, nil, MaxRemaining-3)
}
