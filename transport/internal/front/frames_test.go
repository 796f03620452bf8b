// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package front

import (
	"bytes"
	"testing"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/websocket"
)

// Each MQTT packet has a frame of its own, small or large, and what is no packet is one frame.
func TestFramesOfPackets(t *testing.T) {
	var out transport.Out
	large := append([]byte{0x30, 0xA0, 0x9C, 0x01}, make([]byte, 20_000)...)
	for _, p := range [][]byte{{0xD0, 0}, {0x40, 2, 0, 1}} {
		out.Append(p)
	}
	out.Append(large[:10])
	out.Ref(large[10:])
	out.Append([]byte{0xD0, 0})
	w := NewFrames(nil)
	var got []byte
	for range 10 {
		next := w.Gather(nil, &out)
		if len(next) == 0 {
			break
		}
		got = append(got, next[0]...) // one slice at a time, as a short write would
		if n := w.Advance(len(next[0])); n > 0 {
			out.Advance(n)
		}
	}
	var want []byte
	for _, p := range [][]byte{{0xD0, 0}, {0x40, 2, 0, 1}, large, {0xD0, 0}} {
		want = append(websocket.AppendHeader(want, websocket.OpBinary, len(p)), p...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes were written, want %d; they begin with % x", len(got), len(want), got[:min(len(got), 16)])
	}
	out.Append([]byte{0x30})
	if b := w.Gather(nil, &out); len(b) != 1 || !bytes.Equal(b[0], []byte{0x82, 1, 0x30}) {
		t.Errorf("got % x", b)
	}
}

// TestPingsOfAClientThatDoesNotRead must not pile up answers.
func TestPingsOfAClientThatDoesNotRead(t *testing.T) {
	w := NewFrames(nil)
	var out transport.Out
	for range 10_000 {
		ping := append([]byte("\x89\xfd\x00\x00\x00\x00"), make([]byte, 125)...)
		if _, owed, err := w.Decode(ping); !owed || err != nil {
			t.Fatalf("owed %t, %v", owed, err)
		}
		w.Gather(nil, &out)
	}
	if n := w.Ahead(); n > 200 {
		t.Errorf("%d bytes of answers wait", n)
	}
}

// TestReplyGoesFirst: the answer to the handshake is not framed.
func TestReplyGoesFirst(t *testing.T) {
	w := NewFrames([]byte("HTTP"))
	var out transport.Out
	out.Append([]byte{0xD0, 0})
	if b := bytes.Join(w.Gather(nil, &out), nil); string(b) != "HTTP" || w.Advance(4) != 0 {
		t.Errorf("got % x", b)
	}
	if b := bytes.Join(w.Gather(nil, &out), nil); !bytes.Equal(b, []byte{0x82, 2, 0xD0, 0}) {
		t.Errorf("got % x", b)
	}
}
