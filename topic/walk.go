// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"bytes"
	"strings"
)

// stepBytes is how many bytes of a name cost a step of Scan.
const stepBytes = 256

// A walk goes along the names of a tree in their order.
type walk[V any] struct {
	tree  *Tree[V]
	page  int
	index int    // of the name in the page
	next  int    // where the name behind it begins in the page's run
	name  []byte // where the walk is
}

// scan calls yield for the matches after the name after until it returns false
// or steps have been taken. It returns the name looked at last and whether it was
// not the last of all that could match.
func (t *Tree[V]) scan(filter, after string, steps int, yield func(string, V) bool) (last string, more bool) {
	w := walk[V]{tree: t}
	key := []byte(literal(filter))
	if after != "" && compare([]byte(after), key) >= 0 {
		key = append(append(key[:0], after...), '/') // nothing can be between the two
	}
	there := w.start(0, key)
	if steps <= 0 || !there {
		return after, there
	}
	for there {
		steps -= 1 + len(w.name)/stepBytes
		matches, how, to := advance(filter, w.name, key)
		stop := matches && !yield(string(w.name), t.pages[w.page].values[w.index])
		switch {
		case how == nowhere:
			return string(w.name), false
		case stop || steps <= 0:
			return string(w.name), true
		case how == following:
			there = w.follow()
		default:
			key = to
			there = w.forward(key)
		}
	}
	return string(w.name), false
}

// start goes to the first name that is not before key, in page p or a later one.
// It reports whether there is one; if not the walk stays where it is.
func (w *walk[V]) start(p int, key []byte) bool {
	if p = w.tree.seek(p, key); p == len(w.tree.pages) {
		return false
	}
	return w.arrive(p, w.tree.pages[p].names.seek(place{}, key), key)
}

// forward is start for a key that is behind the name where the walk is: often
// what it looks for is nearby.
func (w *walk[V]) forward(key []byte) bool {
	if p := w.page + 1; p < len(w.tree.pages) && compare(w.tree.pages[p].names.first(), key) <= 0 {
		return w.start(p, key)
	}
	from := place{index: w.index + 1, at: w.next, before: common(w.name, key)}
	return w.arrive(w.page, w.tree.pages[w.page].names.seek(from, key), key)
}

// arrive goes to the place for key in page p, or to the page behind it if there
// is no name there.
func (w *walk[V]) arrive(p int, at place, key []byte) bool {
	names := w.tree.pages[p].names
	if at.at == len(names) {
		return w.turn(p + 1)
	}
	shared, rest, next := names.entry(at.at)
	w.page, w.index, w.next = p, at.index, next
	w.name = append(append(w.name[:0], key[:at.behind]...), rest[at.behind-shared:]...)
	return true
}

// follow goes to the next name.
func (w *walk[V]) follow() bool {
	names := w.tree.pages[w.page].names
	if w.next == len(names) {
		return w.turn(w.page + 1)
	}
	shared, rest, next := names.entry(w.next)
	w.index, w.next = w.index+1, next
	w.name = append(w.name[:shared], rest...)
	return true
}

// turn goes to the first name of page p.
func (w *walk[V]) turn(p int) bool {
	if p == len(w.tree.pages) {
		return false
	}
	_, first, next := w.tree.pages[p].names.entry(0)
	w.page, w.index, w.next = p, 0, next
	w.name = append(w.name[:0], first...)
	return true
}

// A step says where the next name that could match is.
type step byte

const (
	following step = iota // it may be the very next one
	atKey                 // not before a key
	nowhere
)

// advance reports whether filter matches name and where the next name that could
// match is, at the earliest; a key is written to space.
func advance(filter string, name, space []byte) (matches bool, how step, key []byte) {
	if len(name) > 0 && name[0] == '$' && startsWild(filter) {
		return false, atKey, append(space[:0], '$'+1) // [MQTT-4.7.2-1]
	}
	plus := -1 // where the last level that + stands for ends in name
	for from := 0; ; {
		want, rest, more := strings.Cut(filter, "/")
		if want == "#" {
			return true, following, nil
		}
		end := len(name)
		if i := bytes.IndexByte(name[from:], '/'); i >= 0 {
			end = from + i
		}
		if want == "+" {
			plus = end
		} else if c := compare(name[from:end], []byte(want)); c < 0 {
			return false, atKey, append(append(space[:0], name[:from]...), literal(filter)...)
		} else if c > 0 {
			how, key = skip(name, plus, space)
			return false, how, key
		}
		switch deeper := end < len(name); {
		case !more:
			how, key = skip(name, plus, space)
			return !deeper, how, key
		case !deeper && rest == "#":
			return true, following, nil
		case !deeper:
			return false, atKey, append(append(append(space[:0], name...), '/'), literal(rest)...)
		}
		filter, from = rest, end+1
	}
}

// skip leads beyond all names that share with name the levels up to plus, behind
// which the filter has no further choice; nowhere if it had none.
func skip(name []byte, plus int, space []byte) (step, []byte) {
	if plus < 0 {
		return nowhere, nil
	}
	return atKey, append(append(space[:0], name[:plus]...), 0) // 0 comes first behind /
}

// literal returns the levels of filter before its first wildcard.
func literal(filter string) string {
	i := strings.IndexAny(filter, "+#")
	switch {
	case i < 0:
		return filter
	case i == 0:
		return ""
	}
	return filter[:i-1]
}
