// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"
)

// busy is a folder with sessions and queues of different lengths.
func busy(t testing.TB, dir string) Inventory {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		o := claim(t, s, fmt.Sprintf("client %02d", i)).Owner
		subscribe(t, s, o, fmt.Sprint("own/", i), "all")
		for range i {
			publish(s, &Publish{Message: message(fmt.Sprint("own/", i), "0123456789", false)})
		}
	}
	publish(s, &Publish{Message: message("all", "for everybody", true)})
	i, err := s.(Inspector).Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.(Inspector).Inventory(); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	return i
}

func TestStatNamesTheLongest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	online := busy(t, dir)
	before := filesOf(t, dir)
	r, err := Stat(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", r.Queues) != fmt.Sprintf("%+v", online.Queues) || r.Contents != online.Contents || r.Position != online.Position {
		t.Fatalf("of the folder\n%+v\nof the store\n%+v", r.Inventory, online)
	}
	if len(r.Queues) != MostListed || r.Queues[0] != (QueueInfo{"own/14", 14, 14 * 16, 1}) || r.Queues[9].Messages != 5 {
		t.Fatalf("%+v", r.Queues)
	}
	if len(r.Sessions) != MostListed || r.Sessions[0].ClientID != "client 14" || r.Sessions[0].Messages != 15 || r.Sessions[0].Subscriptions != 2 {
		t.Fatalf("%+v", r.Sessions)
	}
	if r.Contents.Sessions != 15 || r.Contents.Subscriptions != 30 || r.Contents.Filters != 16 || r.Contents.Messages != 106 || r.Contents.Retained != 1 {
		t.Fatalf("%+v", r.Contents)
	}
	if r.Checkpoint != r.Position || r.LogBytes == 0 || r.StateBytes == 0 || r.Kinds[0].Kind != "message" || r.Kinds[0].Rows != 106 {
		t.Fatalf("%+v", r)
	}
	if !maps.Equal(before, filesOf(t, dir)) {
		t.Fatal("the folder was changed")
	}
}

func TestStatNeedsAStore(t *testing.T) {
	if _, err := Stat(t.TempDir(), nil); !errors.Is(err, ErrNoStore) {
		t.Fatal(err)
	}
}
