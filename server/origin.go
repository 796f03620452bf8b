// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/websocket"
)

// origins makes the rule for web pages: those of the same host, and those listed.
func origins(allowed []string) func(origin, host string, info *transport.Info) bool {
	any := slices.Contains(allowed, "*")
	return func(origin, host string, info *transport.Info) bool {
		if any || origin == "" || slices.Contains(allowed, origin) {
			return true
		}
		if info.LocalPeer && !websocket.LoopbackHost(host) {
			return false
		}
		return websocket.SameOrigin(origin, host)
	}
}
