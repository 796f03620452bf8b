// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"runtime"
	"time"
)

// A Poller is where a loop waits, if it is to wait for more than tasks and
// timers: readiness of sockets, for one.
type Poller interface {
	// Wait waits for something to be ready, for a Wake, or for d, whichever
	// comes first. It does not block if d is 0 and knows no limit if d is
	// negative. It reports whether Run has something to do. On the loop's
	// goroutine.
	Wait(d time.Duration) (ready bool)
	// Run carries out what Wait found. On the loop's goroutine, in each
	// iteration. If it panics it is called again and must then go on behind
	// what caused the panic.
	Run(l *Loop)
	// Wake ends the present Wait or, if there is none, the next that would
	// block. From any goroutine.
	Wake()
	// Close gives back what the poller holds, after the loop has ended.
	Close()
}

// wait returns when there is something to do. A loop that runs dry yields once
// before it sleeps: what others are about to post then often arrives without
// anybody having to wake it.
func (l *Loop) wait() {
	if l.pending() || !l.mail.empty() || l.wheel.due(l.now) {
		l.poll.Wait(0)
		return
	}
	if l.poll.Wait(0) {
		return
	}
	runtime.Gosched()
	if !l.mail.sleep() || l.group.quit.Load() {
		return
	}
	d := l.untilTimer()
	l.alarm = l.wheel.next
	l.stats.began.Store(0)
	l.awake.Unlock() // others may help from here on
	l.poll.Wait(d)
	l.awake.Lock()
	l.mail.awake()
}

// untilTimer returns how long the loop may sleep: negative if there is no timer.
func (l *Loop) untilTimer() time.Duration {
	next := l.wheel.next
	if next == never {
		return -1
	}
	return time.Duration(max(0, next-l.group.Now()))
}

// A sleeper is the Poller of loops without one: it waits for nothing but Wake.
type sleeper struct {
	wake  chan struct{} // holds at most one
	timer *time.Timer   // stopped unless in Wait
}

func newSleeper() *sleeper {
	return &sleeper{wake: make(chan struct{}, 1)}
}

// Wait implements Poller.
func (s *sleeper) Wait(d time.Duration) bool {
	switch {
	case d < 0:
		<-s.wake
		return false
	case d == 0:
		return false
	case s.timer == nil:
		s.timer = time.NewTimer(d)
	default:
		s.timer.Reset(d)
	}
	select {
	case <-s.wake:
		s.timer.Stop()
	case <-s.timer.C:
	}
	return false
}

// Run implements Poller.
func (s *sleeper) Run(*Loop) {}

// Wake implements Poller.
func (s *sleeper) Wake() {
	select {
	case s.wake <- struct{}{}:
	default: // It is awake already, or about to be.
	}
}

// Close implements Poller.
func (s *sleeper) Close() {}
