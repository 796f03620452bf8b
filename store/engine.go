// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// applySlice is how many commands are applied before readers get a turn.
const applySlice = 64

// entry is a command with its position. Positions grow; those of commands that are kept in memory only are odd, all others
// even, so that whoever finds a position in a row knows whether the message can be in the log.
type entry struct {
	at      Position
	class   Durability
	command command
	grows   bool // a full disk refuses it: whoever asked can be told, and it would take room for long
}

// volatile says that what stands at a position is in memory only.
func (p Position) volatile() bool { return p&1 == 1 }

// following is the position of the next command of a class of durability.
func (p Position) following(d Durability) Position {
	p++
	if p.volatile() != (d == InMemory) {
		p++
	}
	return p
}

// replog makes commands safe before they are applied: on this disk, or on a majority of nodes. One goroutine calls it.
type replog interface {
	// Propose returns when the entries are as safe as the durability of each asks. It may block. If it fails none of them is
	// applied. ErrFull says that there is no room for all of them.
	Propose(entries []entry) error
	// Tend does what has become due since. It says after how long it wants to be called again, 0 = not before the next Propose.
	Tend() time.Duration
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
	disk    *disk        // nil in memory
	class   Durability   // of all commands but Publish
	state   sync.RWMutex // guards machine, and the following
	ended   bool         // there is nothing to read any more

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

	// The committer's own.
	last   Position
	safe   []entry
	spare  []command
	broken error // the log has failed: nothing is committed any more

	admission *admission // nil where no publish is turned away
}

func newEngine(m *machine, log replog, o Options) *engine {
	e := &engine{
		machine:     m,
		log:         log,
		class:       o.Durability,
		wake:        make(chan struct{}, 1),
		done:        make(chan struct{}),
		maxCommands: o.MaxPending,
		maxBytes:    o.MaxPendingBytes,
		last:        m.applied,
		admission:   newAdmission(m, o),
	}
	m.drops = drops{tell: o.OnDrop, now: o.Now}
	e.nextDue.Store(m.nextDue())
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
	e.poke()
}

// poke wakes the committer.
func (e *engine) poke() {
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
		for admitted := e.admit(batch); len(admitted) > 0; admitted = e.readmit() {
			e.commit(admitted)
			e.machine.drops.pass()
			e.giveUpFound()
		}
		clear(batch)
		e.spare = batch[:0]
	}
	e.admission.close()
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
		e.await(e.rest())
	}
}

// await waits until something is proposed, or for some time; 0 is for ever.
func (e *engine) await(most time.Duration) {
	if most == 0 {
		<-e.wake
		return
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-e.wake:
	case <-timer.C:
	}
}

// commit makes a batch safe, applies it, and calls the Done functions.
func (e *engine) commit(batch []command) {
	weight := e.number(batch)
	if len(e.safe) > 0 {
		e.strip(e.safe)
		if err := e.propose(batch); err != nil {
			for _, s := range e.safe {
				s.command.fail(err)
			}
		}
		e.commits.Add(1)
	}
	e.pendingBytes.Add(-weight)
	next := e.safe
	for len(batch) > 0 {
		n := min(applySlice, len(batch))
		next = e.apply(batch[:n], next, n == len(batch))
		for _, c := range batch[:n] {
			c.finish()
			e.pendingCommands.Add(-1)
		}
		batch = batch[n:]
	}
	clear(e.safe)
	if e.disk != nil {
		e.disk.pause()
	}
}

// number gives positions to the commands of a batch that have not failed. It returns the bytes of their messages.
func (e *engine) number(batch []command) (weight int64) {
	e.safe = e.safe[:0]
	at := e.last
	for _, c := range batch {
		if c.kind() != 0 && !c.failed() {
			class := e.durability(c)
			at = at.following(class)
			e.safe = append(e.safe, entry{at, class, c, e.machine.grows(c)})
			weight += c.weight()
		}
	}
	return weight
}

// durability is the class of a command.
func (e *engine) durability(c command) Durability {
	switch c := c.(type) {
	case *Publish:
		if c.Durability == InMemory && (c.PacketID != 0 || c.WillOf != 0) {
			return Interval
		}
		return c.Durability
	case *Ack, *expire, *lose:
		return Interval // losing them repeats what QoS 1 may repeat
	}
	return e.class
}

// propose has the log make e.safe safe. With a full disk it refuses what is new, and waits for room for the rest.
func (e *engine) propose(batch []command) error {
	if e.broken != nil {
		return e.broken
	}
	err := e.log.Propose(e.safe)
	if errors.Is(err, ErrFull) {
		for _, s := range e.safe {
			if s.grows {
				s.command.fail(ErrFull)
			}
		}
		e.number(batch)
		err = e.log.Propose(e.safe)
	}
	for errors.Is(err, ErrFull) && !e.isClosed() {
		time.Sleep(max(e.rest(), time.Millisecond))
		err = e.log.Propose(e.safe)
	}
	if errors.Is(err, ErrFailed) {
		e.broken = err
	}
	return err
}

// grows says that a command brings something new, and has somebody to tell that there is no room for it: a message (but a
// will), a session, a subscription.
func (m *machine) grows(c command) bool {
	switch c := c.(type) {
	case *Publish:
		return c.WillOf == 0 && c.Durability != InMemory
	case *Claim:
		return m.byClient[c.ClientID] == nil
	case *Subscribe:
		s, err := m.owned(c.Owner)
		return err == nil && slices.ContainsFunc(c.Subscriptions, func(sub Subscription) bool {
			_, had := s.findSub(sub.Filter)
			return !had
		})
	}
	return false
}

func (e *engine) isClosed() bool {
	e.inbox.Lock()
	defer e.inbox.Unlock()
	return e.closed
}

// apply applies a slice of a batch; readers see all of it or nothing. It returns the entries left.
func (e *engine) apply(commands []command, next []entry, last bool) []entry {
	e.state.Lock()
	defer e.state.Unlock()
	for _, c := range commands {
		if len(next) == 0 || next[0].command != c {
			continue
		}
		at := next[0].at
		next = next[1:]
		if !c.failed() {
			e.last = at
			e.machine.apply(at, c)
		}
	}
	if last {
		e.machine.flush()
		if e.disk != nil {
			e.disk.turn()
		}
	}
	e.nextDue.Store(e.machine.nextDue())
	return next
}

// Close may be called more than once, and not from a Done function.
func (e *engine) Close() error {
	e.closing.Do(func() {
		e.inbox.Lock()
		e.closed = true
		e.inbox.Unlock()
		e.poke()
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
