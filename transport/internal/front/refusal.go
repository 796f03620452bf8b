// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package front

import (
	"errors"
	"os"

	"github.com/noctule/noctule/transport"
)

// A refusal is an error with its cause.
type refusal struct {
	cause string
	err   error
}

func (r *refusal) Error() string {
	if r.err == nil {
		return r.cause
	}
	return r.cause + ": " + r.err.Error()
}

func (r *refusal) Unwrap() error { return r.err }

// Refuse makes an error of a handshake. Time running out has a cause of its own, wherever it was noticed.
func Refuse(cause string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		cause = transport.CauseHandshakeTimeout
	}
	return &refusal{cause: cause, err: err}
}

// CauseOf names the cause of a failed handshake.
func CauseOf(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.cause
	}
	return transport.CauseGone
}
