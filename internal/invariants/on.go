// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build invariants

package invariants

import "hash/maphash"

// Enabled says whether this build checks.
const Enabled = true

var seed = maphash.MakeSeed()

// A Seal remembers what bytes that must not change are like.
type Seal struct{ sum uint64 }

// Close remembers b.
func (s *Seal) Close(b []byte) { s.sum = maphash.Bytes(seed, b) }

// Check panics if b is not what Close was given. what names it in the panic.
func (s *Seal) Check(b []byte, what string) {
	if s.sum != maphash.Bytes(seed, b) {
		panic("invariants: " + what + " has changed")
	}
}
