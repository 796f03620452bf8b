// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"net"
	"runtime"
	"testing"

	"github.com/noctule/noctule/transport"
)

func (k Kind) testIdleConnectionHoldsNoBuffer(t *testing.T) {
	if raceDetector || runtime.GOOS != "linux" {
		t.Skip("memory is measured on Linux, without the race detector")
	}
	for _, v := range variants {
		budget := k.Idle[v.name]
		if budget == 0 {
			continue
		}
		n := 2000
		if v.tls {
			n = 200
		}
		heap, stack := k.idle(t, v, n)
		t.Logf("%s: %d bytes of heap, %d of stack", v.name, heap, stack)
		if heap+stack > budget {
			t.Errorf("%s: an idle connection costs %d bytes of heap and %d of stack, want at most %d", v.name, heap, stack, budget)
		}
	}
}

// BenchmarkIdleConnection reports the memory of a connection that was used and is idle now.
func (k Kind) BenchmarkIdleConnection(b *testing.B) {
	for _, v := range k.variants() {
		if v.proxy != "" || v.mem {
			continue
		}
		b.Run(v.name, func(b *testing.B) {
			heap, stack := k.idle(b, v, b.N)
			b.ReportMetric(float64(heap), "heap-B/conn")
			b.ReportMetric(float64(stack), "stack-B/conn")
		})
	}
}

// idle opens n connections, uses each once, and returns what one costs, client and test core included.
func (k Kind) idle(t testing.TB, v variant, n int) (heap, stack int) {
	f := k.start(t, v, transport.Options{})
	conns := make([]net.Conn, 0, n)
	open := func() {
		c := f.dial()
		send(t, c, packet(1, 1))
		want(t, c, packet(1, 1))
		f.core()
		conns = append(conns, c)
	}
	open()
	before := memory()
	for range n {
		open()
	}
	after := memory()
	runtime.KeepAlive(conns)
	return (int(after.HeapAlloc) - int(before.HeapAlloc)) / n, (int(after.StackInuse) - int(before.StackInuse)) / n
}

func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}
