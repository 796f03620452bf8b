// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !darwin && !linux && !openbsd

package std

import "golang.org/x/sys/unix"

// writev writes slice by slice until the socket takes no more.
func writev(fd int, bufs [][]byte) (done int, err error) {
	for _, b := range bufs {
		n, err := unix.Write(fd, b)
		if err != nil {
			if done > 0 {
				return done, nil // the next write will tell
			}
			return 0, err
		}
		done += n
		if n < len(b) {
			break
		}
	}
	return done, nil
}
