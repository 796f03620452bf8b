// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package transport moves bytes between sockets and the protocol core.
//
// A transport accepts connections, peels off what surrounds MQTT (PROXY protocol, TLS, WebSocket), and feeds the plain
// byte stream to a Core on the connection's loop. The core answers with a Verdict and writes only to the connection's
// out-queue; the loop has it flushed once, at the end of its iteration.
//
// Everything on Conn and Core runs on the goroutine of the connection's loop unless it says otherwise. No call blocks.
// Implementations: transport/epoll, on the loops themselves, on Linux; transport/std, on net.Conn and goroutines, everywhere
// Go runs. Both pass transport/transporttest.
//
// The package knows no MQTT beyond the first byte that tells protocols apart.
package transport

import (
	"crypto/tls"
	"net"

	"github.com/noctule/noctule/loop"
)

// Verdict is what a core wants done with its connection after it was fed.
type Verdict byte

const (
	GoOn            Verdict = iota // read on
	Pause                          // keep what was not eaten, read nothing until Resume
	CloseAfterFlush                // eat and drop further input, write the out-queue (bounded in time), close
	CloseNow                       // close; the out-queue is lost
)

// Core is the protocol side of one connection.
type Core interface {
	// Feed offers the bytes that arrived and were not eaten before. They are lent until it returns and may be
	// overwritten after. eaten says how many are done with; need how many in all, counted from the first byte that was
	// not eaten, the next step wants (0: any more): the transport holds that many at least before it feeds again, and its
	// buffer grows as they arrive, never far ahead of them. The core checks need against its own limits.
	Feed(b []byte) (eaten, need int, v Verdict)
	// Drained says that an out-queue which could not be written at once, because the socket was full or (TLS, memory)
	// because the transport never writes on the loop, has been written wholly.
	Drained()
	// Closed comes once, last, with the reason why the transport ended the connection: io.EOF for the peer's end of
	// stream, nil where the core asked for it.
	Closed(err error)
}

// Conn is one connection as its core sees it.
type Conn interface {
	Info() *Info
	Loop() *loop.Loop

	// Out is the queue of bytes to be written. After appending call Dirty. Its Len counts the bytes that are on their way
	// and not written yet. A core only appends: Advance, Take and Reset are the transport's.
	Out() *Out
	// Blocked says that Drained will come: a flush has left something in the out-queue since the last one.
	Blocked() bool
	// Dirty has the out-queue flushed at the end of the loop's iteration.
	Dirty()

	// Resume ends a Pause: what was left is fed again in a later task of the loop. It does nothing if reading goes on.
	Resume()
	// Move hands a paused connection to another loop, where then runs as a task. It may be called within Feed, which
	// then returns Pause. The out-queue is flushed first. From the end of the iteration until then runs nobody may touch
	// the connection. Resume is still to be called, on the new loop. A connection that has ended moves all the same: then
	// runs, and Closed follows there.
	Move(to *loop.Loop, then loop.Task)
	// Close asks for the end with CloseAfterFlush or CloseNow. Core.Closed follows in a later task.
	Close(v Verdict)
}

// Info says where a connection comes from. It does not change after the core was made.
type Info struct {
	Listener string   // name of the listener in the configuration
	Remote   net.Addr // the client's address, as told by PROXY protocol where that is trusted
	Peer     net.Addr // the other end of the socket
	Local    net.Addr
	// LocalPeer is true where the other end of the socket is this host (loopback or Unix socket) and no PROXY header
	// speaks for somebody else. Anonymous access is judged by it.
	LocalPeer bool
	TLS       *tls.ConnectionState // nil without TLS; complete
	WebSocket bool
	Origin    string // of the WebSocket handshake
	Opened    int64  // Unix nanoseconds, when the socket was accepted: the time for CONNECT counts from here
}

// Transport says in one word how the connection reached us: tcp, tls, ws, wss, unix.
func (i *Info) Transport() string {
	switch {
	case i.WebSocket && i.TLS != nil:
		return "wss"
	case i.WebSocket:
		return "ws"
	case i.TLS != nil:
		return "tls"
	case i.Local != nil && i.Local.Network() == "unix":
		return "unix"
	}
	return "tcp"
}
