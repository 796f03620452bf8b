// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package websocket

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// CloseCode says in a close frame why it was sent (RFC 6455, section 7.4).
type CloseCode uint16

// The codes that this package sends.
const (
	CloseNormal      CloseCode = 1000
	CloseProtocol    CloseCode = 1002 // the peer broke the rules of framing
	CloseUnsupported CloseCode = 1003 // the peer sent a text frame [MQTT-6.0.0-1]
	CloseInvalid     CloseCode = 1007 // the peer's text is not UTF-8

	closeNoStatus CloseCode = 1005 // stands for a close frame without a code; never sent
)

// A CloseError ends the stream of frames.
type CloseError struct {
	Code   CloseCode // to be answered with, and what the peer sent if Peer is true
	Reason string
	Peer   bool // the peer sent a close frame: the regular end
}

// Error implements error.
func (e *CloseError) Error() string {
	if e.Peer {
		return fmt.Sprintf("websocket: closed by the peer: %d %s", e.Code, e.Reason)
	}
	return "websocket: " + e.Reason
}

// AppendClose appends to dst a server's close frame with a code and no text.
func AppendClose(dst []byte, code CloseCode) []byte {
	return append(AppendHeader(dst, OpClose, len(closePayload(code))), closePayload(code)...)
}

func closePayload(code CloseCode) []byte {
	if code == closeNoStatus {
		return nil
	}
	return binary.BigEndian.AppendUint16(nil, uint16(code))
}

// closed makes the error of a peer's close frame. Text and code are checked as section 5.5.1 asks.
func closed(payload []byte) *CloseError {
	if len(payload) == 0 {
		return &CloseError{Code: closeNoStatus, Peer: true}
	}
	if len(payload) == 1 {
		return violation("close frame with half a code")
	}
	code := CloseCode(binary.BigEndian.Uint16(payload))
	switch {
	case !code.sendable():
		return violation("close frame with a code that must not be sent")
	case !utf8.Valid(payload[2:]):
		return &CloseError{Code: CloseInvalid, Reason: "close frame whose text is not UTF-8"}
	}
	return &CloseError{Code: code, Reason: string(payload[2:]), Peer: true}
}

// sendable reports whether the code may stand in a close frame.
func (c CloseCode) sendable() bool {
	switch {
	case c >= 1000 && c <= 1003, c >= 1007 && c <= 1014:
		return true
	}
	return c >= 3000 && c <= 4999
}

func violation(what string) *CloseError { return &CloseError{Code: CloseProtocol, Reason: what} }
