// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package server

import (
	"errors"

	"github.com/noctule/noctule/server/config"
)

// wiresOf does what the option transport says.
func wiresOf(name string) (wires, error) {
	if name == config.TransportEpoll {
		return wires{}, errors.New("transport: epoll is of Linux; choose auto or std")
	}
	return stdWires, nil
}
