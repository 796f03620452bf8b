// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"hash/crc32"

	"github.com/noctule/noctule/mqtt"
)

// An inbox is the receiving half of a client's session: the packet identifiers of QoS 2 that were received and not released, with a
// checksum of the message each one stood for. It outlives connections.
type inbox map[uint16]uint32

// arrival is what a PUBLISH is to the application.
type arrival byte

const (
	fresh    arrival = iota
	repeated         // its packet identifier says that it is the message received before [MQTT-4.3.3-10]
	reused           // it has the packet identifier of another one
)

// publish takes a PUBLISH and returns the acknowledgement to send.
func (b inbox) publish(p *mqtt.Publish, v mqtt.Version) (arrival, []byte) {
	switch p.QoS {
	case 0:
		return fresh, nil
	case 1:
		return fresh, mqtt.AppendAck(nil, mqtt.PUBACK, p.ID, mqtt.Success, v)
	}
	sum := crc32.Update(crc32.ChecksumIEEE(p.Topic), crc32.IEEETable, p.Payload)
	before, held := b[p.ID]
	b[p.ID] = sum
	answer := mqtt.AppendAck(nil, mqtt.PUBREC, p.ID, mqtt.Success, v)
	switch {
	case !held:
		return fresh, answer
	case before == sum:
		return repeated, answer
	}
	return reused, answer
}

// release takes a PUBREL and returns the PUBCOMP to send.
func (b inbox) release(a *mqtt.Ack, v mqtt.Version) []byte {
	code := mqtt.Success
	if _, held := b[a.ID]; !held {
		code = mqtt.PacketIdentifierNotFound
	}
	delete(b, a.ID)
	return mqtt.AppendAck(nil, mqtt.PUBCOMP, a.ID, code, v)
}
