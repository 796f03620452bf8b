// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// listening counts the sockets that listen on a port of 127.0.0.1, as the kernel has them.
func listening(t *testing.T, port int) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == fmt.Sprintf("0100007F:%04X", port) && f[3] == "0A" {
			n++
		}
	}
	return n
}

// Two brokers share a port, each with a socket for each loop; clients reach both, and the one that is left when the other ends.
func TestReusePort(t *testing.T) {
	text := func(port int) string {
		return fmt.Sprintf("admin: {address: off}\nlisteners: [{address: \"127.0.0.1:%d\", reuse_port: true}]\n", port)
	}
	one := start(t, Options{Config: load(t, text(0))})
	_, portText, _ := strings.Cut(one.address(), ":")
	var port int
	fmt.Sscan(portText, &port)
	if n := listening(t, port); n != runtime.GOMAXPROCS(0) {
		t.Errorf("%d sockets listen, want one for each of %d loops", n, runtime.GOMAXPROCS(0))
	}
	if len(one.Addresses()) != 1 {
		t.Errorf("the addresses are %q", one.Addresses())
	}
	two := start(t, Options{Config: load(t, text(port))})
	if n := listening(t, port); n != 2*runtime.GOMAXPROCS(0) {
		t.Errorf("%d sockets of two brokers listen", n)
	}
	served := func() (a, b int64) { return one.transport.Counts().Accepted, two.transport.Counts().Accepted }
	for range 500 {
		if a, b := served(); a > 0 && b > 0 {
			break
		}
		if code := connect(t, dial(t, "tcp", one.address())); code != 0 {
			t.Fatalf("reason code %#x", code)
		}
	}
	if a, b := served(); a == 0 || b == 0 {
		t.Errorf("%d and %d clients were accepted", a, b)
	}
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	if n := listening(t, port); n != runtime.GOMAXPROCS(0) {
		t.Errorf("%d sockets listen when one broker has ended", n)
	}
	_, before := served()
	for range 10 {
		if code := connect(t, dial(t, "tcp", two.address())); code != 0 {
			t.Fatalf("reason code %#x", code)
		}
	}
	if _, after := served(); after != before+10 {
		t.Errorf("%d of 10 clients reached the broker that is left", after-before)
	}
}

// Without the option a port is one broker's, even beside one that would share it.
func TestPortsAreNotSharedUnasked(t *testing.T) {
	r := start(t, Options{Config: load(t, local)})
	text := fmt.Sprintf("admin: {address: off}\nlisteners: [{address: %q, reuse_port: true}]\n", r.address())
	if _, err := New(Options{Config: load(t, text)}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
}
