// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/internal/front"
	"golang.org/x/sys/unix"
)

// How a loop copes with a failing accept: it waits, ever longer, and says so now and then.
const (
	acceptFirstWait = 5 * time.Millisecond
	acceptMostWait  = time.Second
	acceptLogEvery  = 10 * time.Second
	// acceptMost sockets are accepted at once; then others have their turn.
	acceptMost = 64
)

// A listener is one listening socket, and what its connections share.
type listener struct {
	srv  *Server
	name string
	opts transport.ListenerOptions
	fd   int      // ours, a duplicate
	addr net.Addr // of Unix sockets: of both ends
	tcp  bool
	any  bool // it listens on more than one address

	stopping sync.Once
	stopped  chan struct{}
	failed   chan error // why it cannot go on; takes the first

	mu      sync.Mutex
	reserve int       // a descriptor that is given up to refuse who comes when there is no other; -1 if there is none
	logged  time.Time // when we last said that accept fails
}

// Serve implements transport.Server. A TCP listener is closed at once, its socket lives on as a duplicate: or else the runtime's
// poller would be woken by each connection too.
func (s *Server) Serve(name string, l net.Listener, o transport.ListenerOptions) error {
	defer l.Close() // it may be closed already; most likely that is why we return
	if err := front.Check(&o); err != nil {
		return fmt.Errorf("transport: listener %s: %w", name, err)
	}
	li, err := s.open(name, l, o)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("transport: listener %s: %w", name, err)
	}
	defer li.close()
	if !s.register(li) {
		return nil // nobody will use it
	}
	defer s.serving.Done()
	var closed <-chan struct{}
	if c, ok := l.(interface{ Closed() <-chan struct{} }); ok {
		closed = c.Closed()
	}
	pollers := s.pollers
	if o.Loop > 0 {
		pollers = pollers[(o.Loop-1)%len(pollers):][:1]
	}
	watches := make([]*watch, len(pollers))
	for i, p := range pollers {
		w := &watch{listener: li, poller: p, wait: acceptFirstWait}
		watches[i] = w
		p.loop.Post(loop.Func(func(*loop.Loop) { w.begin() }))
	}
	select {
	case <-li.stopped:
	case <-closed:
	case err = <-li.failed:
		err = fmt.Errorf("transport: listener %s: accept: %w", name, err)
	}
	var gone sync.WaitGroup
	for _, w := range watches {
		gone.Add(1)
		w.poller.loop.Post(loop.Func(func(*loop.Loop) { w.end(); gone.Done() }))
	}
	gone.Wait()
	s.mu.Lock()
	delete(s.listeners, li)
	s.mu.Unlock()
	return err
}

func (s *Server) register(li *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.books.Closing() {
		return false
	}
	s.listeners[li] = struct{}{}
	s.serving.Add(1)
	return true
}

// open makes a listener of l.
func (s *Server) open(name string, l net.Listener, o transport.ListenerOptions) (*listener, error) {
	li := &listener{
		srv: s, name: name, opts: o, addr: l.Addr(), fd: -1, reserve: -1,
		stopped: make(chan struct{}), failed: make(chan error, 1),
	}
	sc, ok := l.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T is no socket", l)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := rc.Control(func(fd uintptr) { li.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	li.reserve, _ = openReserve() // without one there is none yet
	t, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return li, nil
	}
	li.tcp, li.any = true, t.IP.IsUnspecified()
	if err := li.shape(); err != nil {
		li.close()
		return nil, err
	}
	if w, ok := l.(*transport.Listener); ok {
		l = w.Listener // its Close ends Serve
	}
	l.Close() // our duplicate stays
	return li, nil
}

// shape sets on the listening socket what package net would set on each that it accepts: they inherit it.
func (li *listener) shape() error {
	ka := transport.KeepAlive
	for _, o := range []struct {
		level, name, value int
	}{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(ka.Idle / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(ka.Interval / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, ka.Count},
	} {
		if err := unix.SetsockoptInt(li.fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

func openReserve() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) }

// stop ends Serve.
func (li *listener) stop() { li.stopping.Do(func() { close(li.stopped) }) }

// close gives back what the listener holds, once no loop watches it.
func (li *listener) close() {
	unix.Close(li.fd)
	if li.reserve >= 0 {
		unix.Close(li.reserve)
	}
}

// A watch is a listener as one loop watches it. It belongs to the loop.
type watch struct {
	*listener
	poller     *Poller
	generation uint32
	index      int // in poller.watches
	wait       time.Duration
	again      loop.Timer // set while accepting rests
	watching   bool
	ended      bool
}

// begin starts accepting.
func (w *watch) begin() {
	p := w.poller
	w.index = -1
	for i, other := range p.watches {
		if other == nil {
			w.index = i
		}
	}
	if w.index < 0 {
		w.index = len(p.watches)
		p.watches = append(p.watches, nil)
	}
	p.watches[w.index] = w
	w.generation = p.next()
	w.resume()
}

// end stops accepting.
func (w *watch) end() {
	w.ended = true
	w.poller.loop.Cancel(&w.again)
	w.suspend()
	w.poller.watches[w.index] = nil
}

// resume has the kernel tell of connections: this loop if it sleeps, or another that does.
func (w *watch) resume() {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(listenerBase - w.index), Pad: int32(w.generation)}
	if err := unix.EpollCtl(w.poller.fd, unix.EPOLL_CTL_ADD, w.fd, &e); err != nil {
		w.fail(os.NewSyscallError("epoll_ctl", err))
		return
	}
	w.watching = true
}

func (w *watch) suspend() {
	if w.watching {
		w.watching = false
		unix.EpollCtl(w.poller.fd, unix.EPOLL_CTL_DEL, w.fd, nil) // fails only if it is not there
	}
}

// Run goes on after a rest.
func (w *watch) Run(*loop.Loop) {
	if !w.ended {
		w.resume()
	}
}

// rest stops accepting for a while, for the kernel would tell us of what we cannot take again and again.
func (w *watch) rest(err error) {
	w.complain(err)
	w.suspend()
	w.poller.loop.At(&w.again, w.poller.loop.Now()+int64(w.wait), w)
	w.wait = min(2*w.wait, acceptMostWait)
}

// fail ends the listener.
func (li *listener) fail(err error) {
	select {
	case li.failed <- err:
	default: // one is enough
	}
}

// ready accepts what there is.
func (w *watch) ready() {
	for range acceptMost {
		if w.ended {
			return
		}
		fd, sa, err := unix.Accept4(w.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			w.wait = acceptFirstWait
			w.accepted(w.poller, fd, sa)
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR || err == unix.ECONNABORTED || err == unix.ECONNRESET || err == unix.EPROTO:
		case err == unix.EMFILE || err == unix.ENFILE:
			switch w.sacrifice(err) {
			case nil:
				continue
			case unix.EAGAIN: // without a descriptor accept4 does not even look whether somebody is there
				return
			}
			w.rest(err)
			return
		case front.Passing(err):
			w.rest(err)
			return
		default:
			w.suspend()
			w.fail(os.NewSyscallError("accept4", err))
			return
		}
	}
}

// sacrifice accepts with the reserved descriptor whoever comes when there is no other, and closes: the client knows at once, instead of
// waiting for an answer that nobody can give.
func (li *listener) sacrifice(cause error) error {
	li.mu.Lock()
	defer li.mu.Unlock()
	if li.reserve < 0 {
		li.reserve, _ = openReserve() // most likely there still is none
		return cause
	}
	unix.Close(li.reserve)
	fd, sa, err := unix.Accept4(li.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	if r, e := openReserve(); e == nil {
		li.reserve = r
	} else {
		li.reserve = -1
	}
	if err == nil {
		li.srv.books.Refused(li.name, li.remoteOf(sa), transport.CauseNoDescriptor, nil)
		li.complainLocked(cause)
	}
	return err
}

// complain says now and then that accept fails.
func (li *listener) complain(err error) {
	li.mu.Lock()
	defer li.mu.Unlock()
	li.complainLocked(err)
}

func (li *listener) complainLocked(err error) {
	if time.Since(li.logged) > acceptLogEvery {
		li.logged = time.Now()
		li.srv.opts.Logger.Error("cannot accept connections; raise the limit of open files if it is that", "listener", li.name, "err", err)
	}
}

// accepted takes a socket in.
func (li *listener) accepted(p *Poller, fd int, sa unix.Sockaddr) {
	s := li.srv
	remote := li.remoteOf(sa)
	if cause := s.books.Admit(); cause != "" {
		unix.Close(fd)
		s.books.Refused(li.name, remote, cause, nil)
		return
	}
	c := &conn{li: li, fd: int32(fd), slot: -1, remote: remote, opened: s.opts.Now().UnixNano()}
	c.home.Store(p)
	p.add(c)
	defer c.contain()
	counted, err := s.books.AdmitPeer(&li.opts, remote)
	if err == nil && s.cutting.Load() {
		err = front.Refuse(transport.CauseClosing, nil)
	}
	if counted.IsValid() {
		c.extra().counted = counted
	}
	if err != nil {
		c.refuse(err)
		return
	}
	if c.arm(); c.state == closed {
		return
	}
	if li.opts.Protocol == transport.MQTT && li.opts.Proxy == transport.ProxyOff {
		c.begin(nil)
	} else {
		c.startPeel()
	}
}

// unnamed is the other end of Unix sockets, most often.
var unnamed = &net.UnixAddr{Net: "unix"}

// remoteOf makes an address of what accept returned.
func (li *listener) remoteOf(sa unix.Sockaddr) net.Addr {
	if sa, ok := sa.(*unix.SockaddrUnix); ok && sa.Name != "" {
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}
	}
	if !li.tcp {
		return unnamed
	}
	return tcpAddr(sa)
}

// tcpAddr makes an address, in one allocation.
func tcpAddr(sa unix.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		a := &struct {
			net.TCPAddr
			ip [4]byte
		}{ip: sa.Addr}
		a.IP, a.Port = a.ip[:], sa.Port
		return &a.TCPAddr
	case *unix.SockaddrInet6:
		a := &struct {
			net.TCPAddr
			ip [16]byte
		}{ip: sa.Addr}
		a.IP, a.Port = a.ip[:], sa.Port
		if ip4 := a.IP.To4(); ip4 != nil {
			a.IP = ip4
		}
		if sa.ZoneId != 0 {
			a.Zone = zone(int(sa.ZoneId))
		}
		return &a.TCPAddr
	}
	return &net.TCPAddr{}
}

// zone names the interface of a link-local address.
func zone(index int) string {
	if i, err := net.InterfaceByIndex(index); err == nil {
		return i.Name
	}
	return fmt.Sprint(index)
}

// localOf gives our end's address of a connection.
func (li *listener) localOf(fd int) net.Addr {
	if !li.any {
		return li.addr
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return li.addr
	}
	return tcpAddr(sa)
}
