// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package transport

import (
	"errors"
	"fmt"
	"syscall"
)

// setReusePort refuses: where the option exists at all, connections are not dealt among the sockets.
func setReusePort(syscall.RawConn) error {
	return fmt.Errorf("sharing a port among sockets is of Linux only: %w", errors.ErrUnsupported)
}
