// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/transport"
)

// Through sockets, loop and broker, a message of QoS 0 costs no allocation, large or small, for one receiver or a hundred.
func TestQoS0OverSocketsAllocatesNothing(t *testing.T) {
	for _, size := range []int{100, 4 << 10, 20 << 10} {
		for _, n := range []int{1, 100} {
			w := newWired(t, 1)
			var subs []int
			for i := range n {
				fd := w.dial(fmt.Sprint("s", i), mqtt.V311)
				w.subscribe(fd, "t", 0, mqtt.V311)
				subs = append(subs, fd)
			}
			pub := w.dial("p", mqtt.V311)
			p := mqtt.Publish{Topic: []byte("t"), Payload: make([]byte, size)}
			b := p.Append(nil, mqtt.V311)
			got := make([]byte, len(b))
			round := func() {
				w.send(pub, b)
				for _, fd := range subs {
					w.read(fd, got)
				}
			}
			for range 20 {
				round()
			}
			// The whole process is counted. The reader may meet half of a large message, and keep it: now and then is not each time.
			if allocs := testing.AllocsPerRun(200, round); allocs > 0 && !broker.Raced {
				t.Errorf("%d bytes to %d: %v allocations", size, n, allocs)
			}
		}
	}
}

// Receivers that do not read refer to the same memory, and it is given back when they have read, or left.
func TestSlowReceiversShareALargePayload(t *testing.T) {
	const receivers = 40
	w := newWired(t, 2)
	before := transport.Blocks().InUse
	var subs []int
	for i := range receivers {
		fd := w.dial(fmt.Sprint("s", i), mqtt.V5)
		w.subscribe(fd, "t", 0, mqtt.V5)
		subs = append(subs, fd)
	}
	pub := w.dial("p", mqtt.V5)
	fill := mqtt.Publish{Topic: []byte("t"), Payload: make([]byte, 250_000)}
	dropped := func() (n int64) {
		for _, d := range w.Stats().Dropped {
			n += d
		}
		return n
	}
	for dropped() < receivers { // until every socket and out-queue is full
		w.send(pub, fill.Append(nil, mqtt.V5))
		time.Sleep(time.Millisecond)
	}
	// Each queue holds more than MaxOutBytes. They do not all hold the same messages: what the kernel takes of each differs.
	full, each := transport.Blocks().InUse-before, int64(w.Limits().MaxOutBytes)
	t.Logf("full queues of %d receivers refer to %d bytes", receivers, full)
	if full < each || full > receivers*each/3 {
		t.Errorf("full queues of %d receivers refer to %d bytes", receivers, full)
	}
	for _, fd := range subs[:receivers/2] {
		w.close(fd)
	}
	buf := make([]byte, 64<<10)
	for deadline := time.Now().Add(8 * time.Second); transport.Blocks().InUse != before; time.Sleep(time.Millisecond) {
		for _, fd := range subs[receivers/2:] {
			for n := 1; n > 0; {
				n, _, _ = unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of blocks are not given back; %+v", transport.Blocks().InUse-before, w.srv.Counts())
		}
	}
}

// Whatever a receiver wants of its own, a large message reaches it whole: versions, subscription identifiers, aliases, retain flags, its limit of
// size, over all loops.
func TestLargeMessagesForEveryReceiver(t *testing.T) {
	w := newWired(t, 2)
	pub := w.dial("p", mqtt.V5)
	for _, size := range []int{session.RefSize - 1, session.RefSize, 30_000, 300_000} {
		payload := bytes.Repeat([]byte{byte(size)}, size)
		props := mqtt.AppendPropString(nil, mqtt.PropContentType, "x")
		p := mqtt.Publish{Topic: []byte("large"), Payload: payload, Properties: props}
		type receiver struct {
			fd   int
			v    mqtt.Version
			want mqtt.Properties
		}
		var all []receiver
		for i, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5, mqtt.V5, mqtt.V311, mqtt.V5} {
			fd := w.dial(fmt.Sprintf("r%d-%d", size, i), v)
			s := mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte("large")}}}
			want := mqtt.Properties(nil)
			if v == mqtt.V5 {
				want = props
				if i == 3 {
					s.Properties = mqtt.AppendPropVarInt(nil, mqtt.PropSubscriptionIdentifier, 77)
					want = mqtt.AppendPropVarInt(bytes.Clone(props), mqtt.PropSubscriptionIdentifier, 77)
				}
			}
			w.send(fd, s.Append(nil, v))
			w.packet(fd, mqtt.SUBACK)
			all = append(all, receiver{fd, v, want})
		}
		small := w.dialWith(mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("small"), KeepAlive: 600,
			Properties: mqtt.AppendPropUint32(nil, mqtt.PropMaximumPacketSize, uint32(size))})
		w.subscribe(small, "#", 0, mqtt.V5)
		for range 3 {
			w.send(pub, p.Append(nil, mqtt.V5))
		}
		last := mqtt.Publish{Topic: []byte("last")}
		w.send(pub, last.Append(nil, mqtt.V5))
		for _, r := range all {
			for range 3 {
				var got mqtt.Publish
				body, h := w.whole(r.fd)
				if err := got.Decode(h, body, r.v); err != nil {
					t.Fatal(err)
				}
				if string(got.Topic) != "large" || !bytes.Equal(got.Payload, payload) || !bytes.Equal(got.Properties, r.want) {
					t.Fatalf("%v, %d bytes: got %q, %d bytes, properties % x, want % x", r.v, size, got.Topic, len(got.Payload), got.Properties, r.want)
				}
			}
			w.close(r.fd)
		}
		var got mqtt.Publish
		body, h := w.whole(small)
		if err := got.Decode(h, body, mqtt.V5); err != nil || string(got.Topic) != "last" {
			t.Errorf("whose Maximum Packet Size is %d got %q, %v", size, got.Topic, err)
		}
		w.close(small)
	}
}

// whole reads one packet of any size.
func (w *wired) whole(fd int) ([]byte, mqtt.Header) {
	w.t.Helper()
	head := make([]byte, 1, 5)
	w.read(fd, head)
	for {
		head = head[:len(head)+1]
		w.read(fd, head[len(head)-1:])
		if head[len(head)-1]&0x80 == 0 {
			break
		}
	}
	n, _ := binary.Uvarint(head[1:])
	body := make([]byte, n)
	w.read(fd, body)
	return body, mqtt.Header{Type: mqtt.PacketType(head[0] >> 4), Flags: head[0] & 0x0F, Remaining: int(n)}
}
