// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package front

import (
	"net"
	"net/netip"
	"syscall"

	"errors"

	"github.com/noctule/noctule/transport"
)

// trusted reports whether peer's PROXY headers are believed.
func trusted(o *transport.ListenerOptions, peer net.Addr) bool {
	if isUnix(peer) {
		return true
	}
	ip, ok := addrOf(peer)
	if !ok {
		return false
	}
	for _, p := range o.ProxyTrusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// IsLocal reports whether an address is of this host.
func IsLocal(a net.Addr) bool {
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

// Check refuses options that contradict each other.
func Check(o *transport.ListenerOptions) error {
	if (o.Protocol == transport.TLS || o.Protocol == transport.WSS) && o.TLS == nil {
		return errors.New("it speaks TLS and has no certificate")
	}
	return nil
}

// Passing reports whether a failed accept is worth another attempt: descriptors or memory ran out, or the peer gave up
// before it was accepted.
func Passing(err error) bool {
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
