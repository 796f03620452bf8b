// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"errors"
	"io"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/websocket"
)

// wsState is what a WebSocket connection has on top. It belongs to the loop.
type wsState struct {
	dec    websocket.Decoder
	ahead  []byte // bytes to be written before those of the queue: headers and control frames
	framed int    // bytes of the queue that belong to the frame whose header was or is ahead
	code   websocket.CloseCode
	bye    bool // our close frame is ahead, or was
}

func newWS() *wsState { return &wsState{code: websocket.CloseNormal} }

// decode takes the payload out of new bytes; b[:n] is it. The error is that for Core.Closed: io.EOF after a close frame.
func (w *wsState) decode(c *conn, b []byte) (n int, err error) {
	n, err = w.dec.Decode(b)
	if w.dec.Owed() {
		c.Dirty()
	}
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		w.code = e.Code
		if e.Peer {
			err = io.EOF
		}
	}
	return n, err
}

// gather appends to dst what is to be written next. If the last frame is complete, a pong that is owed goes out, and all that is
// queued becomes the next frame.
func (w *wsState) gather(dst [][]byte, out *transport.Out) [][]byte {
	if len(w.ahead) == 0 && w.framed == 0 {
		w.ahead = nil
		if w.dec.Owed() {
			w.ahead = w.dec.AppendPong(w.ahead)
		}
		if w.framed = out.Len(); w.framed > 0 {
			w.ahead = websocket.AppendHeader(w.ahead, websocket.OpBinary, w.framed)
		}
	}
	if len(w.ahead) > 0 {
		dst = append(dst, w.ahead)
	}
	if w.framed == 0 {
		return dst
	}
	first := len(dst)
	dst = out.Slices(dst)
	left := w.framed
	for i := first; i < len(dst); i++ {
		dst[i] = dst[i][:min(len(dst[i]), left)]
		if left -= len(dst[i]); left == 0 {
			return dst[:i+1]
		}
	}
	return dst
}

// advance takes n written bytes, and returns how many of them were the queue's.
func (w *wsState) advance(n int) int {
	k := min(n, len(w.ahead))
	w.ahead = w.ahead[k:]
	w.framed -= n - k
	return n - k
}

// sayGoodbye puts our close frame ahead. It reports false if that has been done before.
func (w *wsState) sayGoodbye() bool {
	if w.bye {
		return false
	}
	w.bye = true
	w.ahead = websocket.AppendClose(nil, w.code)
	return true
}
