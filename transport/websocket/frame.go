// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package websocket carries a stream of bytes in WebSocket frames (RFC 6455), as MQTT wants it: binary frames only
// [MQTT-6.0.0-1], whose ends mean nothing [MQTT-6.0.0-2], subprotocol mqtt [MQTT-6.0.0-3, MQTT-6.0.0-4], no compression.
//
// The server's side does no input and output: Upgrade answers a request that was read elsewhere, Decoder takes frames out of
// the bytes that arrived, in place, and AppendHeader encloses what is sent. Payload is passed on as it arrives; no frame is ever
// collected, so the length of frames needs no limit. Client makes a net.Conn of the client's side.
package websocket

import "encoding/binary"

// Opcode is the kind of a frame.
type Opcode byte

// The kinds of frames there are (RFC 6455, section 5.2).
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

// control reports whether frames of this kind may come between the fragments of a message.
func (op Opcode) control() bool { return op&0x8 != 0 }

const (
	bitFin    = 0x80
	bitsRSV   = 0x70
	bitMasked = 0x80

	maxControl = 125 // bytes of payload in a control frame
	maxHeader  = 14  // bytes of a frame's header
)

// AppendHeader appends to dst the header of a server's frame: final, not masked, with n bytes of payload to follow.
func AppendHeader(dst []byte, op Opcode, n int) []byte { return appendHeader(dst, op, n, 0) }

func appendHeader(dst []byte, op Opcode, n int, masked byte) []byte {
	dst = append(dst, bitFin|byte(op))
	switch {
	case n <= maxControl:
		return append(dst, masked|byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, masked|126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, masked|127), uint64(n))
}

// appendMasked appends to dst a whole frame of a client.
func appendMasked(dst []byte, op Opcode, payload []byte, key [4]byte) []byte {
	dst = append(appendHeader(dst, op, len(payload), bitMasked), key[:]...)
	from := len(dst)
	dst = append(dst, payload...)
	mask(dst[from:], key, 0)
	return dst
}

// mask masks or unmasks b, which begins pos bytes (modulo 4) behind the payload's start. It returns the pos behind b.
func mask(b []byte, key [4]byte, pos int) int {
	next := (pos + len(b)) & 3
	var turned [4]byte
	for i := range turned {
		turned[i] = key[(pos+i)&3]
	}
	word := uint64(binary.LittleEndian.Uint32(turned[:]))
	word |= word << 32
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= turned[i&3]
	}
	return next
}
