// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
)

// testChaos has cores that do everything there is to do, in any order, with clients that write, read, stall and leave as they
// like. What counts: every core is closed exactly once, nothing is fed afterwards, nobody touches a connection from two
// goroutines (the race detector watches), what is echoed is in order, and nothing is left.
func (k Kind) testChaos(t *testing.T) {
	k.each(t, transport.Options{FlushTimeout: 100 * time.Millisecond}, func(t *testing.T, f *fixture, v variant) {
		f.use(func(c *testCore, p []byte) transport.Verdict { return f.act(c, p) })
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 7))
				for range 20 {
					f.client(rnd)
				}
			})
		}
		wg.Wait()
		waitOpen(t, f, 0)
		for len(f.cores) > 0 {
			receive(t, (<-f.cores).closed)
		}
	})
}

// act does what the packet's first byte says.
func (f *fixture) act(c *testCore, p []byte) transport.Verdict {
	conn := c.conn
	if len(p) > 1 {
		echo(c, p)
	}
	switch p[0] {
	case 'p': // pause, resume from another goroutine's task
		go conn.Loop().Post(loop.Func(func(*loop.Loop) { conn.Resume() }))
		return transport.Pause
	case 'm': // move to the other loop
		conn.Move(f.loops.Loop(1-conn.Loop().Index()), loop.Func(func(*loop.Loop) {
			echo(c, []byte("m"))
			conn.Resume()
		}))
		return transport.Pause
	case 'w': // pause, and move later, perhaps when the connection has ended
		from := conn.Loop()
		go from.Post(loop.Func(func(*loop.Loop) {
			if !c.over {
				conn.Move(f.loops.Loop(1-from.Index()), loop.Func(func(*loop.Loop) { conn.Resume() }))
			}
		}))
		return transport.Pause
	case 'b': // a burst
		for range 20 {
			echo(c, make([]byte, 100_000))
		}
	case 'f':
		return transport.CloseAfterFlush
	case 'n':
		return transport.CloseNow
	case 'c': // the same by call
		conn.Close(transport.CloseAfterFlush)
	case 'd':
		conn.Close(transport.CloseNow)
		conn.Close(transport.CloseAfterFlush)
	case 'x': // paused for ever, closed from outside
		go conn.Loop().Post(loop.Func(func(*loop.Loop) { conn.Close(transport.CloseAfterFlush) }))
		return transport.Pause
	}
	return transport.GoOn
}

// client is one connection's client.
func (f *fixture) client(rnd *rand.Rand) {
	c := f.dial()
	defer c.Close()
	if rnd.IntN(4) > 0 {
		go io.Copy(io.Discard, c) // ends when c is closed
	}
	const common, rare = "eeeeeeeepmwpmw", "bfncdx"
	for range 1 + rnd.IntN(60) {
		what := common[rnd.IntN(len(common))]
		if rnd.IntN(40) == 0 {
			what = rare[rnd.IntN(len(rare))]
		}
		p := packet(1+rnd.IntN(3)*rnd.IntN(3000), what)
		cut := rnd.IntN(len(p))
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Write(p[:cut]); err != nil {
			return
		}
		if _, err := c.Write(p[cut:]); err != nil {
			return
		}
	}
	if t, ok := c.(*net.TCPConn); ok && rnd.IntN(3) == 0 {
		t.SetLinger(0) // leaves with a reset
	}
}
