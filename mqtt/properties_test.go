// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// samples holds one property of each kind with values that the standard allows, and those it does not. The identifiers
// are written down once more, so that a slip in the table shows.
var samples = []struct {
	id   PropertyID
	good []string
	bad  map[string]ReasonCode
	in   string // where it may stand
}{
	{0x01, []string{"00", "01"}, map[string]ReasonCode{"02": ProtocolError, "FF": ProtocolError}, "PUBLISH will"},
	{0x02, []string{"00000000", "FFFFFFFF"}, nil, "PUBLISH will"},
	{0x03, []string{"0000", "0001'x'", "0004 EFBBBF 01"}, badText, "PUBLISH will"},
	{0x08, []string{"0003'a/b'"}, with(badText, "0000", ProtocolError, "0001'+'", ProtocolError, "0003'a/#'", ProtocolError),
		"PUBLISH will"},
	{0x09, []string{"0000", "0002 00FF"}, nil, "PUBLISH will"},
	{0x0B, []string{"01", "FFFFFF7F"}, map[string]ReasonCode{"00": ProtocolError, "8000": MalformedPacket,
		"FFFFFFFF7F": MalformedPacket}, "PUBLISH SUBSCRIBE"},
	{0x11, []string{"00000000", "FFFFFFFF"}, nil, "CONNECT CONNACK DISCONNECT"},
	{0x12, []string{"0001'x'"}, badText, "CONNACK"},
	{0x13, []string{"0000", "FFFF"}, nil, "CONNACK"},
	{0x15, []string{"0001'x'"}, badText, "CONNECT CONNACK AUTH"},
	{0x16, []string{"0000 15 0000", "0002 00FF 15 0001'm'"}, map[string]ReasonCode{"0000": ProtocolError}, "CONNECT CONNACK AUTH"},
	{0x17, []string{"00", "01"}, map[string]ReasonCode{"02": ProtocolError}, "CONNECT"},
	{0x18, []string{"00000000", "FFFFFFFF"}, nil, "will"},
	{0x19, []string{"00", "01"}, map[string]ReasonCode{"02": ProtocolError}, "CONNECT"},
	{0x1A, []string{"0001'x'"}, badText, "CONNACK"},
	{0x1C, []string{"0001'x'"}, badText, "CONNACK DISCONNECT"},
	{0x1F, []string{"0001'x'"}, badText, "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
	{0x21, []string{"0001", "FFFF"}, map[string]ReasonCode{"0000": ProtocolError}, "CONNECT CONNACK"},
	{0x22, []string{"0000", "FFFF"}, nil, "CONNECT CONNACK"},
	{0x23, []string{"0001", "FFFF"}, map[string]ReasonCode{"0000": TopicAliasInvalid}, "PUBLISH"},
	{0x24, []string{"00", "01"}, map[string]ReasonCode{"02": ProtocolError}, "CONNACK"},
	{0x25, []string{"00", "01"}, map[string]ReasonCode{"02": ProtocolError}, "CONNACK"},
	{0x26, []string{"0000 0000", "0001'k' 0001'v'"}, map[string]ReasonCode{"0001 00 0000": MalformedPacket,
		"0000 0001 80": MalformedPacket}, "CONNECT CONNACK PUBLISH will PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK" +
		" UNSUBSCRIBE UNSUBACK DISCONNECT AUTH"},
	{0x27, []string{"00000001", "FFFFFFFF"}, map[string]ReasonCode{"00000000": ProtocolError}, "CONNECT CONNACK"},
	{0x28, []string{"00", "01"}, map[string]ReasonCode{"02": ProtocolError}, "CONNACK"},
	{0x29, []string{"00", "01"}, map[string]ReasonCode{"02": ProtocolError}, "CONNACK"},
	{0x2A, []string{"00", "01"}, map[string]ReasonCode{"02": ProtocolError}, "CONNACK"},
}

var badText = map[string]ReasonCode{"0001 00": MalformedPacket, "0001 80": MalformedPacket, "0003 EDA080": MalformedPacket}

func with(m map[string]ReasonCode, more ...any) map[string]ReasonCode {
	out := map[string]ReasonCode{}
	for k, v := range m {
		out[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		out[more[i].(string)] = more[i+1].(ReasonCode)
	}
	return out
}

// carriers are bodies of packets around a property block, which fills the gap.
var carriers = []struct {
	name        string
	header      Header
	front, back string
}{
	{"CONNECT", Header{Type: CONNECT}, "0004'MQTT' 05 02 0000", "0000"},
	{"CONNACK", Header{Type: CONNACK}, "00 00", ""},
	{"PUBLISH", Header{Type: PUBLISH}, "0001'a'", "'payload'"},
	{"will", Header{Type: CONNECT}, "0004'MQTT' 05 06 0000 00 0000", "0001'w' 0000"},
	{"PUBACK", Header{Type: PUBACK}, "0001 00", ""},
	{"PUBREC", Header{Type: PUBREC}, "0001 00", ""},
	{"PUBREL", Header{Type: PUBREL, Flags: 2}, "0001 00", ""},
	{"PUBCOMP", Header{Type: PUBCOMP}, "0001 00", ""},
	{"SUBSCRIBE", Header{Type: SUBSCRIBE, Flags: 2}, "0001", "0001'a' 00"},
	{"SUBACK", Header{Type: SUBACK}, "0001", "00"},
	{"UNSUBSCRIBE", Header{Type: UNSUBSCRIBE, Flags: 2}, "0001", "0001'a'"},
	{"UNSUBACK", Header{Type: UNSUBACK}, "0001", "00"},
	{"DISCONNECT", Header{Type: DISCONNECT}, "00", ""},
	{"AUTH", Header{Type: AUTH}, "18", ""},
}

// carry decodes the i-th carrier with a property block and returns the code of the fault, Success if there is none.
// AUTH needs a method beside whatever is tried.
func carry(t *testing.T, i int, block []byte) ReasonCode {
	t.Helper()
	c := carriers[i]
	if c.name == "AUTH" && !bytes.Contains(block, []byte{0x15, 0}) {
		block = append(bytes.Clone(block), 0x15, 0, 1, 'm')
	}
	body := append(appendVarInt(raw(t, c.front), len(block)), block...)
	body = append(body, raw(t, c.back)...)
	err := newPacket(c.header.Type).Decode(c.header, body, V5)
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Code
	} else if err != nil {
		t.Errorf("%s with % X: %v is not an *Error", c.name, block, err)
	}
	return Success
}

// Each property in each place, with all sorts of values, and twice.
func TestPropertyTable(t *testing.T) {
	if len(samples) != 27 {
		t.Fatalf("%d properties, want 27", len(samples))
	}
	for _, s := range samples {
		for i, c := range carriers {
			allowed := slices.Contains(strings.Fields(s.in), c.name)
			for _, value := range s.good {
				block := append([]byte{byte(s.id)}, raw(t, value)...)
				want := Success
				if !allowed {
					want = MalformedPacket
				}
				if got := carry(t, i, block); got != want {
					t.Errorf("%v = %s in %s: %v, want %v", s.id, value, c.name, got, want)
				}
				if !allowed {
					continue
				}
				want = ProtocolError
				if s.id == PropUserProperty || s.id == PropSubscriptionIdentifier && c.name == "PUBLISH" {
					want = Success
				}
				if got := carry(t, i, append(block, block...)); got != want {
					t.Errorf("%v twice in %s: %v, want %v", s.id, c.name, got, want)
				}
				for cut := 1; cut < len(block); cut++ {
					if s.id != PropAuthenticationData && carry(t, i, block[:cut]) != MalformedPacket && c.name != "AUTH" {
						t.Errorf("%v in %s: the first %d bytes of % X are accepted", s.id, c.name, cut, block)
					}
				}
			}
			for value, want := range s.bad {
				if c.name == "AUTH" && s.id == PropAuthenticationData {
					continue // the carrier brings a method
				}
				block := append([]byte{byte(s.id)}, raw(t, value)...)
				if got := carry(t, i, block); allowed && got != want {
					t.Errorf("%v = %s in %s: %v, want %v", s.id, value, c.name, got, want)
				}
			}
		}
	}
}

func TestUnknownProperty(t *testing.T) {
	known := map[byte]bool{}
	for _, s := range samples {
		known[byte(s.id)] = true
	}
	for id := range 256 {
		if known[byte(id)] == strings.HasPrefix(PropertyID(id).String(), "property 0x") {
			t.Errorf("%02X is called %v", id, PropertyID(id))
		}
		if known[byte(id)] {
			continue
		}
		for i, c := range carriers {
			if got := carry(t, i, []byte{byte(id), 0, 0, 0, 0}); got != MalformedPacket {
				t.Errorf("property %02X in %s: %v", id, c.name, got)
			}
		}
	}
}

func TestAccessors(t *testing.T) {
	p := AppendPropByte(nil, PropPayloadFormatIndicator, 1)
	p = AppendPropBool(p, PropRetainAvailable, true)
	p = AppendPropBool(p, PropSharedSubscriptionAvailable, false)
	p = AppendPropUint16(p, PropTopicAlias, 0x1234)
	p = AppendPropUint32(p, PropMessageExpiryInterval, 0x12345678)
	p = AppendPropVarInt(p, PropSubscriptionIdentifier, MaxRemaining)
	p = AppendPropVarInt(p, PropSubscriptionIdentifier, 1)
	p = AppendPropBytes(p, PropCorrelationData, []byte{0, 1})
	p = AppendPropString(p, PropContentType, "text")
	p = AppendPropUser(p, "a", "1")
	p = AppendPropUser(p, []byte("b"), nil)
	p = AppendPropUser(p, "a", "2")

	if v, ok := p.Byte(PropPayloadFormatIndicator); v != 1 || !ok {
		t.Error("Byte", v, ok)
	}
	if v, ok := p.Byte(PropSharedSubscriptionAvailable); v != 0 || !ok {
		t.Error("Bool", v, ok)
	}
	if v, ok := p.Uint16(PropTopicAlias); v != 0x1234 || !ok {
		t.Error("Uint16", v, ok)
	}
	if v, ok := p.Uint32(PropMessageExpiryInterval); v != 0x12345678 || !ok {
		t.Error("Uint32", v, ok)
	}
	if v, ok := p.VarInt(PropSubscriptionIdentifier); v != MaxRemaining || !ok {
		t.Error("VarInt", v, ok)
	}
	if v := slices.Collect(p.VarInts(PropSubscriptionIdentifier)); !slices.Equal(v, []uint32{MaxRemaining, 1}) {
		t.Error("VarInts", v)
	}
	if v, ok := p.Bytes(PropCorrelationData); !bytes.Equal(v, []byte{0, 1}) || !ok {
		t.Error("Bytes", v, ok)
	}
	if v, ok := p.String(PropContentType); v != "text" || !ok {
		t.Error("String", v, ok)
	}
	if v, ok := p.String(PropReasonString); v != "" || ok {
		t.Error("String of what is not there", v, ok)
	}
	if !p.Has(PropTopicAlias) || p.Has(PropReasonString) || Properties(nil).Has(PropTopicAlias) {
		t.Error("Has")
	}
	var user []string
	for key, value := range p.User() {
		user = append(user, string(key)+"="+string(value))
	}
	if !slices.Equal(user, []string{"a=1", "b=", "a=2"}) || p.CountUser() != 3 {
		t.Error("User", user, p.CountUser())
	}
	if n := len(slices.Collect(p.All())); n != 12 {
		t.Errorf("All: %d properties, want 12", n)
	}
	for prop := range p.All() { // stops when asked to
		if prop.String() != "Payload Format Indicator=1" {
			t.Error("All begins with", prop)
		}
		break
	}
	for range p.VarInts(PropSubscriptionIdentifier) {
		break
	}
	for range p.User() {
		break
	}
}

func TestWithout(t *testing.T) {
	p := AppendPropUser(nil, "a", "1")
	p = AppendPropUint16(p, PropTopicAlias, 1)
	p = AppendPropVarInt(p, PropSubscriptionIdentifier, 1)
	p = AppendPropVarInt(p, PropSubscriptionIdentifier, 2)
	p = AppendPropUser(p, "b", "2")
	before := bytes.Clone(p)
	got := p.Without(Properties("dst"), PropTopicAlias, PropSubscriptionIdentifier)
	if want := AppendPropUser(AppendPropUser(Properties("dst"), "a", "1"), "b", "2"); !bytes.Equal(got, want) {
		t.Errorf("got % X, want % X", got, want)
	}
	if !bytes.Equal(p, before) {
		t.Error("the block itself has changed")
	}
	if got := p.Without(nil); !bytes.Equal(got, p) {
		t.Errorf("without nothing: % X", got)
	}
}

// A block that this package did not make ends early; it neither panics nor loops.
func TestPropertiesNotWellFormed(t *testing.T) {
	good := AppendPropByte(nil, PropPayloadFormatIndicator, 1)
	for _, tail := range []string{"00", "01", "0200", "0300", "030001", "23", "0B", "0B80", "0B8000", "26", "260000", "260000FFFF", "FF"} {
		p := append(bytes.Clone(good), raw(t, tail)...)
		if n := len(slices.Collect(Properties(p).All())); n != 1 {
			t.Errorf("% X: %d properties", p, n)
		}
		if got := Properties(p).Without(nil); !bytes.Equal(got, good) {
			t.Errorf("% X: Without gives % X", p, got)
		}
	}
}

func TestAppendPropOfOtherForm(t *testing.T) {
	appenders := map[string]func(PropertyID){
		"byte":   func(id PropertyID) { AppendPropByte(nil, id, 1) },
		"uint16": func(id PropertyID) { AppendPropUint16(nil, id, 1) },
		"uint32": func(id PropertyID) { AppendPropUint32(nil, id, 1) },
		"varint": func(id PropertyID) { AppendPropVarInt(nil, id, 1) },
		"bytes":  func(id PropertyID) { AppendPropBytes(nil, id, nil) },
		"string": func(id PropertyID) { AppendPropString(nil, id, "") },
	}
	forms := map[PropertyID][]string{
		PropMaximumQoS: {"byte"}, PropReceiveMaximum: {"uint16"}, PropTopicAlias: {"uint16"}, PropServerKeepAlive: {"uint16"},
		PropMaximumPacketSize: {"uint32"}, PropWillDelayInterval: {"uint32"}, PropSubscriptionIdentifier: {"varint"},
		PropCorrelationData: {"bytes", "string"}, PropReasonString: {"bytes", "string"}, PropResponseTopic: {"bytes", "string"},
		PropUserProperty: nil, 0: nil, 0xFF: nil,
	}
	for id, want := range forms {
		for name, f := range appenders {
			if got := !panics(func() { f(id) }); got != slices.Contains(want, name) {
				t.Errorf("%v as %s: accepted %v", id, name, got)
			}
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

// Decoding takes time in proportion to the size: many user properties, each of them looked at once.
func TestManyUserProperties(t *testing.T) {
	var p Properties
	for i := range 10_000 {
		p = AppendPropUser(p, fmt.Sprint(i), "")
	}
	b := (&Publish{Topic: []byte("a"), Properties: p}).Append(nil, V5)
	decoded, err := decodeWhole(b, V5)
	if err != nil {
		t.Fatal(err)
	}
	if n := decoded.(*Publish).Properties.CountUser(); n != 10_000 {
		t.Errorf("%d user properties", n)
	}
}
