// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
)

func (k Kind) testBytesThatComeOneByOne(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		c := f.dial()
		p := packet(40, 'a')
		for i := range p {
			send(t, c, p[i:i+1])
		}
		want(t, c, p)
	})
}

func (k Kind) testPacketsInBulk(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		c := f.dial()
		var all []byte
		for i := range 3000 {
			all = append(all, packet(i%700, byte(i))...)
		}
		go c.Write(all) // a failure shows below
		want(t, c, all)
	})
}

func (k Kind) testLargePacket(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		c := f.dial()
		p := append(packet(5<<20, 'x'), packet(3, 'y')...)
		go c.Write(p) // a failure shows below
		want(t, c, p)
	})
}

func (k Kind) testInfoTellsWhereAConnectionComesFrom(t *testing.T) {
	before := time.Now().UnixNano()
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		c := f.dial()
		send(t, c, packet(1, 1))
		want(t, c, packet(1, 1))
		info := f.info()
		if info.Listener != v.name || info.WebSocket != v.ws || (info.TLS != nil) != v.tls {
			t.Errorf("info %+v", info)
		}
		word := map[[2]bool]string{{true, true}: "wss", {true, false}: "tls", {false, true}: "ws", {false, false}: "tcp"}[[2]bool{v.tls, v.ws}]
		if v.unix {
			word = "unix"
		}
		if got := info.Transport(); got != word {
			t.Errorf("transport %q, want %q", got, word)
		}
		if info.TLS != nil && (!info.TLS.HandshakeComplete || info.TLS.NegotiatedProtocol != "mqtt") {
			t.Errorf("TLS state %+v", info.TLS)
		}
		if info.Opened < before || info.Opened > time.Now().UnixNano() {
			t.Errorf("opened at %d", info.Opened)
		}
		if v.proxy == "" {
			if !info.LocalPeer || info.Remote.String() != info.Peer.String() {
				t.Errorf("local %t, remote %v, peer %v", info.LocalPeer, info.Remote, info.Peer)
			}
			return
		}
		if info.LocalPeer || info.Remote.String() != "192.0.2.7:5000" || info.Local.String() != "192.0.2.8:1883" {
			t.Errorf("local %t, remote %v, local %v", info.LocalPeer, info.Remote, info.Local)
		}
	})
}

// testSlowReader fills the way back, sees the queue grow, and then reads everything.
func (k Kind) testSlowReader(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		const count, size = 24, 1 << 20
		queued := make(chan int, 1)
		drained := make(chan int, 8)
		f.use(func(c *testCore, p []byte) transport.Verdict {
			c.drained = func(c *testCore) { drained <- c.conn.Out().Len() }
			for i := range count {
				echo(c, bytes.Repeat([]byte{byte(i)}, size))
			}
			queued <- c.conn.Out().Len()
			return transport.GoOn
		})
		c := f.dial()
		send(t, c, packet(1, 0))
		if n := receive(t, queued); n != count*(size+prefix) {
			t.Fatalf("%d bytes queued", n)
		}
		core := f.core()
		var left int
		onLoop(t, core, func() { left = core.conn.Out().Len() })
		if left == 0 {
			t.Fatal("nothing waits, the test has no slow reader")
		}
		// What is queued while a writer is under way comes after it.
		onLoop(t, core, func() { echo(core, []byte("last")) })
		for i := range count {
			want(t, c, packet(size, byte(i)))
		}
		want(t, c, append(head(4), "last"...))
		if n := receive(t, drained); n != 0 {
			t.Errorf("drained with %d bytes left", n)
		}
	})
}

func (k Kind) testPauseAndResume(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		paused := make(chan struct{}, 10)
		resumed := false
		f.use(func(c *testCore, p []byte) transport.Verdict {
			if p[0] == 'p' && !resumed {
				paused <- struct{}{}
				echo(c, p)
				return transport.Pause
			}
			return echo(c, p)
		})
		c := f.dial()
		send(t, c, append(append(packet(1, 'a'), packet(1, 'p')...), packet(1, 'b')...))
		want(t, c, append(packet(1, 'a'), packet(1, 'p')...))
		receive(t, paused)
		core := f.core()
		send(t, c, packet(1, 'c'))
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read %d bytes of a paused connection, %v", n, err)
		}
		c.SetReadDeadline(time.Now().Add(testTimeout))
		onLoop(t, core, func() {
			core.conn.Resume()
			core.conn.Resume() // the second does nothing
		})
		want(t, c, append(packet(1, 'b'), packet(1, 'c')...))
	})
}

// testMove sends without pause while the connection goes to and fro between loops.
func (k Kind) testMove(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		const count = 200
		moves := 0 // owned by the connection: the race detector watches
		f.use(func(c *testCore, p []byte) transport.Verdict {
			echo(c, p)
			if p[0]%4 != 0 {
				return transport.GoOn
			}
			to := f.loops.Loop(1 - c.conn.Loop().Index())
			c.conn.Move(to, loop.Func(func(l *loop.Loop) {
				if l != to || c.conn.Loop() != to {
					t.Error("not where it should be")
				}
				moves++
				c.conn.Resume()
			}))
			return transport.Pause
		})
		c := f.dial()
		var all []byte
		for i := range count {
			all = append(all, packet(1+i*7, byte(i))...)
		}
		go c.Write(all) // a failure shows below
		want(t, c, all)
		core := f.core()
		onLoop(t, core, func() {
			if moves != count/4 {
				t.Errorf("%d moves, want %d", moves, count/4)
			}
		})
	})
}

func (k Kind) testCloseAfterFlushDeliversEverything(t *testing.T) {
	k.each(t, transport.Options{FlushTimeout: testTimeout}, func(t *testing.T, f *fixture, v variant) {
		const count, size = 8, 1 << 20
		f.use(func(c *testCore, p []byte) transport.Verdict {
			for i := range count {
				echo(c, bytes.Repeat([]byte{byte(i)}, size))
			}
			return transport.CloseAfterFlush
		})
		c := f.dial()
		send(t, c, append(packet(1, 0), packet(2000, 0)...)) // the second is dropped
		for i := range count {
			want(t, c, packet(size, byte(i)))
		}
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("read %d bytes, %v after the end", n, err)
		}
		c.Close()
		if err := receive(t, f.core().closed); err != nil {
			t.Errorf("closed for %v, the core asked for it", err)
		}
	})
}

// testCloseAfterFlushIsBounded has a peer that never reads.
func (k Kind) testCloseAfterFlushIsBounded(t *testing.T) {
	k.each(t, transport.Options{FlushTimeout: 50 * time.Millisecond}, func(t *testing.T, f *fixture, v variant) {
		f.use(func(c *testCore, p []byte) transport.Verdict {
			echo(c, make([]byte, 15<<20))
			return transport.CloseAfterFlush
		})
		c := f.dial()
		send(t, c, packet(1, 0))
		if err := receive(t, f.core().closed); err != nil {
			t.Errorf("closed for %v, the core asked for it", err)
		}
	})
}

func (k Kind) testCloseNow(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		f.use(func(c *testCore, p []byte) transport.Verdict { return transport.CloseNow })
		c := f.dial()
		send(t, c, packet(1, 0))
		if err := receive(t, f.core().closed); err != nil {
			t.Errorf("closed for %v, the core asked for it", err)
		}
		if n, err := io.Copy(io.Discard, c); n > 0 {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
}

// testOutputAfterTheEndIsDropped: a core that does not know yet that its connection has ended may write; nothing is held for that.
func (k Kind) testOutputAfterTheEndIsDropped(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		before := transport.Blocks().InUse
		f.use(func(c *testCore, p []byte) transport.Verdict {
			c.conn.Close(transport.CloseNow)
			c.conn.Out().Append([]byte("too late"))
			c.conn.Out().RefBlock(transport.NewBlock(make([]byte, 5000)))
			c.conn.Dirty()
			return transport.GoOn
		})
		c := f.dial()
		send(t, c, packet(1, 0))
		core := f.core()
		receive(t, core.closed)
		onLoop(t, core, func() {})
		if left := transport.Blocks().InUse - before; left != 0 {
			t.Errorf("%d bytes of blocks are held for a connection that has ended", left)
		}
	})
}

// testCloseOfAPausedConnection is what a takeover does.
func (k Kind) testCloseOfAPausedConnection(t *testing.T) {
	for _, verdict := range []transport.Verdict{transport.CloseAfterFlush, transport.CloseNow} {
		k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
			f.use(func(c *testCore, p []byte) transport.Verdict { return transport.Pause })
			c := f.dial()
			send(t, c, append(packet(1, 0), packet(2000, 0)...))
			core := f.core()
			onLoop(t, core, func() { core.conn.Close(verdict) })
			if err := receive(t, core.closed); err != nil {
				t.Errorf("closed for %v, the core asked for it", err)
			}
			io.Copy(io.Discard, c) // until the end, whatever it is called
		})
	}
}

func (k Kind) testEndOfStream(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		c := f.dial()
		send(t, c, append(packet(3, 1), packet(4, 2)...))
		want(t, c, append(packet(3, 1), packet(4, 2)...))
		c.Close()
		if err := receive(t, f.core().closed); err != io.EOF {
			t.Errorf("closed for %v, want io.EOF", err)
		}
	})
}

// testHalfClose: what came before the end of stream is fed, and answered.
func (k Kind) testHalfClose(t *testing.T) {
	k.each(t, transport.Options{FlushTimeout: testTimeout}, func(t *testing.T, f *fixture, v variant) {
		if v.ws { // a WebSocket has no such thing
			return
		}
		c := f.dial()
		p := packet(1<<20, 1)
		go func() {
			c.Write(p)
			c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		want(t, c, p)
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if err := receive(t, f.core().closed); err != io.EOF {
			t.Errorf("closed for %v, want io.EOF", err)
		}
	})
}

func (k Kind) testPeerReset(t *testing.T) {
	v := variants[0]
	f := k.start(t, v, transport.Options{})
	c := f.dial()
	send(t, c, packet(1, 1))
	want(t, c, packet(1, 1))
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	if err := receive(t, f.core().closed); err == nil || err == io.EOF {
		t.Errorf("closed for %v, want the reset", err)
	}
}

// testWriteToAPeerThatIsGone: the end is noticed by writing alone.
func (k Kind) testWriteToAPeerThatIsGone(t *testing.T) {
	k.each(t, transport.Options{FlushTimeout: time.Second}, func(t *testing.T, f *fixture, v variant) {
		f.use(func(c *testCore, p []byte) transport.Verdict {
			echo(c, make([]byte, 15<<20))
			return transport.Pause
		})
		raw := f.raw()
		c := layers(t, raw, v)
		send(t, c, packet(1, 0))
		core := f.core()
		raw.Close()
		if err := receive(t, core.closed); err == nil {
			t.Error("closed for nil, want an error")
		}
	})
}

func (k Kind) testManyConnectionsLeaveNothing(t *testing.T) {
	k.each(t, transport.Options{}, func(t *testing.T, f *fixture, v variant) {
		count := 1000
		if v.tls || v.proxy != "" {
			count = 100
		}
		// One first, for what is made once.
		open := func() {
			c := f.dial()
			send(t, c, packet(1, 1))
			want(t, c, packet(1, 1))
			c.Close()
			if err := receive(t, f.core().closed); err != io.EOF {
				t.Errorf("closed for %v", err)
			}
		}
		open()
		before := descriptors(t)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range count / 10 {
					open()
				}
			})
		}
		wg.Wait()
		for deadline := time.Now().Add(testTimeout); f.srv.Counts().Open > 0; {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections left", f.srv.Counts().Open)
			}
			onLoopOf(t, f.loops.Loop(0))
		}
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

// onLoopOf waits for an iteration of a loop.
func onLoopOf(t *testing.T, l *loop.Loop) {
	t.Helper()
	done := make(chan struct{})
	l.Post(loop.Func(func(*loop.Loop) { close(done) }))
	receive(t, done)
}

// descriptors counts the process's open descriptors, where the system lets it.
func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
