// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && !race

package std

import (
	"net"
	"runtime"
	"testing"
)

// idleBudget is what an idle plain connection may cost in user memory, in bytes. Both ends are in the measurement; the
// broker's alone is about 3.9 KB.
const idleBudget = 6500

func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	for _, v := range []variant{variants[0], {name: "sniff_tcp"}} {
		heap, stack := idle(t, v, 2000)
		if heap+stack > idleBudget {
			t.Errorf("%s: an idle connection costs %d bytes of heap and %d of stack, want at most %d", v.name, heap, stack, idleBudget)
		}
	}
}

// BenchmarkIdleConnection reports the memory of a connection that was used and is idle now.
func BenchmarkIdleConnection(b *testing.B) {
	for _, v := range variants {
		if v.proxy != "" || v.mem {
			continue
		}
		b.Run(v.name, func(b *testing.B) {
			heap, stack := idle(b, v, b.N)
			b.ReportMetric(float64(heap), "heap-B/conn")
			b.ReportMetric(float64(stack), "stack-B/conn")
		})
	}
}

// idle opens n connections, uses each once, and returns what one costs, client and test core included.
func idle(t testing.TB, v variant, n int) (heap, stack int) {
	f := start(t, v, Options{})
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
