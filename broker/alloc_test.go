// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"testing"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/topic"
	"github.com/noctule/noctule/transport"
)

// nowhere is a connection whose output is thrown away.
type nowhere struct {
	transport.Conn
	out  transport.Out
	info transport.Info
	loop *loop.Loop
}

func (n *nowhere) Info() *transport.Info      { return &n.info }
func (n *nowhere) Loop() *loop.Loop           { return n.loop }
func (n *nowhere) Out() *transport.Out        { return &n.out }
func (n *nowhere) Dirty()                     { n.out.Reset() }
func (n *nowhere) Resume()                    {}
func (n *nowhere) Blocked() bool              { return false }
func (n *nowhere) Close(transport.Verdict)    {}
func (n *nowhere) Move(*loop.Loop, loop.Task) {}

// routed runs f on the loop of a broker whose connections lead nowhere; the publisher has that many subscribers of its topic on the
// same loop.
func routed(t testing.TB, v mqtt.Version, subscribers int, f func(c *connection)) {
	b, err := New(Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	done := make(chan struct{})
	sh := b.shards[0]
	sh.loop.Post(loop.Func(func(l *loop.Loop) {
		defer close(done)
		dial := func(id string) *connection {
			c := sh.accept(&nowhere{loop: l})
			c.client = &plugin.Client{ID: id, Version: v}
			c.version = v
			c.state = open
			c.sess = session.New[tag](session.Limits{Version: v, ReceiveMaximum: 1000, OwnMaximum: 1000})
			return c
		}
		for i := range subscribers {
			c := dial(fmt.Sprint("s", i))
			c.makeSubscriptions(&subscribing{subs: []plugin.Subscription{{Filter: "plant/+/state"}}, fresh: make([]bool, 1),
				plain: []topic.Filter{{Filter: "plant/+/state"}}, codes: make([]mqtt.ReasonCode, 1)})
		}
		p := dial("p")
		f(p)
		sh.each(func(c *connection) { c.state = gone; c.unplugged = true; c.depart() })
	}))
	<-done
}

func packet(v mqtt.Version) []byte {
	p := mqtt.Publish{Topic: []byte("plant/7/state"), Payload: make([]byte, 64)}
	return p.Append(nil, v)
}

// A QoS 0 PUBLISH is decoded, routed and written without an allocation.
func TestQoS0RoutesWithoutAllocation(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for _, n := range []int{1, 100} {
			routed(t, v, n, func(c *connection) {
				b := packet(v)
				before := c.sh.traffic.n[PublishSent]
				allocs := testing.AllocsPerRun(1000, func() { c.Feed(b) })
				if sent := c.sh.traffic.n[PublishSent] - before; sent != 1001*n {
					t.Errorf("%v: %d deliveries, want %d", v, sent, 1001*n)
				}
				if allocs != 0 && !raced {
					t.Errorf("%v, %d subscribers: %v allocations", v, n, allocs)
				}
			})
		}
	}
}

func BenchmarkRouteQoS0(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			routed(b, mqtt.V311, n, func(c *connection) {
				p := packet(mqtt.V311)
				b.ReportAllocs()
				for b.Loop() {
					c.Feed(p)
				}
			})
		})
	}
}
