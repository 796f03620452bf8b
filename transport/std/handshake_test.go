// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

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
	"testing/synctest"
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

func TestRefusals(t *testing.T) {
	request := "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	mqtt := "Sec-WebSocket-Protocol: mqtt\r\n"
	elsewhere := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	for _, c := range []struct {
		name  string
		opts  ListenerOptions
		tls   bool // the listener has a certificate
		send  string
		cause string
	}{
		{"unknown first byte", ListenerOptions{}, false, "\x30\x00", CauseUnknownProtocol},
		{"PROXY header where there is no proxy", ListenerOptions{}, false, proxyV2, CauseUnknownProtocol},
		{"TLS without a certificate", ListenerOptions{}, false, "\x16\x03\x01\x00\x05", CauseNoTLS},
		{"MQTT on a TLS port", ListenerOptions{Protocol: TLS}, true, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", CauseTLS},
		{"broken TLS", ListenerOptions{}, true, "\x16\x03\x01\x00\x05hello", CauseTLS},
		{"not HTTP on a WebSocket port", ListenerOptions{Protocol: WS}, false, "\x10\x00", CauseWebSocket},
		{"HTTP without upgrade", ListenerOptions{}, false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", CauseWebSocket},
		{"another subprotocol", ListenerOptions{}, false, request + "Sec-WebSocket-Protocol: chat\r\n\r\n", CauseWebSocket},
		{"path that is not configured", ListenerOptions{WebSocketPaths: []string{"/ws"}}, false, request + mqtt + "\r\n", CauseWebSocket},
		{"overlong headers", ListenerOptions{}, false, request + mqtt + "X: " + strings.Repeat("x", websocket.MaxRequest), CauseWebSocket},
		{"foreign origin", ListenerOptions{}, false, request + mqtt + "Origin: https://evil.example\r\n\r\n", CauseForeignOrigin},
		{
			"DNS rebinding", ListenerOptions{}, false,
			strings.Replace(request, "localhost", "evil.example", 1) + mqtt + "Origin: http://evil.example\r\n\r\n", CauseForeignOrigin,
		},
		{
			"origin by rule", ListenerOptions{CheckOrigin: func(origin, host string, info *transport.Info) bool {
				return origin != "http://localhost" || host != "localhost" || !info.LocalPeer
			}}, false, request + mqtt + "Origin: http://localhost\r\n\r\n", CauseForeignOrigin,
		},
		{"malformed PROXY header", ListenerOptions{Proxy: ProxyAllowed, ProxyTrusted: loopback}, false, "PROXY TCP9 a b c d\r\n", CauseProxyHeader},
		{"missing PROXY header", ListenerOptions{Proxy: ProxyRequired, ProxyTrusted: loopback}, false, "\x10\x00", CauseProxyMissing},
		{"PROXY header of a stranger", ListenerOptions{Proxy: ProxyAllowed, ProxyTrusted: elsewhere}, false, proxyV2, CauseProxyUntrusted},
		{"stranger where a proxy must be", ListenerOptions{Proxy: ProxyRequired, ProxyTrusted: elsewhere}, false, "", CauseProxyUntrusted},
		{"PROXY header after a PROXY header", ListenerOptions{Proxy: ProxyAllowed, ProxyTrusted: loopback}, false, proxyV2 + proxyV2, CauseUnknownProtocol},
	} {
		for _, mem := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				f := start(t, variant{opts: c.opts, tls: c.tls, mem: mem}, Options{})
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

func TestARefusedPageIsToldSo(t *testing.T) {
	f := start(t, variant{}, Options{})
	conn := f.raw()
	defer conn.Close()
	io.WriteString(conn, "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 2*websocket.MaxRequest)+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatalf("%+v, %v", resp, err)
	}
	resp.Body.Close()
	conn.Close()
	if got := receive(t, f.cause); got != CauseWebSocket {
		t.Errorf("refused for %s", got)
	}
}

// TestSlowHandshakesAreCut has clients that stop at every stage, in virtual time.
func TestSlowHandshakesAreCut(t *testing.T) {
	for _, c := range []struct {
		name string
		opts ListenerOptions
		send string
		tls  bool // it gets as far as TLS
	}{
		{"nothing", ListenerOptions{}, "", false},
		{"half a PROXY header", ListenerOptions{Proxy: ProxyAllowed, ProxyTrusted: loopback}, "PROXY TCP4", false},
		{"a PROXY header", ListenerOptions{Proxy: ProxyRequired, ProxyTrusted: loopback}, proxyV2[:20], false},
		{"half a hello", ListenerOptions{Protocol: TLS}, "\x16\x03\x01\x01\x00\x01", false},
		{"nothing after TLS", ListenerOptions{}, "", true},
		{"half a request", ListenerOptions{Protocol: WS}, "GET /mqtt HTTP/1.1\r\nHost:", false},
		{"half a request after TLS", ListenerOptions{Protocol: WSS}, "GET /mqtt HTTP/1.1\r\nHost:", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := variant{opts: c.opts, mem: true, tls: c.tls || c.opts.Protocol == TLS}
				f := start(t, v, Options{HandshakeTimeout: 7 * time.Second})
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
				f.wantRefused(in, CauseHandshakeTimeout)
				if took := time.Since(begin); took != 7*time.Second {
					t.Errorf("cut after %v", took)
				}
			})
		})
	}
}

func TestMaxConnections(t *testing.T) {
	f := start(t, variants[0], Options{MaxConnections: 2})
	a, b := f.dial(), f.dial()
	for _, c := range []net.Conn{a, b} {
		send(t, c, packet(1, 1))
		want(t, c, packet(1, 1))
		f.core()
	}
	f.wantRefused(f.dial(), CauseTooMany)
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

func TestMaxConnectionsPerAddress(t *testing.T) {
	v := variant{opts: ListenerOptions{Proxy: ProxyAllowed, ProxyTrusted: loopback, MaxConnectionsPerAddress: 1}}
	f := start(t, v, Options{})
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
	f.wantRefused(open("PROXY TCP6 2001:db8::2 2001:db8::ff 1 2\r\n"), CauseTooManyPerAddress)
	first.Close()
	waitOpen(t, f, 4)
	want(t, open("PROXY TCP6 2001:db8::3 2001:db8::ff 1 2\r\n"), packet(1, 1))
}

func TestMaxConnectionsPerAddressWithoutProxy(t *testing.T) {
	f := start(t, variant{opts: ListenerOptions{Protocol: MQTT, MaxConnectionsPerAddress: 1}}, Options{})
	c := f.dial()
	send(t, c, packet(1, 1))
	want(t, c, packet(1, 1))
	f.core()
	f.wantRefused(f.dial(), CauseTooManyPerAddress)
}

// TestWhatCameWithTheHandshakeIsNotLost sends everything at once.
func TestWhatCameWithTheHandshakeIsNotLost(t *testing.T) {
	f := start(t, variant{opts: ListenerOptions{Proxy: ProxyRequired, ProxyTrusted: loopback}}, Options{})
	c := f.raw()
	defer c.Close()
	p := packet(100_000, 'x')
	go c.Write(append([]byte(proxyV2), p...)) // a failure shows below
	want(t, c, p)
}

func TestPeerThatLeavesInTheHandshake(t *testing.T) {
	f := start(t, variant{}, Options{})
	f.raw().Close()
	if got := receive(t, f.cause); got != CauseGone {
		t.Errorf("refused for %s", got)
	}
}

// TestTLS12 has a client of the older version.
func TestTLS12(t *testing.T) {
	f := start(t, variant{tls: true}, Options{})
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

// TestFramesThatEndAWebSocket looks at what the client is told.
func TestFramesThatEndAWebSocket(t *testing.T) {
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
			f := start(t, variant{}, Options{})
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

func TestPings(t *testing.T) {
	f := start(t, variant{}, Options{})
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

// Each MQTT packet has a frame of its own, small or large, and what is no packet is one frame.
func TestFramesOfPackets(t *testing.T) {
	var out transport.Out
	large := append([]byte{0x30, 0xA0, 0x9C, 0x01}, make([]byte, 20_000)...)
	for _, p := range [][]byte{{0xD0, 0}, {0x40, 2, 0, 1}} {
		out.Append(p)
	}
	out.Append(large[:10])
	out.Ref(large[10:])
	out.Append([]byte{0xD0, 0})
	w := newWS()
	var got []byte
	for range 10 {
		next := w.gather(nil, &out)
		if len(next) == 0 {
			break
		}
		got = append(got, next[0]...) // one slice at a time, as a short write would
		if n := w.advance(len(next[0])); n > 0 {
			out.Advance(n)
		}
	}
	var want []byte
	for _, p := range [][]byte{{0xD0, 0}, {0x40, 2, 0, 1}, large, {0xD0, 0}} {
		want = append(websocket.AppendHeader(want, websocket.OpBinary, len(p)), p...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes were written, want %d; they begin with % x", len(got), len(want), got[:min(len(got), 16)])
	}
	out.Append([]byte{0x30})
	if b := w.gather(nil, &out); len(b) != 1 || !bytes.Equal(b[0], []byte{0x82, 1, 0x30}) {
		t.Errorf("got % x", b)
	}
}

// TestPingsOfAClientThatDoesNotRead must not pile up answers.
func TestPingsOfAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, variant{mem: true}, Options{})
		client := f.raw()
		defer client.Close()
		if _, err := websocket.Client(context.Background(), client, "localhost", "/", nil); err != nil {
			t.Fatal(err)
		}
		core := f.core()
		ping := append([]byte("\x89\xfd\x00\x00\x00\x00"), make([]byte, 125)...)
		for range 10_000 {
			send(t, client, ping)
		}
		synctest.Wait()
		onLoop(t, core, func() {
			c := core.conn.(*conn)
			if n := len(c.ws.ahead); n > 200 {
				t.Errorf("%d bytes of answers wait", n)
			}
		})
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, variant{mem: true}, Options{HandshakeTimeout: time.Hour})
		polite, stubborn := f.dial(), f.dial()
		for _, c := range []net.Conn{polite, stubborn} {
			send(t, c, packet(1, 1))
			want(t, c, packet(1, 1))
		}
		f.core()
		core := f.core()
		shy := f.raw() // never says a word
		defer shy.Close()
		synctest.Wait()
		polite.Close()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := f.srv.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		if err := receive(t, core.closed); err != net.ErrClosed {
			t.Errorf("closed for %v", err)
		}
		io.Copy(io.Discard, stubborn)
		io.Copy(io.Discard, shy)
		if err := f.srv.Serve("late", memnet.Listen(), ListenerOptions{}); err != nil {
			t.Errorf("a late listener: %v", err)
		}
	})
}

func TestShutdownWaitsForTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, variant{mem: true}, Options{})
		c := f.dial()
		send(t, c, packet(1, 1))
		want(t, c, packet(1, 1))
		time.AfterFunc(5*time.Second, func() { c.Close() })
		begin := time.Now()
		if err := f.srv.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(begin); took < 5*time.Second || took > 7*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestPanicOfACoreEndsItsConnectionOnly(t *testing.T) {
	v := variants[0]
	f := &fixture{t: t, ended: make(chan error, 1)}
	panics := make(chan any, 1)
	f.loops = loop.NewGroup(1, loop.Options{OnPanic: func(v any, _ []byte) { panics <- v }})
	f.loops.Start()
	defer f.loops.Stop(context.Background())
	core := &testCore{closed: make(chan error, 2), packet: func(c *testCore, p []byte) transport.Verdict {
		if p[0] == 'p' {
			panic("a fault")
		}
		return echo(c, p)
	}}
	f.srv = New(Options{Loops: f.loops, NewCore: func(c transport.Conn) transport.Core {
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
	if err := receive(t, core.closed); err != errCorePanicked {
		t.Errorf("closed for %v", err)
	}
	io.Copy(io.Discard, bad)
	send(t, good, packet(1, 'g'))
	want(t, good, packet(1, 'g'))
}
