// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"fmt"
)

// Idle is a set of clients that do nothing but stay connected.
type Idle struct {
	engine *engine
}

// NewIdle makes an empty set for the broker at addr.
func NewIdle(addr string, w Wire) (*Idle, error) {
	e, err := newEngine(addr, w)
	if err != nil {
		return nil, err
	}
	return &Idle{engine: e}, nil
}

// Grow connects clients until there are n; each subscribes to a filter of its own if subscribe is set.
func (i *Idle) Grow(ctx context.Context, n int, subscribe bool) error {
	var clients []client
	for k := len(i.engine.conns); k < n; k++ {
		cl := client{id: fmt.Sprintf("idle%06d", k)}
		if subscribe {
			cl.filters = []string{fmt.Sprintf("idle/%06d", k)}
		}
		clients = append(clients, cl)
	}
	return i.engine.connect(ctx, clients, setupWithin)
}

// Close ends all connections.
func (i *Idle) Close() { i.engine.close() }
