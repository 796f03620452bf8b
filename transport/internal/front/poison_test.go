// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build invariants

package front

import (
	"bytes"
	"testing"

	"github.com/noctule/noctule/internal/invariants"
	"github.com/noctule/noctule/transport"
)

// A keeper is a core that keeps what it was lent.
type keeper struct {
	eat  int
	kept []byte
}

func (k *keeper) Feed(b []byte) (eaten, need int, v transport.Verdict) {
	k.kept = b
	return min(k.eat, len(b)), 0, transport.GoOn
}
func (k *keeper) Drained()     {}
func (k *keeper) Closed(error) {}

// TestALoanEnds: neither what was eaten nor what was not can be read by a core that has kept it; what was not eaten comes again, whole.
func TestALoanEnds(t *testing.T) {
	for _, eat := range []int{0, 3, 8} {
		k, in := &keeper{eat: eat}, Intake{}
		in.Feed(k, []byte("one two "))
		if want := bytes.Repeat([]byte{invariants.Pattern}, 8); !bytes.Equal(k.kept, want) {
			t.Errorf("%d bytes eaten: the core can still read %q", eat, k.kept)
		}
		if want := "one two "[eat:]; string(in.Tail()) != want {
			t.Errorf("%d bytes eaten: %q is left, want %q", eat, in.Tail(), want)
		}
	}
}
