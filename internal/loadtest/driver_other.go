// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package loadtest

import (
	"context"
	"errors"
)

// newDriver has the client library play the clients.
func newDriver(_ context.Context, o *Options, p publication) (driver, Engine, error) {
	if o.Engine == Epoll {
		return nil, "", errors.New("the engine epoll exists on Linux only")
	}
	return newClientDriver(o, p), Library, nil
}
