// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/admin"
	"github.com/noctule/noctule/server/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 40 * time.Second

// output is a log that a test may read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Load(config.Input{File: "noctule.yaml", Text: []byte(text), Environ: []string{"STATE_DIRECTORY=" + t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// local is a configuration that gets in nobody's way.
const local = "admin: {address: \"127.0.0.1:0\"}\nlisteners: [{name: main, address: \"127.0.0.1:0\"}]\n"

// A running server, ended with its test.
type running struct {
	*Server
	out  *output
	stop func() error // ends it and gives Serve's error
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{out: new(output)}
	o.Stderr = r.out
	var err error
	if r.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("Serve does not end")
		}
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return r
}

// address of the first listener, as package net wants it.
func (r *running) address() string { return r.sockets[0].Addr().String() }

// connect dials and says CONNECT (5.0, clean start, client identifier "c"); it returns the reason code of CONNACK.
func connect(t *testing.T, c net.Conn) byte {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c")); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	if head[0] != 0x20 {
		t.Fatalf("got packet %#x, want CONNACK", head[0])
	}
	if _, err := io.ReadFull(c, make([]byte, head[1]-2)); err != nil {
		t.Fatal(err)
	}
	return head[3]
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServesAndStopsInOrder(t *testing.T) {
	r := start(t, Options{Config: load(t, local), Version: "v9"})
	c := dial(t, "tcp", r.address())
	if code := connect(t, c); code != 0 {
		t.Fatalf("got reason code %#x", code)
	}
	if r.Phase() != admin.Ready {
		t.Errorf("got phase %s", r.Phase())
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "noctule_connections 1", "/": "Noctule v9"} {
		if code, body := get(t, "http://"+r.AdminAddress()+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %.300s, want %s", path, code, body, want)
		}
	}
	if err := r.stop(); err != nil {
		t.Errorf("got %v, want an end in order", err)
	}
	rest, err := io.ReadAll(c)
	if err != nil || len(rest) < 3 || rest[0] != 0xE0 || rest[2] != 0x8B {
		t.Errorf("got % x, %v, want DISCONNECT 0x8B", rest, err)
	}
	if r.Phase() != admin.Stopped {
		t.Errorf("got phase %s", r.Phase())
	}
	if _, err := net.Dial("tcp", r.address()); err == nil {
		t.Error("somebody still listens")
	}
	said := r.out.String()
	for _, want := range []string{"mqtt://" + r.address(), "http://" + r.AdminAddress(), r.Config().Data + " (durability sync)"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q was not said:\n%s", want, said)
		}
	}
}

func TestLocalhostHasBothAddresses(t *testing.T) {
	r := start(t, Options{Config: load(t, "admin: {address: off}\nlisteners: [{address: \"localhost:0\"}]\n")})
	if six, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		six.Close()
		if len(r.sockets) != 2 {
			t.Fatalf("got %q, want both loopback addresses", r.Addresses())
		}
	}
	for _, k := range r.sockets {
		if code := connect(t, dial(t, "tcp", k.Addr().String())); code != 0 {
			t.Errorf("%s: got reason code %#x", k.url(), code)
		}
	}
	if r.AdminAddress() != "" {
		t.Error("the admin server is not off")
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	left.Close()
	text := "admin: {address: off}\nlisteners: [{address: unix://" + path + "}]\n"
	start(t, Options{Config: load(t, text)})
	if code := connect(t, dial(t, "unix", path)); code != 0 {
		t.Errorf("got reason code %#x", code)
	}
	if _, err := New(Options{Config: load(t, text)}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v for a socket that is alive", err)
	}
}

func TestStartFailsWithCause(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := free.Addr().String()
	free.Close()
	for _, c := range []struct{ name, text, want string }{
		{"port taken", fmt.Sprintf("admin: {address: off}\nlisteners: [{address: %q}, {address: %q}]\n", first, taken.Addr()), "another program"},
		{"admin port taken", fmt.Sprintf("admin: {address: %q}\nlisteners: [{address: %q}]\n", taken.Addr(), first), "choose another admin.address"},
		{"no login", "listeners: [{address: \"0.0.0.0:0\", plaintext: true}]\n", "noctule.yaml:1:23: listeners[0].address"},
		{"no such plug-in", "plugins: [{name: no.such}]\n", "noctule.yaml:1:18: plugins[0].name: no plug-in is called"},
		{"no certificate", "listeners: [{address: \"tls://127.0.0.1:0\", tls: {cert: /no/c, key: /no/k}}]\n", "noctule.yaml:1:"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			_, err := New(Options{Config: load(t, c.text)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			again, err := net.Listen("tcp", first)
			if err != nil {
				t.Fatalf("something was left open: %v", err)
			}
			again.Close()
		})
	}
}

func TestDefaultAdminAddressMayBeTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:18083")
	if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	if err == nil {
		defer taken.Close()
	}
	r := start(t, Options{Config: load(t, "listeners: [{address: \"127.0.0.1:0\"}]\n")})
	if r.AdminAddress() != "" || !strings.Contains(r.out.String(), "no admin server") {
		t.Errorf("got %q and\n%s", r.AdminAddress(), r.out)
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	r := start(t, Options{Config: load(t, local+"shutdown: {timeout: 0}\n")})
	c := dial(t, "tcp", r.address())
	connect(t, c)
	if err := r.stop(); err != nil {
		t.Errorf("got %v, want nil: that is what the time-out is for", err)
	}
}
