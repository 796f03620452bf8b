// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTellsSystemd listens where systemd would.
func TestTellsSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000000")
	told := func(want ...string) {
		t.Helper()
		l.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 4096)
		seen := ""
		for {
			n, err := l.Read(b)
			if err != nil {
				t.Fatalf("systemd was told %q, want %q", seen, want)
			}
			message := string(b[:n])
			seen += message + "|"
			all := true
			for _, w := range want {
				all = all && strings.Contains(message, w)
			}
			if all {
				return
			}
		}
	}
	r := start(t, Options{Config: load(t, local)})
	told("READY=1", "STATUS=serving")
	told("WATCHDOG=1")
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	told("RELOADING=1", "MONOTONIC_USEC=")
	told("READY=1")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	told("STOPPING=1")
	if _, err := New(Options{Config: load(t, "listeners: [{address: \"0.0.0.0:0\"}]\n")}); err == nil {
		t.Fatal("it started")
	}
	told("STATUS=noctule.yaml:1:23: listeners[0].address")
}
