// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/gobwas/ws"
)

var testKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// frame makes a client's frame. first is the first byte: flags and opcode.
func frame(first byte, payload string) []byte {
	b := appendMasked(nil, Opcode(first&0xf), []byte(payload), testKey)
	b[0] = first
	return b
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// decodeAll decodes b in pieces of at most step bytes, and answers pings at the end of each.
func decodeAll(b []byte, step int) (payload, pongs []byte, err error) {
	var d Decoder
	for len(b) > 0 && err == nil {
		piece := bytes.Clone(b[:min(step, len(b))])
		b = b[len(piece):]
		var n int
		n, err = d.Decode(piece)
		payload = append(payload, piece[:n]...)
		pongs = d.AppendPong(pongs)
	}
	return payload, pongs, err
}

var steps = []int{1, 2, 3, 7, 100, 1 << 20}

func TestPayloadDoesNotDependOnFrames(t *testing.T) {
	long := string(bytes.Repeat([]byte("0123456789"), 10_000)) // a length of 64 bits
	for _, c := range []struct {
		name, payload, pongs string
		in                   []byte
	}{
		{"one frame", "Hello", "", frame(0x82, "Hello")},
		{"two messages", "HelloWorld", "", join(frame(0x82, "Hello"), frame(0x82, "World"))},
		{"fragments", "Hello", "", join(frame(0x02, "He"), frame(0x00, "l"), frame(0x80, "lo"))},
		{"empty fragments", "Hello", "", join(frame(0x02, ""), frame(0x00, "Hello"), frame(0x80, ""))},
		{"empty message", "", "", frame(0x82, "")},
		{"ping between fragments", "Hello", "\x8a\x02hi", join(frame(0x02, "He"), frame(0x89, "hi"), frame(0x80, "llo"))},
		{"pong that nobody asked for", "Hello", "", join(frame(0x8a, "x"), frame(0x82, "Hello"))},
		{"medium", long[:300], "", frame(0x82, long[:300])},
		{"long", long, "", frame(0x82, long)},
	} {
		for _, step := range steps {
			payload, pongs, err := decodeAll(c.in, step)
			if err != nil || string(payload) != c.payload || string(pongs) != c.pongs {
				t.Errorf("%s in steps of %d: %d bytes of payload, pongs %q, %v", c.name, step, len(payload), pongs, err)
			}
		}
	}
}

func TestOfManyPingsTheLastIsAnswered(t *testing.T) {
	_, pongs, err := decodeAll(join(frame(0x89, "one"), frame(0x89, "two"), frame(0x89, "")), 1<<20)
	if err != nil || string(pongs) != "\x8a\x00" {
		t.Errorf("pongs %q, %v", pongs, err)
	}
}

func TestFramesThatEndTheConnection(t *testing.T) {
	unmasked := append(AppendHeader(nil, OpBinary, 2), "hi"...)
	huge := binary.BigEndian.AppendUint64([]byte{0x82, 0xff}, 1<<63)
	longPing := append([]byte{0x89, 0xfe, 0, 126}, make([]byte, 4+126)...)
	for _, c := range []struct {
		name string
		in   []byte
		code CloseCode
		peer bool
	}{
		{"text [MQTT-6.0.0-1]", frame(0x81, "Hello"), CloseUnsupported, false},
		{"text in fragments", frame(0x01, "Hello"), CloseUnsupported, false},
		{"not masked", unmasked, CloseProtocol, false},
		{"RSV1", frame(0xc2, "x"), CloseProtocol, false},
		{"RSV2", frame(0xa2, "x"), CloseProtocol, false},
		{"RSV3", frame(0x92, "x"), CloseProtocol, false},
		{"opcode 3", frame(0x83, "x"), CloseProtocol, false},
		{"opcode 11", frame(0x8b, "x"), CloseProtocol, false},
		{"2^63 bytes", append(huge, testKey[:]...), CloseProtocol, false},
		{"long ping", longPing, CloseProtocol, false},
		{"ping in fragments", frame(0x09, "x"), CloseProtocol, false},
		{"close in fragments", frame(0x08, ""), CloseProtocol, false},
		{"continuation of nothing", frame(0x80, "x"), CloseProtocol, false},
		{"continuation after the end", join(frame(0x02, "x"), frame(0x80, "y"), frame(0x80, "z")), CloseProtocol, false},
		{"message within a message", join(frame(0x02, "x"), frame(0x82, "y")), CloseProtocol, false},
		{"close", frame(0x88, "\x03\xe8bye"), CloseNormal, true},
		{"close without a code", frame(0x88, ""), closeNoStatus, true},
		{"close with a private code", frame(0x88, "\x0f\xa0"), 4000, true},
		{"close with half a code", frame(0x88, "\x03"), CloseProtocol, false},
		{"close with code 1005", frame(0x88, "\x03\xed"), CloseProtocol, false},
		{"close with code 999", frame(0x88, "\x03\xe7"), CloseProtocol, false},
		{"close with text that is not UTF-8", frame(0x88, "\x03\xe8\xff"), CloseInvalid, false},
	} {
		for _, step := range steps {
			before := frame(0x82, "before")
			if c.in[0]&0xf == 0 || c.in[0]&0x80 == 0 {
				before = nil
			}
			payload, _, err := decodeAll(join(before, c.in, frame(0x82, "after")), step)
			e, ok := errors.AsType[*CloseError](err)
			if !ok || e.Code != c.code || e.Peer != c.peer {
				t.Errorf("%s in steps of %d: %v, want code %d", c.name, step, err, c.code)
			}
			if before != nil && !bytes.HasPrefix(payload, []byte("before")) {
				t.Errorf("%s: what came before is lost", c.name)
			}
			if bytes.Contains(payload, []byte("after")) {
				t.Errorf("%s: what comes after is not", c.name)
			}
		}
	}
}

func TestCloseFrame(t *testing.T) {
	if b := AppendClose(nil, CloseProtocol); string(b) != "\x88\x02\x03\xea" {
		t.Errorf("%x", b)
	}
	if b := AppendClose(nil, closeNoStatus); string(b) != "\x88\x00" {
		t.Errorf("%x", b)
	}
}

func TestHeaderOfAServer(t *testing.T) {
	for n, want := range map[int]string{
		0: "\x82\x00", 125: "\x82\x7d", 126: "\x82\x7e\x00\x7e", 65535: "\x82\x7e\xff\xff",
		65536: "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
	} {
		if b := AppendHeader(nil, OpBinary, n); string(b) != want {
			t.Errorf("%d bytes: %x, want %x", n, b, want)
		}
	}
}

func TestMask(t *testing.T) {
	for n := range 70 {
		for pos := range 4 {
			plain := bytes.Repeat([]byte{0}, n)
			next := mask(plain, testKey, pos)
			for i, b := range plain {
				if b != testKey[(pos+i)%4] {
					t.Fatalf("%d bytes from %d: byte %d is %x", n, pos, i, b)
				}
			}
			if next != (pos+n)%4 {
				t.Fatalf("%d bytes from %d end at %d", n, pos, next)
			}
		}
	}
}

// FuzzDecoder compares the payload of a stream that is cut at random with that of the stream in one piece, and with what
// another implementation makes of it.
func FuzzDecoder(f *testing.F) {
	f.Add(join(frame(0x02, "He"), frame(0x89, "hi"), frame(0x80, "llo")), uint64(1))
	f.Add(frame(0x88, "\x03\xe8bye"), uint64(2))
	f.Add(frame(0x81, "text"), uint64(3))
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 5}, uint64(4))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		whole, _, wholeErr := decodeAll(b, 1<<20)
		rnd := rand.New(rand.NewPCG(seed, 1))
		cut, _, cutErr := decodeAll(b, 1+rnd.IntN(9))
		if !bytes.Equal(whole, cut) || (wholeErr == nil) != (cutErr == nil) {
			t.Fatalf("in one piece %x, %v; cut %x, %v", whole, wholeErr, cut, cutErr)
		}
		if len(whole) > len(b) {
			t.Fatalf("%d bytes of payload in %d", len(whole), len(b))
		}
		if other, ok := reference(b); ok && wholeErr == nil && !bytes.HasPrefix(whole, other) {
			t.Fatalf("payload %x, another reads %x", whole, other)
		}
	})
}

// reference decodes the complete binary frames with gobwas/ws. It gives up at whatever is not plain.
func reference(b []byte) (payload []byte, ok bool) {
	r := bytes.NewReader(b)
	for {
		fr, err := ws.ReadHeader(r)
		if err != nil {
			return payload, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
		if !fr.Masked || fr.Length > int64(r.Len()) {
			return payload, true
		}
		p := make([]byte, fr.Length)
		io.ReadFull(r, p) // its length was checked
		ws.Cipher(p, fr.Mask, 0)
		if !fr.OpCode.IsControl() {
			payload = append(payload, p...)
		}
	}
}
