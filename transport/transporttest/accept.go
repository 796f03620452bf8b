// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/transport"
)

// failing is a listener that fails for some time, as one does when descriptors run out.
type failing struct {
	*memnet.Listener
	until time.Time
	err   error
	tries int
}

func (l *failing) Accept() (net.Conn, error) {
	if time.Now().Before(l.until) {
		l.tries++
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", l.err)}
	}
	return l.Listener.Accept()
}

// a lines counts what was logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (k Kind) testAcceptSurvivesAShortageOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		f := k.start(t, variant{mem: true}, transport.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		l := &failing{Listener: memnet.Listen(), until: time.Now().Add(35 * time.Second), err: syscall.EMFILE}
		ended := make(chan error)
		go func() { ended <- f.srv.Serve("short", l, transport.ListenerOptions{Protocol: transport.MQTT}) }()
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		send(t, c, packet(1, 1))
		want(t, c, packet(1, 1))
		if l.tries > 60 {
			t.Errorf("tried %d times in 35 seconds", l.tries)
		}
		if n := strings.Count(log.b.String(), "level=ERROR"); n != 4 {
			t.Errorf("logged %d times, want once in ten seconds:\n%s", n, log.b.String())
		}
		l.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (k Kind) testAcceptReportsWhatWillNotPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := k.start(t, variant{mem: true}, transport.Options{})
		l := &failing{Listener: memnet.Listen(), until: time.Now().Add(time.Hour), err: syscall.EBADF}
		if err := f.srv.Serve("broken", l, transport.ListenerOptions{}); !errors.Is(err, syscall.EBADF) || !strings.Contains(err.Error(), "broken") {
			t.Errorf("Serve: %v", err)
		}
	})
}

func (k Kind) testAListenerForTLSNeedsACertificate(t *testing.T) {
	for _, p := range []transport.Protocol{transport.TLS, transport.WSS} {
		f := k.start(t, variant{mem: k.Memory}, transport.Options{})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.srv.Serve("secure", l, transport.ListenerOptions{Protocol: p}); err == nil {
			t.Error("accepted")
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is still open: %v", err)
		}
	}
}

// testProxyOnAUnixSocket: who may open the socket is trusted.
func (k Kind) testProxyOnAUnixSocket(t *testing.T) {
	f := k.start(t, variant{unix: true, opts: transport.ListenerOptions{Proxy: transport.ProxyRequired}}, transport.Options{})
	c := f.raw()
	defer c.Close()
	send(t, c, append([]byte(proxyV2), packet(1, 1)...))
	want(t, c, packet(1, 1))
	info := f.info()
	if info.LocalPeer || info.Remote.String() != "192.0.2.7:5000" || info.Peer.Network() != "unix" {
		t.Errorf("%+v", info)
	}
}

// testLocalHeaderIsNoLocalPeer: behind a proxy nobody is local, not even the proxy.
func (k Kind) testLocalHeaderIsNoLocalPeer(t *testing.T) {
	f := k.start(t, variant{opts: transport.ListenerOptions{Proxy: transport.ProxyRequired, ProxyTrusted: loopback}}, transport.Options{})
	c := f.raw()
	defer c.Close()
	send(t, c, append([]byte("PROXY UNKNOWN\r\n"), packet(1, 1)...))
	want(t, c, packet(1, 1))
	if info := f.info(); info.LocalPeer || info.Remote != info.Peer {
		t.Errorf("%+v", info)
	}
}

func (k Kind) testCountsOfBytes(t *testing.T) {
	f := k.start(t, variants[0], transport.Options{})
	c := f.dial()
	send(t, c, packet(1000, 1))
	want(t, c, packet(1000, 1))
	c.Close()
	receive(t, f.core().closed)
	if n := f.srv.Counts(); n.Accepted != 1 || n.BytesRead != 1000+prefix || n.BytesWritten != 1000+prefix {
		t.Errorf("%+v", n)
	}
	io.Copy(io.Discard, c) // closed: nothing
}

// testCountsOfWhatWaits: bytes for clients that do not read are counted while they wait, and no longer, however that ends.
func (k Kind) testCountsOfWhatWaits(t *testing.T) {
	k.each(t, transport.Options{FlushTimeout: testTimeout}, func(t *testing.T, f *fixture, v variant) {
		const size = 6 << 20 // more than sockets take
		f.use(func(c *testCore, p []byte) transport.Verdict {
			echo(c, make([]byte, size))
			return transport.GoOn
		})
		until := func(what string, ok func(n transport.Counts) bool) {
			t.Helper()
			for deadline := time.Now().Add(testTimeout); ; time.Sleep(time.Millisecond) {
				n := f.srv.Counts()
				if ok(n) {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s: %d connections are blocked with %d bytes", what, n.Blocked, n.Unsent)
				}
			}
		}
		reads, leaves := f.dial(), f.dial()
		send(t, reads, packet(1, 0))
		until("one does not read", func(n transport.Counts) bool { return n.Blocked == 1 && n.Unsent > 0 && n.Unsent <= size+100 })
		send(t, leaves, packet(1, 0))
		until("two do not read", func(n transport.Counts) bool { return n.Blocked == 2 && n.Unsent <= 2*(size+100) })
		leaves.Close()
		until("one has left", func(n transport.Counts) bool { return n.Blocked == 1 })
		want(t, reads, append(head(size), make([]byte, size)...))
		until("all is read", func(n transport.Counts) bool { return n.Blocked == 0 && n.Unsent == 0 })
	})
}
