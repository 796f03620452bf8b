// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package invariants

import (
	"strings"
	"testing"
	"unsafe"
)

// panics returns what f panics with, as text; "" if it does not.
func panics(f func()) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = v.(string)
		}
	}()
	f()
	return ""
}

func TestAWriteAfterItWasGivenBack(t *testing.T) {
	b := make([]byte, 100)
	Poison(b)
	if text := panics(func() { CheckPoison(b, "a buffer") }); text != "" {
		t.Fatalf("nothing was written, and yet: %s", text)
	}
	b[42] = 0x10
	text := panics(func() { CheckPoison(b, "a buffer") })
	if Enabled && !strings.Contains(text, "a buffer was written to after it had been given back: byte 42 of 100 is 0x10") {
		t.Errorf("a write was told as %q", text)
	}
	if !Enabled && text != "" {
		t.Errorf("a build without the tag checks: %s", text)
	}
}

func TestSealedBytesThatChange(t *testing.T) {
	b := []byte("never to change")
	var s Seal
	s.Close(b)
	if text := panics(func() { s.Check(b, "a payload") }); text != "" {
		t.Fatalf("nothing has changed, and yet: %s", text)
	}
	b[0]++
	if text := panics(func() { s.Check(b, "a payload") }); Enabled != strings.Contains(text, "a payload has changed") {
		t.Errorf("a change was told as %q", text)
	}
}

// Builds without the tag pay for nothing.
func TestOtherBuildsPayNothing(t *testing.T) {
	if size := unsafe.Sizeof(Seal{}); !Enabled && size != 0 {
		t.Errorf("a seal takes %d bytes", size)
	}
	b := []byte{1, 2, 3}
	Poison(b)
	if !Enabled && b[0] != 1 {
		t.Error("a build without the tag poisons")
	}
}
