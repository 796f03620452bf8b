// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

// A Light task is so little work that it is cheaper done at once, by whoever sends it to a loop that sleeps, than by
// waking that loop: a wake-up costs two system calls and a change of threads, some 3 us, and is the greater part of what a message
// costs where nothing can be batched.
type Light interface {
	Task
	Light() bool
}

// helpTasks is how many light tasks are done for a loop that sleeps; more of them are worth a core of their own.
const helpTasks = 4

func allLight(ts []Task) bool {
	if len(ts) > helpTasks {
		return false
	}
	for _, t := range ts {
		if x, ok := t.(Light); !ok || !x.Light() {
			return false
		}
	}
	return true
}

// help does an iteration for l, which sleeps, on the goroutine of another loop. It reports false if l has to be woken: it
// does not sleep any more, or is left with something to do.
//
// l's goroutine has let go of awake only while it waits in its poller, and takes it back before it touches anything of l.
func (l *Loop) help() bool {
	if !l.awake.TryLock() {
		return false
	}
	defer l.awake.Unlock()
	l.helping = true
	l.iterate(false)
	l.helping = false
	l.stats.began.Store(0)
	l.stats.helped.Add(1)
	return !l.pending() && l.wheel.next >= l.alarm && l.mail.sleep()
}
