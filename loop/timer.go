// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"math"
	"math/bits"
)

const (
	tickBits  = 20 // a tick is 2^20 ns, about 1 ms
	levelBits = 9  // each level divides a slot of the one above by 512
	slots     = 1 << levelBits
	slotMask  = slots - 1
	levels    = 5  // 20 + 5*9 bits hold every positive int64
	scanMost  = 64 // timers of one tick that are searched for the first deadline

	never = math.MaxInt64
)

// A Timer is part of the struct that owns it and belongs to one loop at a time.
// The zero value is a timer that is not set. It must not be copied or moved
// while set.
type Timer struct {
	next *Timer
	prev **Timer // what points at this timer; nil if it is not set
	when int64   // unix ns
	task Task
}

// When returns the time for which t is set, in unix nanoseconds, 0 if it is not.
func (t *Timer) When() int64 {
	if t.prev == nil {
		return 0
	}
	return t.when
}

// Extend puts the deadline of a set timer off to when (unix nanoseconds). It
// costs one store: the timer is filed anew only when its old slot comes up.
// Nothing happens if t is not set or when is not later.
func (t *Timer) Extend(when int64) {
	if when > t.when && t.prev != nil {
		t.when = when
	}
}

// unlink takes a set timer out of its list.
func (t *Timer) unlink() {
	*t.prev = t.next
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev = nil, nil
}

// push puts t in front of the list at head.
func (t *Timer) push(head **Timer) {
	t.next, t.prev = *head, head
	if t.next != nil {
		t.next.prev = &t.next
	}
	*head = t
}

// At has task run at when (unix nanoseconds) or up to about a millisecond
// later, never earlier. If t is set already it is set anew. A time that has
// passed is due in this iteration or the next. No allocation.
func (l *Loop) At(t *Timer, when int64, task Task) {
	w := &l.wheel
	if t.prev != nil {
		t.unlink()
		w.set--
	}
	t.when, t.task = when, task
	w.set++
	w.file(t)
}

// Cancel unsets t. It reports whether t was set.
func (l *Loop) Cancel(t *Timer) bool {
	if t.prev == nil {
		return false
	}
	t.unlink()
	t.task = nil
	l.wheel.set--
	return true
}

// A wheel holds the timers of one loop, by deadline. It is a hierarchical timing
// wheel: a timer is filed at the level of the highest digit, in base 512 ticks,
// in which its deadline differs from cur. When the slot comes up its timers are
// filed anew, now at a lower level, and at the lowest they fire. Deadlines that
// Extend has put off are noticed then, so keep alive costs a store per packet
// and a visit about every slot of the second level.
//
// Invariant: every timer in a slot differs from cur first in the digit of its
// level, upwards; so all of a level come before all of the next.
type wheel struct {
	cur   int64  // tick that all filing is relative to; no timer in a slot is before it
	next  int64  // unix ns before which there is nothing to do; may be too early, never too late
	taken *Timer // taken from a slot and not looked at yet
	set   int    // timers that are set
	slot  [levels][slots]*Timer
	used  [levels][slots / 64]uint64 // which slots may have timers
}

func (w *wheel) init(now int64) { w.cur, w.next = now>>tickBits, never }

// file puts t, whose when is known, into its slot.
func (w *wheel) file(t *Timer) {
	tick := max(t.when>>tickBits, w.cur)
	level := 0
	if diff := uint64(tick ^ w.cur); diff != 0 {
		level = (bits.Len64(diff) - 1) / levelBits
	}
	i := tick >> (level * levelBits) & slotMask
	t.push(&w.slot[level][i])
	w.used[level][i/64] |= 1 << (i % 64)
	if level == 0 {
		w.next = min(w.next, t.when)
	} else {
		w.next = min(w.next, w.start(level, i)<<tickBits)
	}
}

// start returns the first tick of slot i of level, seen from cur.
func (w *wheel) start(level int, i int64) int64 {
	shift := level * levelBits
	return (w.cur>>shift&^slotMask | i) << shift
}

// due reports whether run has something to do.
func (w *wheel) due(now int64) bool { return w.next <= now }

// run fires the timers that are due, but looks at no more than maxTimers.
func (w *wheel) run(l *Loop) {
	if !w.due(l.now) {
		return
	}
	for n := 0; ; n++ {
		t := w.taken
		if t == nil {
			if !w.advance(l.now) {
				return
			}
			continue
		}
		if n >= maxTimers {
			w.next = l.now // the rest in the next iteration
			return
		}
		t.unlink()
		if t.when > l.now {
			w.file(t)
			continue
		}
		task := t.task
		t.task = nil
		w.set--
		l.stats.ran++
		task.Run(l)
	}
}

// advance takes the timers of the first slot if it has come up, and otherwise
// notes when it will.
func (w *wheel) advance(now int64) bool {
	level, i, ok := w.first()
	if !ok {
		w.cur, w.next = max(w.cur, now>>tickBits), never
		return false
	}
	head := &w.slot[level][i]
	at := w.start(level, i) << tickBits
	if level == 0 {
		at = earliest(*head, at)
	}
	if at > now {
		w.cur, w.next = max(w.cur, min(now>>tickBits, w.start(level, i))), at
		return false
	}
	w.cur = max(w.cur, w.start(level, i))
	w.taken, *head = *head, nil
	w.taken.prev = &w.taken
	w.used[level][i/64] &^= 1 << (i % 64)
	return true
}

// first returns the first slot with timers.
func (w *wheel) first() (level int, i int64, ok bool) {
	for level := range w.used {
		for word := range w.used[level] {
			for b := w.used[level][word]; b != 0; b &= b - 1 {
				i := int64(word*64 + bits.TrailingZeros64(b))
				if w.slot[level][i] != nil {
					return level, i, true
				}
				w.used[level][word] &^= 1 << (i % 64) // its timers were cancelled
			}
		}
	}
	return 0, 0, false
}

// earliest returns when the slot of the lowest level that begins at start is to
// be looked at: at its first deadline, or at its end if a search is not worth it
// or Extend has put all deadlines off.
func earliest(t *Timer, start int64) int64 {
	end := start + 1<<tickBits
	when := end
	for n := 0; t != nil; t, n = t.next, n+1 {
		if n == scanMost {
			return end
		}
		when = min(when, t.when)
	}
	return when
}
