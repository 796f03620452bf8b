// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"fmt"
)

// Login is what a client says of itself in its CONNECT.
type Login struct {
	ClientID  string
	Username  string // empty: none
	Password  []byte // nil: none
	Version   byte   // level of the protocol: 3, 4 (3.1.1) or 5
	KeepAlive uint16 // seconds; 0 is none
	Clean     bool   // otherwise the session outlives the connection

	Quota uint16 // messages that the broker takes at once above QoS 0, once it has answered; 0 is no limit
}

// Flags of CONNECT.
const (
	flagClean    = 0x02
	flagPassword = 0x40
	flagUsername = 0x80
)

// Properties that matter here.
const (
	propSessionExpiry  = 17
	propReceiveMaximum = 33
)

// append appends the CONNECT.
func (l *Login) append(dst []byte) []byte {
	name := "MQTT"
	if l.Version == 3 {
		name = "MQIsdp"
	}
	body := append(appendString(nil, name), l.Version, l.flags())
	body = binary.BigEndian.AppendUint16(body, l.KeepAlive)
	if l.Version == 5 {
		if l.Clean {
			body = append(body, 0)
		} else { // forever
			body = append(body, 5, propSessionExpiry, 0xff, 0xff, 0xff, 0xff)
		}
	}
	body = appendString(body, l.ClientID)
	if l.Username != "" {
		body = appendString(body, l.Username)
	}
	if l.Password != nil {
		body = appendString(body, string(l.Password))
	}
	dst = appendLength(append(dst, typeConnect<<4), len(body))
	return append(dst, body...)
}

func (l *Login) flags() (flags byte) {
	if l.Clean {
		flags |= flagClean
	}
	if l.Username != "" {
		flags |= flagUsername
	}
	if l.Password != nil {
		flags |= flagPassword
	}
	return flags
}

// grant takes what the properties of a CONNACK say.
func (l *Login) grant(b []byte) error {
	n, b, err := cutLength(b)
	if err != nil || len(b) != n {
		return errTruncated
	}
	for len(b) > 0 {
		size := propertySize(b)
		if size == 0 || size > len(b) {
			return fmt.Errorf("load: property %d of a CONNACK is malformed", b[0])
		}
		if b[0] == propReceiveMaximum {
			l.Quota = binary.BigEndian.Uint16(b[1:])
		}
		b = b[size:]
	}
	return nil
}

// propertySize is the length of the first property of a CONNACK, its identifier included; 0 if it is none or not whole.
func propertySize(b []byte) int {
	text := func(at int) int {
		if len(b) < at+2 {
			return 0
		}
		return at + 2 + int(binary.BigEndian.Uint16(b[at:]))
	}
	switch b[0] {
	case 36, 37, 40, 41, 42:
		return 2
	case 19, 33, 34:
		return 3
	case 17, 39:
		return 5
	case 18, 21, 22, 26, 28, 31:
		return text(1)
	case 38: // user property
		if at := text(1); at > 0 {
			return text(at)
		}
	}
	return 0
}

// A Refusal is a CONNACK or DISCONNECT with a code that says why.
type Refusal struct {
	Code       byte
	V5         bool // a reason code, not a return code of 3.1.1
	Disconnect bool
}

// Error names packet and code.
func (r *Refusal) Error() string {
	if r.Disconnect {
		return fmt.Sprintf("closed by DISCONNECT with code %#x", r.Code)
	}
	return fmt.Sprintf("refused by CONNACK with code %#x", r.Code)
}
