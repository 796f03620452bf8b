// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/faultfs"
	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/transport/std"
	"github.com/noctule/noctule/verify"
)

// How long a broker goes on after a sync has failed, at most; how long it has for an orderly stop; and how long a broker takes to be gone
// whose end the clients have seen already.
const (
	agony        = time.Second
	stopPatience = 3 * time.Second
	goneWithin   = 200 * time.Millisecond
)

// A life is one life of the broker, from its start until it is killed. Its goroutines outlive it, but nothing that they do is seen.
type life struct {
	*fate
	host   *host
	disk   *vfs.MemFS
	fs     *faultfs.FS
	broker *broker.Broker
	net    *memnet.Listener
	srv    *std.Server
	served chan struct{}
	over   chan struct{} // closed when it has ended
	why    error         // why it ended by itself, after over

	mu      sync.Mutex // guards the following; nothing that waits is called under it
	open    bool       // the store is, and is not being closed
	began   time.Time  // when the clients began to work; zero before
	changes int        // of files since then
	syncs   int
	failed  bool // a sync
	ofState bool // of a file of Pebble's
	dead    bool
	conns   []*memnet.Conn // of the broker
}

// start opens the store and serves clients.
func (h *host) start(f *fate) (*life, error) {
	l := &life{fate: f, host: h, disk: h.disk, fs: faultfs.New(h.disk), net: memnet.Listen(), served: make(chan struct{}), over: make(chan struct{})}
	l.fs.SetFail(l.ask)
	watch := new(broker.StoreWatch)
	s, err := h.open(l.fs, f, watch.Notice)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.open = true
	l.mu.Unlock()
	limits := h.limits
	l.broker, err = broker.New(broker.Options{Store: s, Watch: watch, Loops: h.loops, Limits: &limits, Policy: h.policy})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	l.srv = std.New(std.Options{Loops: l.broker.Loops(), NewCore: l.broker.Core, HandshakeTimeout: limits.ConnectTimeout})
	go func() {
		defer close(l.served)
		if err := l.srv.Serve("sim", listener{l.net, l}, std.ListenerOptions{}); err != nil && !errors.Is(err, net.ErrClosed) {
			h.wrong("life %d: serve: %w", f.number, err)
		}
	}()
	h.old.Go(l.watch)
	return l, nil
}

// listener has the life know its connections.
type listener struct {
	*memnet.Listener
	life *life
}

// Accept implements net.Listener.
func (x listener) Accept() (net.Conn, error) {
	c, err := x.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l := x.life
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		c.(*memnet.Conn).Cut()
	}
	l.conns = append(l.conns, c.(*memnet.Conn))
	return c, nil
}

// ask is asked before each change of a file, and carries the faults of the disk out.
func (l *life) ask(op, path string) error {
	if op == "read" {
		return nil
	}
	sync := op == "sync"
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return l.host.skip()
	}
	var at time.Duration
	takes, fails, dies := time.Duration(0), false, false
	if sync && (l.open || !ofState(path)) {
		takes = time.Duration(l.rng.Int64N(int64(l.syncing)))
	}
	if !l.began.IsZero() {
		at = time.Since(l.began)
		l.changes++
		if sync {
			l.syncs++
			if l.slow.now(at) {
				takes = l.crawl
			}
			fails = l.end == failedSync && l.syncs == l.change
		}
		dies = l.end != failedSync && l.changes == l.change
	}
	failed := l.failed && (!l.lies || l.ofState == ofState(path)) // what has lost one file's pages is honest about other files
	l.mu.Unlock()
	if takes == l.crawl && takes > 0 {
		l.host.hit("slow sync")
	}
	if dies {
		l.host.hit("ended within a change")
		l.die(nil)
		return l.host.skip()
	}
	if !sync {
		return nil
	}
	time.Sleep(takes)
	if fails {
		l.host.hit("failed sync")
		l.mu.Lock()
		l.failed, l.ofState = true, ofState(path)
		l.mu.Unlock()
	}
	switch {
	case fails, failed && !l.lies:
		return syscall.EIO
	case failed:
		return faultfs.ErrSkip
	}
	return l.host.skip()
}

// work begins what is planned for a life.
func (l *life) work() {
	l.mu.Lock()
	l.began = time.Now()
	l.mu.Unlock()
	if l.full.to > 0 {
		l.host.old.Go(func() {
			if l.sleep(l.full.from) {
				l.host.tell("full")
				l.fs.SetRoom(l.room)
				l.sleep(l.full.to - l.full.from)
				l.host.tell("room")
				l.fs.SetRoom(-1)
			}
		})
	}
	if l.breaks > 0 {
		l.host.old.Go(func() {
			for l.sleep(l.breaks) {
				l.breakOne()
			}
		})
	}
}

// sleep reports whether the life still lasts after a while.
func (l *life) sleep(d time.Duration) bool {
	select {
	case <-l.over:
		return false
	case <-time.After(d):
		return true
	}
}

// breakOne resets one of the newer connections.
func (l *life) breakOne() {
	l.mu.Lock()
	var c *memnet.Conn
	if n := len(l.conns); n > 0 {
		c = l.conns[n-1-l.rng.IntN(min(n, 60))]
	}
	l.mu.Unlock()
	if c != nil {
		l.host.hit("broken connection")
		c.Cut()
	}
}

// watch waits for the broker to say that it has to end.
func (l *life) watch() {
	select {
	case <-l.over:
		return
	case <-l.broker.Failed():
	}
	l.mu.Lock()
	planned, linger := l.failed, time.Duration(l.rng.Int64N(int64(agony)))
	l.mu.Unlock()
	if !planned {
		l.die(l.broker.Failure())
	} else if l.sleep(linger) {
		l.die(nil)
	}
}

// die ends the life at once: no byte leaves any more, and the disk is as it is.
func (l *life) die(why error) {
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return
	}
	l.dead = true
	conns := l.conns
	l.mu.Unlock()
	l.net.Close()
	for _, c := range conns {
		if l.reset {
			c.Cut()
		} else {
			c.Close() // what was written before arrives
		}
	}
	l.host.hit(l.end.String())
	l.host.disk = l.host.cut(l.disk, l.fate)
	l.why = why
	l.host.tell("dead: %v after %d changes, %d syncs, %v", l.end, l.changes, l.syncs, why)
	l.fs.SetFail(nil)
	l.fs.SetRoom(-1)
	close(l.over)
	l.host.old.Go(func() { l.stop(goneWithin) })
}

// stop ends the broker.
func (l *life) stop(patience time.Duration) error {
	l.net.Close()
	<-l.served
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	drained := l.broker.Drain(ctx)
	l.srv.Close()
	return errors.Join(drained, l.broker.Shutdown(ctx))
}

// Ended implements verify.Process.
func (l *life) Ended() <-chan struct{} { return l.over }

// Why implements verify.Process.
func (l *life) Why() error { return l.why }

// End implements verify.Process. How it ends is planned.
func (l *life) End(verify.Signal, time.Duration) error {
	if l.end == stopped {
		l.fs.SetRoom(-1)
		l.mu.Lock()
		l.open = false
		l.mu.Unlock()
		if err := l.stop(stopPatience); err != nil && !errors.Is(err, context.DeadlineExceeded) { // takers over leave a window full
			l.host.wrong("life %d: stop: %w", l.number, err)
		}
	}
	l.die(nil)
	<-l.over
	return nil
}
