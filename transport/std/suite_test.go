// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"testing"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/transporttest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kind is this transport, for the suite. The broker's end alone of an idle connection is about 3.9 KB.
var kind = transporttest.Kind{
	New:    func(o transport.Options) transport.Server { return New(o) },
	Memory: true,
	Idle:   map[string]int{"tcp": 6500, "sniff_tcp": 6500},
}

func TestSuite(t *testing.T) { transporttest.Run(t, kind) }

func BenchmarkPingPong(b *testing.B)       { kind.BenchmarkPingPong(b) }
func BenchmarkStream(b *testing.B)         { kind.BenchmarkStream(b) }
func BenchmarkIdleConnection(b *testing.B) { kind.BenchmarkIdleConnection(b) }
