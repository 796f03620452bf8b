// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"time"

	"github.com/noctule/noctule/mqtt"
)

// Connected tells of a new connection.
type Connected struct {
	Server         string // the URL, without password
	SessionPresent bool   // the server had the session
	ClientID       string // the one assigned by the server if Options has none
	KeepAlive      time.Duration
	SessionExpiry  time.Duration

	// What the server takes.
	ReceiveMaximum  uint16 // or Options.MaxInflight, if that is less
	MaxPacket       uint32 // bytes; 0 = the standard's limit
	MaxQoS          mqtt.QoS
	TopicAliases    uint16
	RetainAvailable bool

	ResponseInformation string
	ServerReference     string
	Reason              string          // the server's Reason String
	Properties          mqtt.Properties // of the CONNACK, as they came
}

// Disconnected tells of the end of a connection, or of an attempt that failed.
type Disconnected struct {
	// Cause is a *ReasonError if the server said why, an *mqtt.Error if it broke the protocol, ErrKeepAlive, ErrClosed, or
	// what the network said.
	Cause  error
	Server string // the URL, without password
	// Was says that there had been a connection.
	Was bool
	// Again says that the client tries again, after Wait.
	Again bool
	Wait  time.Duration
}

// connected makes the event of a CONNACK. The properties are copied by the caller.
func connected(l *link) Connected {
	p := l.connack.Properties
	e := Connected{
		Server: l.server.Redacted(), SessionPresent: l.connack.SessionPresent, ClientID: l.clientID,
		KeepAlive: l.keepAlive, SessionExpiry: l.expiry,
		ReceiveMaximum: l.limits.ReceiveMaximum, MaxPacket: l.limits.MaxPacket, MaxQoS: l.maxQoS,
		TopicAliases: l.limits.AliasesOut, RetainAvailable: l.retain, Properties: p,
	}
	e.ResponseInformation, _ = p.String(mqtt.PropResponseInformation)
	e.ServerReference, _ = p.String(mqtt.PropServerReference)
	e.Reason, _ = p.String(mqtt.PropReasonString)
	return e
}
