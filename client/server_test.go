// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a listener whose connections the test serves packet by packet.
type server struct {
	t        *testing.T
	listener *memnet.Listener
	version  mqtt.Version
}

func newServer(t *testing.T, v mqtt.Version) *server {
	s := &server{t: t, listener: memnet.Listen(), version: v}
	t.Cleanup(func() { s.listener.Close() })
	return s
}

// options connect to the server. The jitter is gone: the n-th pause is 2^(n-1) seconds.
func (s *server) options() Options {
	return Options{
		Servers: []string{"mqtt://server"}, ClientID: "c", Version: s.version, KeepAlive: -1,
		Dial:   func(ctx context.Context, _, _ string) (net.Conn, error) { return s.listener.Dial(ctx) },
		Random: func() float64 { return 1 },
	}
}

// client starts a client, which is closed at the end of the test.
func (s *server) client(o Options) *Client {
	s.t.Helper()
	c, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	c.Start()
	s.t.Cleanup(func() {
		c.cut()
		c.Close(s.t.Context())
		<-c.Done()
	})
	return c
}

// peer is the server's end of one connection.
type peer struct {
	t       *testing.T
	conn    *memnet.Conn
	in      inBuffer
	version mqtt.Version
	connect *mqtt.Connect
}

// accept takes the next connection and its CONNECT.
func (s *server) accept() *peer {
	s.t.Helper()
	conn, err := s.listener.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	p := &peer{t: s.t, conn: conn.(*memnet.Conn), version: s.version}
	s.t.Cleanup(func() { conn.Close() })
	p.connect = want[*mqtt.Connect](p)
	return p
}

// welcome is accept, with a CONNACK that grants it.
func (s *server) welcome(present bool, props ...mqtt.Properties) *peer {
	s.t.Helper()
	p := s.accept()
	p.send(&mqtt.Connack{SessionPresent: present, Properties: slices.Concat(props...)})
	return p
}

func (p *peer) send(packets ...packet) {
	p.t.Helper()
	for _, k := range packets {
		if _, err := p.conn.Write(k.Append(nil, p.version)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// next gives the next packet, cloned; an io.EOF is given as itself.
func (p *peer) next() any {
	p.t.Helper()
	for {
		h, body, ok, err := p.in.next(p.version, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		if ok {
			return p.decode(h, slices.Clone(body))
		}
		if err := p.in.fill(p.conn); err != nil {
			return err
		}
	}
}

func (p *peer) decode(h mqtt.Header, body []byte) any {
	p.t.Helper()
	var err error
	var packet any
	switch h.Type {
	case mqtt.CONNECT:
		k := new(mqtt.Connect)
		packet, err = k, k.Decode(h, body)
	case mqtt.PUBLISH:
		k := new(mqtt.Publish)
		packet, err = k, k.Decode(h, body, p.version)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		k := new(mqtt.Ack)
		packet, err = k, k.Decode(h, body, p.version)
	case mqtt.SUBSCRIBE:
		k := new(mqtt.Subscribe)
		packet, err = k, k.Decode(h, body, p.version)
	case mqtt.UNSUBSCRIBE:
		k := new(mqtt.Unsubscribe)
		packet, err = k, k.Decode(h, body, p.version)
	case mqtt.PINGREQ:
		packet = pingreq{}
	case mqtt.DISCONNECT:
		k := new(mqtt.Disconnect)
		packet, err = k, k.Decode(h, body, p.version)
	case mqtt.AUTH:
		k := new(mqtt.Auth)
		packet, err = k, k.Decode(h, body, p.version)
	default:
		p.t.Fatalf("a client does not send %v", h.Type)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return packet
}

func want[T any](p *peer) T {
	p.t.Helper()
	got := p.next()
	k, ok := got.(T)
	if !ok {
		p.t.Fatalf("got %T %v, want %T", got, got, k)
	}
	return k
}

// wantAck checks the next packet.
func (p *peer) wantAck(t mqtt.PacketType, id uint16) {
	p.t.Helper()
	if a := want[*mqtt.Ack](p); a.Type != t || a.ID != id {
		p.t.Fatalf("got %v, want %v %d", a, t, id)
	}
}

// wantPublish checks the next packet.
func (p *peer) wantPublish(payload string, dup bool) *mqtt.Publish {
	p.t.Helper()
	k := want[*mqtt.Publish](p)
	if string(k.Payload) != payload || k.Dup != dup {
		p.t.Fatalf("got %v with payload %q, want payload %q and dup=%v", k, k.Payload, payload, dup)
	}
	return k
}

// wantQuiet checks that nothing comes for a minute, which passes at once in virtual time.
func (p *peer) wantQuiet() {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(time.Minute))
	defer p.conn.SetReadDeadline(time.Time{})
	if got, ok := p.next().(net.Error); !ok || !got.Timeout() {
		p.t.Fatalf("got %T %v, want silence", got, got)
	}
}

// wantClosed checks that the client closes the connection.
func (p *peer) wantClosed() {
	p.t.Helper()
	if got := p.next(); got != io.EOF {
		p.t.Fatalf("got %T %v, want the end", got, got)
	}
}

func (p *peer) ack(t mqtt.PacketType, id uint16) { p.send(&mqtt.Ack{Type: t, ID: id}) }

// suback grants what the next SUBSCRIBE asks for.
func (p *peer) suback() *mqtt.Subscribe {
	p.t.Helper()
	k := want[*mqtt.Subscribe](p)
	a := &mqtt.Suback{ID: k.ID}
	for _, s := range k.Subscriptions {
		a.Codes = append(a.Codes, mqtt.ReasonCode(s.QoS))
	}
	p.send(a)
	return k
}

func u16(id mqtt.PropertyID, v uint16) mqtt.Properties { return mqtt.AppendPropUint16(nil, id, v) }
func u32(id mqtt.PropertyID, v uint32) mqtt.Properties { return mqtt.AppendPropUint32(nil, id, v) }
func u8(id mqtt.PropertyID, v byte) mqtt.Properties    { return mqtt.AppendPropByte(nil, id, v) }
