// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"runtime/debug"
	"sync"
	"time"
)

const (
	maxTasks  = 1024  // of the mailbox in one iteration: then buffers are flushed and timers looked at
	maxTimers = 4096  // looked at in one iteration; about 0.2 ms if none of them fires
	keepTasks = 16384 // slices of tasks with more room are not kept when empty
)

// A Task is something to be done on a loop. Hot paths post pointers to pooled
// structs; the rest may use Func.
type Task interface {
	// Run runs on l's goroutine and must not block.
	Run(l *Loop)
}

// Func is a function as a Task.
type Func func(l *Loop)

// Run implements Task.
func (f Func) Run(l *Loop) { f(l) }

// A Flusher has something to be done once at the end of an iteration, however
// often it was asked for in between. It embeds DirtyMark.
type Flusher interface {
	// Flush runs on l's goroutine and must not block.
	Flush(l *Loop)
	mark() *DirtyMark
}

// DirtyMark says whether its Flusher waits for the end of the iteration.
type DirtyMark struct{ dirty bool }

func (m *DirtyMark) mark() *DirtyMark { return m }

// A Loop runs tasks on one goroutine. Methods may be called on that goroutine
// only, unless they say otherwise.
type Loop struct {
	group *Group
	index int
	now   int64 // coarse clock
	poll  Poller

	mail mailbox // what others posted

	batch    agenda[Task]    // taken from the mailbox
	deferred []Task          // for the next iteration
	later    agenda[Task]    // deferred in the previous iteration
	dirty    []Flusher       // to be flushed at the end of this iteration
	flushing agenda[Flusher] // being flushed
	out      [][]Task        // by target loop
	wheel    wheel

	awake   sync.Mutex // held by l's goroutine but while it sleeps, and by who helps it then; see help
	helping bool       // the iteration at hand is another loop's help
	alarm   int64      // the timer for which l sleeps

	lastBarrier int64 // tasks run when the last barrier had passed; see barrier
	stats       stats
}

func newLoop(g *Group, index int) *Loop {
	l := &Loop{group: g, index: index, out: make([][]Task, len(g.loops))}
	if g.opts.NewPoller != nil {
		l.poll = g.opts.NewPoller(index)
	} else {
		l.poll = newSleeper()
	}
	l.now = g.base
	l.wheel.init(l.now)
	return l
}

// Index returns the loop's number in its group. From any goroutine.
func (l *Loop) Index() int { return l.index }

// Group returns the loop's group. From any goroutine.
func (l *Loop) Group() *Group { return l.group }

// Poller returns what Options.NewPoller made for the loop. From any goroutine.
func (l *Loop) Poller() Poller { return l.poll }

// Now returns the time in unix nanoseconds at which the iteration began. It
// never goes back.
func (l *Loop) Now() int64 { return l.now }

// Defer has t run in the next iteration, after what is in the mailbox by then.
// The loop does not sleep in between. Long work cuts itself into slices so.
func (l *Loop) Defer(t Task) { l.deferred = append(l.deferred, t) }

// Dirty has f flushed at the end of this iteration, after all tasks and before
// the outboxes are handed over. Marked twice it is flushed once. What is marked
// while others are flushed has its turn at the end of the next iteration, which
// follows at once.
func (l *Loop) Dirty(f Flusher) {
	if m := f.mark(); !m.dirty {
		m.dirty = true
		l.dirty = append(l.dirty, f)
	}
}

// run is the loop's goroutine.
func (l *Loop) run() {
	defer l.group.running.Done()
	l.awake.Lock() // for ever, but for the time in which it sleeps
	l.label()
	l.now = max(l.now, l.group.Now())
	for !l.group.quit.Load() {
		l.wait()
		l.iterate(true)
	}
}

// iterate is one iteration but for the waiting. polled: what the poller found is part of it.
func (l *Loop) iterate(polled bool) {
	began := max(l.now, l.group.Now())
	l.now = began
	l.stats.began.Store(began)
	if l.group.dog.asleep.Load() {
		l.group.dog.wake()
	}
	l.deferred, l.later.items = l.later.reuse(), l.deferred
	l.later.end = len(l.later.items)
	if polled {
		l.protect((*Loop).runPolled)
	}
	if l.batch.done() {
		l.batch.items = l.mail.take(l.batch.reuse())
	}
	l.batch.end = min(len(l.batch.items), l.batch.pos+maxTasks)
	l.protect((*Loop).runMailbox)
	l.protect((*Loop).runDeferred)
	l.protect((*Loop).runTimers)
	l.dirty, l.flushing.items = l.flushing.reuse(), l.dirty
	l.flushing.end = len(l.flushing.items)
	l.protect((*Loop).flush)
	l.handOver()
	l.measure(began)
}

// pending reports whether the loop has work that needs no waiting for.
func (l *Loop) pending() bool {
	return !l.batch.done() || !l.later.done() || len(l.deferred) > 0 || len(l.dirty) > 0
}

// protect runs one step of the iteration. Steps keep their progress in l and
// advance before they run a task, so that after a panic the step goes on behind
// the task that caused it.
func (l *Loop) protect(step func(*Loop)) {
	for !l.try(step) {
	}
}

func (l *Loop) try(step func(*Loop)) (done bool) {
	defer func() {
		if done {
			return
		}
		if v := recover(); v != nil {
			l.stats.panics.Add(1)
			l.group.reportPanic(v, debug.Stack())
		}
	}()
	step(l)
	return true
}

// runPolled carries out what the poller collected.
func (l *Loop) runPolled() { l.poll.Run(l) }

// runMailbox runs what was posted.
func (l *Loop) runMailbox() {
	for t, ok := l.batch.next(); ok; t, ok = l.batch.next() {
		l.stats.ran++
		t.Run(l)
	}
}

// runDeferred runs what the previous iteration deferred.
func (l *Loop) runDeferred() {
	for t, ok := l.later.next(); ok; t, ok = l.later.next() {
		l.stats.ran++
		t.Run(l)
	}
}

// runTimers runs the timers that are due.
func (l *Loop) runTimers() { l.wheel.run(l) }

// flush flushes what is dirty.
func (l *Loop) flush() {
	for f, ok := l.flushing.next(); ok; f, ok = l.flushing.next() {
		f.mark().dirty = false
		f.Flush(l)
	}
}

// An agenda is a list that is worked through, with the progress made.
type agenda[T any] struct {
	items []T
	pos   int // items[:pos] are done, and cleared
	end   int // items[:end] are to be done in this iteration
}

// next returns the next item of this iteration.
func (r *agenda[T]) next() (item T, ok bool) {
	if r.pos == r.end {
		return item, false
	}
	var none T
	item, r.items[r.pos] = r.items[r.pos], none
	r.pos++
	return item, true
}

// done reports whether all items are done.
func (r *agenda[T]) done() bool { return r.pos == len(r.items) }

// reuse empties an agenda that is done and returns its slice for new items, or nil
// if it has grown too large to be kept.
func (r *agenda[T]) reuse() []T {
	s := room(r.items)
	*r = agenda[T]{}
	return s
}

// room returns s emptied, or nil if it has grown too large to be kept. Its items
// have been cleared already.
func room[T any](s []T) []T {
	if cap(s) > keepTasks {
		return nil
	}
	return s[:0]
}

// reportPanic hands a panic to whoever wants to know.
func (g *Group) reportPanic(v any, stack []byte) {
	switch {
	case g.opts.OnPanic != nil:
		g.opts.OnPanic(v, stack)
	case g.opts.Logger != nil:
		g.opts.Logger.Error("panic in a task", "panic", v, "stack", string(stack))
	}
}

// reportLag tells of an iteration that took too long.
func (l *Loop) reportLag(took time.Duration) {
	switch o := &l.group.opts; {
	case o.OnLag != nil:
		o.OnLag(l, took)
	case o.Logger != nil:
		o.Logger.Warn("loop iteration took long", "loop", l.index, "took", took)
	}
}

// A mailbox holds tasks on their way from other goroutines to a loop.
type mailbox struct {
	mu     sync.Mutex
	tasks  []Task
	high   int   // most tasks that ever waited
	posted int64 // tasks that came
	asleep bool  // the loop wants to be woken
	closed bool  // the loop has ended
}
