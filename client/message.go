// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/topic"
)

// UserProperty is a name and a value that travel with a packet of 5.0. Names may repeat, order is kept.
type UserProperty struct{ Name, Value string }

// Message is an application message, to be published or received. The fields from UTF8 on exist in 5.0 only; in 3.1
// and 3.1.1 they are left out.
type Message struct {
	Topic   string
	Payload []byte
	QoS     mqtt.QoS
	Retain  bool

	UTF8            bool          // the payload is text (Payload Format Indicator)
	ContentType     string        // empty = none
	ResponseTopic   string        // empty = none
	CorrelationData []byte        // nil = none
	Expiry          time.Duration // in whole seconds, rounded up; 0 = none. Of a received message: what is left
	User            []UserProperty

	// Properties are more properties in their encoded form. Of a received message they are all of them, as they came;
	// of one that is sent they go in front of those that the fields give, and must not repeat them.
	Properties mqtt.Properties

	Duplicate   bool     // received: the server may have sent it before (DUP)
	ID          uint16   // received: the packet identifier; 0 at QoS 0
	Identifiers []uint32 // received: of the subscriptions that match

	c   *Client
	ack *pendingAck // nil at QoS 0, and for messages of the caller
}

// Will is a message that the server publishes when the connection ends without DISCONNECT.
type Will struct {
	Message
	Delay time.Duration // how long the server waits for the client to come back, in whole seconds. 5.0 only
}

// properties encodes those of 5.0.
func (m *Message) properties() mqtt.Properties {
	p := slices.Clone(m.Properties)
	if m.UTF8 {
		p = mqtt.AppendPropByte(p, mqtt.PropPayloadFormatIndicator, 1)
	}
	if m.Expiry > 0 {
		p = mqtt.AppendPropUint32(p, mqtt.PropMessageExpiryInterval, seconds(m.Expiry))
	}
	if m.ContentType != "" {
		p = mqtt.AppendPropString(p, mqtt.PropContentType, m.ContentType)
	}
	if m.ResponseTopic != "" {
		p = mqtt.AppendPropString(p, mqtt.PropResponseTopic, m.ResponseTopic)
	}
	if m.CorrelationData != nil {
		p = mqtt.AppendPropBytes(p, mqtt.PropCorrelationData, m.CorrelationData)
	}
	return appendUser(p, m.User)
}

func appendUser(p mqtt.Properties, user []UserProperty) mqtt.Properties {
	for _, u := range user {
		p = mqtt.AppendPropUser(p, u.Name, u.Value)
	}
	return p
}

// seconds rounds up, within what a property holds.
func seconds(d time.Duration) uint32 {
	return uint32(min(math.MaxUint32, (d+time.Second-1)/time.Second))
}

// check refuses what cannot be encoded or must not be sent.
func (m *Message) check(v mqtt.Version) error {
	if !topic.ValidName(m.Topic) {
		return fmt.Errorf("topic name %.100q is empty, longer than 65535 bytes, or has a wildcard", m.Topic)
	}
	if err := checkText("topic name", m.Topic); err != nil {
		return err
	}
	if m.QoS > 2 {
		return fmt.Errorf("there is no QoS %d", m.QoS)
	}
	if v == mqtt.V5 {
		if err := m.checkProperties(); err != nil {
			return err
		}
	}
	if len(m.Payload) > mqtt.MaxRemaining-len(m.Topic)-len(m.Properties)-64 && !m.fits() {
		return errors.New("the message is larger than a packet can be")
	}
	return nil
}

func (m *Message) fits() bool {
	size := mqtt.PublishSize(len(m.Topic), m.QoS, mqtt.V5, len(m.properties()), len(m.Payload))
	return size <= mqtt.MaxRemaining
}

func (m *Message) checkProperties() error {
	if err := checkText("content type", m.ContentType); err != nil {
		return err
	}
	if m.ResponseTopic != "" && !topic.ValidName(m.ResponseTopic) { // [MQTT-3.3.2-14]
		return errors.New("response topic has a wildcard, or is longer than 65535 bytes")
	}
	if err := checkText("response topic", m.ResponseTopic); err != nil {
		return err
	}
	if len(m.CorrelationData) > mqtt.MaxString {
		return errors.New("correlation data is longer than 65535 bytes")
	}
	if m.Expiry < 0 {
		return errors.New("expiry is negative")
	}
	if err := checkUser(m.User); err != nil {
		return err
	}
	if len(m.Properties) == 0 {
		return nil
	}
	// What came in encoded form is checked by decoding all of it again.
	p := mqtt.Publish{Topic: []byte("t"), Properties: m.properties()}
	b := p.Append(nil, mqtt.V5)
	h, n, err := mqtt.DecodeHeader(b, mqtt.V5)
	if err == nil {
		err = p.Decode(h, b[n:], mqtt.V5)
	}
	if err == nil {
		err = p.CheckClient()
	}
	if err == nil && p.Properties.Has(mqtt.PropTopicAlias) {
		err = errors.New("topic aliases are the client's own business")
	}
	return err
}

// encode makes the message that is sent: a copy of everything, with the time of its expiry.
func (m *Message) encode(v mqtt.Version, now time.Time) *mqtt.Message {
	out := &mqtt.Message{Topic: m.Topic, Payload: slices.Clone(m.Payload), QoS: m.QoS, Retain: m.Retain}
	if v == mqtt.V5 {
		out.Properties = m.properties()
	}
	out.Stamp(now.UnixNano())
	return out
}

// received makes a message of a packet that dies with the read buffer.
func received(p *mqtt.Publish) *Message {
	m := &Message{
		Topic: string(p.Topic), Payload: slices.Clone(p.Payload), QoS: p.QoS, Retain: p.Retain,
		Duplicate: p.Dup, ID: p.ID, Properties: slices.Clone(p.Properties),
	}
	for prop := range m.Properties.All() {
		switch prop.ID {
		case mqtt.PropPayloadFormatIndicator:
			m.UTF8 = prop.Uint == 1
		case mqtt.PropMessageExpiryInterval:
			m.Expiry = time.Duration(prop.Uint) * time.Second
		case mqtt.PropContentType:
			m.ContentType = string(prop.Value)
		case mqtt.PropResponseTopic:
			m.ResponseTopic = string(prop.Value)
		case mqtt.PropCorrelationData:
			m.CorrelationData = slices.Clip(prop.Value)
		case mqtt.PropSubscriptionIdentifier:
			m.Identifiers = append(m.Identifiers, prop.Uint)
		case mqtt.PropUserProperty:
			m.User = append(m.User, UserProperty{string(prop.Key), string(prop.Value)})
		}
	}
	return m
}

// Ack acknowledges a message that a subscription with ManualAck received. It may be called on any goroutine, once; the
// acknowledgement leaves after those of all messages that came before [MQTT-4.6.0-2]. For other messages, and after the connection
// that brought a message of QoS 1 has gone, it does nothing: the server sends the message again.
func (m *Message) Ack() { m.Reject(mqtt.Success) }

// Reject is Ack with a reason code. In 5.0 one of 0x80 or above tells the server that the message was not accepted.
func (m *Message) Reject(code mqtt.ReasonCode) {
	if m.c != nil && m.ack != nil {
		m.c.acknowledge(m.ack, code)
	}
}
