// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package invariants checks, in builds with the tag invariants, what is too dear to check always: that nobody uses memory which
// is no longer theirs. What is given back to a pool is filled with a pattern and looked at when it is taken again; bytes that were
// lent are filled when the loan ends. In other builds Enabled is a constant false, and the compiler drops all of it.
//
//	go test -race -tags invariants ./transport/... ./broker
package invariants

import "fmt"

// Pattern fills what nobody may use. As a first byte it is no packet of a client, and it occurs in no UTF-8 text.
const Pattern = 0xF5

// Poison fills b, up to its length. Nobody but the caller may know b.
func Poison(b []byte) {
	if !Enabled {
		return
	}
	for i := range b {
		b[i] = Pattern
	}
}

// CheckPoison panics if b is not as Poison left it. what names it in the panic.
func CheckPoison(b []byte, what string) {
	if !Enabled {
		return
	}
	for i, v := range b {
		if v != Pattern {
			panic(fmt.Sprintf("invariants: %s was written to after it had been given back: byte %d of %d is %#02x", what, i, len(b), v))
		}
	}
}
