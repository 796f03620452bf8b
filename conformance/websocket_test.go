// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// websocketRules are about MQTT over WebSocket (chapter 6).
var websocketRules = []rule{
	{"websocket_text_frame", "MQTT-6.0.0-1", "MQTT-6.0.0-1", textFrame},
	{"websocket_split_and_joined", "MQTT-6.0.0-2", "MQTT-6.0.0-2", splitAndJoined},
	{"websocket_fragments", "MQTT-6.0.0-2", "MQTT-6.0.0-2", fragments},
	{"websocket_subprotocol", "MQTT-6.0.0-4", "MQTT-6.0.0-4", subprotocol},
}

// The kinds of frames.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
	fin            = 0x80
)

// upgraded is a connection after the handshake. It writes frames as it is told, and reads the payload of the server's binary
// frames.
type upgraded struct {
	net.Conn
	r    *bufio.Reader
	left int // bytes of the frame at hand
}

// upgrade makes the handshake, offering a list of subprotocols, and gives the answer too.
func (t *T) upgrade(offer string) (*upgraded, *http.Response) {
	t.Helper()
	if !own() && *wsAddr == "" {
		t.Skip("give -ws to test WebSocket there")
	}
	var conn net.Conn
	if own() {
		conn = t.conn()
	} else {
		conn = dial(t, *wsAddr)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n", offer)
	u := &upgraded{Conn: conn, r: bufio.NewReader(conn)}
	answer, err := http.ReadResponse(u.r, nil)
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return u, answer
}

// frame sends one frame of a client: masked, with this first byte.
func (u *upgraded) frame(first byte, payload []byte) error {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, key[:]...)
	for i, x := range payload {
		b = append(b, x^key[i&3])
	}
	_, err := u.Conn.Write(b)
	return err
}

// Write sends one binary frame.
func (u *upgraded) Write(b []byte) (int, error) { return len(b), u.frame(fin|opBinary, b) }

// Read gives payload. A close frame is the end.
func (u *upgraded) Read(b []byte) (int, error) {
	for u.left == 0 {
		var head [2]byte
		if _, err := io.ReadFull(u.r, head[:]); err != nil {
			return 0, err
		}
		if head[1]&0x80 != 0 {
			return 0, fmt.Errorf("the server masks its frames")
		}
		u.left = int(head[1])
		more := map[int]int{126: 2, 127: 8}[u.left]
		if more > 0 {
			var n [8]byte
			if _, err := io.ReadFull(u.r, n[8-more:]); err != nil {
				return 0, err
			}
			u.left = int(binary.BigEndian.Uint64(n[:]))
		}
		switch head[0] & 0xF {
		case opBinary, opContinuation:
		case opClose:
			return 0, io.EOF
		case opPing, opPong:
			u.r.Discard(u.left)
			u.left = 0
		default:
			return 0, fmt.Errorf("the server sent a frame that begins with %#x", head[0])
		}
	}
	n, err := u.r.Read(b[:min(len(b), u.left)])
	u.left -= n
	return n, err
}

// overWebSocket opens a connection that speaks MQTT within frames.
func (t *T) overWebSocket() (*wire.Client, *upgraded) {
	t.Helper()
	u, answer := t.upgrade("mqtt")
	equal(t, "status", answer.StatusCode, http.StatusSwitchingProtocols)
	return t.inspected(wire.New(t.T, u, t.V)), u
}

func textFrame(t *T) {
	c, u := t.overWebSocket()
	p := t.connect("a")
	if err := u.frame(fin|opText, p.Append(nil)); err != nil {
		t.Fatal(err)
	}
	equal(t, "what the server says to CONNECT in a text frame", len(c.Rest()), 0)

	watch := t.Connect("watch")
	t.Subscribe(watch, 0, t.Topic("x"))
	c, u = t.overWebSocket()
	c.Connect(t.connect("a"))
	if err := u.frame(fin|opText, t.publishPacket(0, t.Topic("x"), -1, "x")); err != nil {
		t.Fatal(err)
	}
	if code := c.WantClosed(); t.V != mqtt.V5 && code != mqtt.Success {
		t.Errorf("a code came before the end: %v", code)
	}
	t.Nothing(watch)
}

// stream is CONNECT, SUBSCRIBE and five PUBLISHes.
func (t *T) stream() []byte {
	p := t.connect("a")
	b := p.Append(nil)
	b = append(b, t.subscribePacket(1, field(t.Topic("x")), []byte{1})...)
	for i := range 5 {
		b = append(b, t.publishPacket(2, t.Topic("x"), i+1, fmt.Sprint(i))...)
	}
	return b
}

// checkStream wants the answers to stream.
func (t *T) checkStream(c *wire.Client) {
	t.Helper()
	equal(t, "code of CONNACK", wire.Want[*mqtt.Connack](c).Code, mqtt.Success)
	c.WantSuback(1)
	next, acks := 0, 0
	for next < 5 || acks < 5 {
		switch p := c.Next().(type) {
		case *mqtt.Publish:
			equal(t, "payload", string(p.Payload), fmt.Sprint(next))
			t.ack(c, p)
			next++
		case *mqtt.Ack:
			acks++
			equal(t, "packet identifier", int(p.ID), acks)
		}
	}
	c.WantQuiet()
	t.Leave(c)
}

func splitAndJoined(t *T) {
	b := t.stream()
	for _, size := range []int{1, 2, 7, len(b)} {
		c, _ := t.overWebSocket()
		for from := 0; from < len(b); from += size {
			c.Raw(b[from:min(from+size, len(b))]...)
		}
		t.checkStream(c)
	}
}

// fragments sends one message in many frames, with pings and empty frames in between.
func fragments(t *T) {
	b := t.stream()
	c, u := t.overWebSocket()
	first := byte(opBinary)
	send := func(op byte, payload []byte) {
		if err := u.frame(op, payload); err != nil {
			t.Fatal(err)
		}
	}
	for from := 0; from < len(b); from += 9 {
		send(first, b[from:min(from+9, len(b))])
		send(fin|opPing, []byte("ping"))
		send(opContinuation, nil)
		first = opContinuation
	}
	send(fin|opContinuation, nil)
	t.checkStream(c)
}

func subprotocol(t *T) {
	for _, offer := range []string{"mqtt", "mqtt, mqttv3.1", "chat, mqtt"} {
		_, answer := t.upgrade(offer)
		equal(t, "status", answer.StatusCode, http.StatusSwitchingProtocols)
		equal(t, "subprotocol", answer.Header.Get("Sec-WebSocket-Protocol"), "mqtt")
		equal(t, "accept", answer.Header.Get("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
		if !strings.EqualFold(answer.Header.Get("Upgrade"), "websocket") {
			t.Errorf("Upgrade is %q", answer.Header.Get("Upgrade"))
		}
	}
}
