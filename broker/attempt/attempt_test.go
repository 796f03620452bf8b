// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package attempt

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var (
	policy = Policy{Free: 3, Delay: time.Second, Most: time.Minute}
	home   = netip.MustParseAddr("192.0.2.1")
	away   = netip.MustParseAddr("198.51.100.7")
	start  = time.Unix(1_700_000_000, 0)
)

func wants(t *testing.T, l *Limiter, a netip.Addr, user string, now time.Time, want time.Duration, when string) {
	t.Helper()
	if got := l.Wait(policy, a, user, now); got != want {
		t.Errorf("%s: wait %v, want %v", when, got, want)
	}
}

func TestWaitsDouble(t *testing.T) {
	l, now := New(), start
	for i := range 3 {
		wants(t, l, home, "ann", now, 0, fmt.Sprint("free ", i))
		l.Failed(policy, home, "ann", now)
	}
	wants(t, l, home, "ann", now, 0, "after the free ones")
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		l.Failed(policy, home, "ann", now)
		wants(t, l, home, "ann", now, want*time.Second, fmt.Sprint("beyond ", i))
		now = now.Add(want * time.Second)
		wants(t, l, home, "ann", now, 0, "when it is over")
	}
	wants(t, l, away, "ann", now.Add(-time.Second), time.Second, "the user, elsewhere")
	wants(t, l, home, "bob", now.Add(-time.Second), 0, "another user, from there")
	l.Failed(policy, away, "ann", now)
	now = now.Add(forget + time.Second)
	l.Failed(policy, home, "ann", now)
	wants(t, l, home, "ann", now, 0, "after a long rest")
}

// Whoever has logged in from an address goes on to do so, whatever others do there or in the same name.
func TestNobodyLocksOthersOut(t *testing.T) {
	l, now := New(), start
	l.Succeeded(policy, home, "ann", now)
	for range 100 {
		l.Failed(policy, away, "ann", now)
	}
	wants(t, l, home, "ann", now, 0, "known from here")
	wants(t, l, away, "ann", now, time.Minute, "the attacker")
	wants(t, l, netip.MustParseAddr("203.0.113.9"), "ann", now, time.Minute, "unknown from there")
	for i := range 100 {
		l.Failed(policy, home, fmt.Sprint("x", i), now)
	}
	wants(t, l, home, "bob", now, time.Minute, "the address tried many")
	wants(t, l, home, "ann", now, 0, "known, at that address")
	for range 4 {
		l.Failed(policy, home, "ann", now)
	}
	wants(t, l, home, "ann", now, time.Second, "known, but failing itself: by its own failures")
	now = now.Add(keepGood + time.Minute)
	l.Succeeded(policy, home, "ann", now)
	wants(t, l, home, "ann", now, 0, "in again")
}

// A device with a wrong password, however often it tries, does not use its address up.
func TestOneDeviceDoesNotEndAnAddress(t *testing.T) {
	l := New()
	for i := range 10_000 {
		l.Failed(policy, home, "broken", start.Add(time.Duration(i)*time.Second))
	}
	wants(t, l, home, "bob", start.Add(10_000*time.Second), 0, "another device there")
}

func TestNetworks(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := Network(netip.MustParseAddr(a)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v", a, got)
		}
	}
	l := New()
	for range 50 { // no address at all
		l.Failed(policy, netip.Addr{}, "ann", start)
	}
	wants(t, l, netip.Addr{}, "ann", start, time.Minute, "without address")
}

func TestBounded(t *testing.T) {
	l := New()
	for range 50 {
		l.Failed(policy, home, "target", start.Add(time.Second))
	}
	for i := range maxEntries + 5000 {
		l.Failed(policy, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), fmt.Sprint(i), start)
		if i%10 == 0 {
			l.Succeeded(policy, away, fmt.Sprint(i), start)
		}
	}
	if len(l.users) > maxEntries || len(l.addresses) > maxEntries || len(l.pairs) > maxEntries {
		t.Errorf("%d users, %d addresses, %d pairs", len(l.users), len(l.addresses), len(l.pairs))
	}
	if l.Wait(policy, away, "target", start.Add(time.Second)) == 0 {
		t.Error("an attacker with many addresses bought a user's freedom")
	}
}

func TestOff(t *testing.T) {
	l := New()
	for range 1000 {
		l.Failed(Policy{}, home, "ann", start)
	}
	if l.Wait(Policy{}, home, "ann", start) != 0 || len(l.users) != 0 {
		t.Error("it counts though it is off")
	}
}
