// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"io"
	"testing"

	"github.com/noctule/noctule/transport"
)

// BenchmarkPingPong has one connection with one packet of 128 bytes in flight.
func (k Kind) BenchmarkPingPong(b *testing.B) {
	for _, v := range k.variants() {
		b.Run(v.name, func(b *testing.B) {
			f := k.start(b, v, transport.Options{})
			c := f.dial()
			p := packet(128, 1)
			got := make([]byte, len(p))
			b.ReportAllocs()
			for b.Loop() {
				send(b, c, p)
				if _, err := io.ReadFull(c, got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStream has one connection that never waits for the echo.
func (k Kind) BenchmarkStream(b *testing.B) {
	for _, v := range k.variants() {
		b.Run(v.name, func(b *testing.B) {
			f := k.start(b, v, transport.Options{})
			c := f.dial()
			var p []byte
			const batch = 64
			for range batch {
				p = append(p, packet(128, 1)...)
			}
			got := make([]byte, 64<<10)
			b.SetBytes(int64(len(p) / batch))
			b.ReportAllocs()
			b.ResetTimer()
			rounds := b.N/batch + 1
			go func() {
				for range rounds {
					if _, err := c.Write(p); err != nil {
						return // the reader sees it too
					}
				}
			}()
			for left := rounds * len(p); left > 0; {
				n, err := c.Read(got)
				if err != nil {
					b.Fatal(err)
				}
				left -= n
			}
		})
	}
}
