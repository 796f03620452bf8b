// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/std"
)

// wires say what serves connections.
type wires struct {
	newPoller func(i int) loop.Poller // what the broker's loops wait in; nil for nothing special
	newServer func(transport.Options) (transport.Server, error)
}

var stdWires = wires{newServer: func(o transport.Options) (transport.Server, error) { return std.New(o), nil }}
