// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"golang.org/x/sys/unix"
)

// echoCore sends everything back.
type echoCore struct {
	conn    transport.Conn
	feed    func(c *echoCore, b []byte) (int, transport.Verdict) // instead, if there is one
	drained int
	closed  chan error
}

func (c *echoCore) Feed(b []byte) (eaten, need int, v transport.Verdict) {
	if c.feed != nil {
		n, v := c.feed(c, b)
		return n, 0, v
	}
	c.conn.Out().Append(b)
	c.conn.Dirty()
	return len(b), 0, transport.GoOn
}

func (c *echoCore) Drained() { c.drained++ }

func (c *echoCore) Closed(err error) { c.closed <- err }

// A rig is a server with one listener.
type rig struct {
	*Server
	t     testing.TB
	loops *loop.Group
	addr  string
	cores chan *echoCore
	cause chan string
}

// newRig starts a server; feed is what cores do instead of sending everything back, if it is not nil.
func newRig(t testing.TB, loops int, o transport.ListenerOptions, feed func(c *echoCore, b []byte) (int, transport.Verdict)) *rig {
	t.Helper()
	r := &rig{t: t, cores: make(chan *echoCore, 20_000), cause: make(chan string, 20_000)}
	r.loops = loop.NewGroup(loops, loop.Options{
		NewPoller: NewPoller,
		OnPanic:   func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) },
	})
	r.loops.Start()
	s, err := New(transport.Options{
		Loops: r.loops,
		NewCore: func(c transport.Conn) transport.Core {
			core := &echoCore{conn: c, feed: feed, closed: make(chan error, 1)}
			r.cores <- core
			return core
		},
		OnRefused: func(cause string, _ net.Addr) { r.cause <- cause },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	l, err := transport.Listen(context.Background(), "tcp", "127.0.0.1:0", transport.ListenOptions{NotSentLowat: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	served := make(chan error)
	go func() { served <- s.Serve("test", l, o) }()
	t.Cleanup(func() {
		l.Close() // ends Serve
		if err := <-served; err != nil {
			t.Error(err)
		}
		s.Close()
		r.loops.Stop(context.Background())
	})
	return r
}

var plain = transport.ListenerOptions{Protocol: transport.MQTT}

func (r *rig) dial() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// sockaddr is the listener's address for clients that are bare descriptors.
func (r *rig) sockaddr() unix.Sockaddr {
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	_, port, _ := net.SplitHostPort(r.addr)
	to.Port, _ = strconv.Atoi(port)
	return to
}

// on runs f on the core's loop.
func (r *rig) on(c *echoCore, f func()) {
	done := make(chan struct{})
	c.conn.Loop().Post(loop.Func(func(*loop.Loop) { f(); close(done) }))
	<-done
}

func exchange(t testing.TB, c io.ReadWriter, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, b) {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestEventsOfAConnectionThatIsGone: what the kernel said before reaches neither nobody nor a stranger in the same slot.
func TestEventsOfAConnectionThatIsGone(t *testing.T) {
	r := newRig(t, 1, plain, nil)
	a := r.dial()
	defer a.Close()
	exchange(t, a, []byte("a"))
	core := <-r.cores
	r.on(core, func() {
		c := core.conn.(*conn)
		p := c.home.Load()
		stale := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLHUP, Fd: c.slot, Pad: int32(c.generation)}
		slot := c.slot
		c.closeNow(nil)
		run := func() {
			p.events[0], p.pos, p.n = stale, 0, 1
			p.Run(p.loop)
		}
		run() // nobody is there
		if !fdTaken(p, slot) {
			p.pos, p.n = 0, 0
		}
	})
	b := r.dial() // gets the slot, and most likely the descriptor
	defer b.Close()
	exchange(t, b, []byte("b"))
	next := <-r.cores
	r.on(next, func() {
		c := next.conn.(*conn)
		p := c.home.Load()
		p.events[0] = unix.EpollEvent{Events: unix.EPOLLHUP | unix.EPOLLIN, Fd: c.slot, Pad: int32(c.generation) - 1}
		p.pos, p.n = 0, 1
		c.paused = true // then an event for it, with nothing to read, would not go unnoticed
		p.Run(p.loop)
		if c.state != open || c.deaf {
			t.Errorf("a stale event has reached a stranger: state %d, deaf %t", c.state, c.deaf)
		}
		c.paused = false
	})
	exchange(t, b, []byte("still here"))
}

func fdTaken(p *Poller, slot int32) bool { return p.slots[slot] != nil }

// TestShortWriteArmsOnce: a write that is taken whole arms nothing; a full socket has EPOLLOUT armed, once, and it is disarmed when all is
// written, however many events and appends there are in between.
func TestShortWriteArmsOnce(t *testing.T) {
	const small, large = 100, 16 << 20
	size := small
	r := newRig(t, 1, plain, func(c *echoCore, b []byte) (int, transport.Verdict) {
		c.conn.Out().Ref(make([]byte, size))
		c.conn.Dirty()
		return len(b), transport.GoOn
	})
	c := r.dial()
	defer c.Close()
	core := <-r.cores
	type state struct {
		armed         uint32
		blocked       bool
		left, drained int
		controls      int64
	}
	look := func() (s state) {
		r.on(core, func() {
			k := core.conn.(*conn)
			s = state{k.armed, k.blocked, k.out.Len(), core.drained, k.home.Load().controls}
		})
		return s
	}
	until := func(what string, ok func(state) bool) state {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			s := look()
			if ok(s) {
				return s
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, s)
			}
		}
	}
	c.Write([]byte("x"))
	if _, err := io.CopyN(io.Discard, c, small); err != nil {
		t.Fatal(err)
	}
	if s := look(); s.armed != unix.EPOLLIN || s.controls != 1 || s.drained != 0 { // when it was accepted
		t.Errorf("after a write that was taken whole: %+v", s)
	}
	r.on(core, func() { size = large })
	c.Write([]byte("x"))
	full := until("a full socket is not waited for", func(s state) bool { return s.blocked })
	if full.armed != unix.EPOLLIN|unix.EPOLLOUT || full.left == 0 || full.controls != 2 {
		t.Errorf("after a short write: %+v", full)
	}
	r.on(core, func() { core.conn.Out().Append(make([]byte, small)); core.conn.Dirty() }) // waits for its turn, and arms nothing
	if n, err := io.CopyN(io.Discard, c, large+small); err != nil {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	done := until("the end of the wait was not noticed", func(s state) bool { return s.drained > 0 })
	if done.armed != unix.EPOLLIN || done.blocked || done.left != 0 || done.drained != 1 || done.controls != 3 {
		t.Errorf("when all was written: %+v", done)
	}
}

// TestAPausedConnectionIsForgotten: input that nobody wants, and a hang-up, do not keep the loop awake.
func TestAPausedConnectionIsForgotten(t *testing.T) {
	r := newRig(t, 1, plain, func(c *echoCore, b []byte) (int, transport.Verdict) { return 0, transport.Pause })
	c := r.dial()
	c.Write([]byte("x"))
	core := <-r.cores
	until := func(what string, ok func(*conn) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			var is bool
			r.on(core, func() { is = ok(core.conn.(*conn)) })
			if is {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until("the connection is not paused", func(c *conn) bool { return c.paused })
	c.Write([]byte("y"))
	until("input that nobody wants is still awaited", func(c *conn) bool { return c.armed == 0 })
	c.SetLinger(0)
	c.Close()
	before := r.loops.Loop(0).Stats().Iterations
	time.Sleep(50 * time.Millisecond) // a kernel that tells us again and again would do so now
	if n := r.loops.Loop(0).Stats().Iterations - before; n > 5 {
		t.Errorf("%d iterations for nothing", n)
	}
	r.on(core, func() { core.feed = nil; core.conn.Resume() })
	if err := <-core.closed; err == nil || err == io.EOF {
		t.Errorf("closed for %v, want the reset", err)
	}
}

// TestHalfCloseDoesNotSpin: the end of the peer's stream is told once, however long it takes to write what is left for it.
func TestHalfCloseDoesNotSpin(t *testing.T) {
	const size = 16 << 20
	r := newRig(t, 1, plain, func(c *echoCore, b []byte) (int, transport.Verdict) {
		c.conn.Out().Ref(make([]byte, size))
		c.conn.Dirty()
		return len(b), transport.GoOn
	})
	c := r.dial()
	defer c.Close()
	c.Write([]byte("x"))
	c.CloseWrite()
	core := <-r.cores
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var is bool
		r.on(core, func() { k := core.conn.(*conn); is = k.state == flushing && k.blocked })
		if is {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the end of the stream was not noticed")
		}
	}
	before := r.loops.Loop(0).Stats().Iterations
	time.Sleep(50 * time.Millisecond) // a kernel that tells us again and again would do so now
	if n := r.loops.Loop(0).Stats().Iterations - before; n > 5 {
		t.Errorf("%d iterations for nothing", n)
	}
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if err := <-core.closed; err != io.EOF {
		t.Errorf("closed for %v, want io.EOF", err)
	}
}

// TestAnEndFollowsAMove: a connection that ends while it moves is told so where it arrives, after its task there.
func TestAnEndFollowsAMove(t *testing.T) {
	arrived := make(chan struct{})
	r := newRig(t, 2, plain, func(c *echoCore, b []byte) (int, transport.Verdict) {
		to := c.conn.Loop().Group().Loop(1 - c.conn.Loop().Index())
		hold := make(chan struct{})
		to.Post(loop.Func(func(*loop.Loop) { <-hold }))
		time.AfterFunc(20*time.Millisecond, func() { // by then the loop that it leaves has turned
			if len(c.closed) > 0 {
				t.Error("told before it has arrived")
			}
			close(hold)
		})
		c.conn.Move(to, loop.Func(func(*loop.Loop) {
			if len(c.closed) > 0 {
				t.Error("told before its task has run")
			}
			close(arrived)
		}))
		c.conn.Close(transport.CloseNow)
		return len(b), transport.Pause
	})
	c := r.dial()
	defer c.Close()
	c.Write([]byte("x"))
	core := <-r.cores
	if err := <-core.closed; err != nil {
		t.Errorf("closed for %v", err)
	}
	select {
	case <-arrived:
	default:
		t.Error("told before its task has run")
	}
}

// TestMoveUnderTraffic sends connections to and fro while their clients write without pause.
func TestMoveUnderTraffic(t *testing.T) {
	var moves atomic.Int64
	r := newRig(t, 2, plain, func(c *echoCore, b []byte) (int, transport.Verdict) {
		c.conn.Out().Append(b)
		c.conn.Dirty()
		moves.Add(1)
		c.conn.Move(c.conn.Loop().Group().Loop(1-c.conn.Loop().Index()), loop.Func(func(*loop.Loop) { c.conn.Resume() }))
		return len(b), transport.Pause
	})
	var wg sync.WaitGroup
	for range 8 {
		c := r.dial()
		wg.Go(func() {
			defer c.Close()
			for i := range 200 {
				exchange(t, c, bytes.Repeat([]byte{byte(i)}, 1+i*13))
			}
		})
	}
	wg.Wait()
	if n := moves.Load(); n < 8*200 {
		t.Errorf("%d moves", n)
	}
}

// TestSteadyStateAllocatesNothing: reading and writing do not, on the loop.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	r := newRig(t, 1, plain, nil)
	c := r.dial()
	defer c.Close()
	b, got := make([]byte, 128), make([]byte, 128)
	round := func() {
		c.Write(b)
		io.ReadFull(c, got)
	}
	for range 100 {
		round()
	}
	if n := testing.AllocsPerRun(2000, round); n > 0 {
		t.Errorf("%v allocations for a read and a write", n)
	}
}

// TestIdleConnectionsAreSmall measures what the transport holds for a connection that was used and is idle: its clients are bare
// descriptors.
func TestIdleConnectionsAreSmall(t *testing.T) {
	for _, o := range []transport.ListenerOptions{plain, {}} {
		r := newRig(t, 2, o, nil)
		const n = 4000
		fds := make([]int, 0, n+1)
		to := r.sockaddr()
		open := func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Connect(fd, to)
			}
			if err != nil {
				t.Fatal(err)
			}
			fds = append(fds, fd)
			b := []byte{0x10}
			unix.Write(fd, b)
			unix.Read(fd, b)
		}
		cores := make([]*echoCore, 0, n+1)
		open()
		cores = append(cores, <-r.cores)
		before := heap()
		for range n {
			open()
			cores = append(cores, <-r.cores)
		}
		per := (heap() - before) / n
		const test = 48 + 96 // its core, and the channel of that
		t.Logf("%d bytes of heap for each, %d of them the test's", per, test)
		if per-test > 450 {
			t.Errorf("an idle connection costs %d bytes", per-test)
		}
		runtime.KeepAlive(cores)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestDescriptorsRunOut runs itself with few descriptors: who cannot be served is refused at once and counted, and all is well
// when there are descriptors again.
func TestDescriptorsRunOut(t *testing.T) {
	if os.Getenv("NOCTULE_TEST_FEW_DESCRIPTORS") == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestDescriptorsRunOut$", "-test.v")
		cmd.Env = append(os.Environ(), "NOCTULE_TEST_FEW_DESCRIPTORS=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	r := newRig(t, 1, plain, nil) // with two, one may serve a client by the descriptor that the other has just given up
	first := r.dial()
	defer first.Close()
	exchange(t, first, []byte("x"))
	core := <-r.cores
	to := r.sockaddr()
	var clients [5]int // have their descriptors before there are none
	for i := range clients {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
		clients[i] = fd
	}
	limit := unix.Rlimit{Cur: 200, Max: 200}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for _, client := range clients {
		r.on(core, func() {}) // the loop has its reserve again
		for {
			fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				break
			}
			taken = append(taken, fd)
		}
		if err := unix.Connect(client, to); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(client, make([]byte, 1)); n > 0 || err == unix.EAGAIN {
			t.Errorf("read %d bytes, %v of a connection that should be refused", n, err)
		}
		select {
		case cause := <-r.cause:
			if cause != transport.CauseNoDescriptor {
				t.Errorf("refused for %s", cause)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody was refused")
		}
	}
	exchange(t, first, []byte("whoever is there is served"))
	for _, fd := range taken {
		unix.Close(fd)
	}
	again := r.dial()
	defer again.Close()
	exchange(t, again, []byte("y"))
	if n := r.Counts().Refused[transport.CauseNoDescriptor]; n != 5 {
		t.Errorf("%d refusals counted", n)
	}
}

// TestClosingTheListenerEndsServe: for Serve has a duplicate of its own. newRig's end does it; here the port is free afterwards.
func TestClosingTheListenerEndsServe(t *testing.T) {
	var addr string
	t.Run("serve", func(t *testing.T) {
		r := newRig(t, 2, plain, nil)
		addr = r.addr
		c := r.dial()
		exchange(t, c, []byte("x"))
		c.Close()
	})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// TestOneLoopAccepts: a listener that is one loop's own is watched by no other.
func TestOneLoopAccepts(t *testing.T) {
	for _, index := range []int{1, 2} {
		o := plain
		o.Loop = index
		r := newRig(t, 2, o, nil)
		for range 50 {
			c := r.dial()
			exchange(t, c, []byte("x"))
			if core := <-r.cores; core.conn.Loop().Index() != index-1 {
				t.Fatalf("loop %d has accepted for loop %d", core.conn.Loop().Index(), index-1)
			}
			c.Close()
		}
	}
}
