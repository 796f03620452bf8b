// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "encoding/binary"

// Unsubscribe ends one or more subscriptions.
type Unsubscribe struct {
	ID         uint16
	Properties Properties
	Filters    [][]byte // reused by Decode
}

// Decode reads the body of an UNSUBSCRIBE. Filters are text of at least one byte.
func (u *Unsubscribe) Decode(h Header, body []byte, v Version) error {
	*u = Unsubscribe{Filters: reuse(u.Filters)}
	r := reader{rest: body, packet: UNSUBSCRIBE}
	u.ID = r.packetID()
	if v >= V5 {
		u.Properties = r.properties(1 << UNSUBSCRIBE)
	}
	if len(r.rest) == 0 { // [MQTT-3.10.3-2]
		r.fail(ProtocolError, "no topic filter")
	}
	for len(r.rest) > 0 {
		u.Filters = append(u.Filters, r.filter())
	}
	return r.end()
}

// Append appends the packet.
func (u *Unsubscribe) Append(dst []byte, v Version) []byte {
	n := 2 + propertiesSize(len(u.Properties), v)
	for _, filter := range u.Filters {
		n += 2 + len(filter)
	}
	dst = appendHeader(dst, UNSUBSCRIBE, flagReserved, n)
	dst = binary.BigEndian.AppendUint16(dst, u.ID)
	dst = appendProperties(dst, u.Properties, v)
	for _, filter := range u.Filters {
		dst = appendField(dst, filter)
	}
	return dst
}

// String returns the packet for people.
func (u *Unsubscribe) String() string {
	d := startDump(UNSUBSCRIBE)
	d.number("id", int(u.ID))
	for _, filter := range u.Filters {
		d.text("filter", filter)
	}
	d.properties(u.Properties)
	return d.String()
}
