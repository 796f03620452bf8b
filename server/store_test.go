// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/server/config"
	"github.com/noctule/noctule/store"
)

func TestDataDirectoryIsMadeForItsUserOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "down")
	start(t, Options{Config: load(t, local+"data: "+dir+"\n")})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v, want mode 0700", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".writable*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

func TestWhatIsKeptSurvives(t *testing.T) {
	c := load(t, local)
	for round := range 3 {
		r := start(t, Options{Config: c})
		n := 0
		if err := r.broker.Retained("#", func(*mqtt.Message) bool { n++; return true }); err != nil || n != round {
			t.Errorf("got %d retained messages, %v, want %d", n, err, round)
		}
		if round == 2 {
			_, page := get(t, "http://"+r.AdminAddress()+"/metrics")
			for _, want := range []string{"noctule_store_commit_seconds_count ", "noctule_store_commit_seconds_bucket{le=\"8\"} ", "noctule_store_log_bytes ",
				"noctule_store_checkpoints_total ", `noctule_store_drops_total{cause="filter_oldest"} 0`} {
				if !strings.Contains(page, "\n"+want) {
					t.Errorf("the metrics lack %s", want)
				}
			}
			if strings.Contains(page, "\nnoctule_store_log_bytes 0\n") {
				t.Error("the log has no bytes")
			}
		}
		m := &mqtt.Message{Topic: fmt.Sprint("r/", round), Payload: []byte("x"), QoS: 1, Retain: true}
		if err := r.broker.Publish(t.Context(), m); err != nil {
			t.Error(err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestStartFailsWithoutUsableData(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := start(t, Options{Config: load(t, local)}).Config().Data
	for text, want := range map[string][]string{
		"data: " + file + "\n":       {"data directory " + file, "--data"},
		"data: " + file + "/below\n": {"data directory " + file, "--data"},
		"data: " + taken + "\n":      {"in use by process " + fmt.Sprint(os.Getpid()), "another broker has it", "--data"},
	} {
		if _, err := New(Options{Config: load(t, local+text)}); err == nil {
			t.Errorf("%s: it started", text)
		} else {
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want %s", err, w)
				}
			}
		}
	}
	c, err := config.Load(config.Input{File: "f", Text: []byte(local)}) // without an environment there is no default
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Config: c}); err == nil || !strings.Contains(err.Error(), "--durability memory") {
		t.Errorf("got %v", err)
	}
}

func TestDamageRefusedOrSetAside(t *testing.T) {
	c := load(t, local)
	start(t, Options{Config: c}).stop()
	if err := os.WriteFile(filepath.Join(c.Data, "FORMAT"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Config: load(t, local+"data: "+c.Data+"\nstore: {on_damage: refuse}\n")}); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "set-aside") {
		t.Fatalf("got %v", err)
	}
	r := start(t, Options{Config: c})
	if a := r.broker.Alarms(); len(a) != 1 || a[0].Name != "damaged" {
		t.Errorf("got alarms %+v", a)
	}
	if !strings.Contains(r.out.String(), "was set aside") {
		t.Errorf("it is not logged:\n%s", r.out)
	}
}

func TestMemoryTouchesNoDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	r := start(t, Options{Config: load(t, local+"data: "+dir+"\nstore: {durability: memory}\n")})
	if code := connect(t, dial(t, "tcp", r.address())); code != 0 {
		t.Errorf("got reason code %#x", code)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v for the data directory", err)
	}
}

// A failed disk ends the server, and Serve says so.
func TestFailedDiskEndsTheServer(t *testing.T) {
	out := new(output)
	s, err := New(Options{Config: load(t, local+"shutdown: {timeout: 1h}\n"), Stderr: out})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background()) }()
	c := dial(t, "tcp", s.sockets[0].Addr().String())
	connect(t, c)
	s.watch.Notice(store.Notice{Kind: store.DiskFailed, Text: "log/7: fdatasync", Err: errors.New("input/output error")})
	select {
	case err := <-ended:
		if !errors.Is(err, broker.ErrDiskFailed) || !strings.Contains(err.Error(), "the disk failed: input/output error") {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if !strings.Contains(out.String(), "nothing is acknowledged any more") {
		t.Errorf("the log says\n%s", out)
	}
}
