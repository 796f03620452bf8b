// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"testing"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/store"
)

// durable is what a broker tells whose store is on disk.
func durable(t *testing.T) *Source {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Options{Loops: 1, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	done := make(chan struct{})
	s.ProposeClaim(&store.Claim{ClientID: "c", Expiry: store.Never, Now: 1, Done: func(*store.Claim) { close(done) }})
	<-done
	return &Source{Version: "v1", Broker: b}
}

func TestBackupIsWhole(t *testing.T) {
	w := ask(durable(t), nil, local, "localhost", "/api/v1/backup")
	if w.Code != http.StatusOK || w.Header().Get(ProcessHeader) != strconv.Itoa(os.Getpid()) {
		t.Fatal(w.Code, w.Header(), w.Body)
	}
	info, err := store.CheckBackup(bytes.NewReader(w.Body.Bytes()), nil)
	if err != nil || info.Program != "noctule v1" || info.Rows == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
}

func TestInventoryOfTheStore(t *testing.T) {
	w := ask(durable(t), nil, local, "localhost", "/api/v1/store")
	var i store.Inventory
	if err := json.Unmarshal(w.Body.Bytes(), &i); err != nil || i.Contents.Sessions != 1 || i.Sessions[0].ClientID != "c" {
		t.Fatalf("%s, %v", w.Body, err)
	}
}

func TestTheStoreIsForThisHost(t *testing.T) {
	src := durable(t)
	for _, path := range []string{"/api/v1/backup", "/api/v1/store"} {
		if w := ask(src, nil, "192.0.2.7:9", "localhost", path); w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestNoBackupOfMemory(t *testing.T) {
	w := ask(source(t), nil, local, "localhost", "/api/v1/backup")
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusNotFound || p.Error == "" {
		t.Fatal(w.Code, w.Body, err)
	}
}
