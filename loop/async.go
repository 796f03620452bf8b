// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"runtime/debug"
	"sync"
)

// async is the pool of goroutines for jobs that may block. A worker lives as
// long as there are jobs: an idle pool has no goroutine.
type async struct {
	group  *Group
	ctx    context.Context // of the jobs
	cancel context.CancelFunc

	mu      sync.Mutex
	queue   []job // queue[head:] wait
	head    int
	workers int
	closed  bool
	ended   chan struct{} // closed when closed and no worker is left
}

// A job is what Async was asked for.
type job struct {
	loop *Loop
	run  func(ctx context.Context)
	done Task
}

func (a *async) init(g *Group) {
	a.group = g
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.ended = make(chan struct{})
}

// Async runs job on another goroutine and then done on l; done may be nil. It
// reports false, and nothing runs, if too many jobs wait or the group is being
// stopped. ctx ends when the group is stopped. If job panics, that is reported
// and done runs nevertheless.
//
// From any goroutine.
func (l *Loop) Async(run func(ctx context.Context), done Task) bool {
	a := &l.group.async
	j := job{loop: l, run: run, done: done}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return false
	case a.workers < a.group.opts.AsyncWorkers:
		a.workers++
		go a.work(j)
	case len(a.queue)-a.head < a.group.opts.AsyncQueue:
		a.queue = append(a.queue, j)
	default:
		return false
	}
	return true
}

// work is the goroutine of a worker.
func (a *async) work(j job) {
	unlabel() // a loop has started us
	for ok := true; ok; j, ok = a.next() {
		a.run(j)
	}
}

// run runs one job.
func (a *async) run(j job) {
	defer func() {
		if v := recover(); v != nil {
			j.loop.stats.panics.Add(1)
			a.group.reportPanic(v, debug.Stack())
		}
		if j.done != nil {
			j.loop.Post(j.done)
		}
	}()
	j.run(a.ctx)
}

// next returns the job that has waited longest; without one the worker ends.
func (a *async) next() (j job, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.head < len(a.queue) {
		j, a.queue[a.head] = a.queue[a.head], job{}
		a.head++
		if a.head == len(a.queue) {
			a.queue, a.head = a.queue[:0], 0
		}
		return j, true
	}
	a.workers--
	if a.closed && a.workers == 0 {
		close(a.ended)
	}
	return job{}, false
}

// close refuses further jobs, cancels those that run, and returns a channel that
// is closed when the last has ended.
func (a *async) close() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		a.cancel()
		if a.workers == 0 {
			close(a.ended)
		}
	}
	return a.ended
}

// waiting returns how many jobs wait for a worker.
func (a *async) waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.queue) - a.head
}
