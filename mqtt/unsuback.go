// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "encoding/binary"

// Unsuback answers an UNSUBSCRIBE, in 5.0 with a code for each filter, in their order [MQTT-3.11.3-1].
type Unsuback struct {
	ID         uint16
	Properties Properties
	Codes      []ReasonCode // none in 3.1 and 3.1.1; reused by Decode
}

// Decode reads the body of an UNSUBACK.
func (u *Unsuback) Decode(h Header, body []byte, v Version) error {
	*u = Unsuback{Codes: reuse(u.Codes)}
	r := reader{rest: body, packet: UNSUBACK}
	u.ID = r.packetID()
	if v >= V5 {
		u.Properties = r.properties(1 << UNSUBACK)
		u.Codes = r.codes(u.Codes)
	}
	return r.end()
}

// Append appends the packet. Codes are left out in 3.1 and 3.1.1.
func (u *Unsuback) Append(dst []byte, v Version) []byte {
	codes := u.Codes
	if v < V5 {
		codes = nil
	}
	dst = appendHeader(dst, UNSUBACK, 0, 2+propertiesSize(len(u.Properties), v)+len(codes))
	dst = binary.BigEndian.AppendUint16(dst, u.ID)
	dst = appendProperties(dst, u.Properties, v)
	for _, c := range codes {
		dst = append(dst, byte(c))
	}
	return dst
}

// String returns the packet for people.
func (u *Unsuback) String() string {
	d := startDump(UNSUBACK)
	d.number("id", int(u.ID))
	d.codes(u.Codes)
	d.properties(u.Properties)
	return d.String()
}
