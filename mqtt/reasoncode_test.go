// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// The lists of the chapters on each packet, written down once more.
var listed = map[PacketType][]ReasonCode{
	CONNACK: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
		0x9B, 0x9C, 0x9D, 0x9F},
	PUBACK:   {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	PUBREC:   {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	PUBREL:   {0x00, 0x92},
	PUBCOMP:  {0x00, 0x92},
	SUBACK:   {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
	UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
	DISCONNECT: {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
		0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
	AUTH: {0x00, 0x18, 0x19},
}

func TestReasonCodeAllowedIn(t *testing.T) {
	for packet := range PacketType(20) {
		want := map[ReasonCode]bool{}
		for _, c := range listed[packet] {
			want[c] = true
		}
		for c := range 256 {
			if got := ReasonCode(c).AllowedIn(packet); got != want[ReasonCode(c)] {
				t.Errorf("%v in %v: %v", ReasonCode(c), packet, got)
			}
		}
	}
}

func TestReasonCodeNames(t *testing.T) {
	named := map[string]bool{}
	for c := range 256 {
		name := ReasonCode(c).String()
		if strings.HasPrefix(name, "reason code 0x") {
			continue
		}
		if named[name] {
			t.Errorf("%q is there twice", name)
		}
		named[name] = true
	}
	if len(named) != 43 {
		t.Errorf("%d codes have a name, want 43", len(named))
	}
	for c, want := range map[ReasonCode]string{
		NormalDisconnection: "Success", ReAuthenticate: "Re-authenticate", MalformedPacket: "Malformed Packet",
		0x87: "Not authorized", 0xA2: "Wildcard Subscriptions not supported", 0x03: "reason code 0x03",
	} {
		if got := c.String(); got != want {
			t.Errorf("0x%02X is called %q, want %q", byte(c), got, want)
		}
	}
	if ReasonCode(0x7F).IsError() || !ReasonCode(0x80).IsError() {
		t.Error("failures begin at 0x80")
	}
}

func TestConnack3(t *testing.T) {
	want := map[ReasonCode]byte{Success: 0, UnsupportedProtocolVersion: 1, ClientIdentifierNotValid: 2, ServerUnavailable: 3,
		ServerBusy: 3, UseAnotherServer: 3, ConnectionRateExceeded: 3, BadUserNameOrPassword: 4, NotAuthorized: 5, Banned: 5,
		RetainNotSupported: 5}
	for c, code := range want {
		if got := c.Connack3(); got != code {
			t.Errorf("%v becomes %d, want %d", c, got, code)
		}
	}
	for _, c := range listed[CONNACK] {
		if got := c.Connack3(); got > 5 || (got == 0) != (c == Success) {
			t.Errorf("%v becomes %d", c, got)
		}
	}
	for code := range byte(6) { // there and back
		if c, ok := connack5(code); !ok || c.Connack3() != code {
			t.Errorf("%d becomes %v", code, c)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		V31.String(): "3.1", V311.String(): "3.1.1", V5.String(): "5.0", Version(6).String(): "level 6",
		CONNECT.String(): "CONNECT", AUTH.String(): "AUTH", PUBCOMP.String(): "PUBCOMP", PacketType(0).String(): "packet type 0",
		PacketType(16).String(): "packet type 16",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if CONNECT != 1 || AUTH != 15 {
		t.Error("packet types are 1 to 15")
	}
}

func TestError(t *testing.T) {
	err := error(&Error{Code: QuotaExceeded, Op: "publish", Err: io.ErrShortWrite})
	if got := err.Error(); got != "mqtt: publish: Quota exceeded: short write" || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %q", got)
	}
	if got := (&Error{Code: ServerBusy}).Error(); got != "mqtt: Server busy" {
		t.Errorf("got %q", got)
	}
}
