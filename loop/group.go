// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Options are fixed for the life of a Group. The zero value is fine.
type Options struct {
	// Now is the clock; time.Now if nil. Steps of the wall clock do not reach
	// the loops as long as the values carry a monotonic reading.
	Now func() time.Time
	// Logger gets panics that no OnPanic takes, lag that no OnLag takes, and
	// stalls that no OnStall takes. If nil, nothing is logged.
	Logger *slog.Logger
	// AsyncWorkers is how many jobs of Async run at once; 64 if 0.
	AsyncWorkers int
	// AsyncQueue is how many further jobs may wait; 4096 if 0.
	AsyncQueue int
	// OnPanic is told of each panic in a task or a job, with the stack, on the
	// goroutine where it happened. It must not block.
	OnPanic func(v any, stack []byte)
	// LagAlarm is how long an iteration may take before OnLag is told; 50 ms
	// if 0.
	LagAlarm time.Duration
	// OnLag is told on the loop's goroutine how long an iteration took.
	OnLag func(l *Loop, took time.Duration)
	// StallAlarm is how long a loop may go without ending its iteration before OnStall is told; 1 s if 0, and nobody looks if it is negative.
	StallAlarm time.Duration
	// OnStall is told, on a goroutine of the group that must not be blocked for long, of a loop that does not turn, and when it turns again.
	OnStall func(Stall)
	// NewPoller makes the poller of loop i. If nil, loops know only mailboxes
	// and timers.
	NewPoller func(i int) Poller
}

// A Group is a fixed set of loops that start and stop together.
type Group struct {
	opts  Options
	epoch time.Time // the clock at NewGroup
	base  int64     // epoch in unix nanoseconds
	loops []*Loop
	async async
	dog   watchdog

	mu      sync.Mutex // guards started, stopped
	started bool
	stopped bool
	running sync.WaitGroup // loops
	ended   chan struct{}  // closed when all goroutines have ended
	quit    atomic.Bool    // loops end after their iteration
	dropped atomic.Int64   // tasks posted after the end
}

// NewGroup makes n loops, or GOMAXPROCS if n is 0 or less. They run from Start
// on; tasks may be posted and timers set before.
func NewGroup(n int, o Options) *Group {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AsyncWorkers <= 0 {
		o.AsyncWorkers = 64
	}
	if o.AsyncQueue <= 0 {
		o.AsyncQueue = 4096
	}
	if o.StallAlarm == 0 {
		o.StallAlarm = time.Second
	}
	if o.LagAlarm <= 0 {
		o.LagAlarm = 50 * time.Millisecond
	}
	g := &Group{opts: o, epoch: o.Now(), ended: make(chan struct{})}
	g.base = g.epoch.UnixNano()
	g.async.init(g)
	g.loops = make([]*Loop, n)
	for i := range g.loops {
		g.loops[i] = newLoop(g, i)
	}
	g.dog.init(g)
	return g
}

// N returns the number of loops.
func (g *Group) N() int { return len(g.loops) }

// Loop returns loop i, 0 <= i < N().
func (g *Group) Loop(i int) *Loop { return g.loops[i] }

// Now reads the clock of the group, in unix nanoseconds. From any goroutine; on
// a loop use Loop.Now, which costs nothing.
func (g *Group) Now() int64 { return g.base + int64(g.opts.Now().Sub(g.epoch)) }

// Start starts the loops. It may be called once.
func (g *Group) Start() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.started || g.stopped {
		panic("loop: Start of a group that was started or stopped before")
	}
	g.started = true
	g.running.Add(len(g.loops))
	for _, l := range g.loops {
		go l.run()
	}
	if g.opts.StallAlarm > 0 {
		go g.dog.run()
	} else {
		close(g.dog.ended)
	}
}

// Stop ends the group and waits for its goroutines. Jobs that were accepted see
// their context cancelled; they and their done tasks still run, as does
// everything in the mailboxes and what follows from it. New jobs are refused.
// Timers that are not due are dropped. Tasks posted after the end are counted
// and dropped.
//
// If ctx ends first, the loops end after their current iteration with what is
// left dropped, and Stop returns ctx's error without waiting. Further calls wait
// for the same end. Not to be called on a loop.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	first := !g.stopped
	g.stopped = true
	started := g.started
	g.mu.Unlock()

	if first {
		if started {
			go g.drain(ctx)
		} else {
			g.end()
		}
	}
	select {
	case <-g.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drain waits until nothing is left to do, or ctx ends, and ends the loops.
func (g *Group) drain(ctx context.Context) {
	select {
	case <-g.async.close():
	case <-ctx.Done():
	}
	for rounds := 0; rounds < 2 && ctx.Err() == nil; {
		if g.quiet(ctx) {
			rounds++
		} else {
			rounds = 0
		}
	}
	g.end()
}

// quiet sends a barrier through all loops and reports whether no loop did, or had
// to do, anything else since the barrier before. What a loop sent in the
// iteration of that one may still be in a mailbox, behind this barrier; so it
// takes two quiet rounds to know that nothing is under way.
func (g *Group) quiet(ctx context.Context) bool {
	b := &barrier{wait: make(chan struct{})}
	b.left.Store(int32(len(g.loops)))
	for _, l := range g.loops {
		l.Post(b)
	}
	select {
	case <-b.wait:
		return !b.busy.Load()
	case <-ctx.Done():
		return false
	}
}

// end makes the loops end and closes g.ended when they have.
func (g *Group) end() {
	g.quit.Store(true)
	for _, l := range g.loops {
		l.poll.Wake()
	}
	g.running.Wait()
	<-g.async.close()
	close(g.dog.quit)
	if g.started {
		<-g.dog.ended
	}
	for _, l := range g.loops {
		l.close()
	}
	close(g.ended)
}

// A barrier is a task that runs once on each loop.
type barrier struct {
	left atomic.Int32
	busy atomic.Bool // a loop did something else since its last barrier
	wait chan struct{}
}

// Run implements Task.
func (b *barrier) Run(l *Loop) {
	work := l.work()
	if work != l.lastBarrier || l.pending() {
		b.busy.Store(true)
	}
	l.lastBarrier = work + 1 // this task
	if b.left.Add(-1) == 0 {
		close(b.wait)
	}
}

// close refuses further tasks and gives the poller back, after the loop ended.
func (l *Loop) close() {
	left := l.mail.close() + len(l.batch.items) - l.batch.pos + len(l.deferred)
	l.group.dropped.Add(int64(left))
	l.poll.Close()
}
