// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/noctule/noctule/transport"
)

// How Serve copes with a failing accept: it waits, ever longer, and says so now and then.
const (
	acceptFirstWait = 5 * time.Millisecond
	acceptMostWait  = time.Second
	acceptLogEvery  = 10 * time.Second
)

// keepAlive are the probes on idle sockets of Listen; a peer that vanished is noticed after some three minutes even
// where MQTT's keep alive is off.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 8}

// ListenOptions shape a listener's sockets.
type ListenOptions struct {
	// NotSentLowat bounds the bytes per connection that the kernel holds unsent before it calls a socket full
	// (TCP_NOTSENT_LOWAT); 0 leaves it to the system. Linux only, elsewhere it has no effect.
	NotSentLowat int
}

// Listen listens on a TCP or Unix address as this package likes it: without multipath TCP, with keep-alive probes.
func Listen(ctx context.Context, network, address string, o ListenOptions) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	lc.SetMultipathTCP(false)
	if o.NotSentLowat > 0 {
		lc.Control = func(network, _ string, c syscall.RawConn) error {
			if network != "tcp" && network != "tcp4" && network != "tcp6" {
				return nil
			}
			return setNotSentLowat(c, o.NotSentLowat)
		}
	}
	return lc.Listen(ctx, network, address)
}

// Serve accepts connections until l is closed or the server is shut down, and then returns nil; it takes l over and closes
// it at the end. name is the listener's name in the configuration.
func (s *Server) Serve(name string, l net.Listener, o ListenerOptions) error {
	if err := o.check(); err != nil {
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
		if !passing(err) {
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

// check refuses options that contradict each other.
func (o *ListenerOptions) check() error {
	if (o.Protocol == TLS || o.Protocol == WSS) && o.TLS == nil {
		return errors.New("it speaks TLS and has no certificate")
	}
	return nil
}

// passing reports whether a failed accept is worth another attempt: descriptors or memory ran out, or the peer gave up
// before it was accepted.
func passing(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPERM, syscall.EPROTO,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// pause waits for d and reports whether the server still accepts.
func (s *Server) pause(d time.Duration) bool {
	time.Sleep(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing
}

func (s *Server) register(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
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
	s.counts.accepted.Add(1)
	peer := sock.RemoteAddr()
	c := &conn{srv: s, sock: sock}
	c.info = transport.Info{
		Listener:  li.name,
		Remote:    peer,
		Peer:      peer,
		Local:     sock.LocalAddr(),
		LocalPeer: isLocal(peer),
		Opened:    s.opts.Now().UnixNano(),
	}
	if cause := s.admit(c); cause != "" {
		sock.Close() // refused: its error would say nothing
		s.refused(cause, peer)
		return
	}
	if err := li.admitPeer(c); err != nil {
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
	switch {
	case s.closing:
		return CauseClosing
	case s.opts.MaxConnections > 0 && len(s.conns) >= s.opts.MaxConnections:
		return CauseTooMany
	}
	s.conns[c] = struct{}{}
	c.home.Store(s.opts.Loops.Loop(s.next))
	s.next = (s.next + 1) % s.opts.Loops.N()
	return ""
}

// admitPeer judges the other end of the socket. A proxy's own address is neither bounded nor counted.
func (li *listener) admitPeer(c *conn) error {
	if li.opts.Proxy != ProxyOff && li.trusted(c.info.Peer) {
		return nil
	}
	if li.opts.Proxy == ProxyRequired {
		return refuse(CauseProxyUntrusted, nil)
	}
	return c.countAddress(li.opts.MaxConnectionsPerAddress)
}

// trusted reports whether peer's PROXY headers are believed.
func (li *listener) trusted(peer net.Addr) bool {
	if isUnix(peer) {
		return true
	}
	ip, ok := addrOf(peer)
	if !ok {
		return false
	}
	for _, p := range li.opts.ProxyTrusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// countAddress counts c with its remote address, of which there may be most; 0 means any number.
func (c *conn) countAddress(most int) error {
	ip, ok := addrOf(c.info.Remote)
	if most == 0 || !ok {
		return nil
	}
	if ip.Is6() {
		p, _ := ip.Prefix(64) // fails only for lengths out of range
		ip = p.Addr()
	}
	s := c.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perAddr[ip] >= most {
		return refuse(CauseTooManyPerAddress, nil)
	}
	s.perAddr[ip]++
	c.counted = ip
	return nil
}

// forget takes c out of the server's books.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.counted.IsValid() {
		if s.perAddr[c.counted]--; s.perAddr[c.counted] == 0 {
			delete(s.perAddr, c.counted)
		}
	}
	if s.closing && len(s.conns) == 0 {
		close(s.empty)
	}
}

// refuse ends a connection that has not reached its loop.
func (c *conn) refuse(err error) {
	c.sock.Close() // refused: its error would say nothing
	c.srv.opts.Logger.Debug("connection refused", "listener", c.info.Listener, "remote", c.info.Remote, "err", err)
	c.srv.refused(causeOf(err), c.info.Remote)
	c.srv.forget(c)
}

// start hands a peeled connection to its loop; head are bytes of MQTT (or of WebSocket frames) that came with the
// handshake.
func (c *conn) start(head []byte) {
	c.initSocket()
	c.head = head
	s := c.srv
	s.mu.Lock()
	if !s.closing { // or else the socket may be closed already
		c.onLoop = true
		c.home.Load().Post((*opening)(c)) // under the lock: before any cut
	}
	s.mu.Unlock()
	if !c.onLoop {
		c.refuse(refuse(CauseClosing, nil))
	}
}

// isLocal reports whether an address is of this host.
func isLocal(a net.Addr) bool {
	if isUnix(a) {
		return true
	}
	ip, ok := addrOf(a)
	return ok && ip.IsLoopback()
}

func isUnix(a net.Addr) bool {
	_, ok := a.(*net.UnixAddr)
	return ok
}

// addrOf gives the IP address in a; IPv4 in its short form and without a zone.
func addrOf(a net.Addr) (ip netip.Addr, ok bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	ip, ok = netip.AddrFromSlice(t.IP)
	return ip.Unmap(), ok
}
