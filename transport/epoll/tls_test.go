// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestGoIsOneThatWasLookedAt warns at the next release of Go: TLS on the loop rests on crypto/tls taking up a record again where a read
// with a passed deadline left it. If the tests of this file pass with the new release, add it here.
func TestGoIsOneThatWasLookedAt(t *testing.T) {
	for _, release := range []string{"go1.26"} {
		if strings.HasPrefix(runtime.Version(), release) {
			return
		}
	}
	t.Logf("WARNING: %s is new; run this package's tests and look for changes in crypto/tls/conn.go (Temporary)", runtime.Version())
	if os.Getenv("CI") != "" {
		t.Error("a release of Go that nobody looked at")
	}
}

var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// A tap is a client's socket that keeps what is written, instead of sending it, while it is closed.
type tap struct {
	net.Conn
	shut bool
	kept []byte
}

func (p *tap) Write(b []byte) (int, error) {
	if p.shut {
		p.kept = append(p.kept, b...)
		return len(b), nil
	}
	return p.Conn.Write(b)
}

// A bench is a server's TLS over a gate, as a connection has it after its handshake, and a client on a pipe.
type bench struct {
	t      *testing.T
	server *secure
	client *tls.Conn
	tap    *tap
}

func newBench(t *testing.T, client *tls.Config) *bench {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	b := &bench{t: t, tap: &tap{Conn: near}, server: &secure{}}
	client.InsecureSkipVerify, client.ServerName = true, "localhost"
	b.client = tls.Client(b.tap, client)
	// The handshake, over the pipe; what comes later goes through the gate.
	through := &switched{Conn: far, gate: &b.server.gate}
	b.server.Conn = tls.Server(through, &tls.Config{Certificates: []tls.Certificate{testCertificate()}})
	done := make(chan error, 1)
	go func() { done <- b.server.HandshakeContext(context.Background()) }()
	// Tickets of TLS 1.3 are written in the handshake: somebody has to read them.
	if err := b.client.Handshake(); err != nil {
		t.Fatal(err)
	}
	go b.client.Read(make([]byte, 1)) // ends with the pipe
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	through.loop = true
	b.tap.shut = true
	return b
}

// switched is the pipe first and the gate then.
type switched struct {
	net.Conn
	gate *gate
	loop bool
}

func (s *switched) Read(b []byte) (int, error) {
	if s.loop {
		return s.gate.Read(b)
	}
	return s.Conn.Read(b)
}

func (s *switched) Write(b []byte) (int, error) {
	if s.loop {
		return s.gate.Write(b)
	}
	return s.Conn.Write(b)
}

// sent is what the client has written since.
func (b *bench) sent() []byte {
	kept := b.tap.kept
	b.tap.kept = nil
	return kept
}

// arrive gives the server ciphertext, and returns what it makes of it and how it ended.
func (b *bench) arrive(cipher []byte) (plain []byte, err error) {
	b.server.gate.in = cipher
	buf := make([]byte, 20_000)
	for {
		n, err := b.server.Read(buf)
		plain = append(plain, buf[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if len(b.server.gate.in) > 0 {
				b.t.Fatal("ciphertext is left")
			}
			return plain, nil
		}
		if err != nil {
			return plain, err
		}
	}
}

func versions(t *testing.T, test func(t *testing.T, c *tls.Config)) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) { test(t, &tls.Config{MinVersion: v, MaxVersion: v}) })
	}
}

// TestTLSByteByByte: a read that finds nothing in the middle of a record, at any byte of it, is no error that stays.
func TestTLSByteByByte(t *testing.T) {
	versions(t, func(t *testing.T, c *tls.Config) {
		b := newBench(t, c)
		want := []byte(strings.Repeat("message ", 40))
		for range 3 {
			b.client.Write(want)
			var got []byte
			for _, one := range b.sent() {
				plain, err := b.arrive([]byte{one})
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, plain...)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("got %d bytes, want %d", len(got), len(want))
			}
		}
	})
}

// TestTLSLargeRecords feeds records of 16 KB in pieces of every size.
func TestTLSLargeRecords(t *testing.T) {
	versions(t, func(t *testing.T, c *tls.Config) {
		c.DynamicRecordSizingDisabled = true
		b := newBench(t, c)
		want := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
		for _, piece := range []int{1000, 16 << 10, 17<<10 + 3, 64 << 10} {
			b.client.Write(want)
			var got []byte
			for cipher := b.sent(); len(cipher) > 0; {
				n := min(piece, len(cipher))
				plain, err := b.arrive(bytes.Clone(cipher[:n]))
				if err != nil {
					t.Fatal(err)
				}
				got, cipher = append(got, plain...), cipher[n:]
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("got %d bytes in pieces of %d, want %d", len(got), piece, len(want))
			}
		}
	})
}

// TestTLSCloseNotify: the end of the stream is told by TLS, and an end without it is told apart.
func TestTLSCloseNotify(t *testing.T) {
	versions(t, func(t *testing.T, c *tls.Config) {
		b := newBench(t, c)
		b.client.Write([]byte("last"))
		b.client.CloseWrite()
		if plain, err := b.arrive(b.sent()); string(plain) != "last" || err != io.EOF {
			t.Errorf("got %q, %v", plain, err)
		}
		if !b.server.sayGoodbye() || b.server.sayGoodbye() || b.server.gate.out.Len() == 0 {
			t.Error("no good-bye, or two")
		}
	})
	versions(t, func(t *testing.T, c *tls.Config) {
		b := newBench(t, c)
		b.client.Write([]byte("last"))
		cipher := b.sent()
		b.server.gate.end = io.EOF
		if plain, err := b.arrive(cipher[:len(cipher)-1]); len(plain) > 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %q, %v", plain, err)
		}
	})
}

// TestTLSDamageStays: a broken record is an error for good.
func TestTLSDamageStays(t *testing.T) {
	versions(t, func(t *testing.T, c *tls.Config) {
		b := newBench(t, c)
		b.client.Write([]byte("whole"))
		cipher := b.sent()
		cipher[len(cipher)-1] ^= 1
		if _, err := b.arrive(cipher); err == nil {
			t.Error("accepted")
		}
		if _, err := b.arrive(nil); err == nil {
			t.Error("forgotten")
		}
	})
}

// TestTLSTickets resumes a session over the real transport, in both versions.
func TestTLSTickets(t *testing.T) {
	versions(t, func(t *testing.T, c *tls.Config) {
		o := plain
		o.Protocol = 2
		o.TLS = &tls.Config{Certificates: []tls.Certificate{testCertificate()}}
		r := newRig(t, 2, o, nil)
		c.InsecureSkipVerify, c.ServerName, c.ClientSessionCache = true, "localhost", tls.NewLRUClientSessionCache(4)
		for i := range 2 {
			conn := tls.Client(r.dial(), c)
			exchange(t, conn, []byte(fmt.Sprint("hello ", i)))
			if did := conn.ConnectionState().DidResume; did != (i == 1) {
				t.Errorf("connection %d: resumed %t", i, did)
			}
			conn.Close()
			core := <-r.cores
			if err := <-core.closed; err != io.EOF {
				t.Errorf("closed for %v", err)
			}
		}
	})
}

// TestApplicationDataBehindTheHandshake: what came with the last flight of the client is not waited for.
func TestApplicationDataBehindTheHandshake(t *testing.T) {
	o := plain
	o.Protocol = 2
	o.TLS = &tls.Config{Certificates: []tls.Certificate{testCertificate()}}
	r := newRig(t, 2, o, nil)
	for range 20 {
		hold := &corked{Conn: r.dial()}
		conn := tls.Client(hold, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		if err := conn.Handshake(); err != nil { // its last flight is in the cork
			t.Fatal(err)
		}
		conn.Write([]byte("first words"))
		hold.Conn.Write(hold.kept) // with the last flight, in one piece
		hold.open = true
		got := make([]byte, len("first words"))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "first words" {
			t.Fatalf("%q, %v", got, err)
		}
		conn.Close()
	}
}

// corked keeps everything but the first write.
type corked struct {
	net.Conn
	writes int
	kept   []byte
	open   bool
}

func (c *corked) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 1 || c.open {
		return c.Conn.Write(b)
	}
	c.kept = append(c.kept, b...)
	return len(b), nil
}

// TestTLSKeyUpdate has openssl change keys, with and without asking for ours to change too: package tls offers no way to.
func TestTLSKeyUpdate(t *testing.T) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl here")
	}
	o := plain
	o.Protocol = 2
	o.TLS = &tls.Config{Certificates: []tls.Certificate{testCertificate()}, MinVersion: tls.VersionTLS13}
	r := newRig(t, 1, o, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "s_client", "-connect", r.addr, "-msg")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out safeBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // it is killed, or ends by itself
	say := func(line, want string) {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(out.String(), want); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %q after %q:\n%s", want, line, out.String())
			}
		}
	}
	say("before", "\nbefore")
	say("k", "KEYUPDATE") // theirs
	say("between", "\nbetween")
	say("K", "<<< TLS 1.3, Handshake [length 0005], KeyUpdate") // both
	say("after", "\nafter")
	say("Q", "DONE")
}

// safeBuffer may be written and read by two goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
