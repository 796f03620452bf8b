// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import "errors"

var (
	errUpgrade      = errors.New("load: the broker refused the WebSocket upgrade")
	errFrameMasked  = errors.New("load: masked frame from the broker")
	errFrameControl = errors.New("load: control frame beyond 125 bytes")
	errFrameClosed  = errors.New("load: the broker closed the WebSocket")
)

// Operation codes of WebSocket frames.
const (
	frameBinary = 2
	frameClose  = 8
	framePing   = 9
	framePong   = 10
)

// upgradeRequest asks for MQTT over WebSocket; the key may be constant, as nothing between us and the broker caches.
func upgradeRequest(addr, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
}

// appendFrame appends the header of a final binary frame of n bytes. The mask is zero: the broker has to unmask all the same,
// and the generator is spared it.
func appendFrame(dst []byte, n int) []byte {
	dst = append(dst, 0x80|frameBinary)
	switch {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = append(dst, 0x80|126, byte(n>>8), byte(n))
	default:
		dst = append(dst, 0x80|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, 0, 0, 0, 0)
}

// frames takes the frames of a broker apart.
type frames struct {
	head [10]byte // header of the next frame, as far as it is there
	have int
	left int      // bytes of the payload under way
	skip bool     // it belongs to a control frame
	ping []byte   // payload of the ping under way
	pong [][]byte // payloads of pings that are to be answered
}

// decode strips the frame headers from b in place and returns the bytes of MQTT.
func (f *frames) decode(b []byte) ([]byte, error) {
	out := b[:0]
	for len(b) > 0 {
		if f.left == 0 {
			f.head[f.have] = b[0]
			f.have++
			b = b[1:]
			if err := f.begin(); err != nil {
				return nil, err
			}
			continue
		}
		n := min(f.left, len(b))
		switch {
		case !f.skip:
			out = append(out, b[:n]...) // moves them to the front
		case f.ping != nil:
			f.ping = append(f.ping, b[:n]...)
		}
		if f.left -= n; f.left == 0 && f.ping != nil {
			f.answer()
		}
		b = b[n:]
	}
	return out, nil
}

// begin looks whether the header is complete, and starts its frame then.
func (f *frames) begin() error {
	if f.have < 2 {
		return nil
	}
	if f.head[1]&0x80 != 0 {
		return errFrameMasked
	}
	n := int(f.head[1])
	extended := 0
	switch n {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	if f.have < 2+extended {
		return nil
	}
	if extended > 0 {
		n = 0
		for _, c := range f.head[2 : 2+extended] {
			n = n<<8 | int(c)
		}
	}
	op := f.head[0] & 0x0f
	if op == frameClose {
		return errFrameClosed
	}
	f.have, f.left, f.skip = 0, n, op > frameClose
	if op == framePing {
		if n > 125 {
			return errFrameControl
		}
		f.ping = make([]byte, 0, n)
		if n == 0 {
			f.answer()
		}
	}
	return nil
}

// answer notes that a ping is whole, and is to be answered.
func (f *frames) answer() {
	f.pong, f.ping = append(f.pong, f.ping), nil
}

// appendPongs appends the answers to the pings that have come.
func (f *frames) appendPongs(dst []byte) []byte {
	for _, payload := range f.pong {
		dst = append(dst, 0x80|framePong, 0x80|byte(len(payload)), 0, 0, 0, 0)
		dst = append(dst, payload...)
	}
	f.pong = nil
	return dst
}
