// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package websocket

import "encoding/binary"

// A Decoder takes the payload out of a stream of frames, however the stream is cut. The zero value decodes a client's
// frames. It keeps no payload but that of the control frame at hand.
type Decoder struct {
	server bool // the frames come from a server: they must not be masked

	header [maxHeader]byte
	have   uint8 // bytes of header
	inside bool  // of a frame: its header is complete, bytes of it are left

	op      Opcode
	final   bool
	within  bool // of a message in fragments
	masked  bool
	key     [4]byte
	pos     int    // of the next byte in the payload, modulo 4
	left    uint64 // bytes of payload to come
	control []byte // payload of a control frame so far
	pong    []byte // payload of a pong that is owed
	owed    bool
	failed  *CloseError
}

// Decode takes the frames in b and moves the payload of binary frames to the front of b: b[:n]. Everything in b is done
// with when it returns. Any error is a *CloseError and the last word of the stream; b[:n] came before it. If the peer broke a rule, its
// frames are not looked at any more [MQTT-6.0.0-1].
func (d *Decoder) Decode(b []byte) (n int, err error) {
	for i := 0; i < len(b) && d.failed == nil; {
		if !d.inside {
			i += d.readHeader(b[i:])
			continue
		}
		k := len(b) - i
		if uint64(k) > d.left {
			k = int(d.left)
		}
		part := b[i : i+k]
		i += k
		d.left -= uint64(k)
		if d.masked {
			d.pos = mask(part, d.key, d.pos)
		}
		if d.op.control() {
			d.control = append(d.control, part...)
		} else {
			n += copy(b[n:], part)
		}
		if d.left == 0 {
			d.finish()
		}
	}
	if d.failed != nil {
		return n, d.failed
	}
	return n, nil
}

// Owed reports whether a ping waits for its pong.
func (d *Decoder) Owed() bool { return d.owed }

// AppendPong appends to dst a server's pong frame for the latest ping, if that is owed. Of several pings the last is
// answered: so a peer that does not read cannot pile up answers (RFC 6455, section 5.5.3).
func (d *Decoder) AppendPong(dst []byte) []byte {
	if !d.owed {
		return dst
	}
	dst = append(AppendHeader(dst, OpPong, len(d.pong)), d.pong...)
	d.owed, d.pong = false, nil
	return dst
}

// readHeader takes bytes of a header from b and returns how many. With the last one the frame begins.
func (d *Decoder) readHeader(b []byte) (taken int) {
	for taken < len(b) {
		n := copy(d.header[d.have:d.headerLen()], b[taken:])
		taken += n
		d.have += uint8(n)
		if int(d.have) == d.headerLen() && d.have >= 2 {
			d.have = 0
			d.begin()
			return taken
		}
	}
	return taken
}

// headerLen is the length of the header, as far as it is known.
func (d *Decoder) headerLen() int {
	if d.have < 2 {
		return 2
	}
	n := 2
	switch d.header[1] &^ bitMasked {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if d.header[1]&bitMasked != 0 {
		n += len(d.key)
	}
	return n
}

// begin looks at a complete header.
func (d *Decoder) begin() {
	h := d.header[:]
	d.op, d.final, d.masked = Opcode(h[0]&0xf), h[0]&bitFin != 0, h[1]&bitMasked != 0
	d.pos = 0
	size := h[1] &^ bitMasked
	h = h[2:]
	switch size {
	case 126:
		d.left, h = uint64(binary.BigEndian.Uint16(h)), h[2:]
	case 127:
		d.left, h = binary.BigEndian.Uint64(h), h[8:]
	default:
		d.left = uint64(size)
	}
	copy(d.key[:], h)
	if d.failed = d.check(d.header[0]&bitsRSV != 0, size); d.failed != nil {
		return
	}
	if !d.op.control() {
		d.within = !d.final
	}
	d.inside = true
	if d.left == 0 {
		d.finish()
	}
}

// check applies the rules of framing (RFC 6455, sections 5.1 to 5.6).
func (d *Decoder) check(reserved bool, size byte) *CloseError {
	switch {
	case reserved:
		return violation("frame with reserved bits")
	case d.masked == d.server:
		return violation("frame that is masked and must not be, or the reverse")
	case d.left>>63 != 0:
		return violation("frame of more than 2^63 bytes")
	}
	switch d.op {
	case OpText:
		return &CloseError{Code: CloseUnsupported, Reason: "text frame"}
	case OpBinary:
		if d.within {
			return violation("new message within a message in fragments")
		}
	case OpContinuation:
		if !d.within {
			return violation("continuation of nothing")
		}
	case OpClose, OpPing, OpPong:
		if !d.final || size > maxControl {
			return violation("control frame in fragments or too long")
		}
	default:
		return violation("frame of an unknown kind")
	}
	return nil
}

// finish ends a frame.
func (d *Decoder) finish() {
	d.inside = false
	if !d.op.control() {
		return
	}
	payload := d.control
	d.control = nil
	switch d.op {
	case OpClose:
		d.failed = closed(payload)
	case OpPing:
		d.pong, d.owed = payload, true
	case OpPong: // nobody asked
	}
}
