// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Against a slow, obvious reference: a map of topics.
func TestLedgerAgreesWithAMap(t *testing.T) {
	type held struct {
		key     string
		size    int64
		expires int64
	}
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		l, ref := NewLedger(), map[string]held{}
		of := func(key string) (n, bytes int64) {
			for _, h := range ref {
				if h.key == key {
					n, bytes = n+1, bytes+h.size
				}
			}
			return n, bytes
		}
		now := epoch
		for step := range 5000 {
			now += 2e9
			topic, key := fmt.Sprint("t", rnd.IntN(40)), fmt.Sprint("k", rnd.IntN(4))
			switch rnd.IntN(4) {
			case 0:
				l.Delete(topic, uint64(step))
				delete(ref, topic)
			case 1:
				size := rnd.Int64N(100)
				l.Set(Retained{Topic: topic, Key: key, Size: size, At: uint64(step)})
				ref[topic] = held{key: key, size: size}
			default:
				most, mostBytes := rnd.Int64N(12), rnd.Int64N(800)
				r := Retained{Topic: topic, Key: key, Size: rnd.Int64N(100)}
				if rnd.IntN(3) == 0 {
					r.Expires = now + rnd.Int64N(60e9)
				}
				fits := func() bool {
					n, bytes := of(key)
					if was, known := ref[topic]; known && was.key == key {
						n, bytes = n-1, bytes-was.size
					}
					return (most == 0 || n+1 <= most) && (mostBytes == 0 || bytes+r.Size <= mostBytes)
				}
				want := fits()
				if !want { // those that have expired make room
					for topic, h := range ref {
						if h.key == key && h.expires != 0 && h.expires <= now {
							delete(ref, topic)
						}
					}
					want = fits()
				}
				if got := l.Reserve(r, now, most, mostBytes); got != want {
					t.Fatalf("seed %d, step %d: reserve %v, want %v", seed, step, got, want)
				}
				if want {
					ref[topic] = held{key, r.Size, r.Expires}
				}
			}
			n, bytes := of(key)
			if gotN, gotBytes := l.Of(key); gotN != n || gotBytes != bytes {
				t.Fatalf("seed %d, step %d: %s has %d messages of %d bytes, want %d of %d", seed, step, key, gotN, gotBytes, n, bytes)
			}
		}
	}
}

func TestOldNewsOfRetainedMessages(t *testing.T) {
	l := NewLedger()
	l.Set(Retained{Topic: "t", Key: "b", Size: 2, At: 5})
	l.Set(Retained{Topic: "t", Key: "a", Size: 1, At: 4})
	l.Delete("t", 3)
	l.Found(Retained{Topic: "t", Key: "c", Size: 3})
	if n, bytes := l.Of("b"); n != 1 || bytes != 2 {
		t.Errorf("%d messages of %d bytes", n, bytes)
	}
	l.Delete("t", 6)
	l.Found(Retained{Topic: "t", Key: "c", Size: 3})
	if n, _ := l.Of("c"); n != 1 {
		t.Error("what was found is not there")
	}
}
