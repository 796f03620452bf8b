// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

// Disconnect is the last packet on a connection. A server sends it in 5.0 only.
type Disconnect struct {
	Code       ReasonCode // NormalDisconnection in 3.1 and 3.1.1
	Properties Properties
}

// Decode reads the body of a DISCONNECT. 5.0 may leave out the properties, and with them the code if it is 0. A side
// calls CheckClient or CheckServer as well, whichever the other one is.
func (d *Disconnect) Decode(h Header, body []byte, v Version) error {
	*d = Disconnect{}
	r := reader{rest: body, packet: DISCONNECT}
	if v >= V5 && len(r.rest) > 0 {
		d.Code = r.code()
		if len(r.rest) > 0 {
			d.Properties = r.properties(1 << DISCONNECT)
		}
	}
	return r.end()
}

// CheckClient refuses what a client must not send: codes and properties of the server [MQTT-3.14.2-1].
func (d *Disconnect) CheckClient() error {
	switch d.Code {
	case NormalDisconnection, DisconnectWithWillMessage, UnspecifiedError, MalformedPacket, ProtocolError,
		ImplementationSpecificError, TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge,
		MessageRateTooHigh, QuotaExceeded, AdministrativeAction, PayloadFormatInvalid:
	default:
		return fault(ProtocolError, DISCONNECT, "reason code is not one of a client's")
	}
	if d.Properties.Has(PropServerReference) {
		return fault(ProtocolError, DISCONNECT, "Server Reference from a client")
	}
	return nil
}

// CheckServer refuses what a server must not send: the client's code, and a session expiry interval [MQTT-3.14.2-2].
func (d *Disconnect) CheckServer() error {
	if d.Code == DisconnectWithWillMessage {
		return fault(ProtocolError, DISCONNECT, "reason code is not one of a server's")
	}
	if d.Properties.Has(PropSessionExpiryInterval) {
		return fault(ProtocolError, DISCONNECT, "Session Expiry Interval from a server")
	}
	return nil
}

// Append appends the packet in its shortest form. Code and properties exist in 5.0 only.
func (d *Disconnect) Append(dst []byte, v Version) []byte {
	return appendCoded(dst, DISCONNECT, d.Code, d.Properties, v)
}

// appendCoded appends a packet that consists of a code and properties, in its shortest form.
func appendCoded(dst []byte, t PacketType, code ReasonCode, props Properties, v Version) []byte {
	switch {
	case v < V5 || code == Success && len(props) == 0:
		return appendHeader(dst, t, 0, 0)
	case len(props) == 0 && t == DISCONNECT: // AUTH has no form without a property length
		return append(appendHeader(dst, t, 0, 1), byte(code))
	}
	dst = appendHeader(dst, t, 0, 1+propertiesSize(len(props), v))
	return appendProperties(append(dst, byte(code)), props, v)
}

// String returns the packet for people.
func (d *Disconnect) String() string {
	s := startDump(DISCONNECT)
	s.code(d.Code)
	s.properties(d.Properties)
	return s.String()
}
