// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

// A bitmap is a set of sequence numbers, one bit each. The zero value is empty.
type bitmap []uint64

func (b bitmap) has(n uint64) bool { return n/64 < uint64(len(b)) && b[n/64]&(1<<(n%64)) != 0 }

func (b *bitmap) add(n uint64) {
	for uint64(len(*b)) <= n/64 {
		*b = append(*b, 0)
	}
	(*b)[n/64] |= 1 << (n % 64)
}
