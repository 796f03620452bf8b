// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package front is what all transports do before and around MQTT, without input and output: who is let in (Books), the layers
// that come off a new connection (Peel), the bytes that a core has not eaten (Intake), and WebSocket frames around the
// out-queue (Frames).
//
// Books may be used from any goroutine; its lock is a leaf. The rest belongs to one connection. The package starts no goroutine.
package front

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/noctule/noctule/transport"
)

// Books are a server's: its limits, its counters, and whether it still accepts.
type Books struct {
	Options transport.Options

	accepted atomic.Int64
	open     atomic.Int64
	closing  atomic.Bool
	emptied  sync.Once
	empty    chan struct{} // closed when closing and no connection is left

	mu      sync.Mutex
	perAddr map[netip.Addr]int
	refused map[string]int64
}

// NewBooks opens the books of a server.
func NewBooks(o transport.Options) *Books {
	o.SetDefaults()
	return &Books{
		Options: o, empty: make(chan struct{}), perAddr: make(map[netip.Addr]int), refused: make(map[string]int64),
	}
}

// Admit enters an accepted socket, or says why not. Every one that was entered is to be forgotten again.
func (b *Books) Admit() (cause string) {
	b.accepted.Add(1)
	open := b.open.Add(1) // first: either we see closing, or Close sees us
	switch {
	case b.closing.Load():
		cause = transport.CauseClosing
	case b.Options.MaxConnections > 0 && open > int64(b.Options.MaxConnections):
		cause = transport.CauseTooMany
	default:
		return ""
	}
	b.Forget(netip.Addr{})
	return cause
}

// Forget takes a connection out of the books, with the address under which it was counted, if any.
func (b *Books) Forget(counted netip.Addr) {
	if counted.IsValid() {
		b.mu.Lock()
		if b.perAddr[counted]--; b.perAddr[counted] == 0 {
			delete(b.perAddr, counted)
		}
		b.mu.Unlock()
	}
	if b.open.Add(-1) == 0 && b.closing.Load() {
		b.emptied.Do(func() { close(b.empty) })
	}
}

// Close has everybody refused from now on.
func (b *Books) Close() {
	b.closing.Store(true)
	if b.open.Load() == 0 {
		b.emptied.Do(func() { close(b.empty) })
	}
}

// Closing reports whether Close was called.
func (b *Books) Closing() bool { return b.closing.Load() }

// Empty is closed when Close was called and the last connection is forgotten.
func (b *Books) Empty() <-chan struct{} { return b.empty }

// AdmitPeer judges the other end of a socket, and returns the address with which the connection is counted, if it is. A
// proxy's own address is neither bounded nor counted.
func (b *Books) AdmitPeer(o *transport.ListenerOptions, peer net.Addr) (counted netip.Addr, err error) {
	if o.Proxy != transport.ProxyOff && trusted(o, peer) {
		return netip.Addr{}, nil
	}
	if o.Proxy == transport.ProxyRequired {
		return netip.Addr{}, Refuse(transport.CauseProxyUntrusted, nil)
	}
	return b.countAddress(peer, o.MaxConnectionsPerAddress)
}

// countAddress counts a connection with its remote address, of which there may be most; 0 means any number.
func (b *Books) countAddress(remote net.Addr, most int) (counted netip.Addr, err error) {
	ip, ok := addrOf(remote)
	if most == 0 || !ok {
		return netip.Addr{}, nil
	}
	if ip.Is6() {
		p, _ := ip.Prefix(64) // fails only for lengths out of range
		ip = p.Addr()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.perAddr[ip] >= most {
		return netip.Addr{}, Refuse(transport.CauseTooManyPerAddress, nil)
	}
	b.perAddr[ip]++
	return ip, nil
}

// Refused counts a connection that never reached a core. err says more than its cause, if it is there.
func (b *Books) Refused(listener string, remote net.Addr, cause string, err error) {
	b.mu.Lock()
	b.refused[cause]++
	b.mu.Unlock()
	if err != nil {
		b.Options.Logger.Debug("connection refused", "listener", listener, "remote", remote, "err", err)
	}
	b.Options.OnRefused(cause, remote)
}

// Counts returns the counters, but for those of bytes.
func (b *Books) Counts() transport.Counts {
	c := transport.Counts{Accepted: b.accepted.Load(), Open: b.open.Load(), Refused: make(map[string]int64)}
	b.mu.Lock()
	defer b.mu.Unlock()
	for cause, n := range b.refused {
		c.Refused[cause] = n
	}
	return c
}
