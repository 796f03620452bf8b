// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"encoding/binary"
	"iter"
	"slices"
	"strconv"
)

// Properties is a block of properties as they are encoded in a packet, without the property length. The zero value has
// none. Decode checks a block and then hands out a view into the packet, which dies with the read buffer; slices.Clone
// keeps it. Accessors scan the block; blocks are short. They never panic, and end early if the block was not encoded
// by this package.
type Properties []byte

// Property is one property taken apart. The slices are views into the block.
type Property struct {
	ID    PropertyID
	Uint  uint32 // the value, if it is a number
	Key   []byte // the name, if it is a user property
	Value []byte // the value, if it is a string, binary data or user property
}

// String returns the property for people. Authentication data and correlation data are told by their size only.
func (p Property) String() string {
	switch p.ID.row().kind {
	case kindPair:
		return strconv.Quote(string(p.Key)) + "=" + strconv.Quote(string(p.Value))
	case kindText, kindTopic:
		return p.ID.String() + "=" + strconv.Quote(string(p.Value))
	case kindBytes:
		return p.ID.String() + "=" + strconv.Itoa(len(p.Value)) + " bytes"
	}
	return p.ID.String() + "=" + strconv.FormatUint(uint64(p.Uint), 10)
}

// next takes the first property off the block. ok is false at the end, and where the block is not well-formed.
func (p Properties) next() (prop Property, rest Properties, ok bool) {
	if len(p) == 0 {
		return Property{}, nil, false
	}
	prop.ID, rest = PropertyID(p[0]), p[1:]
	switch prop.ID.row().kind {
	case kindBool:
		if len(rest) < 1 {
			return prop, nil, false
		}
		prop.Uint, rest = uint32(rest[0]), rest[1:]
	case kindUint16, kindNonZero16, kindAlias:
		if len(rest) < 2 {
			return prop, nil, false
		}
		prop.Uint, rest = uint32(binary.BigEndian.Uint16(rest)), rest[2:]
	case kindUint32, kindNonZero32:
		if len(rest) < 4 {
			return prop, nil, false
		}
		prop.Uint, rest = binary.BigEndian.Uint32(rest), rest[4:]
	case kindVarInt:
		value, size, valid := decodeVarInt(rest)
		if !valid || size == 0 {
			return prop, nil, false
		}
		prop.Uint, rest = value, rest[size:]
	case kindBytes, kindText, kindTopic:
		prop.Value, rest, ok = rest.field()
		return prop, rest, ok
	case kindPair:
		if prop.Key, rest, ok = rest.field(); ok {
			prop.Value, rest, ok = rest.field()
		}
		return prop, rest, ok
	default:
		return prop, nil, false
	}
	return prop, rest, true
}

// field takes a length of two bytes and as many bytes off the block.
func (p Properties) field() (value []byte, rest Properties, ok bool) {
	if len(p) < 2 {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(p))
	if len(p) < n {
		return nil, nil, false
	}
	return p[2:n:n], p[n:], true
}

// check validates a block that was received in a place of set, in one pass. what is empty if all is well.
func (p Properties) check(set propertySet) (code ReasonCode, what string) {
	var seen uint64
	for len(p) > 0 {
		prop, rest, ok := p.next()
		row := prop.ID.row()
		if row.kind == kindNone {
			return MalformedPacket, "unknown property"
		}
		if !ok {
			return MalformedPacket, row.name + " runs over the end of the properties"
		}
		if row.in&set == 0 {
			return MalformedPacket, row.name + " does not belong in this packet"
		}
		if seen>>prop.ID&1 != 0 && !mayRepeat(prop.ID, set) {
			return ProtocolError, row.name + " stands there twice"
		}
		if code, what = prop.check(row); what != "" {
			return code, what
		}
		seen |= 1 << prop.ID
		p = rest
	}
	if seen>>PropAuthenticationData&1 > seen>>PropAuthenticationMethod&1 {
		return ProtocolError, "Authentication Data without Authentication Method"
	}
	return Success, ""
}

// mayRepeat reports whether a property may be there more than once: user properties always, subscription identifiers in
// a PUBLISH of the server, which has one for each matching subscription [MQTT-3.3.4-4].
func mayRepeat(id PropertyID, set propertySet) bool {
	return id == PropUserProperty || id == PropSubscriptionIdentifier && set == 1<<PUBLISH
}

// check validates the value of one property.
func (p Property) check(row property) (code ReasonCode, what string) {
	switch row.kind {
	case kindBool:
		if p.Uint > 1 {
			return ProtocolError, row.name + " is neither 0 nor 1"
		}
	case kindNonZero16, kindNonZero32, kindVarInt:
		if p.Uint == 0 {
			return ProtocolError, row.name + " is 0"
		}
	case kindAlias: // [MQTT-3.3.2-8]
		if p.Uint == 0 {
			return TopicAliasInvalid, row.name + " is 0"
		}
	case kindText:
		if !ValidText(p.Value) {
			return MalformedPacket, row.name + " is not valid UTF-8"
		}
	case kindTopic: // [MQTT-3.3.2-13], [MQTT-3.3.2-14]
		if !ValidText(p.Value) {
			return MalformedPacket, row.name + " is not valid UTF-8"
		}
		if len(p.Value) == 0 || hasWildcard(p.Value) {
			return ProtocolError, row.name + " is not a topic name"
		}
	case kindPair: // [MQTT-1.5.7-1]
		if !ValidText(p.Key) || !ValidText(p.Value) {
			return MalformedPacket, row.name + " is not valid UTF-8"
		}
	}
	return Success, ""
}

// All yields the properties in their order.
func (p Properties) All() iter.Seq[Property] {
	return func(yield func(Property) bool) {
		for prop, rest, ok := p.next(); ok; prop, rest, ok = rest.next() {
			if !yield(prop) {
				return
			}
		}
	}
}

// first returns the first property with this identifier.
func (p Properties) first(id PropertyID) (Property, bool) {
	for prop, rest, ok := p.next(); ok; prop, rest, ok = rest.next() {
		if prop.ID == id {
			return prop, true
		}
	}
	return Property{}, false
}

// Has reports whether there is a property with this identifier.
func (p Properties) Has(id PropertyID) bool {
	_, ok := p.first(id)
	return ok
}

// Byte returns the first value of a property that is a byte.
func (p Properties) Byte(id PropertyID) (byte, bool) {
	prop, ok := p.first(id)
	return byte(prop.Uint), ok
}

// Uint16 returns the first value of a property that is a two byte integer.
func (p Properties) Uint16(id PropertyID) (uint16, bool) {
	prop, ok := p.first(id)
	return uint16(prop.Uint), ok
}

// Uint32 returns the first value of a property that is a four byte integer.
func (p Properties) Uint32(id PropertyID) (uint32, bool) {
	prop, ok := p.first(id)
	return prop.Uint, ok
}

// VarInt returns the first value of a property that is a variable byte integer, which means the subscription identifier.
func (p Properties) VarInt(id PropertyID) (uint32, bool) { return p.Uint32(id) }

// Bytes returns the first value of a property that is a string or binary data, as a view.
func (p Properties) Bytes(id PropertyID) ([]byte, bool) {
	prop, ok := p.first(id)
	return prop.Value, ok
}

// String returns the first value of a property that is a string, as a copy.
func (p Properties) String(id PropertyID) (string, bool) {
	prop, ok := p.first(id)
	return string(prop.Value), ok
}

// VarInts yields all values of a property that is a variable byte integer: the subscription identifiers of a PUBLISH.
func (p Properties) VarInts(id PropertyID) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for prop := range p.All() {
			if prop.ID == id && !yield(prop.Uint) {
				return
			}
		}
	}
}

// User yields names and values of the user properties in their order, as views [MQTT-3.3.2-18].
func (p Properties) User() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		for prop := range p.All() {
			if prop.ID == PropUserProperty && !yield(prop.Key, prop.Value) {
				return
			}
		}
	}
}

// CountUser returns the number of user properties, for those who limit it.
func (p Properties) CountUser() int {
	n := 0
	for range p.User() {
		n++
	}
	return n
}

// Without appends to dst all properties but those with the given identifiers, in their order.
func (p Properties) Without(dst Properties, ids ...PropertyID) Properties {
	for {
		prop, rest, ok := p.next()
		if !ok {
			return dst
		}
		if !slices.Contains(ids, prop.ID) {
			dst = append(dst, p[:len(p)-len(rest)]...)
		}
		p = rest
	}
}
