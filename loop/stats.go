// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"sync/atomic"
	"time"
)

// lagHalf is the time in which the reported lag falls to a half.
const lagHalf = 10 * time.Second

// stats are a loop's counters. The loop alone writes them, but for panics.
type stats struct {
	ran     int64                                  // tasks run, timers included; published as tasks once per iteration
	began   atomic.Int64                           // of the iteration; 0 while the loop waits
	turns   [len(IterationBounds) + 1]atomic.Int64 // iterations, by how long they took
	busy    atomic.Int64                           // ns, of all iterations
	stalls  atomic.Int64                           // written by the watchdog
	stalled atomic.Bool                            // likewise
	tasks   atomic.Int64
	timers  atomic.Int64
	panics  atomic.Int64
	helped  atomic.Int64
	wakes   atomic.Int64 // written by who wakes it
	lag     atomic.Int64 // ns, when it was highest
	lagAt   atomic.Int64 // unix ns of that
}

// IterationBounds are the upper bounds by which Stats.Turns counts iterations.
var IterationBounds = [...]time.Duration{
	100 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second,
}

// Stats are the counters of one loop, since its start.
type Stats struct {
	Iterations  int64
	Turns       [len(IterationBounds) + 1]int64 // iterations, by how long they took; the last is above all bounds
	Busy        time.Duration                   // of all iterations together
	Tasks       int64                           // tasks run, timers included
	Timers      int64                           // timers that are set
	Panics      int64                           // contained, in tasks and in jobs started from the loop
	Mailbox     int                             // tasks that wait
	MailboxHigh int                             // most tasks that ever waited
	Asleep      bool                            // it has nothing to do
	Helped      int64                           // iterations that another loop did for it while it slept
	Posted      int64                           // tasks that came by the mailbox
	Wakeups     int64                           // times that the loop slept and had to be woken for one
	Stalls      int64                           // times that it did not turn for Options.StallAlarm
	Stalled     bool                            // it does not now
	Lag         time.Duration                   // longest iteration; halves every ten seconds
}

// Stats returns the loop's counters. From any goroutine.
func (l *Loop) Stats() Stats {
	s := Stats{
		Busy:    time.Duration(l.stats.busy.Load()),
		Tasks:   l.stats.tasks.Load(),
		Timers:  l.stats.timers.Load(),
		Panics:  l.stats.panics.Load(),
		Helped:  l.stats.helped.Load(),
		Stalls:  l.stats.stalls.Load(),
		Stalled: l.stats.stalled.Load(),
		Lag:     l.stats.decayed(l.group.Now()),
	}
	for i := range s.Turns {
		s.Turns[i] = l.stats.turns[i].Load()
		s.Iterations += s.Turns[i]
	}
	l.mail.mu.Lock()
	s.Mailbox, s.MailboxHigh = len(l.mail.tasks), l.mail.high
	s.Posted, s.Wakeups = l.mail.posted, l.stats.wakes.Load()
	s.Asleep = l.mail.asleep
	l.mail.mu.Unlock()
	return s
}

// AsyncWaiting returns how many jobs of Async wait for a worker. From any
// goroutine.
func (g *Group) AsyncWaiting() int { return g.async.waiting() }

// Dropped returns how many tasks were dropped because they were posted after
// the end, or left when Stop ran out of time. From any goroutine.
func (g *Group) Dropped() int64 { return g.dropped.Load() }

// decayed returns the lag as of now.
func (s *stats) decayed(now int64) time.Duration {
	halves := max(0, now-s.lagAt.Load()) / int64(lagHalf)
	return time.Duration(s.lag.Load() >> min(halves, 63))
}

// work returns how many tasks have been run before the present one.
func (l *Loop) work() int64 { return l.stats.ran - 1 }

// measure ends the iteration that began at began.
func (l *Loop) measure(began int64) {
	now := l.group.Now()
	took := time.Duration(now - began)
	s := &l.stats
	at := 0
	for at < len(IterationBounds) && took > IterationBounds[at] {
		at++
	}
	s.turns[at].Add(1)
	s.busy.Add(int64(took))
	s.tasks.Store(s.ran)
	s.timers.Store(int64(l.wheel.set))
	if took > s.decayed(now) {
		s.lag.Store(int64(took))
		s.lagAt.Store(now)
	}
	if took > l.group.opts.LagAlarm {
		l.try(func(l *Loop) { l.reportLag(took) })
	}
}
