// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
)

// crowd has n clients come, subscribe, publish and go, in all ways in which clients go.
func crowd(t *testing.T, b *Broker, n int) {
	for i := range n {
		p := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(fmt.Sprint("c", i)), CleanStart: true}
		script := append(p.Append(nil), packets(mqtt.V311, []byte{10, 0x4A, 0x8B, 0, 1, 2, 13})...)
		if i%3 == 0 {
			script = p.Append(nil)
			s := mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte(fmt.Sprint("x/", i, "/+"))}, {Filter: []byte("$share/g/y")}}}
			script = s.Append(script, mqtt.V5)
			d := mqtt.Disconnect{}
			script = d.Append(script, mqtt.V5)
		}
		converse(t, b, script)
	}
}

// When all clients are gone nothing of them is left: no subscription, no identifier, no timer that holds a connection, no memory.
func TestNothingIsLeftOfGoneClients(t *testing.T) {
	b, err := New(Options{Loops: 1, Policy: Policy{AllowAnonymous: Everywhere}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	heap := func() uint64 {
		time.Sleep(20 * time.Millisecond) // acknowledgements and shares end behind their connections
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	crowd(t, b, 300)
	before := heap()
	crowd(t, b, 3000)
	if after := heap(); after > before+1<<20 {
		t.Errorf("the heap grew by %d bytes over 3000 clients", after-before)
	}
	left := make(chan string, 1)
	sh := b.shards[0]
	sh.loop.Post(loop.Func(func(*loop.Loop) {
		left <- fmt.Sprint(len(sh.identities), " ", len(sh.shares), " ", sh.conns == nil, " ", sh.alive.Load(), " ", b.index.Len(), " ",
			sh.tally.connected.Load(), " ", sh.tally.subscriptions.Load(), " ", sh.tally.queued.Load(), " ", sh.tally.queuedBytes.Load(), " ", b.connected.Load())
	}))
	if got := <-left; got != "0 0 true 0 0 0 0 0 0 0" {
		t.Errorf("left: %s", got)
	}
}
