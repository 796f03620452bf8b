// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// The functions below append one property to a block that a packet is going to carry. The identifier must be one of a
// property with a value of that form: anything else is a broken invariant and panics. That the property belongs in the
// packet, and stands there once, is up to the caller.

// AppendPropByte appends a property whose value is a byte.
func AppendPropByte(dst Properties, id PropertyID, v byte) Properties {
	id.must(kindBool, kindBool)
	return append(dst, byte(id), v)
}

// AppendPropBool appends a property whose value is a byte that says no (0) or yes (1).
func AppendPropBool(dst Properties, id PropertyID, v bool) Properties {
	if v {
		return AppendPropByte(dst, id, 1)
	}
	return AppendPropByte(dst, id, 0)
}

// AppendPropUint16 appends a property whose value is a two byte integer.
func AppendPropUint16(dst Properties, id PropertyID, v uint16) Properties {
	id.must(kindUint16, kindAlias)
	return binary.BigEndian.AppendUint16(append(dst, byte(id)), v)
}

// AppendPropUint32 appends a property whose value is a four byte integer.
func AppendPropUint32(dst Properties, id PropertyID, v uint32) Properties {
	id.must(kindUint32, kindNonZero32)
	return binary.BigEndian.AppendUint32(append(dst, byte(id)), v)
}

// AppendPropVarInt appends a property whose value is a variable byte integer, 1 to MaxRemaining.
func AppendPropVarInt(dst Properties, id PropertyID, v uint32) Properties {
	id.must(kindVarInt, kindVarInt)
	return appendVarInt(append(dst, byte(id)), int(v))
}

// AppendPropBytes appends a property whose value is binary data or a string, at most MaxString bytes.
func AppendPropBytes(dst Properties, id PropertyID, v []byte) Properties {
	id.must(kindBytes, kindTopic)
	return appendField(append(dst, byte(id)), v)
}

// AppendPropString appends a property whose value is a string or binary data, at most MaxString bytes.
func AppendPropString(dst Properties, id PropertyID, v string) Properties {
	id.must(kindBytes, kindTopic)
	return appendField(append(dst, byte(id)), v)
}

// AppendPropUser appends a user property. Name and value are at most MaxString bytes each.
func AppendPropUser[T string | []byte](dst Properties, key, value T) Properties {
	return appendField(appendField(append(dst, byte(PropUserProperty)), key), value)
}

// must panics unless the property has a kind from first to last.
func (id PropertyID) must(first, last propertyKind) {
	if kind := id.row().kind; kind < first || kind > last {
		panic(fmt.Sprintf("mqtt: %v has no value of this form", id))
	}
}

// appendField appends a length of two bytes and the bytes.
func appendField[T ~string | ~[]byte](dst []byte, v T) []byte {
	if len(v) > MaxString {
		panic("mqtt: field of " + strconv.Itoa(len(v)) + " bytes")
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(v))), v...)
}

// appendProperties appends the property length and the properties; 3.1 and 3.1.1 have none.
func appendProperties(dst []byte, p Properties, v Version) []byte {
	if v < V5 {
		return dst
	}
	return append(appendVarInt(dst, len(p)), p...) // the length is there even if it is 0 [MQTT-2.2.2-1]
}

// propertiesSize returns the number of bytes that appendProperties appends for a block of n bytes.
func propertiesSize(n int, v Version) int {
	if v < V5 {
		return 0
	}
	return varIntSize(n) + n
}
