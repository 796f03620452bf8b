// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package wire is an MQTT client for tests that see every packet: it sends what it is told, whole or broken, and shows what
// comes back. It keeps no state and answers nothing by itself.
package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// Client is one connection under test. One goroutine uses it.
type Client struct {
	t        testing.TB
	Conn     net.Conn
	Version  mqtt.Version
	Patience time.Duration // how long Next waits; 5 s at first
	Inspect  func([]byte)  // if set: is lent each whole packet before it is decoded
	Last     []byte        // the packet that Read gave last, as it came
	buf      []byte
}

// New makes a client of a connection that is open, and closes it at the end of the test.
func New(t testing.TB, conn net.Conn, v mqtt.Version) *Client {
	t.Cleanup(func() { conn.Close() })
	return &Client{t: t, Conn: conn, Version: v, Patience: 5 * time.Second}
}

// Raw sends bytes as they are. A connection that the server has closed meanwhile is no fault here.
func (c *Client) Raw(b ...byte) {
	c.t.Helper()
	c.Conn.SetWriteDeadline(time.Now().Add(c.Patience))
	if _, err := c.Conn.Write(b); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("write: %v", err)
	}
}

// Packet is any packet of package mqtt.
type Packet interface {
	Append(dst []byte, v mqtt.Version) []byte
}

// Send sends packets in one write.
func (c *Client) Send(ps ...Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range ps {
		b = p.Append(b, c.Version)
	}
	c.Raw(b...)
}

// Ping sends PINGREQ.
func (c *Client) Ping() { c.t.Helper(); c.Raw(mqtt.AppendPingreq(nil)...) }

// Pong is a PINGRESP.
type Pong struct{}

// ErrQuiet says that nothing came in time.
var ErrQuiet = errors.New("nothing came")

// Read gives the next packet, cloned: *mqtt.Connack, *mqtt.Publish, *mqtt.Ack, *mqtt.Suback, *mqtt.Unsuback, *mqtt.Disconnect, *mqtt.Auth
// or Pong. io.EOF says that the server closed the connection, in whatever way; ErrQuiet that nothing came within d.
func (c *Client) Read(d time.Duration) (any, error) {
	deadline := time.Now().Add(d)
	for {
		h, n, err := mqtt.DecodeHeader(c.buf, c.Version)
		if err != nil {
			return nil, fmt.Errorf("the server sent a bad header % x: %w", c.buf[:min(8, len(c.buf))], err)
		}
		if n > 0 && len(c.buf) >= n+h.Remaining {
			c.Last = slices.Clone(c.buf[:n+h.Remaining])
			c.buf = c.buf[n+h.Remaining:]
			if c.Inspect != nil {
				c.Inspect(c.Last)
			}
			return decode(h, slices.Clone(c.Last[n:]), c.Version)
		}
		c.Conn.SetReadDeadline(deadline)
		chunk := make([]byte, 64<<10)
		m, err := c.Conn.Read(chunk)
		c.buf = append(c.buf, chunk[:m]...)
		switch {
		case m > 0:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, ErrQuiet
		case err != nil:
			return nil, io.EOF
		}
	}
}

func decode(h mqtt.Header, body []byte, v mqtt.Version) (any, error) {
	switch h.Type {
	case mqtt.CONNACK:
		p := &mqtt.Connack{}
		return p, p.Decode(h, body, v)
	case mqtt.PUBLISH:
		p := &mqtt.Publish{}
		return p, p.Decode(h, body, v)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		p := &mqtt.Ack{}
		return p, p.Decode(h, body, v)
	case mqtt.SUBACK:
		p := &mqtt.Suback{}
		return p, p.Decode(h, body, v)
	case mqtt.UNSUBACK:
		p := &mqtt.Unsuback{}
		return p, p.Decode(h, body, v)
	case mqtt.DISCONNECT:
		p := &mqtt.Disconnect{}
		return p, p.Decode(h, body, v)
	case mqtt.AUTH:
		p := &mqtt.Auth{}
		return p, p.Decode(h, body, v)
	case mqtt.PINGRESP:
		return Pong{}, nil
	}
	return nil, fmt.Errorf("a server does not send %v", h.Type)
}

// Next gives the next packet; its lack ends the test.
func (c *Client) Next() any {
	c.t.Helper()
	p, err := c.Read(c.Patience)
	if err != nil {
		c.t.Fatalf("wanted a packet: %v", err)
	}
	return p
}

// Want gives the next packet, which has to be a T.
func Want[T any](c *Client) T {
	c.t.Helper()
	p := c.Next()
	got, ok := p.(T)
	if !ok {
		var want T
		c.t.Fatalf("got %v, want a %T", p, want)
	}
	return got
}

// WantAck gives the next packet, which has to be that acknowledgement.
func (c *Client) WantAck(t mqtt.PacketType, id uint16) *mqtt.Ack {
	c.t.Helper()
	a := Want[*mqtt.Ack](c)
	if a.Type != t || a.ID != id {
		c.t.Fatalf("got %v, want %v of %d", a, t, id)
	}
	return a
}

// WantPublish gives the next packet, which has to be a PUBLISH with that topic and payload.
func (c *Client) WantPublish(topic, payload string) *mqtt.Publish {
	c.t.Helper()
	p := Want[*mqtt.Publish](c)
	if string(p.Topic) != topic || string(p.Payload) != payload {
		c.t.Fatalf("got %v with payload %q, want topic %q with payload %q", p, clip(p.Payload), topic, clip([]byte(payload)))
	}
	return p
}

func clip(b []byte) []byte { return b[:min(len(b), 64)] }

// WantQuiet checks that nothing comes before the answer to a PINGREQ, which shows that the server has worked off all
// that was sent on this connection.
func (c *Client) WantQuiet() {
	c.t.Helper()
	c.Ping()
	if p := c.Next(); p != (Pong{}) {
		c.t.Fatalf("got %v, want nothing", p)
	}
}

// WantSilence checks that nothing comes for a while.
func (c *Client) WantSilence(d time.Duration) {
	c.t.Helper()
	if p, err := c.Read(d); err != ErrQuiet {
		c.t.Fatalf("got %v, %v, want nothing", p, err)
	}
}

// WantClosed checks that the server closes the connection, sending nothing before but a DISCONNECT or refusing CONNACK, whose
// code it gives (0 if there was none).
func (c *Client) WantClosed() mqtt.ReasonCode {
	c.t.Helper()
	code := mqtt.Success
	for {
		p, err := c.Read(c.Patience)
		switch p := p.(type) {
		case *mqtt.Disconnect:
			code = p.Code
			continue
		case *mqtt.Connack:
			if p.Code != mqtt.Success {
				code = p.Code
				continue
			}
		}
		if err != io.EOF {
			c.t.Fatalf("got %v, %v, want the end of the connection", p, err)
		}
		return code
	}
}

// Rest gives all bytes that come until the server closes the connection, whether or not they are packets.
func (c *Client) Rest() []byte {
	c.t.Helper()
	c.Conn.SetReadDeadline(time.Now().Add(c.Patience))
	rest, err := io.ReadAll(c.Conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("got % x, want the end of the connection", rest)
	}
	rest = append(c.buf, rest...)
	c.buf = nil
	return rest
}

// Connect sends a CONNECT and gives the CONNACK, which has to grant it. Version and protocol name are filled in.
func (c *Client) Connect(p mqtt.Connect) *mqtt.Connack {
	c.t.Helper()
	c.SendConnect(p)
	a := Want[*mqtt.Connack](c)
	if a.Code != mqtt.Success {
		c.t.Fatalf("CONNECT was refused: %v", a)
	}
	return a
}

// SendConnect sends a CONNECT.
func (c *Client) SendConnect(p mqtt.Connect) {
	c.t.Helper()
	p.Version = c.Version
	c.Raw(p.Append(nil)...)
}

// Subscribe sends a SUBSCRIBE for filters with one QoS and checks the SUBACK.
func (c *Client) Subscribe(id uint16, q mqtt.QoS, filters ...string) *mqtt.Suback {
	c.t.Helper()
	p := &mqtt.Subscribe{ID: id}
	for _, f := range filters {
		p.Subscriptions = append(p.Subscriptions, mqtt.Subscription{Filter: []byte(f), QoS: q})
	}
	c.Send(p)
	return c.WantSuback(id)
}

// WantSuback gives the next packet, which has to be the SUBACK of id without a failure.
func (c *Client) WantSuback(id uint16) *mqtt.Suback {
	c.t.Helper()
	a := Want[*mqtt.Suback](c)
	if a.ID != id {
		c.t.Fatalf("got %v, want the SUBACK of %d", a, id)
	}
	for _, code := range a.Codes {
		if code.IsError() {
			c.t.Fatalf("SUBSCRIBE was refused: %v", a)
		}
	}
	return a
}

// Publish sends a PUBLISH and, for QoS 1 and 2, goes through the acknowledgements.
func (c *Client) Publish(p mqtt.Publish) {
	c.t.Helper()
	c.Send(&p)
	switch p.QoS {
	case 1:
		c.WantAck(mqtt.PUBACK, p.ID)
	case 2:
		c.WantAck(mqtt.PUBREC, p.ID)
		c.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: p.ID})
		c.WantAck(mqtt.PUBCOMP, p.ID)
	}
}

// Disconnect sends DISCONNECT and closes.
func (c *Client) Disconnect() {
	c.t.Helper()
	c.Send(&mqtt.Disconnect{})
	c.Conn.Close()
}
