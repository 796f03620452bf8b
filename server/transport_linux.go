// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/noctule/noctule/server/config"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/epoll"
)

// wiresOf does what the option transport says.
func wiresOf(name string) (wires, error) {
	if name == config.TransportStd {
		return stdWires, nil
	}
	return wires{
		newPoller: epoll.NewPoller,
		newServer: func(o transport.Options) (transport.Server, error) { return epoll.New(o) },
	}, nil
}
