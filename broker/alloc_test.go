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
	routedQoS(t, v, 0, subscribers, func(c *connection, _ []*connection) { f(c) })
}

// routedQoS does so with subscriptions of that QoS, and hands the subscribers over too.
func routedQoS(t testing.TB, v mqtt.Version, q mqtt.QoS, subscribers int, f func(c *connection, subscribers []*connection)) {
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
		var all []*connection
		for i := range subscribers {
			c := dial(fmt.Sprint("s", i))
			c.makeSubscriptions(&subscribing{subs: []plugin.Subscription{{Filter: "plant/+/state", QoS: q}}, fresh: make([]bool, 1),
				plain: []topic.Filter{{Filter: "plant/+/state"}}, codes: make([]mqtt.ReasonCode, 1)})
			all = append(all, c)
		}
		p := dial("p")
		f(p, all)
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

// A PUBLISH of QoS 1 is decoded, routed, written, acknowledged by its receivers and answered with one allocation, that of the message: it
// outlives the packet. QoS 2 may need another.
func TestQoS1And2RouteWithFewAllocations(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for _, q := range []mqtt.QoS{1, 2} {
			for _, n := range []int{0, 1, 100} {
				routedQoS(t, v, q, n, func(c *connection, subscribers []*connection) {
					p := mqtt.Publish{Topic: []byte("plant/7/state"), Payload: make([]byte, 64), QoS: q, ID: 7}
					b := p.Append(nil, v)
					release := mqtt.AppendAck(nil, mqtt.PUBREL, 7, mqtt.Success, v)
					id := uint16(0)
					var scratch []byte
					ack := func(to *connection, kind mqtt.PacketType) {
						scratch = mqtt.AppendAck(scratch[:0], kind, id, mqtt.Success, v)
						to.Feed(scratch)
					}
					round := func() {
						c.Feed(b)
						if id++; id == 0 {
							id = 1
						}
						for _, s := range subscribers {
							if q == 1 {
								ack(s, mqtt.PUBACK)
								continue
							}
							ack(s, mqtt.PUBREC)
							ack(s, mqtt.PUBCOMP)
						}
						if q == 2 {
							c.Feed(release)
						}
					}
					before := c.sh.traffic.n[PublishSent]
					allocs := testing.AllocsPerRun(1000, round)
					if sent := c.sh.traffic.n[PublishSent] - before; sent != 1001*n {
						t.Errorf("%v, QoS %d: %d deliveries, want %d", v, q, sent, 1001*n)
					}
					for _, s := range subscribers {
						if left := s.sess.Out.Len() + s.queue.Len(); left > 0 {
							t.Errorf("%v, QoS %d: %d are not acknowledged", v, q, left)
							break
						}
					}
					if allocs > float64(q) && !raced {
						t.Errorf("%v, QoS %d, %d subscribers: %v allocations", v, q, n, allocs)
					}
				})
			}
		}
	}
}

// A large payload of QoS 0 is put into a pooled block for its receivers, or copied for the only one, without an allocation.
func TestLargeQoS0RoutesWithoutAllocation(t *testing.T) {
	for _, size := range []int{1000, session.RefSize, 40_000} {
		for _, n := range []int{1, 100} {
			routed(t, mqtt.V5, n, func(c *connection) {
				p := mqtt.Publish{Topic: []byte("plant/7/state"), Payload: make([]byte, size)}
				b := p.Append(nil, mqtt.V5)
				inUse := transport.Blocks().InUse
				if allocs := testing.AllocsPerRun(300, func() { c.Feed(b) }); allocs != 0 && !raced {
					t.Errorf("%d bytes, %d subscribers: %v allocations", size, n, allocs)
				}
				if left := transport.Blocks().InUse - inUse; left != 0 {
					t.Errorf("%d bytes, %d subscribers: %d bytes of blocks are not given back", size, n, left)
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
