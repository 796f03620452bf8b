// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A store that has met damage goes on making checkpoints, and compacts nothing; the next opening mends it.
func TestCheckpointsAfterDamage(t *testing.T) {
	fs := vfs.NewMem()
	o := Options{WriteBuffer: 64 << 10}
	e := openDisk(t, fs, o)
	subscribe(t, e, claim(t, e, "c").Owner, "#")
	r := rand.NewChaCha8([32]byte{3})
	inside := "" // a message between others in its table: opening does not look at it
	fill := func(e *engine, topic string, n int) {
		t.Helper()
		for i := range n {
			payload := noise(r, 9000)
			if p := publish(e, &Publish{Message: message(topic, payload, false)}); p.Err != nil {
				t.Fatal(p.Err)
			}
			if i == 3 && inside == "" {
				inside = payload
			}
		}
	}
	fill(e, "before", 30) // too little to be compacted: a reader meets the damage first
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for path, b := range contentsOf(t, fs, "data/"+stateDir) {
		if at := bytes.Index(b, []byte(inside[4000:4100])); at >= 0 {
			b[at] ^= 1
			put(t, fs, path, b)
		}
	}
	var told notices
	o.Notice = told.add
	e = openDisk(t, fs, o)
	owner := claim(t, e, "c").Owner
	had := len(readAll(t, e, owner))
	if !e.disk.suspect.any() {
		t.Fatal("no damage was met")
	}
	fill(e, "after", 300)
	wait(e)
	if n := e.disk.stats().Checkpoints; n < 8 {
		t.Fatalf("%d checkpoints", n)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openDisk(t, fs, o)
	if n := len(readAll(t, e, claim(t, e, "c").Owner)); n < had+300 {
		t.Errorf("%d messages of %d", n, had+300)
	}
	if len(told.of(DiskFailed)) > 0 {
		t.Errorf("%+v", told.list)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
