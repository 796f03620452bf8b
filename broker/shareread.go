// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/store"
)

// sharedReading is one read of a shared subscription's stored queue.
type sharedReading struct {
	s     *share
	queue store.Queue
	pos   []store.Position
	now   int64
	got   []store.Delivery
	more  bool
	err   error
}

func (r *sharedReading) read(context.Context) {
	r.got, r.more, r.err = r.queue.Read(r.pos, maxSharedAhead/2, 4<<20, r.now, nil)
}

// Run takes what was read, on the share's loop.
func (r *sharedReading) Run(*loop.Loop) {
	s := r.s
	if s.taken > 0 && !s.dead && r.err == nil {
		s.held = r // some of it may have come live before the queue began, and is here already: its second way will tell
		return
	}
	s.reading = false
	if s.dead {
		return
	}
	if s.queue != r.queue {
		s.dispatch()
		return
	}
	if r.err != nil {
		s.sh.b.log.Error("a shared subscription could not be read", "filter", s.filter, "err", r.err)
		return
	}
	s.behind = r.more || s.missed || len(s.lowered) > 0
	s.pos = r.pos
	for g, p := range s.lowered {
		s.pos[g] = min(s.pos[g], p)
	}
	s.lowered = nil
	for _, d := range r.got {
		if s.known[d.Ref] != 0 {
			continue
		}
		s.known[d.Ref] = here
		s.turn++
		s.waiting = append(s.waiting, shared{m: d.Message, ref: d.Ref, turn: s.turn})
		s.weigh(d.Message.Size())
	}
	s.dispatch()
}
