// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// certified gives the two sides of TLS with a certificate for 127.0.0.1.
func certified(t *testing.T) (server, client *tls.Config) {
	h := httptest.NewUnstartedServer(nil)
	h.StartTLS()
	t.Cleanup(h.Close)
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	return &tls.Config{Certificates: h.TLS.Certificates}, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// listen hands every connection to f, until the end of the test.
func listen(t *testing.T, f func(net.Conn)) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	return l.Addr().String()
}

// crumbs writes a byte at a time.
type crumbs struct{ net.Conn }

func (c crumbs) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// A broker may split its records as it likes: what is not whole waits.
func TestSwarmTakesTLSInCrumbs(t *testing.T) {
	server, client := certified(t)
	broker := serve(t)
	addr := listen(t, func(c net.Conn) {
		defer c.Close()
		b, err := net.Dial("tcp4", broker)
		if err != nil {
			return
		}
		defer b.Close()
		s := tls.Server(crumbs{c}, server)
		go func() {
			io.Copy(b, s)
			b.Close()
		}()
		io.Copy(s, b)
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, ws := range []bool{false, true} {
			config := client.Clone()
			config.MaxVersion = version
			s := swarm(t, addr, SwarmOptions{Wire: Wire{WebSocket: ws, TLS: config}})
			var n noted
			m, err := s.Open(&Login{ClientID: "x", Version: 5, Clean: true}, []string{"a"}, 1, &n)
			if err != nil {
				t.Fatal(err)
			}
			until(t, s, "connected", func() bool { return n.ready == 1 || len(n.lost) > 0 })
			payload := bytes.Repeat([]byte("x"), 50_000) // several records
			m.Publish(NewPublication("a", payload, 1, false, 5), 1)
			until(t, s, "the message", func() bool { return len(n.messages) == 1 && len(n.acked) == 1 || len(n.lost) > 0 })
			if len(n.lost) > 0 || n.messages[0] != fmt.Sprintf("a %s 1", payload) {
				t.Errorf("version %#x, WebSocket %t: %v, %d messages", version, ws, n.lost, len(n.messages))
			}
			if err := s.Leave(t.Context(), 5*time.Second); err != nil {
				t.Error(err)
			}
		}
	}
}

// What the kernel does not take at once is written later, and encrypted once only.
func TestTLSWaitsForRoom(t *testing.T) {
	server, client := certified(t)
	const size = 8 << 20
	got := make(chan error, 1)
	addr := listen(t, func(c net.Conn) {
		defer c.Close()
		s := tls.Server(c, server)
		if _, err := io.CopyN(io.Discard, s, int64(len(appendConnect(nil, "x", false)))); err != nil {
			got <- err
			return
		}
		s.Write([]byte{0x20, 2, 0, 0})
		time.Sleep(100 * time.Millisecond) // its socket fills
		head := make([]byte, 8)            // first byte, four of length, topic
		if _, err := io.ReadFull(s, head); err != nil {
			got <- err
			return
		}
		n, err := io.CopyN(io.Discard, s, size)
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes", n)
		}
		got <- err
	})
	s := swarm(t, addr, SwarmOptions{Wire: Wire{TLS: client}})
	var n noted
	m, err := s.Open(&Login{ClientID: "x", Version: 4, KeepAlive: 3600, Clean: true}, nil, 0, &n)
	if err != nil {
		t.Fatal(err)
	}
	until(t, s, "connected", func() bool { return n.ready == 1 || len(n.lost) > 0 })
	m.Publish(NewPublication("a", make([]byte, size), 0, false, 4), 0)
	full := false
	until(t, s, "all", func() bool {
		full = full || !m.Room()
		return len(got) == 1
	})
	if err := <-got; err != nil || !full {
		t.Errorf("the other side: %v; it was full: %t", err, full)
	}
}

func TestTLSThatComesToNothing(t *testing.T) {
	server, client := certified(t)
	strange := client.Clone()
	strange.ServerName = "broker.example"
	untrusted := client.Clone()
	untrusted.RootCAs = x509.NewCertPool()
	for name, c := range map[string]struct {
		config *tls.Config
		serve  func(net.Conn)
		want   string
	}{
		"another name":  {strange, func(c net.Conn) { tls.Server(c, server).Handshake() }, "TLS: tls: failed to verify certificate: x509"},
		"nobody's word": {untrusted, func(c net.Conn) { tls.Server(c, server).Handshake() }, "unknown authority"},
		"no TLS":        {client, func(c net.Conn) { c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, "TLS: tls: first record does not look like"},
		"the end":       {client, func(c net.Conn) { io.ReadFull(c, make([]byte, 20)); c.Close() }, ""},
		"garbage after": {client, func(c net.Conn) {
			if tls.Server(c, server).Handshake() == nil {
				c.Write([]byte("\x17\x03\x03\x00\x20garbage that is long enough: yes"))
			}
		}, "TLS: local error: tls: bad record MAC"},
		"silence": {client, func(net.Conn) {}, ErrOverdue.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s := swarm(t, listen(t, c.serve), SwarmOptions{Wire: Wire{TLS: c.config}, Within: 2 * time.Second})
			var n noted
			if _, err := s.Open(&Login{ClientID: "x", Version: 4, Clean: true}, nil, 0, &n); err != nil {
				t.Fatal(err)
			}
			until(t, s, "the end", func() bool { return len(n.lost) == 1 })
			if got := n.lost[0].Error(); !strings.Contains(got, c.want) || n.ready > 0 {
				t.Errorf("it ended with %q, want %q", got, c.want)
			}
		})
	}
}

// A handshake that is under way ends with the connection: no coroutine is left behind.
func TestHandshakeEndsWithTheConnection(t *testing.T) {
	_, client := certified(t)
	s := newSecure(client)
	if done, err := s.shake(); done || err != nil || len(s.gate.out) == 0 {
		t.Fatalf("after its hello: done %t, %v, %d bytes", done, err, len(s.gate.out))
	}
	s.cancel()
	if !errors.Is(s.err, net.ErrClosed) {
		t.Errorf("it ended with %v", s.err)
	}
}
