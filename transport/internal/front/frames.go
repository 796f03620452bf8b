// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package front

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/noctule/noctule/internal/invariants"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/websocket"
)

// Frames are what a WebSocket connection has on top: a decoder of the client's frames, and the frames around what is sent.
type Frames struct {
	dec    websocket.Decoder
	ahead  []byte  // bytes to be written before those of the queue: headers and control frames
	room   *[]byte // pooled, what ahead is built in; nil when nothing is ahead
	framed int     // bytes of the queue that belong to the frame whose header was or is ahead
	code   websocket.CloseCode
	bye    bool // our close frame is ahead, or was
}

// NewFrames makes the frames of a connection that sends reply, unframed, before anything else.
func NewFrames(reply []byte) *Frames { return &Frames{code: websocket.CloseNormal, ahead: reply} }

// Decode takes the payload out of new bytes; b[:n] is it. owed says that a pong waits for Gather. The error is that for
// Core.Closed: io.EOF after a close frame.
func (w *Frames) Decode(b []byte) (n int, owed bool, err error) {
	n, err = w.dec.Decode(b)
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		w.code = e.Code
		if e.Peer {
			err = io.EOF
		}
	}
	return n, w.dec.Owed(), err
}

// Ahead is how many bytes there are that are not the queue's.
func (w *Frames) Ahead() int { return len(w.ahead) }

// Each packet becomes a frame of its own. The standard does not ask for it [MQTT-6.0.0-2], but clients exist (paho for C) that
// do not see a second packet in a frame. Small packets are copied between their headers, up to frameCopies bytes at a time; one above frameCopy is
// written from the queue.
const (
	frameCopy   = 16 << 10
	frameCopies = 64 << 10
	// gatherMost slices of the queue are looked at in one go: a queue of a slow reader has thousands.
	gatherMost = 128
)

var frameRooms = sync.Pool{New: func() any { return new([]byte) }}

// Gather appends to dst what is to be written next. If the last frame is complete, a pong that is owed goes out, and what is
// queued becomes the next frames.
func (w *Frames) Gather(dst [][]byte, out *transport.Out) [][]byte {
	if len(w.ahead) == 0 && w.framed == 0 && (w.dec.Owed() || out.Len() > 0) {
		w.room = frameRooms.Get().(*[]byte)
		invariants.CheckPoison((*w.room)[:cap(*w.room)], "the room for frames of a WebSocket")
		w.ahead = (*w.room)[:0]
		if w.dec.Owed() {
			w.ahead = w.dec.AppendPong(w.ahead)
		}
		w.frame(out)
		*w.room = w.ahead
	}
	if len(w.ahead) > 0 {
		dst = append(dst, w.ahead)
	}
	if w.framed == 0 {
		return dst
	}
	first := len(dst)
	dst = out.First(dst, gatherMost)
	left := w.framed
	for i := first; i < len(dst); i++ {
		dst[i] = dst[i][:min(len(dst[i]), left)]
		if left -= len(dst[i]); left == 0 {
			return dst[:i+1]
		}
	}
	return dst
}

// frame puts whole packets of the queue ahead, each behind its frame header, or the header of one that is too large to be copied.
func (w *Frames) frame(out *transport.Out) {
	var list [8][]byte
	rest, moved, left, all := out.First(list[:0], gatherMost), 0, 0, out.Len()
	for _, b := range rest {
		left += len(b)
	}
	for left > 0 && len(w.ahead) < frameCopies {
		n := packetSize(rest[0])
		if n == 0 || n > all-moved {
			n = all - moved // no packets: then it is one frame
		}
		if n > left && n <= frameCopy && moved > 0 {
			break // the next slices have the rest of it
		}
		if n > left && n <= frameCopy { // a small packet in very many slices
			rest = out.Slices(nil)
			left = all
		}
		if n > frameCopy {
			if moved == 0 {
				w.ahead = websocket.AppendHeader(w.ahead, websocket.OpBinary, n)
				w.framed = n
			}
			break
		}
		w.ahead = websocket.AppendHeader(w.ahead, websocket.OpBinary, n)
		moved, left = moved+n, left-n
		for n > 0 {
			k := min(n, len(rest[0]))
			w.ahead = append(w.ahead, rest[0][:k]...)
			if rest[0] = rest[0][k:]; len(rest[0]) == 0 {
				rest = rest[1:]
			}
			n -= k
		}
	}
	if moved > 0 {
		out.Advance(moved)
	}
}

// packetSize is the size of the packet that begins at b, by its fixed header; 0 if there is none.
func packetSize(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	remaining, n := binary.Uvarint(b[1:min(len(b), 5)])
	if n <= 0 {
		return 0
	}
	return 1 + n + int(remaining)
}

// Advance takes n written bytes, and returns how many of them were the queue's.
func (w *Frames) Advance(n int) int {
	k := min(n, len(w.ahead))
	if w.ahead = w.ahead[k:]; len(w.ahead) == 0 {
		if w.room != nil && cap(*w.room) <= 2*frameCopies {
			invariants.Poison((*w.room)[:cap(*w.room)])
			frameRooms.Put(w.room)
		}
		w.ahead, w.room = nil, nil
	}
	w.framed -= n - k
	return n - k
}

// SayGoodbye puts our close frame ahead. It reports false if that has been done before.
func (w *Frames) SayGoodbye() bool {
	if w.bye {
		return false
	}
	w.bye = true
	w.ahead = websocket.AppendClose(nil, w.code)
	return true
}
