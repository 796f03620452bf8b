// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package loop is the executor: a group of loops, one goroutine each, that run
// tasks.
//
// What belongs to a loop (sessions, connections, timers) is touched on its
// goroutine only and needs no locks. Everything else reaches it as a task in its
// mailbox. One iteration of a loop is:
//
//  1. Wait until there is something to do; read the clock once.
//  2. What the poller collected (a loop without one skips this).
//  3. The mailbox, at most maxTasks tasks; the rest is left for the next.
//  4. Tasks deferred in the previous iteration.
//  5. Timers that are due, at most maxTimers.
//  6. Flush whatever was marked by Dirty.
//  7. Hand the outboxes over: one batch and at most one wake-up per target loop.
//
// Order: tasks that one goroutine posts to a loop run in the order they were
// posted; likewise what one loop sends to another. A task is never run twice.
//
// A panic in a task is contained: it is counted and reported, and the loop goes
// on with the next task.
//
// A loop with nothing to do sleeps until a task is posted or its next timer is
// due. It never ticks, and it blocks on channels and a time.Timer only, so that
// programs under testing/synctest see it idle.
//
// Goroutines: one per loop from Start to Stop, and at most Options.AsyncWorkers
// for jobs that may block. Locks: the one of each mailbox and the one of the job
// queue; both are leaves, no task runs under them.
package loop
