// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "encoding/binary"

// Connect is the first packet of a client.
type Connect struct {
	Version      Version
	Bridge       bool // 3.1 and 3.1.1: the level has bit 7 set, the way in which bridges of Mosquitto introduce themselves
	ProtocolName []byte
	CleanStart   bool   // called Clean Session in 3.1 and 3.1.1
	KeepAlive    uint16 // seconds; 0 is none
	Properties   Properties
	ClientID     []byte
	HasWill      bool
	Will         Will
	HasUsername  bool
	HasPassword  bool
	Username     []byte
	Password     []byte
}

// Will is the message that the server publishes when the connection ends without a DISCONNECT.
type Will struct {
	Topic, Payload []byte
	QoS            QoS
	Retain         bool
	Properties     Properties
}

// The connect flags.
const (
	connectReserved   = 0x01
	connectCleanStart = 0x02
	connectWill       = 0x04
	connectWillQoS    = 0x18
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUsername   = 0x80

	bridgeLevel = 0x80
)

// Decode reads the body of a CONNECT. Version is set as soon as it is known, also if there is a fault further on, so
// that the answer can be encoded; for a version that is not spoken here (UnsupportedProtocolVersion) it is V311, whose
// CONNACK all clients understand. The client identifier is refused (ClientIdentifierNotValid) if it is empty in 3.1,
// or in 3.1.1 without Clean Session [MQTT-3.1.3-8].
func (c *Connect) Decode(h Header, body []byte) error {
	*c = Connect{Version: V311}
	r := reader{rest: body, packet: CONNECT}
	c.ProtocolName = r.bytes("protocol name")
	level := r.byte("protocol level")
	if r.err != nil {
		return r.err
	}
	if !c.setVersion(level) { // [MQTT-3.1.2-1], [MQTT-3.1.2-2]
		return fault(UnsupportedProtocolVersion, CONNECT, "protocol name and level are not spoken here")
	}
	flags := r.byte("connect flags")
	if what := connectFlagsFault(flags, c.Version); what != "" {
		r.fail(MalformedPacket, what)
	}
	c.CleanStart = flags&connectCleanStart != 0
	c.KeepAlive = r.uint16("keep alive")
	if c.Version >= V5 {
		c.Properties = r.properties(1 << CONNECT)
	}
	c.ClientID = r.text("client identifier")
	if flags&connectWill != 0 {
		c.HasWill = true
		c.Will.decode(&r, flags, c.Version)
	}
	c.decodeCredentials(&r, flags)
	if err := r.end(); err != nil {
		return err
	}
	if len(c.ClientID) == 0 && (c.Version == V31 || c.Version == V311 && !c.CleanStart) {
		return fault(ClientIdentifierNotValid, CONNECT, "client identifier is empty")
	}
	return nil
}

// setVersion finds the version for protocol name and level.
func (c *Connect) setVersion(level byte) bool {
	version := Version(level)
	bridge := level&bridgeLevel != 0
	if bridge {
		version = Version(level &^ bridgeLevel)
	}
	switch name := string(c.ProtocolName); {
	case name == "MQIsdp" && version == V31, name == "MQTT" && version == V311, name == "MQTT" && version == V5 && !bridge:
		c.Version, c.Bridge = version, bridge
		return true
	}
	return false
}

// connectFlagsFault checks the connect flags and says what is wrong.
func connectFlagsFault(flags byte, v Version) string {
	switch {
	case flags&connectReserved != 0 && v != V31: // [MQTT-3.1.2-3]; not used in 3.1
		return "reserved connect flag is set"
	case flags&connectWill == 0 && flags&(connectWillQoS|connectWillRetain) != 0: // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
		return "will QoS or will retain without a will"
	case flags&connectWillQoS == connectWillQoS: // [MQTT-3.1.2-14] (3.1.1), [MQTT-3.1.2-12] (5.0)
		return "will QoS 3"
	case flags&connectPassword != 0 && flags&connectUsername == 0 && v != V5: // [MQTT-3.1.2-22] (3.1.1); 5.0 allows it
		return "password without user name"
	}
	return ""
}

func (w *Will) decode(r *reader, flags byte, v Version) {
	w.QoS = QoS(flags & connectWillQoS >> 3)
	w.Retain = flags&connectWillRetain != 0
	if v >= V5 {
		w.Properties = r.properties(inWill)
	}
	w.Topic = r.text("will topic")
	w.Payload = r.bytes("will payload")
	if r.err == nil && !ValidTopicName(w.Topic) {
		r.fail(TopicNameInvalid, "will topic is not a topic name")
	}
}

// decodeCredentials reads user name and password. In 3.1 the length of the packet takes precedence over the flags: a
// user name or password that is announced may be missing at the end.
func (c *Connect) decodeCredentials(r *reader, flags byte) {
	missing := func() bool { return c.Version == V31 && len(r.rest) == 0 }
	if flags&connectUsername != 0 && !missing() {
		c.HasUsername = true
		c.Username = r.text("user name")
	}
	if flags&connectPassword != 0 && !missing() {
		c.HasPassword = true
		c.Password = r.bytes("password")
	}
}

// Append appends the packet in the version that it names. ProtocolName is not looked at: it follows from the version.
func (c *Connect) Append(dst []byte) []byte {
	name, level := "MQTT", byte(c.Version)
	if c.Version == V31 {
		name = "MQIsdp"
	}
	if c.Bridge {
		level |= bridgeLevel
	}
	dst = appendHeader(dst, CONNECT, 0, c.bodySize(len(name)))
	dst = append(appendField(dst, name), level, c.flags())
	dst = binary.BigEndian.AppendUint16(dst, c.KeepAlive)
	dst = appendProperties(dst, c.Properties, c.Version)
	dst = appendField(dst, c.ClientID)
	if c.HasWill {
		dst = appendProperties(dst, c.Will.Properties, c.Version)
		dst = appendField(dst, c.Will.Topic)
		dst = appendField(dst, c.Will.Payload)
	}
	if c.HasUsername {
		dst = appendField(dst, c.Username)
	}
	if c.HasPassword {
		dst = appendField(dst, c.Password)
	}
	return dst
}

func (c *Connect) bodySize(name int) int {
	n := 2 + name + 1 + 1 + 2 + propertiesSize(len(c.Properties), c.Version) + 2 + len(c.ClientID)
	if c.HasWill {
		n += propertiesSize(len(c.Will.Properties), c.Version) + 2 + len(c.Will.Topic) + 2 + len(c.Will.Payload)
	}
	if c.HasUsername {
		n += 2 + len(c.Username)
	}
	if c.HasPassword {
		n += 2 + len(c.Password)
	}
	return n
}

func (c *Connect) flags() byte {
	var flags byte
	if c.CleanStart {
		flags |= connectCleanStart
	}
	if c.HasWill {
		flags |= connectWill | byte(c.Will.QoS)<<3
		if c.Will.Retain {
			flags |= connectWillRetain
		}
	}
	if c.HasUsername {
		flags |= connectUsername
	}
	if c.HasPassword {
		flags |= connectPassword
	}
	return flags
}

// String returns the packet for people, without the will's payload and the password.
func (c *Connect) String() string {
	d := startDump(CONNECT)
	d.word("version", c.Version.String())
	d.flag("bridge", c.Bridge)
	d.flag("clean", c.CleanStart)
	d.number("keepalive", int(c.KeepAlive))
	d.text("client", c.ClientID)
	if c.HasWill {
		d.text("will", c.Will.Topic)
		d.number("willqos", int(c.Will.QoS))
		d.flag("willretain", c.Will.Retain)
		d.number("willsize", len(c.Will.Payload))
		d.properties(c.Will.Properties)
	}
	if c.HasUsername {
		d.text("user", c.Username)
	}
	d.flag("password", c.HasPassword)
	d.properties(c.Properties)
	return d.String()
}
