// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/noctule/noctule/plugin"
)

// The decisions remembered: 65 536 in buckets of four, each of at most 512 bytes of text, so at most about 40 MB; 512 kB
// when empty. What is longer is decided anew each time.
const (
	buckets    = 1 << 14
	ways       = 4
	maxKeyText = 512
)

// decisions remembers answers for one set of rules; with the rules it is dropped. It is read and written without
// locks by any goroutine: each slot points to an answer that never changes, and the last writer stays.
type decisions struct {
	seed  maphash.Seed
	slots [buckets * ways]atomic.Pointer[answer]
	turn  atomic.Uint32 // which of a full bucket goes next
}

// answer is a decision with the question that it answers.
type answer struct {
	who
	kind     kind
	topic    string
	decision plugin.Decision
}

// kind is an action as rules tell actions apart: a will is a publish.
type kind byte

const (
	publishing kind = iota
	subscribing
	receiving
)

func kindOf(a plugin.Action) kind {
	switch a {
	case plugin.Subscribe:
		return subscribing
	case plugin.Receive:
		return receiving
	}
	return publishing
}

func newDecisions() *decisions { return &decisions{seed: maphash.MakeSeed()} }

// bucket is where answers to a question are. Its hash is seeded, so that clients cannot aim at one bucket.
func (d *decisions) bucket(w who, k kind, topic string) []atomic.Pointer[answer] {
	const odd = 0x9E3779B97F4A7C15
	h := maphash.String(d.seed, topic)
	h = h*odd ^ maphash.String(d.seed, w.client)
	h = h*odd ^ maphash.String(d.seed, w.user) + uint64(k)
	h *= odd
	i := (h >> 32) % buckets * ways
	return d.slots[i : i+ways]
}

// find allocates nothing.
func (d *decisions) find(w who, k kind, topic string) (plugin.Decision, bool) {
	b := d.bucket(w, k, topic)
	for i := range b {
		if x := b[i].Load(); x != nil && x.kind == k && x.topic == topic && x.who == w {
			return x.decision, true
		}
	}
	return plugin.Decision{}, false
}

// keep remembers a decision, in the place of another if there is no room. It copies the text, which is lent.
func (d *decisions) keep(w who, k kind, topic string, decision plugin.Decision) {
	if len(w.user)+len(w.client)+len(topic) > maxKeyText {
		return
	}
	x := &answer{who{strings.Clone(w.user), strings.Clone(w.client)}, k, strings.Clone(topic), decision}
	b := d.bucket(w, k, topic)
	for i := range b {
		if b[i].CompareAndSwap(nil, x) {
			return
		}
	}
	b[d.turn.Add(1)%ways].Store(x)
}
