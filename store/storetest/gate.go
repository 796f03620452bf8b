// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"sync"

	"github.com/noctule/noctule/store"
)

// Gated is a store whose commits can be held back, let go, and made to fail, as by a slow, a hanging and a broken disk.
// What needs no commit (reading, Matches, Has, NextDue) goes on. It starts open.
//
// While it is closed, commands wait in it, in order; for their callers they are pending.
type Gated struct {
	store.Store

	mu       sync.Mutex // held while commands are passed on, so that they keep their order
	held     bool
	closed   bool
	waiting  []func()
	err      error
	failed   []func() // Done functions of commands that failed, to be called
	failing  bool     // a goroutine calls them
	finished sync.WaitGroup
}

// Gate puts a gate in front of a store. Close closes the store, and commits what is held before.
func Gate(s store.Store) *Gated { return &Gated{Store: s} }

// Hold keeps all commands proposed from now on from being committed.
func (g *Gated) Hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = true
}

// Release lets what is held be committed, and what comes.
func (g *Gated) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = false
	waiting := g.waiting
	g.waiting = nil
	for _, propose := range waiting {
		propose()
	}
}

// Fail lets all that is held, and all that comes, fail with err; nil ends this. What comes still waits while the gate is
// held.
func (g *Gated) Fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
	if err != nil {
		waiting := g.waiting
		g.waiting = nil
		for _, propose := range waiting {
			propose()
		}
	}
}

// Held is how many commands wait.
func (g *Gated) Held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// pass is one command's way through the gate. fail sets its error and returns its Done, if it has one.
func (g *Gated) pass(propose func(), fail func(error) func()) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		propose() // calls Done here, which may propose again
		return
	}
	defer g.mu.Unlock()
	try := func() { // mu is held
		if g.err == nil {
			propose()
			return
		}
		if done := fail(g.err); done != nil {
			g.failed = append(g.failed, done)
			g.callFailed()
		}
	}
	if g.held {
		g.waiting = append(g.waiting, try)
		return
	}
	try()
}

// callFailed sees to it that a goroutine calls the Done functions of failed commands. mu is held.
func (g *Gated) callFailed() {
	if g.failing {
		return
	}
	g.failing = true
	g.finished.Go(func() {
		for {
			g.mu.Lock()
			failed := g.failed
			g.failed = nil
			g.failing = len(failed) > 0
			g.mu.Unlock()
			if len(failed) == 0 {
				return
			}
			for _, done := range failed {
				done()
			}
		}
	})
}

// finish is the Done of a failed command, or nil.
func finish[C any](c *C, done func(*C)) func() {
	if done == nil {
		return nil
	}
	return func() { done(c) }
}

func (g *Gated) ProposeClaim(c *store.Claim) {
	g.pass(func() { g.Store.ProposeClaim(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposeDrop(c *store.Drop) {
	g.pass(func() { g.Store.ProposeDrop(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposeDetach(c *store.Detach) {
	g.pass(func() { g.Store.ProposeDetach(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposeSubscribe(c *store.Subscribe) {
	g.pass(func() { g.Store.ProposeSubscribe(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposeUnsubscribe(c *store.Unsubscribe) {
	g.pass(func() { g.Store.ProposeUnsubscribe(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposePublish(c *store.Publish) {
	g.pass(func() { g.Store.ProposePublish(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposeRelease(c *store.Release) {
	g.pass(func() { g.Store.ProposeRelease(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposeWindow(c *store.Window) {
	g.pass(func() { g.Store.ProposeWindow(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposeAck(c *store.Ack) {
	g.pass(func() { g.Store.ProposeAck(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

func (g *Gated) ProposeTick(c *store.Tick) {
	g.pass(func() { g.Store.ProposeTick(c) }, func(err error) func() { c.Err = err; return finish(c, c.Done) })
}

// Barrier waits for what is held, too.
func (g *Gated) Barrier(done func()) {
	g.mu.Lock()
	if len(g.waiting) == 0 {
		g.mu.Unlock()
		g.Store.Barrier(done)
		return
	}
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, func() {
		// mu is held, and a Barrier of the store might call done here; a Tick at time 0 finds nothing and calls it elsewhere.
		if g.err == nil {
			g.Store.ProposeTick(&store.Tick{Done: func(*store.Tick) { done() }})
			return
		}
		g.failed = append(g.failed, done)
		g.callFailed()
	})
}

// Pending counts what is held, too; its bytes are not known.
func (g *Gated) Pending() (commands int, bytes int64) {
	commands, bytes = g.Store.Pending()
	return commands + g.Held(), bytes
}

// Close lets go what is held, and closes the store.
func (g *Gated) Close() error {
	g.Release()
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	err := g.Store.Close()
	g.finished.Wait()
	return err
}
