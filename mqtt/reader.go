// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "encoding/binary"

// reader takes a packet's body apart from front to back. The first fault stays; afterwards it yields zero values, so
// that a decoder reads field by field and looks at err once.
type reader struct {
	rest   []byte
	packet PacketType
	err    error
}

func (r *reader) fail(code ReasonCode, what string) {
	if r.err == nil {
		r.err = fault(code, r.packet, what)
	}
	r.rest = nil
}

func (r *reader) byte(what string) byte {
	if len(r.rest) < 1 {
		r.fail(MalformedPacket, what+" is missing")
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uint16(what string) uint16 {
	if len(r.rest) < 2 {
		r.fail(MalformedPacket, what+" is missing")
		return 0
	}
	n := binary.BigEndian.Uint16(r.rest)
	r.rest = r.rest[2:]
	return n
}

// bytes reads binary data: a length of two bytes and as many bytes.
func (r *reader) bytes(what string) []byte {
	n := 2
	if len(r.rest) >= 2 {
		n += int(binary.BigEndian.Uint16(r.rest))
	}
	if len(r.rest) < n {
		r.fail(MalformedPacket, what+" runs over the end of the packet")
		return nil
	}
	b := r.rest[2:n:n]
	r.rest = r.rest[n:]
	return b
}

// text reads a UTF-8 encoded string.
func (r *reader) text(what string) []byte {
	b := r.bytes(what)
	if !ValidText(b) {
		r.fail(MalformedPacket, what+" is not valid UTF-8")
		return nil
	}
	return b
}

// packetID reads a packet identifier [MQTT-2.3.1-1] (3.1.1), [MQTT-2.2.1-3] (5.0).
func (r *reader) packetID() uint16 {
	id := r.uint16("packet identifier")
	if id == 0 {
		r.fail(MalformedPacket, "packet identifier 0")
	}
	return id
}

// properties reads a property length and the properties of a packet or will.
func (r *reader) properties(set propertySet) Properties {
	if r.err != nil {
		return nil
	}
	if len(r.rest) > 0 && r.rest[0] == 0 {
		r.rest = r.rest[1:]
		return nil
	}
	length, size, ok := decodeVarInt(r.rest)
	if !ok || size == 0 {
		r.fail(MalformedPacket, "property length is not a variable byte integer")
		return nil
	}
	end := size + int(length)
	if end > len(r.rest) {
		r.fail(MalformedPacket, "properties run over the end of the packet")
		return nil
	}
	p := Properties(r.rest[size:end:end])
	if code, what := p.check(set); what != "" {
		r.fail(code, what)
		return nil
	}
	r.rest = r.rest[end:]
	return p
}

// code reads a reason code and checks that 5.0 lists it for this packet.
func (r *reader) code() ReasonCode {
	c := ReasonCode(r.byte("reason code"))
	if r.err == nil && !c.AllowedIn(r.packet) {
		r.fail(ProtocolError, "reason code is not one of this packet's")
	}
	return c
}

// end refuses trailing bytes and returns the first fault, if any.
func (r *reader) end() error {
	if len(r.rest) > 0 {
		r.fail(MalformedPacket, "bytes are left over at the end")
	}
	return r.err
}
