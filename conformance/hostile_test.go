// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/transport/std"
)

// attack is what a hostile client does. It returns when the server has ended it, or when it has done its worst, and leaves its
// connections open.
type attack struct {
	name string
	run  func(*T)
	most int64 // bytes by which the heap may grow, what is in the network's buffers included; 0 is ordinary
}

const ordinary = 4 << 20

var attacks = []attack{
	{"huge_length_before_connect", hugeBeforeConnect, 0},
	{"huge_connect", hugeConnect, 0},
	{"slow_connect", slowConnect, 0},
	{"silence", silence, 0},
	{"slow_packet", slowPacket, 0},
	{"huge_length_after_connect", hugeAfterConnect, 0},
	{"topic_of_30000_levels", deepTopic, 0},
	{"filter_of_30000_levels", deepFilter, 0},
	{"filter_of_30000_wildcards", wildFilter, 0},
	{"endless_properties", endlessProperties, 0},
	{"million_filters", millionFilters, 0},
	{"more_subscriptions_than_allowed", tooManySubscriptions, 16 << 20},
	{"million_filters_to_unsubscribe", millionUnsubscribes, 8 << 20},
	{"malformed_text", malformedText, 0},
	{"packets_after_disconnect", afterDisconnect, 0},
	{"connect_again_and_again", connectAgain, 0},
	{"acknowledgements_of_nothing", ackNothing, 0},
	{"pings_without_reading", pingsUnread, 8 << 20},
	{"qos_2_never_released", neverReleased, 0},
	{"messages_unread", messagesUnread, 16 << 20},
	{"aliases_of_long_topics", longAliases, 48 << 20},
	{"random_bytes", randomBytes, 0},
	{"websocket_wrong_frames", wrongFrames, 0},
	{"websocket_endless_handshake", endlessHandshake, 0},
	{"websocket_pings_unread", websocketPings, 8 << 20},
}

// TestHostile runs each attack a few times while a healthy client publishes to itself. All of it happens in memory, in virtual
// time, so that no attack is fast or slow by chance.
func TestHostile(t *testing.T) {
	if !own() {
		t.Skip("attacks somebody's broker only where there is no -addr")
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			run(t, mqtt.V5, a.test)
		})
	}
}

func (a *attack) test(t *T) {
	l := broker.DefaultLimits()
	l.ConnectTimeout = 2 * time.Second
	t.broker = brokertest.New(t.T, broker.Options{Limits: &l, Policy: broker.Policy{SysInterval: -1}})
	healthy := t.Connect("healthy")
	t.Subscribe(healthy, 1, t.Topic("health"))
	before := heap()
	for i := range 3 {
		served := t.Connect(fmt.Sprint("other", i)) // newcomers get in too
		t.Publish(served, 1, t.Topic("health"), "from another")
		t.Take(healthy, t.Topic("health"), "from another")
		opened := len(t.conns)
		a.during(t, healthy)
		t.settle()
		if grown := heap() - before; grown > max(a.most, ordinary) {
			t.Errorf("the heap has grown by %d bytes, want %d at most", grown, max(a.most, ordinary))
		}
		for _, conn := range t.conns[opened:] {
			conn.Close()
		}
		t.Leave(served)
	}
}

// during runs the attack, and sees the healthy client served at the same time.
func (a *attack) during(t *T, healthy *wire.Client) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.run(t)
	}()
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		default:
		}
		from := time.Now()
		p := &mqtt.Publish{QoS: 1, ID: 1, Topic: []byte(t.Topic("health")), Payload: fmt.Append(nil, n)}
		healthy.Send(p)
		t.healthy(healthy, fmt.Sprint(n))
		if took := time.Since(from); took > time.Second {
			t.Errorf("the healthy client waited for %v", took)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// healthy wants the client's own message and its PUBACK, in any order.
func (t *T) healthy(c *wire.Client, payload string) {
	t.Helper()
	for range 2 {
		switch p := c.Next().(type) {
		case *mqtt.Publish:
			equal(t, "payload", string(p.Payload), payload)
			t.begin(c, p)
		case *mqtt.Ack:
			equal(t, "packet", p.Type, mqtt.PUBACK)
		default:
			t.Errorf("got %v", p)
		}
	}
}

// heap is what is alive.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// villain is a client that writes without reading; the server may end it at any time.
type villain struct {
	t    *T
	conn net.Conn
}

func (t *T) villain() *villain { return &villain{t, t.conn()} }

// inside connects first.
func (t *T) inside(o ...option) *villain {
	v := t.villain()
	c := wire.New(t.T, v.conn, mqtt.V5)
	c.Connect(t.connect("villain", o...))
	return v
}

// send writes, and reports whether the server still listens.
func (v *villain) send(b []byte) bool {
	v.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, err := v.conn.Write(b)
	return err == nil
}

// stuck reports that the server did not take all of it in time, which is its good right.
func (v *villain) stuck(b []byte) bool {
	v.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := v.conn.Write(b)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// ended wants the connection closed by the server within d.
func (v *villain) ended(d time.Duration) {
	v.t.Helper()
	v.conn.SetReadDeadline(time.Now().Add(d))
	b := make([]byte, 64<<10)
	for {
		if _, err := v.conn.Read(b); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				v.t.Errorf("the connection is open after %v", d)
			}
			return
		}
	}
}

// many has an attack done by several connections, one after the other.
func many(n int, f func()) {
	for range n {
		f()
	}
}

func hugeBeforeConnect(t *T) {
	many(20, func() {
		for _, first := range []byte{0x10, 0x30, 0x82} {
			v := t.villain()
			v.send([]byte{first, 0xFF, 0xFF, 0xFF, 0x7F})
			v.ended(time.Second)
		}
	})
}

func hugeConnect(t *T) {
	many(20, func() {
		v := t.villain()
		v.send(frame(0x10, field("MQTT"), []byte{5, 2}, short(0), []byte{0}, field(strings.Repeat("x", 60_000))))
		v.ended(time.Second)
	})
}

// slowConnect sends a byte a second: the time counts for the whole CONNECT.
func slowConnect(t *T) {
	p := t.connect("slow")
	v := t.villain()
	from := time.Now()
	for _, b := range p.Append(nil) {
		if !v.send([]byte{b}) {
			break
		}
		time.Sleep(time.Second)
	}
	if took := time.Since(from); took > 4*time.Second {
		t.Errorf("a slow CONNECT was listened to for %v", took)
	}
	v.ended(time.Second)
}

func silence(t *T) {
	v := t.villain()
	v.ended(std.DefaultHandshakeTimeout + 3*time.Second) // the transport waits for the first byte, then the broker for the rest
}

// slowPacket sends a byte a second after CONNECT: no packet is complete, so that the keep alive ends it.
func slowPacket(t *T) {
	v := t.inside(keepAlive(4))
	packet := t.publishPacket(0, t.Topic("x"), -1, strings.Repeat("x", 100))
	for i, b := range packet {
		if !v.send([]byte{b}) {
			break
		}
		if i > 10 {
			t.Error("half a packet keeps a connection alive")
			break
		}
		time.Sleep(time.Second)
	}
	v.ended(time.Second)
}

func hugeAfterConnect(t *T) {
	many(20, func() {
		v := t.inside()
		v.send([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F})
		v.ended(time.Second)
	})
}

var deep = strings.Repeat("a/", 30_000) + "a"

func deepTopic(t *T) {
	many(20, func() {
		v := t.inside()
		v.send(t.publishPacket(1, deep, -1, "x"))
		v.ended(time.Second)
	})
}

func deepFilter(t *T) {
	v := t.inside()
	for i := range 40 {
		v.send(t.subscribePacket(uint16(i+1), field(deep), []byte{0}))
	}
}

func wildFilter(t *T) {
	v := t.inside()
	for i := range 40 {
		v.send(t.subscribePacket(uint16(i+1), field(strings.Repeat("+/", 30_000)+"#"), []byte{0}))
	}
}

// endlessProperties sends as many user properties as fit in the largest packet.
func endlessProperties(t *T) {
	pair := userProperty("", "")
	block := bytes.Repeat(pair, 1_000_000/len(pair))
	many(5, func() {
		v := t.inside()
		v.send(frame(0x30, field(t.Topic("x")), varint(nil, len(block)), block))
		v.ended(5 * time.Second)
		v = t.inside()
		v.send(frame(0x82, short(1), varint(nil, len(block)), block, field("x"), []byte{0}))
		v.ended(5 * time.Second)
	})
	block = block[:3000*len(pair)]
	v := t.villain()
	v.send(frame(0x10, field("MQTT"), []byte{5, 2}, short(0), varint(nil, len(block)), block, field("x")))
	v.ended(time.Second)
}

// filters are n different filters of six bytes, each with what follows it.
func filters(n int, after ...byte) []byte {
	b := make([]byte, 0, n*(8+len(after)))
	for i := range n {
		b = fmt.Appendf(append(b, 0, 6), "%06x", i)
		b = append(b, after...)
	}
	return b
}

// millionFilters is a SUBSCRIBE of a million filters, larger than a packet may be.
func millionFilters(t *T) {
	v := t.inside()
	v.send(frame(0x82, short(1), t.block(), filters(1_000_000, 0)))
	v.ended(5 * time.Second)
}

// tooManySubscriptions asks for more than a session may have: at once, and bit by bit.
func tooManySubscriptions(t *T) {
	c := t.Connect("villain")
	most := broker.DefaultLimits().MaxSubscriptions
	c.Raw(t.subscribePacket(1, filters(100_000, 0))...)
	switch p := c.Next().(type) {
	case *mqtt.Disconnect:
		equal(t, "code", p.Code, mqtt.QuotaExceeded)
	case *mqtt.Suback: // or filter by filter
		granted := slices.DeleteFunc(p.Codes, mqtt.ReasonCode.IsError)
		if len(granted) > most {
			t.Errorf("%d subscriptions were granted, want %d at most", len(granted), most)
		}
	}

	c = t.Connect("villain")
	all := filters(most+2000, 0)
	const entry = 9 // bytes of each
	for from := 0; from < len(all); from += 1000 * entry {
		c.Raw(t.subscribePacket(1, all[from:from+1000*entry])...)
		for i, code := range wire.Want[*mqtt.Suback](c).Codes {
			want := mqtt.Success
			if from/entry+i >= most {
				want = mqtt.QuotaExceeded
			}
			equal(t, "code", code, want)
		}
	}
	c.WantQuiet()
}

func millionUnsubscribes(t *T) {
	c := t.Connect("villain")
	c.Raw(t.unsubscribePacket(1, filters(130_000))...)
	equal(t, "codes", len(wire.Want[*mqtt.Unsuback](c).Codes), 130_000)
	c.Raw(t.unsubscribePacket(1, filters(1_000_000))...)
	t.Closed(c, mqtt.PacketTooLarge)
}

func malformedText(t *T) {
	for _, text := range illFormedTexts {
		v := t.inside()
		v.send(t.publishPacket(1, strings.Repeat("a", 60_000)+text, -1, "x"))
		v.ended(time.Second)
	}
}

func afterDisconnect(t *T) {
	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("after"))
	v := t.inside()
	packet := t.publishPacket(1, t.Topic("after"), -1, strings.Repeat("x", 1000))
	v.send(append([]byte{0xE0, 0}, bytes.Repeat(packet, 50)...))
	for v.send(packet) { // until the server hangs up
		time.Sleep(time.Millisecond)
	}
	t.Nothing(watch)
	t.Leave(watch)
}

func connectAgain(t *T) {
	p := t.connect("villain")
	packet := p.Append(nil)
	many(20, func() {
		v := t.inside()
		v.send(bytes.Repeat(packet, 1000))
		v.ended(time.Second)
	})
}

func ackNothing(t *T) {
	v := t.inside()
	var b []byte
	for id := uint16(1); id < 20_000; id++ {
		for _, first := range []byte{0x40, 0x70} {
			b = append(b, first, 2, byte(id>>8), byte(id))
		}
	}
	if !v.send(b) {
		t.Error("the connection was closed for acknowledgements of nothing")
	}
}

// pingsUnread asks and never reads the answers: the server stops listening, or ends it.
func pingsUnread(t *T) {
	v := t.inside()
	b := bytes.Repeat([]byte{0xC0, 0}, 4<<20)
	if !v.stuck(b) && v.send(b) {
		t.Error("the server takes any number of pings")
	}
}

func neverReleased(t *T) {
	v := t.inside()
	var b []byte
	for id := 1; id <= 0xFFFF; id++ {
		b = append(b, t.publishPacket(4, t.Topic("x"), id, "x")...)
	}
	go v.send(b)
	v.ended(5 * time.Second)
}

// messagesUnread subscribes, and reads nothing of 100 MB.
func messagesUnread(t *T) {
	c := t.Connect("villain")
	t.Subscribe(c, 0, t.Topic("flood"))
	pub := t.Connect("flooder")
	payload := make([]byte, 100_000)
	for range 1000 {
		pub.Send(&mqtt.Publish{Topic: []byte(t.Topic("flood")), Payload: payload})
	}
	pub.WantQuiet()
	t.Leave(pub)
}

// longAliases has twenty connections fill all 32 aliases with the longest names: 2 MB each.
func longAliases(t *T) {
	for i := range 20 {
		v := t.inside(func(p *mqtt.Connect) { p.ClientID = []byte(t.ID(fmt.Sprint("villain", i))) })
		for alias := uint16(1); alias <= broker.DefaultLimits().TopicAliasMaximum; alias++ {
			v.send(aliased(alias, strings.Repeat("x", 65_000), "").Append(nil, mqtt.V5))
		}
	}
}

func randomBytes(t *T) {
	seed := uint32(1)
	for range 100 {
		b := make([]byte, 2000)
		for i := range b {
			seed = seed*1664525 + 1013904223
			b[i] = byte(seed >> 24)
		}
		v := t.villain()
		v.send(b)
		v.ended(4 * time.Second)
		b[0] = 0x31 | b[0]&0x70 // a packet type, of whatever content
		v = t.inside(keepAlive(2))
		v.send(b)
		v.ended(5 * time.Second)
	}
}

// wrongFrames breaks each rule of framing.
func wrongFrames(t *T) {
	ping := []byte{0xC0, 0}
	for what, send := range map[string]func(u *upgraded) error{
		"text":                    func(u *upgraded) error { return u.frame(fin|opText, ping) },
		"reserved bits":           func(u *upgraded) error { return u.frame(fin|0x40|opBinary, ping) },
		"unknown kind":            func(u *upgraded) error { return u.frame(fin|0x3, ping) },
		"unknown control kind":    func(u *upgraded) error { return u.frame(fin|0xB, nil) },
		"continuation of nothing": func(u *upgraded) error { return u.frame(fin|opContinuation, ping) },
		"message in a message": func(u *upgraded) error {
			return errors.Join(u.frame(opBinary, nil), u.frame(fin|opBinary, ping))
		},
		"ping in fragments": func(u *upgraded) error { return u.frame(opPing, nil) },
		"long ping":         func(u *upgraded) error { return u.frame(fin|opPing, make([]byte, 126)) },
		"half a close code": func(u *upgraded) error { return u.frame(fin|opClose, []byte{3}) },
		"close":             func(u *upgraded) error { return u.frame(fin|opClose, []byte{3, 0xE8}) },
		"not masked": func(u *upgraded) error {
			_, err := u.Conn.Write([]byte{fin | opBinary, 2, 0xC0, 0})
			return err
		},
		"more than 2^63 bytes": func(u *upgraded) error {
			_, err := u.Conn.Write(slices.Concat([]byte{fin | opBinary, 0xFF}, bytes.Repeat([]byte{0xFF}, 8), make([]byte, 4)))
			return err
		},
	} {
		c, u := t.overWebSocket()
		c.Connect(t.connect("villain"))
		if err := send(u); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		v := &villain{t, u.Conn}
		v.ended(6 * time.Second)
	}
}

// endlessHandshake begins a handshake whose headers do not end.
func endlessHandshake(t *T) {
	v := t.villain()
	v.send([]byte("GET /mqtt HTTP/1.1\r\nHost: localhost\r\n"))
	for i := 0; i < 100_000 && v.send(fmt.Appendf(nil, "X-%d: %s\r\n", i, strings.Repeat("x", 100))); i++ {
		if i == 99_999 {
			t.Error("ten megabytes of headers were taken")
		}
	}
	v.ended(time.Second)
}

func websocketPings(t *T) {
	_, u := t.overWebSocket()
	v := &villain{t, u.Conn}
	b := bytes.Repeat([]byte{fin | opPing, 0x80, 0, 0, 0, 0}, 100_000)
	for range 20 {
		if !v.send(b) {
			break
		}
	}
}
