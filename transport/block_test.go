// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/noctule/noctule/internal/invariants"
)

// A block's memory is used again when nobody refers to it, and not before; the counters say so.
func TestBlockIsUsedAgain(t *testing.T) {
	before := Blocks()
	k := NewBlock(bytes.Repeat([]byte{1}, 5000))
	memory := &k.Bytes()[0]
	var a, b Out
	k.Hold(2)
	a.RefBlock(k)
	b.Append([]byte("head"))
	b.RefBlock(k)
	k.Release(1) // ours
	if s := Blocks(); s.InUse-before.InUse != 8192 || s.Taken-before.Taken != 1 {
		t.Errorf("in use: %+v, before %+v", s, before)
	}
	a.Reset()
	b.Advance(4 + 4999)
	if other := NewBlock(make([]byte, 5000)); &other.Bytes()[0] == memory {
		t.Fatal("a block to which a queue refers is used again")
	} else {
		other.Release(1)
	}
	if got := join(&b); len(got) != 1 || got[0] != 1 {
		t.Errorf("the last byte is % x", got)
	}
	b.Advance(1)
	if s := Blocks(); s.InUse != before.InUse || s.Pooled < 8192 {
		t.Errorf("after the end: %+v, before %+v", s, before)
	}
	if again := NewBlock(make([]byte, 4097)); &again.Bytes()[0] != memory || len(again.Bytes()) != 4097 {
		t.Error("it is not used again")
	} else {
		again.Release(1)
	}
}

// What the pool keeps is bounded, in number and in size.
func TestBlockPoolIsBounded(t *testing.T) {
	for _, size := range []int{1, 512, 513, 2000, 64 << 10, 1 << 20, 1<<20 + 1} {
		var all []*Block
		for range 2000 {
			if len(all)*size > 8<<20 {
				break
			}
			all = append(all, NewBlock(make([]byte, size)))
		}
		for _, k := range all {
			if len(k.Bytes()) != size {
				t.Fatalf("a block of %d bytes has %d", size, len(k.Bytes()))
			}
			k.Release(1)
		}
	}
	if s := Blocks(); s.Pooled > 12*blockKeep+blockLargest+blockLargest/2 {
		t.Errorf("%d bytes are kept", s.Pooled)
	}
}

// A reference too few or too many is a fault of the program, and no silent one.
func TestBlockCountsAreChecked(t *testing.T) {
	for name, misuse := range map[string]func(k *Block){
		"a block was released too often":              func(k *Block) { k.Release(1) },
		"a block was held that nobody refers to":      func(k *Block) { k.Hold(1) },
		"a block was written to after it had been gi": func(k *Block) { k.b[:1][0] = 7; NewBlock(make([]byte, 70<<10)) },
	} {
		func() {
			defer func() {
				text, _ := recover().(string)
				if !strings.Contains(text, name) && (invariants.Enabled || !strings.Contains(name, "written")) {
					t.Errorf("told as %q, want %q", text, name)
				}
			}()
			k := NewBlock(make([]byte, 70<<10))
			k.Release(1)
			misuse(k)
		}()
		blocks.sizes[class(70<<10)].free = nil // what was misused
	}
}

// TestBlocksUnderWay sends blocks through many queues on several goroutines; each sees its own bytes.
func TestBlocksUnderWay(t *testing.T) {
	before := Blocks().InUse
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 7))
			var queues [8]Out
			for i := range 3000 {
				size := 1 << rnd.IntN(14)
				k := NewBlock(bytes.Repeat([]byte{byte(i)}, size))
				k.Hold(len(queues))
				for q := range queues {
					queues[q].RefBlock(k)
				}
				k.Release(1)
				for q := range queues {
					for _, s := range queues[q].First(nil, 3) {
						if s[0] != s[len(s)-1] {
							t.Errorf("bytes of somebody else: %d and %d", s[0], s[len(s)-1])
							return
						}
					}
					if n := queues[q].Len(); n > 50_000 {
						queues[q].Advance(n - rnd.IntN(10_000))
					}
				}
			}
			for q := range queues {
				queues[q].Reset()
			}
		})
	}
	wg.Wait()
	if s := Blocks().InUse; s != before {
		t.Errorf("%d bytes in use after the end, %d before", s, before)
	}
}

// First gives the beginning of a long queue, and gives all of it bit by bit.
func TestOutFirst(t *testing.T) {
	var o Out
	var want []byte
	for i := range 1000 {
		o.Append([]byte{byte(i), 0xAA})
		o.Ref(bytes.Repeat([]byte{byte(i)}, i%3))
		want = append(append(want, byte(i), 0xAA), bytes.Repeat([]byte{byte(i)}, i%3)...)
	}
	var got []byte
	for o.Len() > 0 {
		s := o.First(nil, 7)
		if len(s) == 0 || len(s) > 8 {
			t.Fatalf("%d slices of %d bytes", len(s), o.Len())
		}
		b := bytes.Join(s, nil)
		n := min(len(b), 5)
		got = append(got, b[:n]...)
		o.Advance(n)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
}
