// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Stop runs what is there and what follows from it, through all loops.
func TestStopDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(3, Options{})
		hops := 0
		var hop Func
		hop = func(l *Loop) {
			if hops++; hops == 1000 {
				return
			}
			switch hops % 3 {
			case 0:
				l.Send(g.Loop((l.Index()+1)%3), hop)
			case 1:
				l.Defer(hop)
			case 2:
				l.Dirty(&flusher{flush: func(l *Loop) { g.Loop(0).Post(hop) }})
			}
		}
		g.Loop(0).Post(hop)
		g.Start()
		if err := g.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		if hops != 1000 || g.Dropped() != 0 {
			t.Errorf("%d of 1000 hops, %d tasks dropped", hops, g.Dropped())
		}
		g.Loop(0).Post(hop)
		g.Loop(0).PostBatch([]Task{hop, hop})
		if g.Dropped() != 3 {
			t.Errorf("%d tasks dropped after the end, want 3", g.Dropped())
		}
	})
}

// Stop cancels the jobs, waits for them and runs their done tasks.
func TestStopEndsJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{AsyncWorkers: 2})
		ended, done := 0, 0
		for range 10 {
			ok := g.Loop(0).Async(func(ctx context.Context) {
				<-ctx.Done()
				time.Sleep(time.Second)
			}, Func(func(l *Loop) {
				done++
				if l.Async(func(context.Context) {}, nil) {
					t.Error("a job was accepted while the group stops")
				}
				l.Defer(Func(func(*Loop) { ended++ }))
			}))
			if !ok {
				t.Fatal("job was refused")
			}
		}
		stop()
		if done != 10 || ended != 10 {
			t.Errorf("%d of 10 jobs were done, %d of 10 followed up", done, ended)
		}
	})
}

// When its time is up Stop gives up, and the loops end nevertheless.
func TestStopOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(2, Options{})
		var forever Func
		forever = func(l *Loop) { time.Sleep(time.Millisecond); l.Defer(forever) }
		g.Loop(1).Post(forever)
		g.Start()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := g.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v, want the context's error", err)
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Errorf("second Stop: %v", err)
		}
		if g.Dropped() == 0 {
			t.Error("what was left is not counted")
		}
	})
}

func TestStopBeforeStart(t *testing.T) {
	g := NewGroup(2, Options{})
	g.Loop(0).Post(Func(func(*Loop) { t.Error("ran") }))
	for range 2 {
		if err := g.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if g.Dropped() != 1 {
		t.Errorf("%d tasks dropped, want 1", g.Dropped())
	}
}

// The pool has two limits, and no goroutine when it is idle: synctest.Test would
// not end with one.
func TestAsyncIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{AsyncWorkers: 3, AsyncQueue: 5})
		gate := make(chan struct{})
		running, most, done := make(chan struct{}, 100), 0, 0
		accepted := 0
		for range 20 {
			if g.Loop(0).Async(func(context.Context) {
				running <- struct{}{}
				<-gate
				<-running
			}, Func(func(*Loop) { done++ })) {
				accepted++
			}
		}
		synctest.Wait()
		most = len(running)
		if accepted != 8 || most != 3 || g.AsyncWaiting() != 5 {
			t.Errorf("%d accepted, %d run, %d wait; want 8, 3, 5", accepted, most, g.AsyncWaiting())
		}
		close(gate)
		synctest.Wait()
		if done != 8 || g.AsyncWaiting() != 0 || g.async.workers != 0 {
			t.Errorf("%d of 8 done, %d wait, %d workers", done, g.AsyncWaiting(), g.async.workers)
		}
		stop()
	})
}

// Jobs without a free worker run in the order they came.
func TestAsyncOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{AsyncWorkers: 1})
		var order []int
		for i := range 100 {
			g.Loop(0).Async(func(context.Context) { order = append(order, i) }, nil)
		}
		stop()
		for i, n := range order {
			if i != n {
				t.Fatalf("job %d ran as number %d", n, i)
			}
		}
		if len(order) != 100 {
			t.Errorf("%d of 100 jobs ran", len(order))
		}
	})
}

// A poller waits in place of the loop: it is woken for tasks and timers, and
// what it finds runs on the loop.
func TestPoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &testPoller{sleeper: newSleeper(), events: make(chan string, 10)}
		g, stop := start(t, 1, Options{NewPoller: func(int) Poller { return p }})
		p.events <- "a"
		p.events <- "b"
		p.Wake()
		synctest.Wait()
		if len(p.got) != 2 {
			t.Errorf("got %q, want a and b", p.got)
		}
		ran := 0
		on(g.Loop(0), func(*Loop) { ran++ })
		var tm Timer
		on(g.Loop(0), func(l *Loop) {
			l.At(&tm, l.Now()+int64(time.Second), Func(func(*Loop) { ran++ }))
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if ran != 2 {
			t.Errorf("%d of 2 tasks ran", ran)
		}
		stop()
		if !p.closed {
			t.Error("the poller was not closed")
		}
	})
}

type testPoller struct {
	*sleeper
	events chan string
	got    []string
	closed bool
}

func (p *testPoller) Wait(d time.Duration) bool {
	p.sleeper.Wait(d)
	return len(p.events) > 0
}

func (p *testPoller) Run(*Loop) {
	for len(p.events) > 0 {
		p.got = append(p.got, <-p.events)
	}
}

func (p *testPoller) Close() { p.closed = true }
