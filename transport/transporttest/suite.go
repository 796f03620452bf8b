// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package transporttest is the suite that every transport passes: the contract of package transport, over every kind of
// listener, with clients that stall, vanish and break the rules.
package transporttest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/websocket"
)

// Kind is a transport under test.
type Kind struct {
	// New makes a server of the transport.
	New func(transport.Options) transport.Server
	// NewPoller is what the transport wants its loops to wait in; nil if it does not care.
	NewPoller func(i int) loop.Poller
	// Memory says that it takes connections that are no sockets: then what can be tested in virtual time is.
	Memory bool
	// Idle is what an idle connection may cost in bytes, by the name of its variant, client and test core included.
	Idle map[string]int
}

// Run runs the suite.
func Run(t *testing.T, k Kind) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"BytesThatComeOneByOne", k.testBytesThatComeOneByOne},
		{"PacketsInBulk", k.testPacketsInBulk},
		{"LargePacket", k.testLargePacket},
		{"InfoTellsWhereAConnectionComesFrom", k.testInfoTellsWhereAConnectionComesFrom},
		{"SlowReader", k.testSlowReader},
		{"PauseAndResume", k.testPauseAndResume},
		{"Move", k.testMove},
		{"CloseAfterFlushDeliversEverything", k.testCloseAfterFlushDeliversEverything},
		{"CloseAfterFlushIsBounded", k.testCloseAfterFlushIsBounded},
		{"CloseNow", k.testCloseNow},
		{"OutputAfterTheEndIsDropped", k.testOutputAfterTheEndIsDropped},
		{"CloseOfAPausedConnection", k.testCloseOfAPausedConnection},
		{"EndOfStream", k.testEndOfStream},
		{"HalfClose", k.testHalfClose},
		{"PeerReset", k.testPeerReset},
		{"WriteToAPeerThatIsGone", k.testWriteToAPeerThatIsGone},
		{"ManyConnectionsLeaveNothing", k.testManyConnectionsLeaveNothing},
		{"AListenerForTLSNeedsACertificate", k.testAListenerForTLSNeedsACertificate},
		{"ProxyOnAUnixSocket", k.testProxyOnAUnixSocket},
		{"LocalHeaderIsNoLocalPeer", k.testLocalHeaderIsNoLocalPeer},
		{"CountsOfBytes", k.testCountsOfBytes},
		{"CountsOfWhatWaits", k.testCountsOfWhatWaits},
		{"Chaos", k.testChaos},
		{"Refusals", k.testRefusals},
		{"ARefusedPageIsToldSo", k.testARefusedPageIsToldSo},
		{"SlowHandshakesAreCut", k.testSlowHandshakesAreCut},
		{"MaxConnections", k.testMaxConnections},
		{"MaxConnectionsPerAddress", k.testMaxConnectionsPerAddress},
		{"MaxConnectionsPerAddressWithoutProxy", k.testMaxConnectionsPerAddressWithoutProxy},
		{"WhatCameWithTheHandshakeIsNotLost", k.testWhatCameWithTheHandshakeIsNotLost},
		{"PeerThatLeavesInTheHandshake", k.testPeerThatLeavesInTheHandshake},
		{"TLS12", k.testTLS12},
		{"FramesThatEndAWebSocket", k.testFramesThatEndAWebSocket},
		{"Pings", k.testPings},
		{"Shutdown", k.testShutdown},
		{"ShutdownWaitsForTheLast", k.testShutdownWaitsForTheLast},
		{"PanicOfACoreEndsItsConnectionOnly", k.testPanicOfACoreEndsItsConnectionOnly},
		{"IdleConnectionHoldsNoBuffer", k.testIdleConnectionHoldsNoBuffer},
	} {
		t.Run(test.name, test.run)
	}
	if k.Memory {
		for _, test := range []struct {
			name string
			run  func(t *testing.T)
		}{
			{"AcceptSurvivesAShortageOfDescriptors", k.testAcceptSurvivesAShortageOfDescriptors},
			{"AcceptReportsWhatWillNotPass", k.testAcceptReportsWhatWillNotPass},
		} {
			t.Run(test.name, test.run)
		}
	}
}

// variants are those that the transport takes.
func (k Kind) variants() []variant {
	if k.Memory {
		return variants
	}
	return slices.DeleteFunc(slices.Clone(variants), func(v variant) bool { return v.mem })
}

// testTimeout is when a test gives up waiting for what should take no time.
const testTimeout = 20 * time.Second

// packetFunc receives a packet, which is lent.
type packetFunc func(c *testCore, p []byte) transport.Verdict

// testCore is a protocol of packets that begin with the first byte of MQTT, so that a sniffer takes them for it, and their
// length in three bytes. What it does with them the test says.
type testCore struct {
	conn    transport.Conn
	packet  packetFunc
	drained func(c *testCore)
	closed  chan error
	fed     chan int // if there is one: how many bytes each Feed offered
	over    bool
}

const prefix = 4

func (c *testCore) Feed(b []byte) (eaten, need int, v transport.Verdict) {
	if c.over {
		panic("fed after the end")
	}
	if c.fed != nil {
		c.fed <- len(b)
	}
	for len(b)-eaten >= prefix {
		size := prefix + int(binary.BigEndian.Uint32(b[eaten:])&0xffffff)
		if len(b)-eaten < size {
			return eaten, size, transport.GoOn
		}
		p := b[eaten+prefix : eaten+size]
		v := c.packet(c, p)
		clear(b[eaten : eaten+size]) // nobody may look at it again
		eaten += size
		if v != transport.GoOn {
			return eaten, 0, v
		}
	}
	if eaten < len(b) {
		need = prefix
	}
	return eaten, need, transport.GoOn
}

func (c *testCore) Drained() {
	if c.drained != nil {
		c.drained(c)
	}
}

func (c *testCore) Closed(err error) {
	if c.over {
		panic("closed twice")
	}
	c.over = true
	c.closed <- err
}

// echo sends every packet back, large ones by reference.
func echo(c *testCore, p []byte) transport.Verdict {
	out := c.conn.Out()
	out.Append(head(len(p)))
	if len(p) > 512 {
		out.Ref(append([]byte(nil), p...))
	} else {
		out.Append(p)
	}
	c.conn.Dirty()
	return transport.GoOn
}

// A fixture is a server on one kind of transport.
type fixture struct {
	t      testing.TB
	srv    transport.Server
	loops  *loop.Group
	dial   func() net.Conn // all layers up
	raw    func() net.Conn // the bare connection
	cores  chan *testCore
	packet atomic.Value // what cores do with packets
	cause  chan string
	ended  chan error // of Serve
}

// use says what cores made from now on do with packets.
func (f *fixture) use(p packetFunc) { f.packet.Store(p) }

// core waits for the core of the connection that was dialled last.
func (f *fixture) core() *testCore {
	f.t.Helper()
	return receive(f.t, f.cores)
}

// info waits for the core of the connection that was dialled last and asks where it comes from.
func (f *fixture) info() (info *transport.Info) {
	f.t.Helper()
	core := f.core()
	onLoop(f.t, core, func() { info = core.conn.Info() })
	return info
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(testTimeout):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}

// onLoop runs f on the core's loop and waits for it.
func onLoop(t testing.TB, c *testCore, f func()) {
	t.Helper()
	done := make(chan struct{})
	c.conn.Loop().Post(loop.Func(func(*loop.Loop) { f(); close(done) }))
	receive(t, done)
}

type variant struct {
	name  string
	opts  transport.ListenerOptions
	unix  bool
	mem   bool
	proxy string
	tls   bool
	ws    bool
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

var variants = []variant{
	{name: "tcp", opts: transport.ListenerOptions{Protocol: transport.MQTT}},
	{name: "unix", opts: transport.ListenerOptions{Protocol: transport.MQTT}, unix: true},
	{name: "memnet", opts: transport.ListenerOptions{Protocol: transport.MQTT}, mem: true},
	{name: "tls", opts: transport.ListenerOptions{Protocol: transport.TLS}, tls: true},
	{name: "ws", opts: transport.ListenerOptions{Protocol: transport.WS}, ws: true},
	{name: "wss", opts: transport.ListenerOptions{Protocol: transport.WSS}, tls: true, ws: true},
	{name: "sniff_tcp"},
	{name: "sniff_memnet_tls_ws", mem: true, tls: true, ws: true},
	{name: "sniff_wss", tls: true, ws: true},
	{name: "proxy_tcp", opts: transport.ListenerOptions{Protocol: transport.MQTT, Proxy: transport.ProxyRequired}, proxy: "PROXY TCP4 192.0.2.7 192.0.2.8 5000 1883\r\n"},
	{name: "proxy_tls", opts: transport.ListenerOptions{Proxy: transport.ProxyAllowed}, proxy: "PROXY TCP4 192.0.2.7 192.0.2.8 5000 1883\r\n", tls: true},
	{name: "proxy_ws", opts: transport.ListenerOptions{Proxy: transport.ProxyAllowed}, proxy: proxyV2, ws: true},
	{name: "proxy_wss", opts: transport.ListenerOptions{Proxy: transport.ProxyAllowed}, proxy: proxyV2, tls: true, ws: true},
}

// proxyV2 is a header of version 2 for 192.0.2.7:5000 to 192.0.2.8:1883.
const proxyV2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x08\x13\x88\x07\x5b"

// each runs a test on every variant.
func (k Kind) each(t *testing.T, o transport.Options, test func(t *testing.T, f *fixture, v variant)) {
	for _, v := range k.variants() {
		t.Run(v.name, func(t *testing.T) { test(t, k.start(t, v, o), v) })
	}
}

// start starts a server.
func (k Kind) start(t testing.TB, v variant, o transport.Options) *fixture {
	t.Helper()
	f := &fixture{
		t: t, cores: make(chan *testCore, 4096), cause: make(chan string, 4096), ended: make(chan error, 1),
	}
	f.use(echo)
	f.loops = loop.NewGroup(2, loop.Options{
		OnPanic:   func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) },
		OnLag:     func(*loop.Loop, time.Duration) {},
		NewPoller: k.NewPoller,
	})
	f.loops.Start()
	o.Loops = f.loops
	o.NewCore = func(c transport.Conn) transport.Core {
		core := &testCore{conn: c, packet: f.packet.Load().(packetFunc), closed: make(chan error, 1)}
		f.cores <- core
		return core
	}
	o.OnRefused = func(cause string, _ net.Addr) { f.cause <- cause }
	f.srv = k.New(o)
	if v.tls {
		v.opts.TLS = serverTLS()
	}
	if v.proxy != "" {
		v.opts.ProxyTrusted = loopback
	}
	f.listen(v)
	f.dial = func() net.Conn { return layers(t, f.raw(), v) }
	t.Cleanup(func() {
		f.srv.Close()
		if err := receive(t, f.ended); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if c := f.srv.Counts(); c.Open != 0 {
			t.Errorf("%d connections left", c.Open)
		}
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := f.loops.Stop(ctx); err != nil {
			t.Errorf("loops: %v", err)
		}
	})
	return f
}

// listen opens the listener and says how to reach it.
func (f *fixture) listen(v variant) {
	f.t.Helper()
	if v.mem {
		l := memnet.Listen()
		f.raw = func() net.Conn {
			c, err := l.Dial(context.Background())
			if err != nil {
				f.t.Fatal(err)
			}
			return c
		}
		go func() { f.ended <- f.srv.Serve(v.name, l, v.opts) }()
		return
	}
	network, address := "tcp", "127.0.0.1:0"
	if v.unix {
		dir, err := os.MkdirTemp("", "n") // a test's own directory may have too long a name
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() { os.RemoveAll(dir) })
		network, address = "unix", filepath.Join(dir, "s")
	}
	l, err := transport.Listen(context.Background(), network, address, transport.ListenOptions{NotSentLowat: 16 << 10})
	if err != nil {
		f.t.Fatal(err)
	}
	f.raw = func() net.Conn {
		c, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			f.t.Fatal(err)
		}
		return c
	}
	go func() { f.ended <- f.srv.Serve(v.name, l, v.opts) }()
}

// layers puts on the client's side what the server takes off.
func layers(t testing.TB, c net.Conn, v variant) net.Conn {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(testTimeout)) // no test takes so long
	if v.proxy != "" {
		if _, err := io.WriteString(c, v.proxy); err != nil {
			t.Fatal(err)
		}
	}
	if v.tls {
		c = tls.Client(c, clientTLS())
	}
	if v.ws {
		w, err := websocket.Client(context.Background(), c, "localhost", "/mqtt", nil)
		if err != nil {
			t.Fatal(err)
		}
		c = w
	}
	return c
}

var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "noctule test"},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Unix(0, 0), // the time of testing/synctest is long ago
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
})

func serverTLS() *tls.Config {
	cert, _ := certificate()
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"mqtt"}}
}

func clientTLS() *tls.Config {
	_, pool := certificate()
	return &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"mqtt"}}
}

func head(n int) []byte { return binary.BigEndian.AppendUint32(nil, 0x10<<24|uint32(n)) }

// packet makes a packet of n bytes of payload.
func packet(n int, fill byte) []byte {
	return append(head(n), bytes.Repeat([]byte{fill}, n)...)
}

func want(t testing.TB, c io.Reader, b []byte) {
	t.Helper()
	got := make([]byte, len(b))
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("read %d of %d bytes: %v", n, len(b), err)
	}
	if string(got) != string(b) {
		t.Fatalf("got other bytes than expected, %d of them", len(b))
	}
}

func send(t testing.TB, c io.Writer, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// networks are the two that a listener may be on: real sockets, and memory where the transport takes it.
func (k Kind) networks() []bool {
	if k.Memory {
		return []bool{false, true}
	}
	return []bool{false}
}

// inTime runs a test in virtual time if the transport can, else in real time, where lasts is a moment. It hands over the
// unit of time.
func (k Kind) inTime(t *testing.T, test func(t *testing.T, unit time.Duration)) {
	if k.Memory {
		synctest.Test(t, func(t *testing.T) { test(t, time.Second) })
		return
	}
	test(t, 50*time.Millisecond)
}

// wantTook checks how long something took: exactly in virtual time, roughly in real time.
func (k Kind) wantTook(t *testing.T, began time.Time, want time.Duration) {
	t.Helper()
	took := time.Since(began)
	if k.Memory && took != want || took < want/2 || took > want+5*time.Second {
		t.Errorf("took %v, want %v", took, want)
	}
}

// listener makes a listener of a kind that the transport takes.
func (k Kind) listener(t *testing.T) net.Listener {
	if k.Memory {
		return memnet.Listen()
	}
	l, err := transport.Listen(t.Context(), "tcp", "127.0.0.1:0", transport.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
