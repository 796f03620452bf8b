// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func join(o *Out) []byte { return bytes.Join(o.Slices(nil), nil) }

func TestOutKeepsTheOrderOfCopiesAndReferences(t *testing.T) {
	var o Out
	o.Append([]byte("one "))
	o.Ref([]byte("two "))
	o.Ref([]byte("three "))
	o.Set(append(o.Buf(), "four"...))
	if got, want := string(join(&o)), "one two three four"; got != want || o.Len() != len(want) {
		t.Fatalf("got %q, %d bytes, want %q", got, o.Len(), want)
	}
	var to Out
	o.Take(&to)
	if o.Len() != 0 || string(join(&to)) != "one two three four" {
		t.Fatalf("Take left %d bytes and moved %q", o.Len(), join(&to))
	}
	to.Reset()
	if to.Len() != 0 || len(to.Slices(nil)) != 0 || to.buf != nil {
		t.Fatal("Reset left something behind")
	}
}

// TestOutAdvance compares partial writes with a plain byte slice.
func TestOutAdvance(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var o Out
		var want []byte
		for range 30 {
			b := make([]byte, rnd.IntN(20))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			switch rnd.IntN(3) {
			case 0:
				o.Append(b)
				want = append(want, b...)
			case 1:
				o.Ref(b)
				want = append(want, b...)
			case 2:
				n := rnd.IntN(len(want) + 1)
				o.Advance(n)
				want = want[n:]
			}
			if o.Len() != len(want) || !bytes.Equal(join(&o), want) {
				t.Fatalf("queue holds %x, want %x", join(&o), want)
			}
		}
	}
}

// TestOutSlicesStandWhileAppending is the promise that a writer on another goroutine rests on.
func TestOutSlicesStandWhileAppending(t *testing.T) {
	var o Out
	o.Append(bytes.Repeat([]byte{1}, 100))
	o.Ref(bytes.Repeat([]byte{2}, 100))
	before := o.Slices(nil)
	want := bytes.Join(before, nil)
	done := make(chan []byte)
	go func() { done <- bytes.Join(before, nil) }()
	for range 1000 {
		o.Append(bytes.Repeat([]byte{3}, 100))
	}
	if got := <-done; !bytes.Equal(got, want) || !bytes.Equal(bytes.Join(before, nil), want) {
		t.Fatal("appending changed bytes that were on their way")
	}
	o.Advance(len(want))
	if o.Len() != 100_000 {
		t.Fatalf("%d bytes left, want 100000", o.Len())
	}
}

func TestOutDoesNotGrowWhileItIsNeverEmpty(t *testing.T) {
	var o Out
	o.Append(make([]byte, 1000))
	for range 10_000 {
		o.Append(make([]byte, 1000))
		o.Advance(1000)
	}
	if cap(o.buf.b) > 16<<10 {
		t.Fatalf("the buffer has grown to %d bytes for 1000 that wait", cap(o.buf.b))
	}
}
