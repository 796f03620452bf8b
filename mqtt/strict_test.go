// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// malformed names one rule for each packet that breaks it.
var malformed = []struct {
	rule string
	v    Version
	wire string
	code ReasonCode
}{
	{"CONNECT: protocol name is MQTT or MQIsdp [MQTT-3.1.2-1]", 0, "10 0C 0004'MQTS' 04 02 0000 0000", UnsupportedProtocolVersion},
	{"CONNECT: names are compared byte by byte", 0, "10 0C 0004'mqtt' 04 02 0000 0000", UnsupportedProtocolVersion},
	{"CONNECT: empty protocol name", 0, "10 08 0000 04 02 0000 0000", UnsupportedProtocolVersion},
	{"CONNECT: level 6 [MQTT-3.1.2-2]", 0, "10 0D 0004'MQTT' 06 02 0000 00 0000", UnsupportedProtocolVersion},
	{"CONNECT: level 99", 0, "10 0C 0004'MQTT' 63 02 0000 0000", UnsupportedProtocolVersion},
	{"CONNECT: level 3 of MQTT", 0, "10 0C 0004'MQTT' 03 02 0000 0000", UnsupportedProtocolVersion},
	{"CONNECT: level 4 of MQIsdp", 0, "10 0F 0006'MQIsdp' 04 02 0000 0001'c'", UnsupportedProtocolVersion},
	{"CONNECT: no bridge bit in 5.0", 0, "10 0D 0004'MQTT' 85 02 0000 00 0000", UnsupportedProtocolVersion},
	{"CONNECT: reserved flag, 3.1.1 [MQTT-3.1.2-3]", 0, "10 0C 0004'MQTT' 04 03 0000 0000", MalformedPacket},
	{"CONNECT: reserved flag, 5.0 [MQTT-3.1.2-3]", 0, "10 0D 0004'MQTT' 05 03 0000 00 0000", MalformedPacket},
	{"CONNECT: will QoS without will [MQTT-3.1.2-11]", 0, "10 0C 0004'MQTT' 04 0A 0000 0000", MalformedPacket},
	{"CONNECT: will retain without will [MQTT-3.1.2-13]", 0, "10 0D 0004'MQTT' 05 22 0000 00 0000", MalformedPacket},
	{"CONNECT: will QoS 3 [MQTT-3.1.2-12]", 0, "10 13 0004'MQTT' 05 1E 0000 00 0000 00 0001'w' 0000", MalformedPacket},
	{"CONNECT: password without user name, 3.1.1 [MQTT-3.1.2-22]", 0, "10 0E 0004'MQTT' 04 42 0000 0000 0000", MalformedPacket},
	{"CONNECT: password without user name, 3.1", 0, "10 11 0006'MQIsdp' 03 42 0000 0001'c' 0000", MalformedPacket},
	{"CONNECT: user name missing [MQTT-3.1.2-17]", 0, "10 0D 0004'MQTT' 05 82 0000 00 0000", MalformedPacket},
	{"CONNECT: password missing [MQTT-3.1.2-19]", 0, "10 0E 0004'MQTT' 04 C2 0000 0000 0000", MalformedPacket},
	{"CONNECT: user name without flag [MQTT-3.1.2-16]", 0, "10 10 0004'MQTT' 05 02 0000 00 0000 0001'u'", MalformedPacket},
	{"CONNECT: will missing [MQTT-3.1.2-9]", 0, "10 0C 0004'MQTT' 04 06 0000 0000", MalformedPacket},
	{"CONNECT: client identifier missing [MQTT-3.1.3-3]", 0, "10 0A 0004'MQTT' 04 02 0000", MalformedPacket},
	{"CONNECT: client identifier not UTF-8 [MQTT-3.1.3-4]", 0, "10 0D 0004'MQTT' 04 02 0000 0001 FF", MalformedPacket},
	{"CONNECT: NUL in client identifier [MQTT-1.5.4-2]", 0, "10 0E 0004'MQTT' 05 02 0000 00 0001 00", MalformedPacket},
	{"CONNECT: surrogate in user name [MQTT-1.5.4-1]", 0, "10 11 0004'MQTT' 04 82 0000 0000 0003 EDA080", MalformedPacket},
	{"CONNECT: will topic not UTF-8 [MQTT-3.1.3-10]", 0, "10 11 0004'MQTT' 04 06 0000 0000 0001 C0 0000", MalformedPacket},
	{"CONNECT: wildcard in will topic [MQTT-4.7.0-1]", 0, "10 13 0004'MQTT' 05 06 0000 00 0000 00 0001'+' 0000", TopicNameInvalid},
	{"CONNECT: empty will topic [MQTT-4.7.3-1]", 0, "10 10 0004'MQTT' 04 06 0000 0000 0000 0000", TopicNameInvalid},
	{"CONNECT: empty client identifier, 3.1", 0, "10 0E 0006'MQIsdp' 03 02 0000 0000", ClientIdentifierNotValid},
	{"CONNECT: empty client identifier, old session [MQTT-3.1.3-8]", 0, "10 0C 0004'MQTT' 04 00 0000 0000", ClientIdentifierNotValid},
	{"CONNECT: trailing byte", 0, "10 0D 0004'MQTT' 04 02 0000 0000 00", MalformedPacket},
	{"CONNECT: properties over the end", 0, "10 0D 0004'MQTT' 05 02 0000 03 0000", MalformedPacket},
	{"CONNECT: property length missing", 0, "10 0A 0004'MQTT' 05 02 0000", MalformedPacket},
	{"CONNECT: property length too long [MQTT-1.5.5-1]", 0, "10 0E 0004'MQTT' 05 02 0000 8000 0000", MalformedPacket},

	{"CONNACK: reserved flags [MQTT-3.2.2-1]", V5, "20 03 02 00 00", MalformedPacket},
	{"CONNACK: return code 6", V311, "20 02 00 06", MalformedPacket},
	{"CONNACK: codes of 5.0 only [MQTT-3.2.2-8]", V5, "20 03 00 01 00", ProtocolError},
	{"CONNACK: session present on refusal [MQTT-3.2.2-6]", V5, "20 03 01 87 00", ProtocolError},
	{"CONNACK: session present on refusal [MQTT-3.2.2-4]", V311, "20 02 01 05", ProtocolError},
	{"CONNACK: trailing byte", V311, "20 03 00 00 00", MalformedPacket},

	{"PUBLISH: # in topic name [MQTT-3.3.2-2]", V311, "30 05 0003'a/#'", TopicNameInvalid},
	{"PUBLISH: + in topic name [MQTT-3.3.2-2]", V5, "30 06 0003'+/a' 00", TopicNameInvalid},
	{"PUBLISH: empty topic name [MQTT-4.7.3-1]", V311, "30 02 0000", TopicNameInvalid},
	{"PUBLISH: empty topic name without alias", V5, "30 03 0000 00", ProtocolError},
	{"PUBLISH: topic name not UTF-8 [MQTT-3.3.2-1]", V311, "30 03 0001 80", MalformedPacket},
	{"PUBLISH: NUL in topic name [MQTT-4.7.3-2]", V5, "30 04 0001 00 00", MalformedPacket},
	{"PUBLISH: surrogate in topic name [MQTT-1.5.3-1]", V311, "30 05 0003 EDBFBF", MalformedPacket},
	{"PUBLISH: overlong UTF-8", V311, "30 04 0002 C080", MalformedPacket},
	{"PUBLISH: beyond U+10FFFF", V311, "30 06 0004 F4908080", MalformedPacket},
	{"PUBLISH: UTF-8 cut short", V311, "30 04 0002 E282", MalformedPacket},
	{"PUBLISH: packet identifier 0 [MQTT-2.3.1-1]", V311, "32 05 0001'a' 0000", MalformedPacket},
	{"PUBLISH: packet identifier 0 [MQTT-2.2.1-3]", V5, "34 06 0001'a' 0000 00", MalformedPacket},
	{"PUBLISH: packet identifier missing", V311, "32 04 0001'a' 00", MalformedPacket},
	{"PUBLISH: topic name over the end", V311, "30 03 0002'a'", MalformedPacket},
	{"PUBLISH: property length missing", V5, "30 03 0001'a'", MalformedPacket},
	{"PUBLISH: property length of five bytes", V5, "30 08 0001'a' 8080808001", MalformedPacket},

	{"PUBACK: packet identifier 0", V311, "40 02 0000", MalformedPacket},
	{"PUBACK: trailing byte", V311, "40 03 0001 00", MalformedPacket},
	{"PUBACK: code of another packet [MQTT-3.4.2-1]", V5, "40 03 0001 92", ProtocolError},
	{"PUBREC: unknown code [MQTT-3.5.2-1]", V5, "50 03 0001 FF", ProtocolError},
	{"PUBREL: code of another packet [MQTT-3.6.2-1]", V5, "62 03 0001 97", ProtocolError},
	{"PUBCOMP: code of another packet [MQTT-3.7.2-1]", V5, "70 03 0001 10", ProtocolError},
	{"PUBACK: trailing byte after properties", V5, "40 05 0001 00 00 00", MalformedPacket},
	{"PUBACK: properties over the end", V5, "40 04 0001 00 01", MalformedPacket},

	{"SUBSCRIBE: no filter [MQTT-3.8.3-3]", V311, "82 02 0001", ProtocolError},
	{"SUBSCRIBE: no filter [MQTT-3.8.3-2]", V5, "82 03 0001 00", ProtocolError},
	{"SUBSCRIBE: packet identifier 0", V311, "82 06 0000 0001'a' 00", MalformedPacket},
	{"SUBSCRIBE: empty filter [MQTT-4.7.3-1]", V311, "82 05 0001 0000 00", TopicFilterInvalid},
	{"SUBSCRIBE: filter not UTF-8 [MQTT-3.8.3-1]", V5, "82 07 0001 00 0001 FE 00", MalformedPacket},
	{"SUBSCRIBE: options missing", V311, "82 05 0001 0001'a'", MalformedPacket},
	{"SUBSCRIBE: QoS 3 [MQTT-3.8.3-4]", V311, "82 06 0001 0001'a' 03", MalformedPacket},
	{"SUBSCRIBE: QoS 3, 3.1", V31, "82 06 0001 0001'a' 03", MalformedPacket},
	{"SUBSCRIBE: reserved options [MQTT-3.8.3-4]", V311, "82 06 0001 0001'a' 04", MalformedPacket},
	{"SUBSCRIBE: reserved options [MQTT-3.8.3-5]", V5, "82 07 0001 00 0001'a' 40", MalformedPacket},
	{"SUBSCRIBE: QoS 3, 5.0", V5, "82 07 0001 00 0001'a' 03", MalformedPacket},
	{"SUBSCRIBE: Retain Handling 3", V5, "82 07 0001 00 0001'a' 30", ProtocolError},
	{"SUBSCRIBE: No Local and shared [MQTT-3.8.3-4]", V5, "82 10 0001 00 000A'$share/a/b' 04", ProtocolError},
	{"SUBSCRIBE: second filter is cut off", V311, "82 08 0001 0001'a' 00 0001", MalformedPacket},

	{"SUBACK: reserved code [MQTT-3.9.3-2]", V311, "90 03 0001 87", MalformedPacket},
	{"SUBACK: reserved code below 0x80", V311, "90 03 0001 03", ProtocolError},
	{"SUBACK: code of another packet [MQTT-3.9.3-2]", V5, "90 04 0001 00 11", ProtocolError},
	{"SUBACK: no code", V5, "90 03 0001 00", ProtocolError},

	{"UNSUBSCRIBE: no filter [MQTT-3.10.3-2]", V5, "A2 03 0001 00", ProtocolError},
	{"UNSUBSCRIBE: empty filter", V311, "A2 04 0001 0000", TopicFilterInvalid},
	{"UNSUBSCRIBE: filter not UTF-8 [MQTT-3.10.3-1]", V311, "A2 05 0001 0001 FF", MalformedPacket},
	{"UNSUBSCRIBE: packet identifier 0", V5, "A2 06 0000 00 0001'a'", MalformedPacket},
	{"UNSUBACK: code of another packet [MQTT-3.11.3-2]", V5, "B0 04 0001 00 01", ProtocolError},
	{"UNSUBACK: no code", V5, "B0 03 0001 00", ProtocolError},
	{"UNSUBACK: trailing byte", V311, "B0 03 0001 00", MalformedPacket},

	{"DISCONNECT: body in 3.1.1", V311, "E0 01 00", MalformedPacket},
	{"DISCONNECT: code of another packet [MQTT-3.14.2-1]", V5, "E0 01 86", ProtocolError},
	{"DISCONNECT: trailing byte", V5, "E0 03 00 00 00", MalformedPacket},
	{"AUTH: not in 3.1.1", V311, "F0 00", MalformedPacket},
	{"AUTH: code of another packet [MQTT-3.15.2-1]", V5, "F0 06 04 04 15 0001'm'", ProtocolError},
	{"AUTH: no method", V5, "F0 02 18 00", ProtocolError},
	{"AUTH: code without property length", V5, "F0 01 18", MalformedPacket},
	{"AUTH: data without method", V5, "F0 05 18 03 16 0000", ProtocolError},
}

func TestStrict(t *testing.T) {
	for _, test := range malformed {
		t.Run(test.rule, func(t *testing.T) {
			b := raw(t, test.wire)
			p, err := decodeWhole(b, test.v)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, %v", p, err)
			}
			if e.Code != test.code {
				t.Errorf("got %v, want code 0x%02X", err, byte(test.code))
			}
			if !strings.HasPrefix(err.Error(), "mqtt: decode ") || e.Unwrap() == nil {
				t.Errorf("error reads %q", err)
			}
		})
	}
}

// The answer to a bad CONNECT needs to know the version.
func TestConnectFaultKnowsVersion(t *testing.T) {
	for _, test := range []struct {
		wire string
		want Version
	}{
		{"10 0F 0006'MQIsdp' 03 42 0000 0001'c'", V31},
		{"10 0C 0004'MQTT' 04 00 0000 0000", V311},
		{"10 0D 0004'MQTT' 05 03 0000 00 0000", V5},
		{"10 0C 0004'MQTT' 63 02 0000 0000", V311},
		{"10 00", V311},
	} {
		b := raw(t, test.wire)
		var c Connect
		if err := c.Decode(Header{Type: CONNECT, Remaining: len(b) - 2}, b[2:]); err == nil || c.Version != test.want {
			t.Errorf("%s: version %v, %v", test.wire, c.Version, err)
		}
	}
}

// A body that is cut short, or has a byte more, does not decode, unless it is exactly what Append writes for the packet
// that comes out (a shorter payload, the short forms of 5.0, an even number of filters or codes).
func TestTruncated(t *testing.T) {
	for _, g := range goldens {
		b := raw(t, g.wire)
		h, n, err := DecodeHeader(b, g.v)
		if err != nil {
			t.Fatal(err)
		}
		for cut := range b { // of the stream: more is needed, never a fault
			h, n, err := DecodeHeader(b[:cut], g.v)
			if err != nil || n != 0 && n+h.Remaining <= cut {
				t.Errorf("%s: first %d bytes: header of %d, body of %d, %v", g.name, cut, n, h.Remaining, err)
			}
		}
		body := b[n:]
		for cut := range body {
			checkCanonical(t, g, h, body[:cut])
		}
		for extra := range 256 {
			checkCanonical(t, g, h, append(bytes.Clone(body), byte(extra)))
		}
	}
}

func checkCanonical(t *testing.T, g golden, h Header, body []byte) {
	t.Helper()
	p := newPacket(h.Type)
	h.Remaining = len(body)
	if p.Decode(h, body, g.v) != nil {
		return
	}
	if h.Type == CONNECT && g.v != V31 {
		t.Errorf("%s: body % X is accepted", g.name, body)
	}
	short := (h.Type >= PUBACK && h.Type <= PUBCOMP || h.Type == DISCONNECT) && g.v == V5 // may be written in two ways
	if got := p.Append(nil, g.v); !short && !bytes.Equal(got, withBody(byte(h.Type)<<4|h.Flags, body)) {
		t.Errorf("%s: body % X is accepted but means % X", g.name, body, got)
	}
}

// AUTH is refused in 3.1.1 also where the header was not read for that version.
func TestAuthNeeds5(t *testing.T) {
	if err := new(Auth).Decode(Header{Type: AUTH}, nil, V311); err == nil {
		t.Error("AUTH is accepted")
	}
}

func TestDumpOfFault(t *testing.T) {
	for want, h := range map[string]Header{
		"CONNECT size=1: mqtt: decode CONNECT: Malformed Packet: protocol name runs over the end of the packet": {Type: CONNECT},
		"PUBACK size=1: mqtt: decode PUBACK: Malformed Packet: packet identifier is missing":                    {Type: PUBACK},
	} {
		if got := Dump(h, []byte{0}, V5); got != want {
			t.Errorf("got %q", got)
		}
	}
}

func TestCheckSide(t *testing.T) {
	reference := AppendPropString(nil, PropServerReference, "x")
	expiry := AppendPropUint32(nil, PropSessionExpiryInterval, 1)
	method := AppendPropString(nil, PropAuthenticationMethod, "m")
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"client: PUBLISH", (&Publish{}).CheckClient(), true},
		{"client: PUBLISH with alias", (&Publish{Properties: AppendPropUint16(nil, PropTopicAlias, 1)}).CheckClient(), true},
		{"client: Subscription Identifier [MQTT-3.3.4-6]",
			(&Publish{Properties: AppendPropVarInt(nil, PropSubscriptionIdentifier, 1)}).CheckClient(), false},
		{"client: DISCONNECT", (&Disconnect{Properties: expiry}).CheckClient(), true},
		{"client: will", (&Disconnect{Code: DisconnectWithWillMessage}).CheckClient(), true},
		{"client: server's code [MQTT-3.14.2-1]", (&Disconnect{Code: SessionTakenOver}).CheckClient(), false},
		{"client: Server Reference", (&Disconnect{Properties: reference}).CheckClient(), false},
		{"server: DISCONNECT", (&Disconnect{Code: ServerMoved, Properties: reference}).CheckServer(), true},
		{"server: will", (&Disconnect{Code: DisconnectWithWillMessage}).CheckServer(), false},
		{"server: Session Expiry Interval [MQTT-3.14.2-2]", (&Disconnect{Properties: expiry}).CheckServer(), false},
		{"client: AUTH", (&Auth{Code: ReAuthenticate, Properties: method}).CheckClient(), true},
		{"client: AUTH Success [MQTT-3.15.2-1]", (&Auth{Properties: method}).CheckClient(), false},
		{"server: AUTH", (&Auth{Code: Success}).CheckServer(), true},
		{"server: AUTH Re-authenticate [MQTT-3.15.2-1]", (&Auth{Code: ReAuthenticate}).CheckServer(), false},
	} {
		if (test.err == nil) != test.want {
			t.Errorf("%s: %v", test.name, test.err)
		}
		if e := (*Error)(nil); test.err != nil && (!errors.As(test.err, &e) || e.Code != ProtocolError) {
			t.Errorf("%s: %v", test.name, test.err)
		}
	}
}
