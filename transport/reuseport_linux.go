// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// setReusePort sets SO_REUSEPORT on a socket that is not bound yet.
func setReusePort(c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
		return e
	}
	return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
}
