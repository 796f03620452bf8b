// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package ban keeps out clients by identifier, user name or address, for ever or until a time.
//
// A List is in memory, bounded, and in a file of the data directory that is written whole and atomically. It is no part of the store: it must
// be readable before the store is, and whatever state that is in; it is small; and an operator can read and mend it with an editor.
//
// Bans by hand are on disk when Add returns. Those that a Flapping makes are written soon after, by a goroutine that lives while there
// is something to write. All methods may be called from any goroutine.
package ban

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// Kind says what a ban is about.
type Kind string

// Kinds.
const (
	Client        Kind = "client"         // a client identifier
	User          Kind = "user"           // a user name
	Address       Kind = "address"        // an address or a range: 192.0.2.0/24
	ClientPattern Kind = "client-pattern" // client identifiers, with * and ?
	UserPattern   Kind = "user-pattern"   // likewise user names
)

// Kinds are all kinds.
var Kinds = []Kind{Client, User, Address, ClientPattern, UserPattern}

// Bounds.
const (
	MaxBans     = 100_000
	MaxPatterns = 1000 // they are tried one by one
	maxText     = 65535
	maxReason   = 1024
)

// Ban is one entry.
type Ban struct {
	Kind   Kind      `json:"kind"`
	Value  string    `json:"value"`
	Made   time.Time `json:"made"`
	Until  time.Time `json:"until,omitzero"` // zero: for ever
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"` // "operator", or "flapping"
}

// Ended says that a ban has run out.
func (b *Ban) Ended(now time.Time) bool { return !b.Until.IsZero() && !now.Before(b.Until) }

// check normalises a ban, or says what is wrong with it.
func (b *Ban) check() error {
	switch {
	case !slices.Contains(Kinds, b.Kind):
		return fmt.Errorf("a ban is about one of %v, not %.32q", Kinds, b.Kind)
	case b.Value == "" || len(b.Value) > maxText || !printable(b.Value):
		return errors.New("what is banned is empty, too long, not UTF-8 or has control characters")
	case len(b.Reason) > maxReason || !printable(b.Reason):
		return fmt.Errorf("the reason has control characters or is longer than %d bytes", maxReason)
	case b.Kind != Address:
		return nil
	}
	p, err := parsePrefix(b.Value)
	if err != nil {
		return fmt.Errorf("%.64q is neither an address nor a range such as 192.0.2.0/24", b.Value)
	}
	if b.Value = p.String(); p.IsSingleIP() {
		b.Value = p.Addr().String()
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// parsePrefix reads an address or a range, without zone, IPv4 as such.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// List is the bans in force.
type List struct {
	now  func() time.Time
	file *file // nil: in memory only

	some  atomic.Bool // there are any: a look that costs nothing
	mu    sync.RWMutex
	byID  map[key]*Ban // all
	nets  map[netip.Prefix]*Ban
	bits  [129]int // ranges by length, IPv4 as IPv6
	globs []*Ban
}

// key is what there is one ban of.
type key struct {
	kind  Kind
	value string
}

// New is an empty list in memory.
func New(now func() time.Time) *List {
	return &List{now: now, byID: map[key]*Ban{}, nets: map[netip.Prefix]*Ban{}}
}

// ErrFull is that there is no room for another ban.
var ErrFull = errors.New("there are as many bans as fit")

// Add bans, or changes the ban of the same kind and value. The ban is on disk when it returns without an error; with one it is in force
// all the same if it was a good one.
func (l *List) Add(b Ban) (Ban, error) {
	if b.Made.IsZero() {
		b.Made = l.now().Round(0).UTC()
	}
	if err := b.check(); err != nil {
		return b, err
	}
	if b.Ended(l.now()) {
		return b, errors.New("the ban has ended before it began")
	}
	if err := l.put(b); err != nil {
		return b, err
	}
	return b, l.file.save(l)
}

// addLater is Add without waiting for the disk.
func (l *List) addLater(b Ban) error {
	if err := l.put(b); err != nil {
		return err
	}
	l.file.saveLater(l)
	return nil
}

func (l *List) put(b Ban) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := key{b.Kind, b.Value}
	if l.byID[k] == nil {
		l.purge()
		pattern := b.Kind == ClientPattern || b.Kind == UserPattern
		if len(l.byID) >= MaxBans || pattern && len(l.globs) >= MaxPatterns {
			return ErrFull
		}
	}
	l.remove(k)
	l.byID[k] = &b
	switch b.Kind {
	case Address:
		p, _ := parsePrefix(b.Value) // checked
		l.nets[p] = &b
		l.bits[bits(p)]++
	case ClientPattern, UserPattern:
		l.globs = append(l.globs, &b)
	}
	l.some.Store(true)
	return nil
}

// bits is a range's length, IPv4 as if it were IPv6.
func bits(p netip.Prefix) int {
	if p.Addr().Is4() {
		return p.Bits() + 96
	}
	return p.Bits()
}

// remove takes a ban out. The caller holds mu.
func (l *List) remove(k key) bool {
	b := l.byID[k]
	if b == nil {
		return false
	}
	delete(l.byID, k)
	switch k.kind {
	case Address:
		p, _ := parsePrefix(b.Value)
		delete(l.nets, p)
		l.bits[bits(p)]--
	case ClientPattern, UserPattern:
		l.globs = slices.DeleteFunc(l.globs, func(x *Ban) bool { return x == b })
	}
	l.some.Store(len(l.byID) > 0)
	return true
}

// purge takes out what has ended, where there is much. The caller holds mu.
func (l *List) purge() {
	if len(l.byID) < MaxBans && len(l.globs) < MaxPatterns {
		return
	}
	now := l.now()
	for k, b := range l.byID {
		if b.Ended(now) {
			l.remove(k)
		}
	}
}

// Remove lifts a ban, and reports whether there was one. It is on disk when it returns without an error.
func (l *List) Remove(kind Kind, value string) (bool, error) {
	b := Ban{Kind: kind, Value: value}
	if err := b.check(); err != nil {
		return false, err
	}
	l.mu.Lock()
	was := l.remove(key{b.Kind, b.Value})
	l.mu.Unlock()
	if !was {
		return false, nil
	}
	return true, l.file.save(l)
}

// All lists the bans in force, by kind and value.
func (l *List) All() []Ban {
	l.mu.RLock()
	defer l.mu.RUnlock()
	now := l.now()
	out := make([]Ban, 0, len(l.byID))
	for _, b := range l.byID {
		if !b.Ended(now) {
			out = append(out, *b)
		}
	}
	slices.SortFunc(out, func(a, b Ban) int {
		return cmp.Or(cmp.Compare(slices.Index(Kinds, a.Kind), slices.Index(Kinds, b.Kind)), cmp.Compare(a.Value, b.Value))
	})
	return out
}

// Find gives the ban that keeps a client out, if there is one. Empty names and the zero address are in no ban.
func (l *List) Find(client, user string, address netip.Addr) (Ban, bool) {
	if !l.some.Load() {
		return Ban{}, false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	now := l.now()
	for _, k := range []key{{Client, client}, {User, user}} {
		if b := l.byID[k]; b != nil && !b.Ended(now) {
			return *b, true
		}
	}
	if b := l.findAddress(address, now); b != nil {
		return *b, true
	}
	for _, b := range l.globs {
		text := client
		if b.Kind == UserPattern {
			text = user
		}
		if text != "" && !b.Ended(now) && glob(b.Value, text) {
			return *b, true
		}
	}
	return Ban{}, false
}

func (l *List) findAddress(a netip.Addr, now time.Time) *Ban {
	if !a.IsValid() || len(l.nets) == 0 {
		return nil
	}
	a = a.Unmap().WithZone("")
	first := 0
	if a.Is4() {
		first = 96
	}
	for n := first; n <= 128; n++ {
		if l.bits[n] == 0 {
			continue
		}
		p, err := a.Prefix(n - first)
		if err != nil {
			continue
		}
		if b := l.nets[p]; b != nil && !b.Ended(now) {
			return b
		}
	}
	return nil
}

// glob matches * (any text) and ? (one character), in time linear in both for each star.
func glob(pattern, s string) bool {
	p, t := []rune(pattern), []rune(s)
	i, j, star, mark := 0, 0, -1, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
