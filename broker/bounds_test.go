// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/transport"
)

// A publisher whose many receivers are on its own loop is paused too.
func TestHandoverOfTheOwnLoopIsBounded(t *testing.T) {
	routed(t, mqtt.V5, sliceSize+1, func(p *connection) { // more than are served at once
		one := mqtt.Publish{Topic: []byte("plant/1/state"), Payload: make([]byte, 4000)}
		b := one.Append(nil, mqtt.V5)
		for i := 0; i < 20000 && p.hold == 0; i++ {
			p.Feed(b)
		}
		if n, most := p.sh.handed.Load(), p.sh.b.Limits().MaxHandover; n > int64(2*most) {
			t.Errorf("%d MB wait in the loop's fan-outs, MaxHandover is %d MB", n>>20, most>>20)
		}
	})
}

// Topic aliases must not hold the payloads of the messages that brought the topics.
func TestAliasesHoldNoPayloads(t *testing.T) {
	s := session.New[int](session.Limits{Version: mqtt.V5, ReceiveMaximum: 10, OwnMaximum: 10, AliasesOut: 32})
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 32 {
		p := mqtt.Publish{Topic: []byte(fmt.Sprint("topic/", i)), Payload: make([]byte, 1<<20)}
		var out transport.Out
		s.SendQoS0(&session.Delivery[int]{Message: p.Message(1)}, 1, &out)
		out.Reset()
	}
	if after := heap(); after > before+8<<20 {
		t.Errorf("%d MB are held by 32 topic aliases", (after-before)>>20)
	}
	runtime.KeepAlive(s)
}

// Subscribing on and on makes no list of streams without end.
func TestStreamsAreBounded(t *testing.T) {
	b, err := New(Options{Loops: 1, Policy: Policy{AllowAnonymous: Everywhere}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	done := make(chan int)
	b.shards[0].loop.Post(loop.Func(func(l *loop.Loop) {
		c := b.shards[0].accept(&nowhere{loop: l})
		p := mqtt.Connect{Version: mqtt.V5, ClientID: []byte("c"), CleanStart: true}
		c.Feed(p.Append(nil))
		s := mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte("#")}}}
		one := s.Append(nil, mqtt.V5)
		for range 100_000 {
			c.Feed(one)
		}
		n := len(c.rarely().streams)
		c.Closed(nil)
		done <- n
	}))
	if n := <-done; n > 20_000 {
		t.Errorf("%d streams of retained messages wait on one connection with one subscription", n)
	}
}
