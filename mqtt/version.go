// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "strconv"

// Version is the protocol level of a connection, as CONNECT carries it. The zero value means that it is not known yet.
type Version byte

// The versions that are spoken here.
const (
	V31  Version = 3 // MQTT 3.1, protocol name MQIsdp
	V311 Version = 4 // MQTT 3.1.1
	V5   Version = 5 // MQTT 5.0
)

// String returns the version as people write it: 3.1, 3.1.1 or 5.0.
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return "level " + strconv.Itoa(int(v))
}

// QoS is the quality of service of a message or subscription: 0 at most once, 1 at least once, 2 exactly once.
type QoS byte
