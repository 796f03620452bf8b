// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

// Auth carries a step of enhanced authentication. It exists in 5.0 only.
type Auth struct {
	Code       ReasonCode
	Properties Properties
}

// Decode reads the body of an AUTH. An empty body is Success without properties; everything else has an authentication
// method. A server calls CheckClient as well.
func (a *Auth) Decode(h Header, body []byte, v Version) error {
	*a = Auth{}
	r := reader{rest: body, packet: AUTH}
	if v < V5 {
		r.fail(MalformedPacket, "packet type 15 is reserved")
	}
	if len(r.rest) > 0 {
		a.Code = r.code()
		a.Properties = r.properties(1 << AUTH)
		if r.err == nil && !a.Properties.Has(PropAuthenticationMethod) {
			r.fail(ProtocolError, "no Authentication Method")
		}
	}
	return r.end()
}

// CheckClient refuses the code that is the server's to send, Success [MQTT-3.15.2-1].
func (a *Auth) CheckClient() error {
	if a.Code == Success {
		return fault(ProtocolError, AUTH, "reason code is not one of a client's")
	}
	return nil
}

// CheckServer refuses the code that is the client's to send, ReAuthenticate [MQTT-3.15.2-1].
func (a *Auth) CheckServer() error {
	if a.Code == ReAuthenticate {
		return fault(ProtocolError, AUTH, "reason code is not one of a server's")
	}
	return nil
}

// Append appends the packet, which exists in 5.0 only.
func (a *Auth) Append(dst []byte, v Version) []byte {
	return appendCoded(dst, AUTH, a.Code, a.Properties, v)
}

// String returns the packet for people, without the authentication data.
func (a *Auth) String() string {
	d := startDump(AUTH)
	d.code(a.Code)
	d.properties(a.Properties)
	return d.String()
}
