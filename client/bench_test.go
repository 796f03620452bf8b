// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"testing"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

// BenchmarkPublish sends messages of 100 bytes through a broker in the same process, over TCP, with as many under way as it takes.
func BenchmarkPublish(b *testing.B) {
	for _, qos := range []mqtt.QoS{0, 1, 2} {
		b.Run("QoS"+string('0'+rune(qos)), func(b *testing.B) {
			server, stop := startBroker()
			defer stop()
			ctx := context.Background()
			c, err := client.Dial(ctx, client.Options{Servers: []string{server}})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close(ctx)
			payload := make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.PublishAsync(ctx, client.Message{Topic: "bench", Payload: payload, QoS: qos}); err != nil {
					b.Fatal(err)
				}
			}
			if err := c.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}
