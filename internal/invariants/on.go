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

// sealed is how much of either end of the bytes is looked at: queues are looked through again and again, and blocks are large.
const sealed = 1 << 10

func sum(b []byte) uint64 {
	if len(b) <= 2*sealed {
		return maphash.Bytes(seed, b)
	}
	return maphash.Bytes(seed, b[:sealed]) ^ maphash.Bytes(seed, b[len(b)-sealed:])*31
}

// Close remembers b.
func (s *Seal) Close(b []byte) { s.sum = sum(b) }

// Check panics if b is not what Close was given. what names it in the panic.
func (s *Seal) Check(b []byte, what string) {
	if s.sum != sum(b) {
		panic("invariants: " + what + " has changed")
	}
}
