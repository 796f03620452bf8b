// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package std

import "errors"

// rawSocket is not to be had here: every connection is a stream.
type rawSocket struct{}

// initSocket decides how the connection is read and written.
func (c *conn) initSocket() {
	if c.stream == nil {
		c.stream = c.sock
	}
}

// park starts the reader.
func (c *conn) park() { go c.read() }

func (rawSocket) read([]byte) (int, error) { return 0, errors.ErrUnsupported }

func (rawSocket) write([][]byte) (int, error) { return 0, errors.ErrUnsupported }
