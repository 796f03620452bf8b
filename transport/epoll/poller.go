// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/noctule/noctule/internal/invariants"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport/internal/front"
	"golang.org/x/sys/unix"
)

const (
	// maxEvents are taken in one iteration; the rest waits in the kernel for the next.
	maxEvents = 256
	// plainSize holds what 64 KB of TLS records and one that had begun before can bring.
	plainSize = front.MaxRead + 32<<10
)

// What an event's Fd says where it is no slot: the wake-up, or listenerBase-i for the watch i.
const (
	wakeUp       = -1
	listenerBase = -2
)

// A Poller is where a loop waits for its sockets. It belongs to the loop, but for Wake.
type Poller struct {
	fd   int
	wake int // an eventfd; armed edge-triggered, so nobody has to read it

	bound sync.Once
	loop  *loop.Loop

	events []unix.EpollEvent
	n, pos int // events[pos:n] are to be done

	slots      []*conn // by the Fd of events
	free       []int32 // slots that are empty
	generation uint32
	controls   int64 // calls of epoll_ctl for connections
	watches    []*watch

	in     []byte // what is read
	plain  []byte // what TLS makes of it; nil before it is needed
	intake front.Intake

	slices [writeSlices + 2][]byte // what one write takes
	iovecs [writeSlices]unix.Iovec
}

var _ loop.Poller = (*Poller)(nil)

// NewPoller makes a poller. It panics where the system gives no descriptor for it.
func NewPoller(int) loop.Poller {
	p, err := newPoller()
	if err != nil {
		panic(fmt.Sprintf("transport: %v", err))
	}
	return p
}

func newPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd) // err matters more
		return nil, os.NewSyscallError("eventfd", err)
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeUp}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, wake, &e); err != nil {
		unix.Close(fd)
		unix.Close(wake)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return &Poller{fd: fd, wake: wake, events: make([]unix.EpollEvent, maxEvents), in: make([]byte, front.MaxRead)}, nil
}

// pollerOf returns the poller of a loop.
func pollerOf(l *loop.Loop) (*Poller, error) {
	p, ok := l.Poller().(*Poller)
	if !ok {
		return nil, errors.New("transport: the loops do not wait in pollers of package epoll")
	}
	p.bound.Do(func() { p.loop = l })
	return p, nil
}

// Wait implements loop.Poller.
func (p *Poller) Wait(d time.Duration) (ready bool) {
	ms := -1
	if d >= 0 {
		ms = int(min((d+time.Millisecond-1)/time.Millisecond, time.Hour/time.Millisecond))
	}
	n, err := unix.EpollWait(p.fd, p.events, ms)
	if err != nil { // a signal
		n = 0
	}
	p.pos, p.n = 0, n
	return n > 0
}

// Run implements loop.Poller.
func (p *Poller) Run(*loop.Loop) {
	for p.pos < p.n {
		e := &p.events[p.pos]
		p.pos++
		switch {
		case e.Fd >= 0:
			if c := p.slots[e.Fd]; c != nil && c.generation == uint32(e.Pad) {
				c.ready(e.Events)
			}
		case e.Fd != wakeUp:
			if w := p.watches[listenerBase-e.Fd]; w != nil && w.generation == uint32(e.Pad) {
				w.ready()
			}
		}
	}
}

// Wake implements loop.Poller.
func (p *Poller) Wake() {
	one := [8]byte{1}
	unix.Write(p.wake, one[:]) // fails only if it was not read for ages; then the loop is awake
}

// Close implements loop.Poller.
func (p *Poller) Close() {
	unix.Close(p.wake)
	unix.Close(p.fd)
}

// next makes a generation.
func (p *Poller) next() uint32 {
	p.generation++
	return p.generation
}

// add gives c a slot. Nothing is awaited before arm.
func (p *Poller) add(c *conn) {
	c.generation = p.next()
	if n := len(p.free); n > 0 {
		c.slot = p.free[n-1]
		p.free = p.free[:n-1]
		p.slots[c.slot] = c
		return
	}
	c.slot = int32(len(p.slots))
	p.slots = append(p.slots, c)
}

// remove takes c's slot back.
func (p *Poller) remove(c *conn) {
	p.slots[c.slot] = nil
	p.free = append(p.free, c.slot)
	c.slot = -1
}

// control has the kernel tell what c wants to know: events, with the change that op is.
func (p *Poller) control(op int, c *conn, events uint32) error {
	p.controls++
	e := unix.EpollEvent{Events: events, Fd: c.slot, Pad: int32(c.generation)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, op, int(c.fd), &e))
}

// lent ends the loan of b, if it is in a buffer of the loop.
func (p *Poller) lent(b []byte) {
	if invariants.Enabled && len(b) > 0 && (&b[0] == &p.in[0] || p.plain != nil && &b[0] == &p.plain[0]) {
		invariants.Poison(b)
	}
}

// plaintext is the buffer for what TLS brings.
func (p *Poller) plaintext() []byte {
	if p.plain == nil {
		p.plain = make([]byte, plainSize)
	}
	return p.plain
}
