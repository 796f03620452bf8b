// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
)

// How Serve copes with a failing accept: it waits, ever longer, and says so now and then.
const (
	acceptFirstWait = 5 * time.Millisecond
	acceptMostWait  = time.Second
	acceptLogEvery  = 10 * time.Second
)

// Serve accepts connections until l is closed or the server is shut down, and then returns nil; it takes l over and closes
// it at the end. name is the listener's name in the configuration.
func (s *Server) Serve(name string, l net.Listener, o ListenerOptions) error {
	if err := front.Check(&o); err != nil {
		l.Close() // the error that matters is err
		return fmt.Errorf("transport: listener %s: %w", name, err)
	}
	if !s.register(l) {
		l.Close() // nobody will use it
		return nil
	}
	defer s.unregister(l)
	li := &listener{srv: s, name: name, opts: o}
	wait := acceptFirstWait
	var logged time.Time
	for {
		sock, err := l.Accept()
		if err == nil {
			wait = acceptFirstWait
			li.accepted(sock)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if !front.Passing(err) {
			return fmt.Errorf("transport: listener %s: accept: %w", name, err)
		}
		if time.Since(logged) > acceptLogEvery {
			s.opts.Logger.Error("cannot accept connections, will retry", "listener", name, "err", err)
			logged = time.Now()
		}
		if !s.pause(wait) {
			return nil
		}
		wait = min(2*wait, acceptMostWait)
	}
}

// pause waits for d and reports whether the server still accepts.
func (s *Server) pause(d time.Duration) bool {
	time.Sleep(d)
	return !s.books.Closing()
}

func (s *Server) register(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.books.Closing() {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) unregister(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	l.Close() // most likely that is why Serve returns
}

// A listener is what the connections of one Serve share.
type listener struct {
	srv  *Server
	name string
	opts ListenerOptions
}

// accepted takes a socket in. It does not block.
func (li *listener) accepted(sock net.Conn) {
	s := li.srv
	peer := sock.RemoteAddr()
	c := &conn{srv: s, sock: sock}
	c.info = transport.Info{
		Listener:  li.name,
		Remote:    peer,
		Peer:      peer,
		Local:     sock.LocalAddr(),
		LocalPeer: front.IsLocal(peer),
		Opened:    s.opts.Now().UnixNano(),
	}
	if cause := s.admit(c); cause != "" {
		sock.Close() // refused: its error would say nothing
		s.books.Refused(li.name, peer, cause, nil)
		return
	}
	var err error
	if c.counted, err = s.books.AdmitPeer(&li.opts, peer); err != nil {
		c.refuse(err)
		return
	}
	if li.opts.Protocol == MQTT && li.opts.Proxy == ProxyOff {
		c.start(nil)
		return
	}
	go li.shake(c)
}

// admit enters c into the server's books and gives it a loop, or says why not.
func (s *Server) admit(c *conn) (cause string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cause := s.books.Admit(); cause != "" {
		return cause
	}
	s.conns[c] = struct{}{}
	c.home.Store(s.opts.Loops.Loop(s.next))
	s.next = (s.next + 1) % s.opts.Loops.N()
	return ""
}

// forget takes c out of the server's books.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.books.Forget(c.counted)
}

// refuse ends a connection that has not reached its loop.
func (c *conn) refuse(err error) {
	c.sock.Close() // refused: its error would say nothing
	c.srv.books.Refused(c.info.Listener, c.info.Remote, front.CauseOf(err), err)
	c.srv.forget(c)
}

// start hands a peeled connection to its loop; head are bytes of MQTT (or of WebSocket frames) that came with the
// handshake.
func (c *conn) start(head []byte) {
	c.initSocket()
	c.head = head
	s := c.srv
	s.mu.Lock()
	if !s.books.Closing() { // or else the socket may be closed already
		c.onLoop = true
		c.home.Load().Post((*opening)(c)) // under the lock: before any cut
	}
	s.mu.Unlock()
	if !c.onLoop {
		c.refuse(front.Refuse(transport.CauseClosing, nil))
	}
}
