// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"errors"
	"testing"
)

// Every first byte in every version [MQTT-2.2.2-2] (3.1.1), [MQTT-2.1.3-1] (5.0).
func TestFirstByte(t *testing.T) {
	good := map[Version]map[byte]bool{}
	for _, v := range []Version{0, V31, V311, V5} {
		good[v] = map[byte]bool{}
		for _, b := range []byte{0x10, 0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0,
			0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D} {
			good[v][b] = true
		}
	}
	good[0][0xF0], good[V5][0xF0] = true, true
	for _, b := range []byte{0x38, 0x39, 0x6A, 0x8A, 0xAA} { // DUP where it has no use, or where only 3.1 has one
		good[V31][b] = true
	}
	for v := range good {
		for first := range 256 {
			for _, rest := range []string{"", "\x00"} {
				h, n, err := DecodeHeader(append([]byte{byte(first)}, rest...), v)
				if good[v][byte(first)] != (err == nil) {
					t.Errorf("%v, first byte %02X: %v", v, first, err)
				}
				if err == nil && (n != 2*len(rest) || h.Type != PacketType(first>>4) || h.Flags != byte(first&15)) {
					t.Errorf("%v, first byte %02X: header %+v of %d bytes", v, first, h, n)
				}
				if e := (*Error)(nil); err != nil && (!errors.As(err, &e) || e.Code != MalformedPacket || n != 0) {
					t.Errorf("%v, first byte %02X: %v, n=%d", v, first, err, n)
				}
			}
		}
	}
}

func TestPublishFlags(t *testing.T) {
	for _, dup := range []bool{false, true} {
		for qos := range QoS(3) {
			for _, retain := range []bool{false, true} {
				h := Header{Type: PUBLISH, Flags: PublishFlags(dup, qos, retain)}
				if h.Dup() != dup || h.QoS() != qos || h.Retain() != retain {
					t.Errorf("%v %d %v: flags %04b", dup, qos, retain, h.Flags)
				}
			}
		}
	}
}

func TestRemainingLength(t *testing.T) {
	for _, test := range []struct {
		wire string
		want int
	}{
		{"00", 0}, {"7F", 127}, {"8001", 128}, {"FF7F", 16_383}, {"808001", 16_384}, {"FFFF7F", 2_097_151},
		{"80808001", 2_097_152}, {"FFFFFF7F", MaxRemaining},
	} {
		b := append([]byte{0x30}, raw(t, test.wire)...)
		for cut := range b {
			if h, n, err := DecodeHeader(b[:cut], V5); n != 0 || err != nil {
				t.Errorf("% X: %+v, %d, %v; want to be asked for more", b[:cut], h, n, err)
			}
		}
		h, n, err := DecodeHeader(append(b, 0xFF), V5)
		if err != nil || n != len(b) || h.Remaining != test.want {
			t.Errorf("% X: remaining %d in %d bytes, %v", b, h.Remaining, n, err)
		}
		if got := appendHeader(nil, PUBLISH, 0, test.want); !bytes.Equal(got, b) {
			t.Errorf("%d: encoded as % X", test.want, got)
		}
		if got := varIntSize(test.want); got != len(b)-1 {
			t.Errorf("%d: size %d", test.want, got)
		}
	}
	for _, wire := range []string{"8000", "FF00", "808000", "80808000", "FFFFFF00", "80808080", "FFFFFFFF", "FFFFFF80"} {
		for _, v := range []Version{0, V31, V311, V5} { // [MQTT-1.5.5-1]
			if _, n, err := DecodeHeader(append([]byte{0x30}, raw(t, wire)...), v); err == nil || n != 0 {
				t.Errorf("%v: remaining length %s is accepted", v, wire)
			}
		}
	}
}

func TestPingHasNoBody(t *testing.T) {
	for _, first := range []byte{0xC0, 0xD0} {
		if _, _, err := DecodeHeader([]byte{first, 1}, V311); err == nil {
			t.Errorf("%02X 01 is accepted", first)
		}
	}
}
