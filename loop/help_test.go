// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// light is a light task.
type light func(l *Loop)

func (f light) Run(l *Loop) { f(l) }
func (light) Light() bool   { return true }

// parcel is a light task that is nobody's but the receiver's once it is sent.
type parcel struct {
	size int
	f    func(l *Loop)
}

func (p *parcel) Light() bool { return p.size == 1 }

func (p *parcel) Run(l *Loop) {
	p.size = 0
	p.f(l)
}

// A light task for a loop that sleeps is done for it, with all that follows from it, and the loop sleeps on; a timer that it
// sets wakes the loop in time.
func TestLightTasksAreDoneForALoopThatSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(2, Options{})
		g.Start()
		a, b := g.Loop(0), g.Loop(1)
		synctest.Wait() // both sleep
		began := time.Now()
		var flushed, deferred, back, fired atomic.Bool
		var rang time.Duration
		var timer Timer
		a.Post(Func(func(*Loop) {
			a.Send(b, light(func(l *Loop) {
				if l != b {
					t.Error("not told that it runs on the loop it was sent to")
				}
				l.Dirty(&flusher{flush: func(*Loop) { flushed.Store(true) }})
				l.Send(a, light(func(l *Loop) { back.Store(l == a) }))
				l.At(&timer, l.Now()+int64(3*time.Second), Func(func(*Loop) { rang = time.Since(began); fired.Store(true) }))
			}))
		}))
		synctest.Wait()
		if n := b.Stats().Helped; n != 1 {
			t.Errorf("helped %d times, want once", n)
		}
		if !flushed.Load() || !back.Load() {
			t.Errorf("flushed %v, answered %v", flushed.Load(), back.Load())
		}
		a.Post(Func(func(*Loop) {
			a.Send(b, light(func(l *Loop) { l.Defer(Func(func(*Loop) { deferred.Store(true) })) }))
		}))
		synctest.Wait()
		if !deferred.Load() {
			t.Error("what a light task left to the next iteration was not done")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if !fired.Load() || rang < 3*time.Second || rang > 3*time.Second+100*time.Millisecond {
			t.Errorf("the timer of a light task rang after %v, want 3 s", rang)
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

// Heavy tasks, and many light ones, wake the loop.
func TestHeavyTasksWakeTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(2, Options{})
		g.Start()
		a, b := g.Loop(0), g.Loop(1)
		synctest.Wait()
		var ran atomic.Int64
		count := func(*Loop) { ran.Add(1) }
		a.Post(Func(func(*Loop) { a.Send(b, light(count)); a.Send(b, Func(count)) }))
		synctest.Wait()
		a.Post(Func(func(*Loop) {
			for range helpTasks + 1 {
				a.Send(b, light(count))
			}
		}))
		synctest.Wait()
		if n := b.Stats().Helped; n != 0 || ran.Load() != helpTasks+3 {
			t.Errorf("helped %d times, %d tasks ran", n, ran.Load())
		}
		g.Stop(context.Background())
	})
}

// Loops that help each other, sleep and wake do every task once, one at a time on each loop, and in the order sent.
func TestHelpUnderLoad(t *testing.T) {
	const loops, tasks = 3, 4000
	g := NewGroup(loops, Options{})
	var left atomic.Int64
	left.Store(loops * loops * tasks)
	done := make(chan struct{})
	last := [loops][loops]int{} // by receiver and sender; each receiver's is its loop's
	deliver := func(from, n int) Task {
		return &parcel{1, func(l *Loop) {
			if last[l.Index()][from] != n {
				t.Errorf("loop %d: task %d of loop %d comes after %d", l.Index(), n, from, last[l.Index()][from]-1)
			}
			last[l.Index()][from]++
			if left.Add(-1) == 0 {
				close(done)
			}
		}}
	}
	g.Start()
	for i := range loops {
		rng := rand.New(rand.NewPCG(uint64(i), 9))
		n := [loops]int{}
		var timer Timer
		var step func(l *Loop)
		step = func(l *Loop) {
			more := false
			for to := range loops {
				for range rng.IntN(3) {
					if n[to] < tasks {
						l.Send(g.Loop(to), deliver(i, n[to]))
						n[to]++
					}
				}
				more = more || n[to] < tasks
			}
			switch {
			case !more:
			case rng.IntN(100) == 0:
				l.At(&timer, l.Now()+int64(50*time.Microsecond), Func(step))
			default:
				go l.Post(Func(step)) // from elsewhere, so that loops fall asleep
			}
		}
		g.Loop(i).Post(Func(step))
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%d tasks were not done", left.Load())
	}
	g.Stop(context.Background())
	helped := int64(0)
	for i := range loops {
		helped += g.Loop(i).Stats().Helped
	}
	t.Logf("helped %d times", helped)
}
