// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build darwin || linux || openbsd

package std

import "golang.org/x/sys/unix"

func writev(fd int, bufs [][]byte) (int, error) {
	if len(bufs) == 1 {
		return unix.Write(fd, bufs[0])
	}
	return unix.Writev(fd, bufs[:min(len(bufs), writevMax)])
}
