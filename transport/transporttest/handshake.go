// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/websocket"
)

// wantRefused waits for a refusal and for the end of the connection.
func (f *fixture) wantRefused(c net.Conn, cause string) {
	f.t.Helper()
	if got := receive(f.t, f.cause); got != cause {
		f.t.Errorf("refused for %s, want %s", got, cause)
	}
	if n := f.srv.Counts().Refused[cause]; n != 1 {
		f.t.Errorf("%d refusals counted", n)
	}
	io.Copy(io.Discard, c) // until the end, whatever it is called
	if len(f.cores) > 0 {
		f.t.Error("a core was made")
	}
}

func (k Kind) testRefusals(t *testing.T) {
	request := "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	mqtt := "Sec-WebSocket-Protocol: mqtt\r\n"
	elsewhere := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	for _, c := range []struct {
		name  string
		opts  transport.ListenerOptions
		tls   bool // the listener has a certificate
		send  string
		cause string
	}{
		{"unknown first byte", transport.ListenerOptions{}, false, "\x30\x00", transport.CauseUnknownProtocol},
		{"PROXY header where there is no proxy", transport.ListenerOptions{}, false, proxyV2, transport.CauseUnknownProtocol},
		{"TLS without a certificate", transport.ListenerOptions{}, false, "\x16\x03\x01\x00\x05", transport.CauseNoTLS},
		{"MQTT on a TLS port", transport.ListenerOptions{Protocol: transport.TLS}, true, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", transport.CauseTLS},
		{"broken TLS", transport.ListenerOptions{}, true, "\x16\x03\x01\x00\x05hello", transport.CauseTLS},
		{"not HTTP on a WebSocket port", transport.ListenerOptions{Protocol: transport.WS}, false, "\x10\x00", transport.CauseWebSocket},
		{"HTTP without upgrade", transport.ListenerOptions{}, false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", transport.CauseWebSocket},
		{"another subprotocol", transport.ListenerOptions{}, false, request + "Sec-WebSocket-Protocol: chat\r\n\r\n", transport.CauseWebSocket},
		{"path that is not configured", transport.ListenerOptions{WebSocketPaths: []string{"/ws"}}, false, request + mqtt + "\r\n", transport.CauseWebSocket},
		{"overlong headers", transport.ListenerOptions{}, false, request + mqtt + "X: " + strings.Repeat("x", websocket.MaxRequest), transport.CauseWebSocket},
		{"foreign origin", transport.ListenerOptions{}, false, request + mqtt + "Origin: https://evil.example\r\n\r\n", transport.CauseForeignOrigin},
		{
			"DNS rebinding", transport.ListenerOptions{}, false,
			strings.Replace(request, "localhost", "evil.example", 1) + mqtt + "Origin: http://evil.example\r\n\r\n", transport.CauseForeignOrigin,
		},
		{
			"origin by rule", transport.ListenerOptions{CheckOrigin: func(origin, host string, info *transport.Info) bool {
				return origin != "http://localhost" || host != "localhost" || !info.LocalPeer
			}}, false, request + mqtt + "Origin: http://localhost\r\n\r\n", transport.CauseForeignOrigin,
		},
		{"malformed PROXY header", transport.ListenerOptions{Proxy: transport.ProxyAllowed, ProxyTrusted: loopback}, false, "PROXY TCP9 a b c d\r\n", transport.CauseProxyHeader},
		{"missing PROXY header", transport.ListenerOptions{Proxy: transport.ProxyRequired, ProxyTrusted: loopback}, false, "\x10\x00", transport.CauseProxyMissing},
		{"PROXY header of a stranger", transport.ListenerOptions{Proxy: transport.ProxyAllowed, ProxyTrusted: elsewhere}, false, proxyV2, transport.CauseProxyUntrusted},
		{"stranger where a proxy must be", transport.ListenerOptions{Proxy: transport.ProxyRequired, ProxyTrusted: elsewhere}, false, "", transport.CauseProxyUntrusted},
		{"PROXY header after a PROXY header", transport.ListenerOptions{Proxy: transport.ProxyAllowed, ProxyTrusted: loopback}, false, proxyV2 + proxyV2, transport.CauseUnknownProtocol},
	} {
		for _, mem := range k.networks() {
			t.Run(c.name, func(t *testing.T) {
				f := k.start(t, variant{opts: c.opts, tls: c.tls, mem: mem}, transport.Options{})
				conn := f.raw()
				defer conn.Close()
				io.WriteString(conn, c.send) // a connection that is refused early takes not all of it
				if !mem {                    // the refusal reads on until the client has closed
					conn.(*net.TCPConn).CloseWrite()
				} else {
					conn.(*memnet.Conn).CloseWrite()
				}
				f.wantRefused(conn, c.cause)
			})
		}
	}
}

func (k Kind) testARefusedPageIsToldSo(t *testing.T) {
	f := k.start(t, variant{}, transport.Options{})
	conn := f.raw()
	defer conn.Close()
	io.WriteString(conn, "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 2*websocket.MaxRequest)+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatalf("%+v, %v", resp, err)
	}
	resp.Body.Close()
	conn.Close()
	if got := receive(t, f.cause); got != transport.CauseWebSocket {
		t.Errorf("refused for %s", got)
	}
}

// testSlowHandshakesAreCut has clients that stop at every stage, in virtual time.
func (k Kind) testSlowHandshakesAreCut(t *testing.T) {
	for _, c := range []struct {
		name string
		opts transport.ListenerOptions
		send string
		tls  bool // it gets as far as TLS
	}{
		{"nothing", transport.ListenerOptions{}, "", false},
		{"half a PROXY header", transport.ListenerOptions{Proxy: transport.ProxyAllowed, ProxyTrusted: loopback}, "PROXY TCP4", false},
		{"a PROXY header", transport.ListenerOptions{Proxy: transport.ProxyRequired, ProxyTrusted: loopback}, proxyV2[:20], false},
		{"half a hello", transport.ListenerOptions{Protocol: transport.TLS}, "\x16\x03\x01\x01\x00\x01", false},
		{"nothing after TLS", transport.ListenerOptions{}, "", true},
		{"half a request", transport.ListenerOptions{Protocol: transport.WS}, "GET /mqtt HTTP/1.1\r\nHost:", false},
		{"half a request after TLS", transport.ListenerOptions{Protocol: transport.WSS}, "GET /mqtt HTTP/1.1\r\nHost:", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k.inTime(t, func(t *testing.T, unit time.Duration) {
				v := variant{opts: c.opts, mem: k.Memory, tls: c.tls || c.opts.Protocol == transport.TLS || c.opts.Protocol == transport.WSS}
				f := k.start(t, v, transport.Options{HandshakeTimeout: 7 * unit})
				conn := f.raw()
				defer conn.Close()
				begin := time.Now()
				var in net.Conn = conn
				if c.tls {
					in = tls.Client(conn, clientTLS())
					if err := in.(*tls.Conn).Handshake(); err != nil {
						t.Fatal(err)
					}
				}
				send(t, in, []byte(c.send))
				f.wantRefused(in, transport.CauseHandshakeTimeout)
				k.wantTook(t, begin, 7*unit)
			})
		})
	}
}

func (k Kind) testMaxConnections(t *testing.T) {
	f := k.start(t, variants[0], transport.Options{MaxConnections: 2})
	a, b := f.dial(), f.dial()
	for _, c := range []net.Conn{a, b} {
		send(t, c, packet(1, 1))
		want(t, c, packet(1, 1))
		f.core()
	}
	f.wantRefused(f.dial(), transport.CauseTooMany)
	a.Close()
	waitOpen(t, f, 1)
	c := f.dial()
	send(t, c, packet(1, 1))
	want(t, c, packet(1, 1))
}

// waitOpen waits until n connections are left.
func waitOpen(t *testing.T, f *fixture, n int64) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); f.srv.Counts().Open != n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections open, want %d", f.srv.Counts().Open, n)
		}
		onLoopOf(t, f.loops.Loop(0))
	}
}

func (k Kind) testMaxConnectionsPerAddress(t *testing.T) {
	v := variant{opts: transport.ListenerOptions{Proxy: transport.ProxyAllowed, ProxyTrusted: loopback, MaxConnectionsPerAddress: 1}}
	f := k.start(t, v, transport.Options{})
	open := func(header string) net.Conn {
		c := f.raw()
		t.Cleanup(func() { c.Close() })
		send(t, c, append([]byte(header), packet(1, 1)...))
		return c
	}
	first := open("PROXY TCP6 2001:db8::1 2001:db8::ff 1 2\r\n")
	want(t, first, packet(1, 1))
	f.core()
	// Another address, another network, the proxy itself; then the first network again.
	for _, header := range []string{proxyV2, "PROXY TCP6 2001:db8:0:1::1 2001:db8::ff 1 2\r\n", "PROXY UNKNOWN\r\n", ""} {
		want(t, open(header), packet(1, 1))
		f.core()
	}
	f.wantRefused(open("PROXY TCP6 2001:db8::2 2001:db8::ff 1 2\r\n"), transport.CauseTooManyPerAddress)
	first.Close()
	waitOpen(t, f, 4)
	want(t, open("PROXY TCP6 2001:db8::3 2001:db8::ff 1 2\r\n"), packet(1, 1))
}

func (k Kind) testMaxConnectionsPerAddressWithoutProxy(t *testing.T) {
	f := k.start(t, variant{opts: transport.ListenerOptions{Protocol: transport.MQTT, MaxConnectionsPerAddress: 1}}, transport.Options{})
	c := f.dial()
	send(t, c, packet(1, 1))
	want(t, c, packet(1, 1))
	f.core()
	f.wantRefused(f.dial(), transport.CauseTooManyPerAddress)
}

// testWhatCameWithTheHandshakeIsNotLost sends everything at once.
func (k Kind) testWhatCameWithTheHandshakeIsNotLost(t *testing.T) {
	f := k.start(t, variant{opts: transport.ListenerOptions{Proxy: transport.ProxyRequired, ProxyTrusted: loopback}}, transport.Options{})
	c := f.raw()
	defer c.Close()
	p := packet(100_000, 'x')
	go c.Write(append([]byte(proxyV2), p...)) // a failure shows below
	want(t, c, p)
}

func (k Kind) testPeerThatLeavesInTheHandshake(t *testing.T) {
	f := k.start(t, variant{}, transport.Options{})
	f.raw().Close()
	if got := receive(t, f.cause); got != transport.CauseGone {
		t.Errorf("refused for %s", got)
	}
}

// testTLS12 has a client of the older version.
func (k Kind) testTLS12(t *testing.T) {
	f := k.start(t, variant{tls: true}, transport.Options{})
	cfg := clientTLS()
	cfg.MaxVersion = tls.VersionTLS12
	c := tls.Client(f.raw(), cfg)
	defer c.Close()
	for i := range 100 {
		p := packet(i, 1)
		for j := range p {
			send(t, c, p[j:j+1]) // a record each
		}
		want(t, c, p)
	}
	go c.Write(packet(3<<20, 2)) // a failure shows below
	want(t, c, packet(3<<20, 2))
}

// testFramesThatEndAWebSocket looks at what the client is told.
func (k Kind) testFramesThatEndAWebSocket(t *testing.T) {
	for _, c := range []struct {
		name, frame, answer string
		peer                bool // the regular end
	}{
		{"text [MQTT-6.0.0-1]", "\x81\x81\x00\x00\x00\x00x", "\x88\x02\x03\xeb", false},
		{"not masked", "\x82\x01x", "\x88\x02\x03\xea", false},
		{"reserved bit", "\xc2\x81\x00\x00\x00\x00x", "\x88\x02\x03\xea", false},
		{"close", "\x88\x82\x00\x00\x00\x00\x0f\xa0", "\x88\x02\x0f\xa0", true},
		{"close without a code", "\x88\x80\x00\x00\x00\x00", "\x88\x00", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := k.start(t, variant{}, transport.Options{})
			conn := f.raw()
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(testTimeout))
			if _, err := websocket.Client(context.Background(), conn, "localhost", "/", nil); err != nil {
				t.Fatal(err)
			}
			masked := append([]byte("\x82\x85\x00\x00\x00\x00"), packet(1, 'b')...)
			send(t, conn, append(masked, c.frame...))
			got, err := io.ReadAll(conn)
			if !strings.HasSuffix(string(got), c.answer) || err != nil {
				t.Errorf("answered %x, %v; want %x", got, err, c.answer)
			}
			if !bytes.HasPrefix(unframed(t, bytes.NewReader(got), len(packet(1, 'b'))), packet(1, 'b')) {
				t.Error("what came before is not answered")
			}
			if err := receive(t, f.core().closed); (err == io.EOF) != c.peer || err == nil {
				t.Errorf("closed for %v", err)
			}
		})
	}
}

func (k Kind) testPings(t *testing.T) {
	f := k.start(t, variant{}, transport.Options{})
	conn := f.raw()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testTimeout))
	if _, err := websocket.Client(context.Background(), conn, "localhost", "/", nil); err != nil {
		t.Fatal(err)
	}
	send(t, conn, []byte("\x89\x82\x00\x00\x00\x00hi"))
	want(t, conn, []byte("\x8a\x02hi"))
	// In the middle of a message, which is in the middle of a packet.
	p := packet(2, 'z')
	send(t, conn, append(append([]byte("\x02\x83\x00\x00\x00\x00"), p[:3]...), "\x89\x80\x00\x00\x00\x00"...))
	want(t, conn, []byte("\x8a\x00"))
	send(t, conn, append([]byte("\x80\x83\x00\x00\x00\x00"), p[3:]...))
	if got := unframed(t, conn, len(p)); !bytes.Equal(got, p) {
		t.Errorf("got % x, want % x", got, p)
	}
}

// unframed reads n bytes of payload from small binary frames.
func unframed(t *testing.T, r io.Reader, n int) (payload []byte) {
	t.Helper()
	for len(payload) < n {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil || head[0] != 0x82 || head[1] > 125 {
			t.Fatalf("frame header % x, %v", head, err)
		}
		b := make([]byte, head[1])
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		payload = append(payload, b...)
	}
	return payload
}

func (k Kind) testShutdown(t *testing.T) {
	k.inTime(t, func(t *testing.T, unit time.Duration) {
		f := k.start(t, variant{mem: k.Memory}, transport.Options{HandshakeTimeout: time.Hour})
		polite, stubborn := f.dial(), f.dial()
		for _, c := range []net.Conn{polite, stubborn} {
			send(t, c, packet(1, 1))
			want(t, c, packet(1, 1))
		}
		f.core()
		core := f.core()
		shy := f.raw() // never says a word
		defer shy.Close()
		waitOpen(t, f, 3)
		polite.Close()
		waitOpen(t, f, 2)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*unit)
		defer cancel()
		if err := f.srv.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("shutdown: %v", err)
		}
		k.wantTook(t, begin, 3*unit)
		if err := receive(t, core.closed); err != net.ErrClosed {
			t.Errorf("closed for %v", err)
		}
		io.Copy(io.Discard, stubborn)
		io.Copy(io.Discard, shy)
		if err := f.srv.Serve("late", k.listener(t), transport.ListenerOptions{}); err != nil {
			t.Errorf("a late listener: %v", err)
		}
	})
}

func (k Kind) testShutdownWaitsForTheLast(t *testing.T) {
	k.inTime(t, func(t *testing.T, unit time.Duration) {
		f := k.start(t, variant{mem: k.Memory}, transport.Options{})
		c := f.dial()
		send(t, c, packet(1, 1))
		want(t, c, packet(1, 1))
		time.AfterFunc(5*unit, func() { c.Close() })
		begin := time.Now()
		if err := f.srv.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(begin); took < 5*unit || took > 7*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func (k Kind) testPanicOfACoreEndsItsConnectionOnly(t *testing.T) {
	v := variants[0]
	f := &fixture{t: t, ended: make(chan error, 1)}
	panics := make(chan any, 1)
	f.loops = loop.NewGroup(1, loop.Options{OnPanic: func(v any, _ []byte) { panics <- v }, NewPoller: k.NewPoller})
	f.loops.Start()
	defer f.loops.Stop(context.Background())
	core := &testCore{closed: make(chan error, 2), packet: func(c *testCore, p []byte) transport.Verdict {
		if p[0] == 'p' {
			panic("a fault")
		}
		return echo(c, p)
	}}
	f.srv = k.New(transport.Options{Loops: f.loops, NewCore: func(c transport.Conn) transport.Core {
		one := *core
		one.conn = c
		return &one
	}})
	defer f.srv.Close()
	f.listen(v)
	good, bad := f.raw(), f.raw()
	defer good.Close()
	defer bad.Close()
	send(t, bad, packet(1, 'p'))
	if v := receive(t, panics); v != "a fault" {
		t.Errorf("reported %v", v)
	}
	if err := receive(t, core.closed); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("closed for %v", err)
	}
	io.Copy(io.Discard, bad)
	send(t, good, packet(1, 'g'))
	want(t, good, packet(1, 'g'))
}
