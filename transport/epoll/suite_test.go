// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"testing"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/transporttest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kind is this transport, for the suite. What idle connections cost is the test's core and both ends; see also
// TestIdleConnectionsAreSmall.
var kind = transporttest.Kind{
	New: func(o transport.Options) transport.Server {
		s, err := New(o)
		if err != nil {
			panic(err)
		}
		return s
	},
	NewPoller: NewPoller,
	Idle:      map[string]int{"tcp": 2500, "sniff_tcp": 2500, "ws": 8000, "tls": 40000},
}

func TestSuite(t *testing.T) { transporttest.Run(t, kind) }

func BenchmarkPingPong(b *testing.B)       { kind.BenchmarkPingPong(b) }
func BenchmarkStream(b *testing.B)         { kind.BenchmarkStream(b) }
func BenchmarkIdleConnection(b *testing.B) { kind.BenchmarkIdleConnection(b) }
