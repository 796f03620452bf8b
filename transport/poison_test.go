// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build invariants

package transport

import (
	"strings"
	"testing"

	"github.com/noctule/noctule/internal/invariants"
)

// caught runs what uses memory that is no longer its own, and says how that was noticed.
func caught(t *testing.T, want string, misuse func()) {
	t.Helper()
	defer func() {
		t.Helper()
		text, _ := recover().(string)
		if !strings.Contains(text, want) {
			t.Errorf("it was told as %q, want %q", text, want)
		}
	}()
	misuse()
}

// TestAWriteIntoAWrittenQueue: who keeps what Buf gave, and writes to it when it is somebody else's.
func TestAWriteIntoAWrittenQueue(t *testing.T) {
	caught(t, "the buffer of an out-queue was written to after it had been given back", func() {
		for range 1000 { // with the race detector pools lose things at random
			var o Out
			o.Append([]byte("all of it"))
			kept := o.Buf()
			o.Advance(o.Len())
			kept[3] = 'x'
			var next Out
			next.Buf()
		}
	})
}

// TestAViewOfAWrittenQueue: what Slices gave is not to be read after it was written.
func TestAViewOfAWrittenQueue(t *testing.T) {
	var o Out
	o.Append([]byte("all of it"))
	kept := o.Slices(nil)[0]
	o.Reset()
	if kept[0] != invariants.Pattern || kept[8] != invariants.Pattern {
		t.Errorf("a view of a buffer that was given back shows %q", kept)
	}
}

// TestAReferencedBlockThatChanges: before it is written, and after half of it is.
func TestAReferencedBlockThatChanges(t *testing.T) {
	for _, written := range []int{0, 5} {
		caught(t, "a block that an out-queue refers to has changed", func() {
			var o Out
			b := []byte("never to change")
			o.Ref(b)
			if written > 0 {
				o.Advance(written)
			}
			b[14]++
			o.Slices(nil)
		})
	}
}
