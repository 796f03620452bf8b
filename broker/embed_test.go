// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/mqtt"
)

// A program publishes and subscribes without a socket; after the end nothing hangs.
func TestEmbedding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2})
		got := make(chan *mqtt.Message, 10)
		cancel, err := b.Subscribe("in/#", func(m *mqtt.Message) { got <- m })
		if err != nil {
			t.Fatal(err)
		}
		c := clean(t, b, mqtt.V5, "c")
		c.Subscribe(1, 1, "out/#")
		c.Publish(publish("in/x", "from a client", 1, 1))
		if m := <-got; m.Topic != "in/x" || string(m.Payload) != "from a client" || m.ClientID != "c" {
			t.Errorf("got %+v", m)
		}
		if err := b.Publish(t.Context(), &mqtt.Message{Topic: "out/y", Payload: []byte("from the program"), QoS: 1}); err != nil {
			t.Error(err)
		}
		answer(c, c.WantPublish("out/y", "from the program"))
		cancel()
		c.Publish(publish("in/x", "too late", 1, 2))
		if err := b.Publish(t.Context(), &mqtt.Message{Topic: "a/#"}); err == nil {
			t.Error("a wildcard in a topic name was taken")
		}
		if _, err := b.Subscribe("a#", nil); err == nil {
			t.Error("a bad filter was taken")
		}
		if b.Disconnect("nobody", mqtt.AdministrativeAction) || !b.Redirect("c", "other:1883", false) {
			t.Error("wrong answers about who is there")
		}
		if code := c.WantClosed(); code != mqtt.UseAnotherServer {
			t.Errorf("told %v, want 0x9C", code)
		}
		b.Stop()
		if len(got) != 0 {
			t.Errorf("%d messages came after cancel", len(got))
		}
		if b.Disconnect("c", 0) {
			t.Error("a client of a stopped broker")
		}
		if err := b.Publish(t.Context(), &mqtt.Message{Topic: "x"}); !errors.Is(err, broker.ErrStopped) {
			t.Errorf("publish after the end: %v", err)
		}
	})
}
