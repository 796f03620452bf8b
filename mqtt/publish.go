// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "encoding/binary"

// Publish carries an application message, in either direction.
type Publish struct {
	Dup        bool
	QoS        QoS
	Retain     bool
	Topic      []byte // empty in 5.0 if the topic alias among the properties stands for it
	ID         uint16 // 0 at QoS 0
	Properties Properties
	Payload    []byte
}

// Decode reads the body of a PUBLISH. Subscription identifiers are let through, as a server sends them; a server calls
// CheckClient as well.
func (p *Publish) Decode(h Header, body []byte, v Version) error {
	r := reader{rest: body, packet: PUBLISH}
	name := r.text("topic name")
	if hasWildcard(name) { // [MQTT-3.3.2-2]
		r.fail(TopicNameInvalid, "wildcard in topic name")
	}
	return p.decode(r, name, h, v)
}

// DecodeKnown is Decode where PeekTopic has given a topic name that is known to be valid.
func (p *Publish) DecodeKnown(h Header, body []byte, v Version) error {
	r := reader{rest: body, packet: PUBLISH}
	return p.decode(r, r.bytes("topic name"), h, v)
}

// PeekTopic gives the bytes where the body of a PUBLISH has its topic name, nil if it is too short. They may be anything.
func PeekTopic(body []byte) []byte {
	if len(body) < 2 {
		return nil
	}
	if n := 2 + int(binary.BigEndian.Uint16(body)); n <= len(body) {
		return body[2:n:n]
	}
	return nil
}

// decode reads what follows the topic name.
func (p *Publish) decode(r reader, name []byte, h Header, v Version) error {
	*p = Publish{Dup: h.Dup(), QoS: h.QoS(), Retain: h.Retain(), Topic: name}
	if p.QoS > 0 {
		p.ID = r.packetID()
	}
	if v >= V5 {
		p.Properties = r.properties(1 << PUBLISH)
	}
	if r.err == nil && len(p.Topic) == 0 { // [MQTT-4.7.3-1]
		if v < V5 {
			r.fail(TopicNameInvalid, "topic name is empty")
		} else if !p.Properties.Has(PropTopicAlias) {
			r.fail(ProtocolError, "neither topic name nor topic alias")
		}
	}
	p.Payload = r.rest
	return r.err
}

// CheckClient refuses what a client must not send: a subscription identifier [MQTT-3.3.4-6].
func (p *Publish) CheckClient() error {
	if len(p.Properties) > 0 && p.Properties.Has(PropSubscriptionIdentifier) {
		return fault(ProtocolError, PUBLISH, "Subscription Identifier from a client")
	}
	return nil
}

// Append appends the packet.
func (p *Publish) Append(dst []byte, v Version) []byte {
	flags := PublishFlags(p.Dup, p.QoS, p.Retain)
	dst = AppendPublishHeader(dst, flags, p.Topic, p.ID, v, p.Properties, len(p.Payload))
	return append(dst, p.Payload...)
}

// AppendPublishHeader appends a PUBLISH up to its payload of payloadLen bytes, so that a large payload may be written
// from where it lies. flags are those of PublishFlags; id is left out at QoS 0, props in 3.1 and 3.1.1.
func AppendPublishHeader[T ~string | ~[]byte](
	dst []byte, flags byte, topic T, id uint16, v Version, props Properties, payloadLen int,
) []byte {
	qos := Header{Flags: flags}.QoS()
	dst = appendHeader(dst, PUBLISH, flags, publishBodySize(len(topic), qos, v, len(props), payloadLen))
	dst = appendField(dst, topic)
	if qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	return appendProperties(dst, props, v)
}

// PublishSize returns the size in bytes of a whole PUBLISH, to be held against a maximum packet size. The lengths are
// those of the topic name, the properties without their length, and the payload.
func PublishSize(topicLen int, qos QoS, v Version, propsLen, payloadLen int) int {
	n := publishBodySize(topicLen, qos, v, propsLen, payloadLen)
	return 1 + varIntSize(n) + n
}

func publishBodySize(topicLen int, qos QoS, v Version, propsLen, payloadLen int) int {
	n := 2 + topicLen + propertiesSize(propsLen, v) + payloadLen
	if qos > 0 {
		n += 2
	}
	return n
}

// String returns the packet for people, without the payload.
func (p *Publish) String() string {
	d := startDump(PUBLISH)
	d.text("topic", p.Topic)
	d.number("qos", int(p.QoS))
	if p.QoS > 0 {
		d.number("id", int(p.ID))
	}
	d.flag("dup", p.Dup)
	d.flag("retain", p.Retain)
	d.number("size", len(p.Payload))
	d.properties(p.Properties)
	return d.String()
}
