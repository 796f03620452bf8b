// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"strconv"
	"strings"

	"github.com/noctule/noctule/mqtt"
)

var (
	// ErrClosed says that the client was closed, or has given up. Client.Err tells which.
	ErrClosed = errors.New("client: closed")
	// ErrQueueFull says that a message was refused because Options.MaxQueue or MaxQueueBytes is reached.
	ErrQueueFull = errors.New("client: the queue is full")
	// ErrDropped says that a message had to make room in the queue for a newer one.
	ErrDropped = errors.New("client: dropped from the queue for a newer message")
	// ErrExpired says that a message was not sent before its expiry interval had passed.
	ErrExpired = errors.New("client: the message expired before it was sent")
	// ErrKeepAlive is the cause of a disconnect where the server did not answer a PINGREQ in time.
	ErrKeepAlive = errors.New("client: the server does not answer")
)

// A ReasonError is a refusal by the server, or its DISCONNECT.
type ReasonError struct {
	Packet     mqtt.PacketType // that said so: CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT
	Code       mqtt.ReasonCode
	Filter     string          // that was refused, of a SUBACK or UNSUBACK
	Properties mqtt.Properties // of the packet, as they came; 5.0
}

// Error returns packet, code, filter and the server's own words.
func (e *ReasonError) Error() string {
	var b strings.Builder
	b.WriteString("client: ")
	b.WriteString(e.Packet.String())
	b.WriteString(": ")
	if e.Filter != "" {
		b.WriteString(strconv.Quote(e.Filter) + ": ")
	}
	b.WriteString(e.Code.String())
	if s := e.Reason(); s != "" {
		b.WriteString(" (" + s + ")")
	}
	return b.String()
}

// Reason returns the server's Reason String; empty if there is none.
func (e *ReasonError) Reason() string {
	s, _ := e.Properties.String(mqtt.PropReasonString)
	return s
}

// ServerReference names the server that should be used instead; empty if there is none.
func (e *ReasonError) ServerReference() string {
	s, _ := e.Properties.String(mqtt.PropServerReference)
	return s
}

// limitError is a refusal by the client itself, for what the server cannot take.
func limitError(code mqtt.ReasonCode, op, why string) error {
	return &mqtt.Error{Code: code, Op: op, Err: errors.New(why)}
}
