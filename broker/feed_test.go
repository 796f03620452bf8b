// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
)

// packets builds a conversation from bytes: each byte picks a packet, so that a fuzzer finds orders of packets, not only bytes.
func packets(v mqtt.Version, script []byte) []byte {
	var b []byte
	connect := mqtt.Connect{Version: v, ClientID: []byte("fuzz"), CleanStart: len(script)%2 == 0, HasWill: true,
		Will: mqtt.Will{Topic: []byte("w"), QoS: 1}}
	if v == mqtt.V5 {
		connect.Properties = mqtt.AppendPropUint32(nil, mqtt.PropSessionExpiryInterval, uint32(len(script)%3))
	}
	b = connect.Append(b)
	for i, x := range script {
		id := uint16(x>>4) + 1
		switch x & 15 {
		case 0, 1, 2, 3, 4, 5:
			p := mqtt.Publish{Topic: []byte(fmt.Sprint("t/", x>>6)), QoS: mqtt.QoS(x & 15 % 3), Retain: x&15 > 2, ID: id,
				Payload: make([]byte, i%7)}
			b = p.Append(b, v)
		case 6, 7, 8, 9:
			a := mqtt.Ack{Type: mqtt.PUBACK + mqtt.PacketType(x&15-6), ID: id}
			b = a.Append(b, v)
		case 10, 11:
			s := mqtt.Subscribe{ID: id, Subscriptions: []mqtt.Subscription{{Filter: []byte([]string{"t/#", "t/+", "$share/g/t/#", "t/1"}[x>>6]), QoS: mqtt.QoS(id % 3)}}}
			b = s.Append(b, v)
		case 12:
			u := mqtt.Unsubscribe{ID: id, Filters: [][]byte{[]byte("t/#"), []byte("$share/g/t/#")}}
			b = u.Append(b, v)
		case 13:
			b = mqtt.AppendPingreq(b)
		case 14:
			if x>>4 == 0 {
				b = connect.Append(b)
			}
		case 15:
			if x>>4 == 0 {
				d := mqtt.Disconnect{}
				b = d.Append(b, v)
			}
		}
	}
	return b
}

// FuzzConversation: packets in any order, whole or broken, never panic, and never make the broker write more than its budget.
func FuzzConversation(f *testing.F) {
	f.Add(byte(5), []byte{10, 0, 1, 2, 6, 7, 8, 9, 12, 13}, uint16(0), byte(0))
	f.Add(byte(4), []byte{11, 66, 2, 18, 23, 24, 25, 15}, uint16(40), byte(0xFF))
	f.Add(byte(3), []byte{139, 139, 5, 4, 3, 14}, uint16(9), byte(1))
	b, err := New(Options{Loops: 1, Policy: Policy{AllowAnonymous: Everywhere}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Shutdown(f.Context()) })
	f.Fuzz(func(t *testing.T, version byte, script []byte, at uint16, flip byte) {
		if len(script) > 512 {
			return
		}
		wire := packets(mqtt.Version(3+version%3), script)
		wire[int(at)%len(wire)] ^= flip // one broken byte, or none
		converse(t, b, wire)
	})
}

// converse feeds bytes to a connection, in two halves, and lets the store answer in between.
func converse(t *testing.T, b *Broker, wire []byte) {
	var c *connection
	var n *nowhere
	step := func(f func(*shard)) {
		done := make(chan string, 1)
		b.shards[0].loop.Post(loop.Func(func(*loop.Loop) {
			defer func() {
				if v := recover(); v != nil {
					done <- fmt.Sprint(v, "\n", string(debug.Stack()))
				}
			}()
			f(b.shards[0])
			done <- ""
		}))
		if failed := <-done; failed != "" {
			t.Fatal(failed)
		}
	}
	feed := func(part []byte) []byte {
		for len(part) > 0 {
			var eaten int
			step(func(*shard) { eaten, _, _ = c.Feed(part) })
			if eaten > len(part) {
				t.Fatalf("ate %d of %d bytes", eaten, len(part))
			}
			settled := make(chan struct{})
			b.store.Barrier(func() { close(settled) })
			<-settled
			part = part[eaten:]
			if eaten == 0 {
				break
			}
		}
		return part
	}
	step(func(sh *shard) {
		n = &nowhere{loop: sh.loop}
		n.info.LocalPeer = true
		c = sh.accept(n)
	})
	half := len(wire) / 2
	rest := feed(wire[:half])
	feed(append(append([]byte(nil), rest...), wire[half:]...))
	step(func(*shard) {
		if n.out.Len() > b.Limits().MaxOutBytes*2 {
			t.Errorf("%d bytes wait to be written", n.out.Len())
		}
		c.Closed(nil)
	})
}
