// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// start starts a group that is stopped when the test ends; in a synctest bubble
// call stop before that.
func start(t testing.TB, n int, o Options) (g *Group, stop func()) {
	g = NewGroup(n, o)
	g.Start()
	return g, func() {
		t.Helper()
		if err := g.Stop(context.Background()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
}

// on runs f on l and waits for it.
func on(l *Loop, f func(l *Loop)) {
	done := make(chan struct{})
	l.Post(Func(func(l *Loop) {
		defer close(done)
		f(l)
	}))
	<-done
}

func TestPostKeepsOrderPerPoster(t *testing.T) {
	g, stop := start(t, 1, Options{})
	const posters, each = 4, 10_000
	var got [posters][]int // written on the loop
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := 0; i < each; {
				if i%3 == 0 { // now and then a batch
					var ts []Task
					for range 5 {
						n := i
						ts = append(ts, Func(func(*Loop) { got[p] = append(got[p], n) }))
						i++
					}
					g.Loop(0).PostBatch(ts)
					continue
				}
				n := i
				g.Loop(0).Post(Func(func(*Loop) { got[p] = append(got[p], n) }))
				i++
			}
		})
	}
	wg.Wait()
	stop()
	for p := range got {
		if len(got[p]) < each {
			t.Errorf("poster %d: %d of %d tasks ran", p, len(got[p]), each)
		}
		for i, n := range got[p] {
			if n != i {
				t.Fatalf("poster %d: task %d ran as number %d", p, n, i)
			}
		}
	}
}

func TestSendKeepsOrderAndGoesInOneBatch(t *testing.T) {
	g, stop := start(t, 2, Options{})
	defer stop()
	var got []int
	on(g.Loop(0), func(l *Loop) {
		for i := range 100 {
			l.Send(g.Loop(1), Func(func(*Loop) { got = append(got, i) }))
		}
		if n := g.Loop(1).Stats().Mailbox; n != 0 {
			t.Errorf("%d tasks handed over before the end of the iteration", n)
		}
	})
	on(g.Loop(0), func(*Loop) {}) // the iteration that sent has ended
	on(g.Loop(1), func(*Loop) {
		if len(got) != 100 {
			t.Errorf("%d of 100 tasks came first", len(got))
		}
		for i, n := range got {
			if i != n {
				t.Fatalf("task %d came as number %d", n, i)
			}
		}
	})
}

func TestSendToItself(t *testing.T) {
	g, stop := start(t, 1, Options{})
	defer stop()
	done := make(chan bool)
	on(g.Loop(0), func(l *Loop) {
		inside := true
		l.Send(l, Func(func(*Loop) { done <- inside }))
		l.Defer(Func(func(*Loop) { inside = false }))
	})
	if !<-done {
		t.Error("a task sent to its own loop waited longer than an iteration")
	}
}

// What is posted in between runs before what was deferred.
func TestDeferRunsBehindTheMailbox(t *testing.T) {
	g, stop := start(t, 1, Options{})
	defer stop()
	var order []string
	note := func(s string) Task { return Func(func(*Loop) { order = append(order, s) }) }
	on(g.Loop(0), func(l *Loop) {
		l.Defer(note("deferred"))
		l.Post(note("posted"))
		l.Dirty(&flusher{flush: func(*Loop) { order = append(order, "flushed") }})
		order = append(order, "now")
	})
	on(g.Loop(0), func(*Loop) {})
	on(g.Loop(0), func(*Loop) {})
	if got, want := strings.Join(order, " "), "now flushed posted deferred"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A loop with deferred work goes on without being woken.
func TestDeferKeepsTheLoopAwake(t *testing.T) {
	g, stop := start(t, 1, Options{})
	defer stop()
	done := make(chan int64)
	var slices func(n int) Task
	slices = func(n int) Task {
		return Func(func(l *Loop) {
			if n == 0 {
				done <- l.Stats().Iterations
				return
			}
			l.Defer(slices(n - 1))
		})
	}
	g.Loop(0).Post(slices(100))
	if n := <-done; n < 100 {
		t.Errorf("100 slices in %d iterations", n)
	}
}

// A mailbox that is always full does not keep the rest of the iteration away.
func TestIterationIsBounded(t *testing.T) {
	g := NewGroup(1, Options{})
	l := g.Loop(0)
	ran, flushed := 0, -1
	f := &flusher{flush: func(*Loop) { flushed = ran }}
	for range 3 * maxTasks {
		l.Post(Func(func(l *Loop) {
			ran++
			if ran == 1 {
				l.Dirty(f)
			}
		}))
	}
	g.Start()
	if err := g.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if ran != 3*maxTasks || flushed != maxTasks {
		t.Errorf("%d tasks ran, the flush came after %d", ran, flushed)
	}
}

type flusher struct {
	DirtyMark
	flush func(l *Loop)
}

func (f *flusher) Flush(l *Loop) { f.flush(l) }

func TestDirtyFlushesOnce(t *testing.T) {
	g, stop := start(t, 1, Options{})
	defer stop()
	flushes := 0
	again := false
	f := &flusher{}
	f.flush = func(l *Loop) {
		flushes++
		if again {
			again = false
			l.Dirty(f)
		}
	}
	on(g.Loop(0), func(l *Loop) { l.Dirty(f); l.Dirty(f); l.Dirty(f) })
	on(g.Loop(0), func(l *Loop) {
		if flushes != 1 {
			t.Errorf("%d flushes, want 1", flushes)
		}
		again = true
		l.Dirty(f)
	})
	on(g.Loop(0), func(*Loop) {})
	on(g.Loop(0), func(*Loop) {
		if flushes != 3 {
			t.Errorf("%d flushes, want 3: one marked itself anew", flushes)
		}
	})
}

// What a flush sends leaves with the same iteration.
func TestFlushComesBeforeHandOver(t *testing.T) {
	g, stop := start(t, 2, Options{})
	defer stop()
	got := make(chan string, 2)
	on(g.Loop(0), func(l *Loop) {
		l.Dirty(&flusher{flush: func(l *Loop) {
			l.Send(g.Loop(1), Func(func(*Loop) { got <- "sent by flush" }))
		}})
		l.Defer(Func(func(l *Loop) { got <- "next iteration" }))
	})
	<-got
	<-got
	if n := g.Loop(0).Stats().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

// Each step goes on behind the task that panicked.
func TestPanicIsContained(t *testing.T) {
	var mu sync.Mutex
	var told []string
	g, stop := start(t, 1, Options{OnPanic: func(v any, stack []byte) {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(string(stack), "TestPanicIsContained") {
			t.Errorf("the stack does not show the culprit:\n%s", stack)
		}
		told = append(told, fmt.Sprint(v))
	}})
	l := g.Loop(0)
	boom := func(s string) Task { return Func(func(*Loop) { panic(s) }) }
	ran := 0
	count := Func(func(*Loop) { ran++ })
	var timers [2]Timer
	on(l, func(l *Loop) {
		l.PostBatch([]Task{boom("task"), count})
		l.Defer(boom("deferred"))
		l.Defer(count)
		l.At(&timers[0], l.Now(), boom("timer"))
		l.At(&timers[1], l.Now(), count)
		l.Dirty(&flusher{flush: func(*Loop) { panic("flush") }})
		l.Dirty(&flusher{flush: func(*Loop) { ran++ }})
	})
	jobDone := make(chan struct{})
	l.Async(func(context.Context) { panic("job") }, Func(func(*Loop) { close(jobDone) }))
	<-jobDone
	stop()
	if ran != 4 {
		t.Errorf("%d of 4 tasks behind the culprits ran", ran)
	}
	if len(told) != 5 || l.Stats().Panics != 5 {
		t.Errorf("told of %q, counted %d", told, l.Stats().Panics)
	}
}

func TestOnLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		g, stop := start(t, 1, Options{OnLag: func(_ *Loop, d time.Duration) { took = append(took, d) }})
		l := g.Loop(0)
		on(l, func(*Loop) { time.Sleep(50 * time.Millisecond) })
		on(l, func(*Loop) { time.Sleep(51 * time.Millisecond) })
		synctest.Wait()
		if lag := l.Stats().Lag; lag != 51*time.Millisecond {
			t.Errorf("lag %v, want 51ms", lag)
		}
		time.Sleep(2 * lagHalf)
		if lag := l.Stats().Lag; lag != 51*time.Millisecond/4 {
			t.Errorf("lag %v after two half-lives, want 12.75ms", lag)
		}
		stop()
		if len(took) != 1 || took[0] != 51*time.Millisecond {
			t.Errorf("OnLag was told %v, want 51ms once", took)
		}
	})
}

func TestNowStandsDuringAnIteration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{})
		defer stop()
		time.Sleep(time.Second)
		on(g.Loop(0), func(l *Loop) {
			now := l.Now()
			if now != time.Now().UnixNano() {
				t.Errorf("Now is %v, want %v", time.Unix(0, now), time.Now())
			}
			time.Sleep(time.Millisecond)
			if l.Now() != now {
				t.Error("Now moved within an iteration")
			}
		})
	})
}

// A clock that goes back does not take the loop along.
func TestNowNeverGoesBack(t *testing.T) {
	base := time.Unix(1_700_000_000, 0)
	var offset atomic.Int64
	g, stop := start(t, 1, Options{Now: func() time.Time { return base.Add(time.Duration(offset.Load())) }})
	defer stop()
	offset.Store(int64(time.Hour))
	var before int64
	on(g.Loop(0), func(l *Loop) { before = l.Now() })
	offset.Store(0)
	on(g.Loop(0), func(l *Loop) {
		if l.Now() < before {
			t.Errorf("Now went back by %v", time.Duration(before-l.Now()))
		}
	})
}

// An idle group does nothing at all, for a day.
func TestIdleLoopsSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 4, Options{})
		synctest.Wait()
		before := g.Loop(2).Stats().Iterations
		time.Sleep(24 * time.Hour)
		if n := g.Loop(2).Stats().Iterations - before; n != 0 {
			t.Errorf("%d iterations while idle", n)
		}
		stop()
	})
}

// Loops that send to each other and to themselves, with timers, panics, jobs and
// outside posters: nothing is lost and all ends.
func TestStress(t *testing.T) {
	g, stop := start(t, 3, Options{AsyncWorkers: 4})
	const chains, hops = 200, 50
	var ends atomic.Int64
	var hop func(n int, tm *Timer) Task
	hop = func(n int, tm *Timer) Task {
		return Func(func(l *Loop) {
			if n == 0 {
				ends.Add(1)
				return
			}
			next := hop(n-1, tm)
			switch to := g.Loop(n % g.N()); n % 5 {
			case 0:
				l.Send(to, next)
			case 1:
				to.Post(next)
			case 2:
				l.Defer(next)
			case 3:
				if !l.Async(func(context.Context) {}, next) {
					l.Defer(next)
				}
			case 4:
				l.At(tm, l.Now()+int64(time.Duration(n)*time.Microsecond), next)
			}
			if n%17 == 0 {
				panic("now and then")
			}
		})
	}
	var wg sync.WaitGroup
	for c := range chains {
		wg.Go(func() { g.Loop(c % g.N()).Post(hop(hops, new(Timer))) })
	}
	wg.Wait()
	for deadline := time.Now().Add(20 * time.Second); ends.Load() < chains && time.Now().Before(deadline); {
		on(g.Loop(0), func(*Loop) {})
	}
	stop()
	if ends.Load() != chains || g.Dropped() != 0 {
		t.Errorf("%d of %d chains ended, %d tasks dropped", ends.Load(), chains, g.Dropped())
	}
}
