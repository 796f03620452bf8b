// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync"
	"sync/atomic"
)

// applySlice is how many commands are applied before readers get a turn.
const applySlice = 64

// replog makes commands safe before they are applied: on this disk, or on a majority of nodes. One goroutine calls it.
type replog interface {
	// Propose returns when the commands, whose positions are first and those after it, are committed. It may block. If it
	// fails none of them is applied.
	Propose(first Position, commands []command) error
	Close() error
}

// engine is a Store: a queue of proposed commands, one goroutine that commits and applies them in batches of whatever
// waits, and the machine.
//
// The queue has a lock of its own (inbox), held for an append; state is held to apply a slice of commands, or shared to
// read. Neither is held while the log commits or a Done function runs.
type engine struct {
	machine *machine
	log     replog
	state   sync.RWMutex // guards machine

	inbox   sync.Mutex // guards the following
	waiting []command
	closed  bool // refuses proposals
	stopped bool // the committer has ended

	wake    chan struct{} // one element: the committer has something to look at
	done    chan struct{} // closed when the committer ended
	closing sync.Once
	failure error // of closing the log; after done

	maxCommands     int
	maxBytes        int64
	pendingCommands atomic.Int64
	pendingBytes    atomic.Int64
	nextDue         atomic.Int64
	commits         atomic.Int64

	last  Position // committer's own
	safe  []command
	spare []command
}

func startEngine(m *machine, log replog, maxCommands int, maxBytes int64) *engine {
	e := &engine{
		machine:     m,
		log:         log,
		wake:        make(chan struct{}, 1),
		done:        make(chan struct{}),
		maxCommands: maxCommands,
		maxBytes:    maxBytes,
		last:        m.applied,
	}
	e.nextDue.Store(m.nextDue())
	go e.run()
	return e
}

// submit queues a command, or refuses it.
func (e *engine) submit(c command) {
	c.reset()
	if !e.enqueue(c) {
		c.fail(ErrClosed)
		c.finish()
	}
}

func (e *engine) enqueue(c command) bool {
	e.inbox.Lock()
	defer e.inbox.Unlock()
	if e.closed {
		return false
	}
	weight := c.weight()
	commands, bytes := e.pendingCommands.Add(1), e.pendingBytes.Load()+weight
	if p, ok := c.(*Publish); ok && (commands > int64(e.maxCommands) || bytes > e.maxBytes && bytes > weight) {
		p.Err = ErrFull // it goes through the queue all the same, so that Done functions keep their order
	} else {
		e.pendingBytes.Add(weight)
	}
	e.put(c)
	return true
}

// put appends to the queue. inbox is held.
func (e *engine) put(c command) {
	if e.waiting = append(e.waiting, c); len(e.waiting) > 1 {
		return // the committer has been woken, or has not taken the ones before yet
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *engine) Barrier(done func()) {
	e.inbox.Lock()
	if e.stopped || e.pendingCommands.Load() == 0 {
		e.inbox.Unlock()
		done()
		return
	}
	defer e.inbox.Unlock()
	e.pendingCommands.Add(1)
	e.put(&barrier{done})
}

// run is the committer.
func (e *engine) run() {
	defer close(e.done)
	for batch := e.take(); batch != nil; batch = e.take() {
		e.commit(batch)
		clear(batch)
		e.spare = batch[:0]
	}
	e.failure = e.log.Close()
}

// take waits for commands, and returns nil when there will be none.
func (e *engine) take() []command {
	for {
		e.inbox.Lock()
		batch := e.waiting
		if len(batch) > 0 {
			e.waiting, e.spare = e.spare, nil
			e.inbox.Unlock()
			return batch
		}
		e.stopped = e.closed
		e.inbox.Unlock()
		if e.stopped {
			return nil
		}
		<-e.wake
	}
}

// commit makes a batch safe, applies it, and calls the Done functions.
func (e *engine) commit(batch []command) {
	e.safe = e.safe[:0]
	var weight int64
	for _, c := range batch {
		if c.kind() != 0 && !c.failed() {
			e.safe = append(e.safe, c)
			weight += c.weight()
		}
	}
	if len(e.safe) > 0 {
		if err := e.log.Propose(e.last+1, e.safe); err != nil {
			for _, c := range e.safe {
				c.fail(err)
			}
		}
		e.commits.Add(1)
	}
	clear(e.safe)
	e.pendingBytes.Add(-weight)
	for len(batch) > 0 {
		n := min(applySlice, len(batch))
		e.apply(batch[:n], n == len(batch))
		for _, c := range batch[:n] {
			c.finish()
			e.pendingCommands.Add(-1)
		}
		batch = batch[n:]
	}
}

// apply applies a slice of a batch; readers see all of it or nothing.
func (e *engine) apply(commands []command, last bool) {
	e.state.Lock()
	defer e.state.Unlock()
	for _, c := range commands {
		if c.kind() != 0 && !c.failed() {
			e.last++
			e.machine.apply(e.last, c)
		}
	}
	if last {
		e.machine.flush()
	}
	e.nextDue.Store(e.machine.nextDue())
}

// Close may be called more than once, and not from a Done function.
func (e *engine) Close() error {
	e.closing.Do(func() {
		e.inbox.Lock()
		e.closed = true
		e.inbox.Unlock()
		select {
		case e.wake <- struct{}{}:
		default:
		}
	})
	<-e.done
	return e.failure
}

// barrier is a place in the queue.
type barrier struct{ done func() }

func (b *barrier) kind() kind               { return 0 }
func (b *barrier) apply(*machine)           {}
func (b *barrier) reset()                   {}
func (b *barrier) fail(error)               {}
func (b *barrier) failed() bool             { return false }
func (b *barrier) finish()                  { b.done() }
func (b *barrier) weight() int64            { return 0 }
func (b *barrier) append(dst []byte) []byte { return dst }
func (b *barrier) decode(*decoder)          {}
