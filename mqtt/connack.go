// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

// Connack is the server's answer to a CONNECT.
type Connack struct {
	SessionPresent bool // does not exist in 3.1
	Code           ReasonCode
	Properties     Properties
}

// Decode reads the body of a CONNACK. The return codes of 3.1 and 3.1.1 become reason codes.
func (c *Connack) Decode(h Header, body []byte, v Version) error {
	*c = Connack{}
	r := reader{rest: body, packet: CONNACK}
	flags := r.byte("connect acknowledge flags")
	if v != V31 { // where the byte is reserved
		if flags > 1 { // [MQTT-3.2.2-1] (5.0)
			r.fail(MalformedPacket, "reserved connect acknowledge flags are set")
		}
		c.SessionPresent = flags == 1
	}
	if v >= V5 {
		c.Code = r.code()
		c.Properties = r.properties(1 << CONNACK)
	} else {
		code, ok := connack5(r.byte("return code"))
		if !ok {
			r.fail(MalformedPacket, "return code is reserved")
		}
		c.Code = code
	}
	if c.SessionPresent && c.Code != Success { // [MQTT-3.2.2-4] (3.1.1), [MQTT-3.2.2-6] (5.0)
		r.fail(ProtocolError, "session present on a refusal")
	}
	return r.end()
}

// Append appends the packet. Properties exist in 5.0 only; in 3.1 and 3.1.1 the code is Code.Connack3. Session present is
// left out of a refusal [MQTT-3.2.2-4] (3.1.1), [MQTT-3.2.2-6] (5.0).
func (c *Connack) Append(dst []byte, v Version) []byte {
	var flags byte
	if c.SessionPresent && c.Code == Success && v != V31 {
		flags = 1
	}
	if v < V5 {
		return append(appendHeader(dst, CONNACK, 0, 2), flags, c.Code.Connack3())
	}
	dst = appendHeader(dst, CONNACK, 0, 2+propertiesSize(len(c.Properties), v))
	return appendProperties(append(dst, flags, byte(c.Code)), c.Properties, v)
}

// String returns the packet for people.
func (c *Connack) String() string {
	d := startDump(CONNACK)
	d.flag("present", c.SessionPresent)
	d.code(c.Code)
	d.properties(c.Properties)
	return d.String()
}
