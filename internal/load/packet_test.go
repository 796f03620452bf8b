// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func TestCutFindsPacketsWhereverTheStreamIsSplit(t *testing.T) {
	large, _, _, _ := appendPublish(nil, "a/b", 1, 300)
	stream := append([]byte{0x20, 2, 0, 0, 0x40, 2, 0, 7}, large...)
	sizes := []int{4, 4, len(large)}
	for split := range stream {
		var got []int
		end, at := split, 0
		for at < len(stream) {
			_, size, err := cut(stream[at:end])
			if err != nil {
				t.Fatalf("split at %d: %v", split, err)
			}
			if size == 0 {
				if end == len(stream) {
					t.Fatalf("split at %d: the rest from %d is no packet", split, at)
				}
				end = len(stream) // the second part arrives
				continue
			}
			got = append(got, size)
			at += size
		}
		if !slices.Equal(got, sizes) {
			t.Fatalf("split at %d: packets of %v bytes, want %v", split, got, sizes)
		}
	}
}

func TestCutRefusesLongLength(t *testing.T) {
	if _, _, err := cut([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}); !errors.Is(err, errLength) {
		t.Errorf("cut of a length of five bytes: %v, want %v", err, errLength)
	}
	if _, size, err := cut([]byte{0x30, 0xff, 0xff, 0xff}); size != 0 || err != nil {
		t.Errorf("cut of an unfinished length: %d, %v, want to wait", size, err)
	}
}

func TestPublication(t *testing.T) {
	for qos := range byte(3) {
		b, topicAt, idAt, payloadAt := appendPublish(nil, "a/b", qos, 3)
		copy(b[payloadAt:], "xyz")
		if qos > 0 {
			b[idAt], b[idAt+1] = 1, 2
		}
		p, size, err := cut(b)
		if err != nil || size != len(b) || p.kind() != typePublish || p.qos() != qos || string(b[topicAt:topicAt+3]) != "a/b" {
			t.Fatalf("QoS %d: cut gives %+v, %d, %v", qos, p, size, err)
		}
		id, payload, err := p.publication()
		want := uint16(0x0102)
		if qos == 0 {
			want = 0
		}
		if err != nil || id != want || string(payload) != "xyz" {
			t.Errorf("QoS %d: publication is %#x, %q, %v", qos, id, payload, err)
		}
	}
}

func TestTruncatedPublicationIsRefused(t *testing.T) {
	b, _, _, payloadAt := appendPublish(nil, "a/b", 1, 0)
	for n := range payloadAt - 2 {
		p := packet{first: b[0], body: b[2 : 2+n]}
		if _, _, err := p.publication(); !errors.Is(err, errTruncated) {
			t.Errorf("%d bytes of PUBLISH: %v, want %v", n, err, errTruncated)
		}
	}
}

func TestConnectAndSubscribeBytes(t *testing.T) {
	if got, want := appendConnect(nil, "ab", false), []byte("\x10\x0e\x00\x04MQTT\x04\x02\x0e\x10\x00\x02ab"); !bytes.Equal(got, want) {
		t.Errorf("CONNECT is % x, want % x", got, want)
	}
	if got, want := appendConnect(nil, "ab", true), []byte("\x10\x0e\x00\x04MQTT\x04\x00\x0e\x10\x00\x02ab"); !bytes.Equal(got, want) {
		t.Errorf("CONNECT is % x, want % x", got, want)
	}
	if got, want := appendSubscribe(nil, 5, []string{"a", "b/#"}, 1, false), []byte("\x82\x0c\x00\x05\x00\x01a\x01\x00\x03b/#\x01"); !bytes.Equal(got, want) {
		t.Errorf("SUBSCRIBE is % x, want % x", got, want)
	}
}

func TestAppendLengthTakesAsManyBytesAsItMust(t *testing.T) {
	for _, c := range []struct {
		n    int
		want string
	}{{0, "\x00"}, {127, "\x7f"}, {128, "\x80\x01"}, {16383, "\xff\x7f"}, {16384, "\x80\x80\x01"}, {268435455, "\xff\xff\xff\x7f"}} {
		if got := appendLength(nil, c.n); string(got) != c.want {
			t.Errorf("length %d is % x, want % x", c.n, got, c.want)
		}
	}
}
