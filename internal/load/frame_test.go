// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"errors"
	"testing"
)

// server makes an unmasked frame, as brokers send them.
func server(op byte, payload []byte) []byte {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = append(b, 126, byte(n>>8), byte(n))
	default:
		b = append(b, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, payload...)
}

func TestFramesWhereverTheStreamIsSplit(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789"), 30)
	stream := append(server(frameBinary, payload), server(9, []byte("ping"))...)
	stream = append(stream, server(0, []byte("end"))...)
	want := string(payload) + "end"
	for split := range stream {
		var f frames
		var got []byte
		for _, part := range [][]byte{stream[:split], stream[split:]} {
			out, err := f.decode(bytes.Clone(part))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, out...)
		}
		if string(got) != want {
			t.Fatalf("split at %d: %q, want %q", split, got, want)
		}
	}
}

func TestFramesTakesAnySize(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 200_000} {
		var f frames
		out, err := f.decode(server(frameBinary, make([]byte, n)))
		if err != nil || len(out) != n {
			t.Errorf("frame of %d bytes: %d, %v", n, len(out), err)
		}
	}
}

func TestFramesRefusesMaskAndClose(t *testing.T) {
	if _, err := new(frames).decode(appendFrame(nil, 3)); !errors.Is(err, errFrameMasked) {
		t.Errorf("masked frame: %v, want %v", err, errFrameMasked)
	}
	if _, err := new(frames).decode(server(frameClose, nil)); !errors.Is(err, errFrameClosed) {
		t.Errorf("close frame: %v, want %v", err, errFrameClosed)
	}
}

func TestAppendFrameMasksWithZero(t *testing.T) {
	for _, c := range []struct {
		n    int
		want string
	}{{5, "\x82\x85"}, {126, "\x82\xfe\x00\x7e"}, {70000, "\x82\xff\x00\x00\x00\x00\x00\x01\x11\x70"}} {
		if got := appendFrame(nil, c.n); string(got) != c.want+"\x00\x00\x00\x00" {
			t.Errorf("frame of %d bytes begins with % x", c.n, got)
		}
	}
}
