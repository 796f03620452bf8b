// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"encoding/binary"
	"slices"

	"github.com/noctule/noctule/mqtt"
)

// The functions below put packets together by hand, so that they can be wrong in every way.

// frame puts a fixed header before a body.
func frame(first byte, body ...[]byte) []byte {
	b := slices.Concat(body...)
	return append(varint([]byte{first}, len(b)), b...)
}

func varint(dst []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// field is a string or binary data with its length.
func field(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// short is a number of two bytes.
func short(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// block is a property length with the properties; nothing before 5.0.
func (t *T) block(props ...byte) []byte {
	if t.V != mqtt.V5 {
		return nil
	}
	return append(varint(nil, len(props)), props...)
}

// The connect flags.
const (
	flagReserved = 1 << iota
	flagClean
	flagWill
	flagWillQoS1
	flagWillQoS2
	flagWillRetain
	flagPassword
	flagUser
)

// connectPacket is a CONNECT with these flags and this payload.
func (t *T) connectPacket(flags byte, payload ...[]byte) []byte {
	name := "MQTT"
	if t.V == mqtt.V31 {
		name = "MQIsdp"
	}
	return t.connectNamed(name, byte(t.V), flags, payload...)
}

// connectNamed is connectPacket with another protocol name and level.
func (t *T) connectNamed(name string, level, flags byte, payload ...[]byte) []byte {
	head := [][]byte{field(name), {level, flags}, short(60)}
	if level == 5 {
		head = append(head, []byte{0})
	}
	return frame(0x10, append(head, payload...)...)
}

// publishPacket is a PUBLISH with these flags; id is left out if it is negative.
func (t *T) publishPacket(flags byte, topic string, id int, payload string) []byte {
	body := field(topic)
	if id >= 0 {
		body = append(body, short(uint16(id))...)
	}
	return frame(0x30|flags, body, t.block(), []byte(payload))
}

// subscribePacket is a SUBSCRIBE of filters, each followed by its options.
func (t *T) subscribePacket(id uint16, filters ...[]byte) []byte {
	return frame(0x82, append([][]byte{short(id), t.block()}, filters...)...)
}

// unsubscribePacket is an UNSUBSCRIBE of filters.
func (t *T) unsubscribePacket(id uint16, filters ...[]byte) []byte {
	return frame(0xA2, append([][]byte{short(id), t.block()}, filters...)...)
}
