// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// setNotSentLowat sets TCP_NOTSENT_LOWAT on a listening socket; what it accepts inherits it.
func setNotSentLowat(c syscall.RawConn, bytes int) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes)
	}); e != nil {
		return e
	}
	return os.NewSyscallError("setsockopt TCP_NOTSENT_LOWAT", err)
}
