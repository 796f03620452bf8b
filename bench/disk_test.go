// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSyncsInCountsCallsOnceWithinTheTime(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	err := os.WriteFile(trace, []byte(`7 100.500000 fdatasync(5) = 0
7 101.500000 fdatasync(5 <unfinished ...>
8 101.600000 fsync(6) = 0
7 101.700000 <... fdatasync resumed>) = 0
8 101.800000 +++ exited with 0 +++
8 103.000000 fsync(6) = 0
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := syncsIn(trace, time.Unix(101, 0), time.Unix(102, 0)); err != nil || n != 2 {
		t.Errorf("%d synchronisations, want 2: %v", n, err)
	}
}

func TestDiskIsDescribedAndMeasured(t *testing.T) {
	dir := t.TempDir()
	if d, err := describeDisk(dir); err != nil || !strings.Contains(d, "fdatasync") {
		t.Errorf("the disk is %q: %v", d, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"a": 10, "below/b": 5} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := bytesOf(dir); err != nil || n != 15 {
		t.Errorf("%d bytes, want 15: %v", n, err)
	}
}
