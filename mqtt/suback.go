// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "encoding/binary"

// Suback answers a SUBSCRIBE with a code for each filter, in their order [MQTT-3.9.3-1].
type Suback struct {
	ID         uint16
	Properties Properties
	Codes      []ReasonCode // granted QoS or failure; reused by Decode
}

// Decode reads the body of a SUBACK.
func (s *Suback) Decode(h Header, body []byte, v Version) error {
	*s = Suback{Codes: reuse(s.Codes)}
	r := reader{rest: body, packet: SUBACK}
	s.ID = r.packetID()
	if v >= V5 {
		s.Properties = r.properties(1 << SUBACK)
	}
	s.Codes = r.codes(s.Codes)
	if v < V5 {
		for _, c := range s.Codes {
			if c.IsError() && c != UnspecifiedError { // [MQTT-3.9.3-2] (3.1.1)
				r.fail(MalformedPacket, "return code is reserved")
			}
		}
	}
	return r.end()
}

// codes reads reason codes to the end of the packet; there is at least one.
func (r *reader) codes(codes []ReasonCode) []ReasonCode {
	if len(r.rest) == 0 {
		r.fail(ProtocolError, "no reason code")
	}
	for len(r.rest) > 0 {
		codes = append(codes, r.code())
	}
	return codes
}

// Append appends the packet. In 3.1 and 3.1.1 all failures are 0x80.
func (s *Suback) Append(dst []byte, v Version) []byte {
	dst = appendHeader(dst, SUBACK, 0, 2+propertiesSize(len(s.Properties), v)+len(s.Codes))
	dst = binary.BigEndian.AppendUint16(dst, s.ID)
	dst = appendProperties(dst, s.Properties, v)
	for _, c := range s.Codes {
		if c.IsError() && v < V5 {
			c = UnspecifiedError
		}
		dst = append(dst, byte(c))
	}
	return dst
}

// String returns the packet for people.
func (s *Suback) String() string {
	d := startDump(SUBACK)
	d.number("id", int(s.ID))
	d.codes(s.Codes)
	d.properties(s.Properties)
	return d.String()
}
