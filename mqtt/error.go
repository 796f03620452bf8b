// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "errors"

// Error is a fault of a packet or of what a peer asked for. Code is what 5.0 tells the peer about it.
type Error struct {
	Code ReasonCode
	Op   string // what was being done, such as "decode CONNECT"
	Err  error  // the cause; may be nil
}

// Error returns operation, reason and cause in one line.
func (e *Error) Error() string {
	s := "mqtt: "
	if e.Op != "" {
		s += e.Op + ": "
	}
	s += e.Code.String()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fault makes the error of a packet of type t that breaks a rule.
func fault(code ReasonCode, t PacketType, what string) error {
	return &Error{Code: code, Op: "decode " + t.String(), Err: errors.New(what)}
}
