// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counter is a task that is its own state, as tasks of hot paths are.
type counter struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func (c *counter) Run(*Loop) {
	if c.n.Add(1) == c.want {
		close(c.done)
	}
}

// A task from another goroutine, until it has run: singly and in batches of 16,
// by one producer and by two.
func BenchmarkPost(b *testing.B) {
	for _, producers := range []int{1, 2} {
		for _, batch := range []int{1, 16} {
			b.Run(fmt.Sprintf("producers=%d/batch=%d", producers, batch), func(b *testing.B) {
				g, stop := start(b, 1, Options{})
				defer stop()
				each := b.N/producers/batch*batch + batch
				c := &counter{want: int64(each * producers), done: make(chan struct{})}
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for range producers {
					wg.Go(func() { produce(g.Loop(0), c, each, batch) })
				}
				<-c.done
				b.StopTimer()
				wg.Wait()
			})
		}
	}
}

func produce(l *Loop, c *counter, n, batch int) {
	if batch == 1 {
		for range n {
			l.Post(c)
		}
		return
	}
	ts := make([]Task, batch)
	for i := range ts {
		ts[i] = c
	}
	for range n / batch {
		l.PostBatch(ts)
	}
}

// Two loops that throw a batch of tasks to each other.
func BenchmarkSend(b *testing.B) {
	for _, balls := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("balls=%d", balls), func(b *testing.B) {
			g, stop := start(b, 2, Options{})
			defer stop()
			done := make(chan struct{})
			bl := &ball{left: b.N, live: balls, done: done}
			b.ReportAllocs()
			b.ResetTimer()
			for range balls {
				g.Loop(0).Post(bl)
			}
			<-done
		})
	}
}

// A ball is on one loop at a time, with all others of its batch.
type ball struct {
	mu         sync.Mutex
	left, live int
	done       chan struct{}
}

func (b *ball) Run(l *Loop) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left--
	if b.left > 0 {
		l.Send(l.group.loops[1-l.index], b)
		return
	}
	if b.live--; b.live == 0 {
		close(b.done)
	}
}

// Waking a loop that sleeps, until its task has run.
func BenchmarkWake(b *testing.B) {
	g, stop := start(b, 1, Options{})
	defer stop()
	done := make(chan struct{})
	task := Func(func(*Loop) { done <- struct{}{} })
	b.ReportAllocs()
	for b.Loop() {
		g.Loop(0).Post(task)
		<-done
	}
}

func BenchmarkTimer(b *testing.B) {
	g := NewGroup(1, Options{})
	l := g.Loop(0)
	task := Func(func(*Loop) {})
	b.Run("set and cancel", func(b *testing.B) {
		var tm Timer
		for b.Loop() {
			l.At(&tm, l.now+int64(time.Minute), task)
			l.Cancel(&tm)
		}
	})
	b.Run("extend", func(b *testing.B) {
		var tm Timer
		when := l.now
		l.At(&tm, when, task)
		for b.Loop() {
			when++
			tm.Extend(when)
		}
	})
}

// A minute and a half of a million connections with a keep alive of 60 s, each
// of which sends a packet every 30 s: what the wheel costs in all, and the
// longest turn of it.
func BenchmarkMillionKeepAlives(b *testing.B) {
	const n = 1_000_000
	const grace, step = int64(90 * time.Second), int64(10 * time.Millisecond)
	g := NewGroup(1, Options{})
	l := g.Loop(0)
	timers := make([]Timer, n)
	fired := 0
	task := Func(func(*Loop) { fired++ })
	begin := time.Now()
	for i := range timers { // timers[0] has the next packet, the last has just had one
		l.At(&timers[i], l.now+grace-int64(n-i)*int64(30*time.Second)/n, task)
	}
	set := time.Since(begin)
	const batch = int(n * step / int64(30*time.Second))
	next := 0
	var wheel, worst time.Duration
	for b.Loop() {
		wheel, worst = 0, 0
		for range grace / step {
			l.now += step
			for range batch {
				timers[next].Extend(l.now + grace)
				next = (next + 1) % n
			}
			for l.wheel.due(l.now) {
				begin := time.Now()
				l.wheel.run(l)
				took := time.Since(begin)
				wheel, worst = wheel+took, max(worst, took)
			}
		}
	}
	b.ReportMetric(wheel.Seconds()*1000, "wheel-ms")
	b.ReportMetric(worst.Seconds()*1000, "worst-ms")
	b.ReportMetric(float64(set.Nanoseconds())/n, "ns/set")
	if fired > 0 {
		b.Errorf("%d of the timers fired", fired)
	}
}
