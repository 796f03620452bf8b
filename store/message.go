// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/noctule/noctule/mqtt"

// messageSize is what a message counts for in limits and statistics: topic, payload and properties.
func messageSize(m *mqtt.Message) int64 { return int64(m.Size()) }

// appendMessage encodes a message; nil is allowed.
func appendMessage(dst []byte, m *mqtt.Message) []byte {
	if m == nil {
		return append(dst, 0)
	}
	dst = append(dst, 1, byte(m.QoS))
	dst = appendBool(dst, m.Retain)
	dst = appendInt(appendInt(dst, m.Received), m.Expiry)
	dst = appendString(appendString(dst, m.ClientID), m.Username)
	dst = appendString(appendString(dst, m.Topic), m.Properties)
	return appendString(dst, m.Payload)
}

// message decodes what appendMessage wrote. The message owns its bytes.
func (d *decoder) message() *mqtt.Message {
	if !d.bool() || d.err != nil {
		return nil
	}
	m := &mqtt.Message{
		QoS:        mqtt.QoS(d.byte()),
		Retain:     d.bool(),
		Received:   d.int(),
		Expiry:     d.int(),
		ClientID:   d.string(),
		Username:   d.string(),
		Topic:      d.string(),
		Properties: mqtt.Properties(d.part()),
		Payload:    d.part(),
	}
	if d.err != nil {
		return nil
	}
	return m
}
