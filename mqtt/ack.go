// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "encoding/binary"

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP; Type says which.
type Ack struct {
	Type       PacketType
	ID         uint16
	Code       ReasonCode // Success in 3.1 and 3.1.1
	Properties Properties
}

// Decode reads the body of one of the four packets. 5.0 may leave out the properties, and with them the code if it is
// Success.
func (a *Ack) Decode(h Header, body []byte, v Version) error {
	*a = Ack{Type: h.Type}
	r := reader{rest: body, packet: h.Type}
	a.ID = r.packetID()
	if v >= V5 && len(r.rest) > 0 {
		a.Code = r.code()
		if len(r.rest) > 0 {
			a.Properties = r.properties(1 << h.Type)
		}
	}
	return r.end()
}

// Append appends the packet in its shortest form. Code and properties exist in 5.0 only.
func (a *Ack) Append(dst []byte, v Version) []byte {
	if v < V5 || len(a.Properties) == 0 {
		return AppendAck(dst, a.Type, a.ID, a.Code, v)
	}
	dst = appendHeader(dst, a.Type, a.Type.flags(), 3+propertiesSize(len(a.Properties), v))
	dst = append(binary.BigEndian.AppendUint16(dst, a.ID), byte(a.Code))
	return appendProperties(dst, a.Properties, v)
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP without properties. code is left out in 3.1 and 3.1.1, and where
// it is Success.
func AppendAck(dst []byte, t PacketType, id uint16, code ReasonCode, v Version) []byte {
	first := byte(t)<<4 | t.flags()
	if v < V5 || code == Success {
		return append(dst, first, 2, byte(id>>8), byte(id))
	}
	return append(dst, first, 3, byte(id>>8), byte(id), byte(code))
}

// flags returns the flags that the standard prescribes for all packets but PUBLISH.
func (t PacketType) flags() byte {
	switch t {
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		return flagReserved
	}
	return 0
}

// String returns the packet for people.
func (a *Ack) String() string {
	d := startDump(a.Type)
	d.number("id", int(a.ID))
	d.code(a.Code)
	d.properties(a.Properties)
	return d.String()
}
