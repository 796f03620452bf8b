// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"math"
	"slices"
	"sort"
	"strings"
)

const (
	pageMost  = 256 // names in a page of a Tree
	pageLeast = 64  // with fewer a page joins its neighbour
	pageJoin  = 192 // if together they have at most so many
)

// A Tree is a map from topic name to V in which the names that match a filter
// are found by looking at little else. It belongs to one goroutine at a time, or
// stands behind the caller's lock.
//
// The names are kept in order, level by level: by their bytes, but with / before
// all others, so that what is below a name follows it at once. A filter is a
// walk along that order which skips over what cannot match. The order is cut
// into pages of up to 256 names; an entry costs about 25 bytes beside its name
// and value.
type Tree[V any] struct {
	pages []*page[V] // none is empty
	n     int
}

// A page is a run of neighbouring names.
type page[V any] struct {
	names  []string
	values []V
}

// An Entry is a topic name and its value.
type Entry[V any] struct {
	Name  string
	Value V
}

// NewTree returns an empty tree.
func NewTree[V any]() *Tree[V] { return &Tree[V]{} }

// Len returns the number of names.
func (t *Tree[V]) Len() int { return t.n }

// Get returns the value of name.
func (t *Tree[V]) Get(name string) (v V, ok bool) {
	p, i, ok := t.find(name)
	if !ok {
		return v, false
	}
	return t.pages[p].values[i], true
}

// Set gives name the value v and returns what it had before. The string is kept.
func (t *Tree[V]) Set(name string, v V) (old V, had bool) {
	p, i, had := t.find(name)
	if had {
		values := t.pages[p].values
		old, values[i] = values[i], v
		return old, true
	}
	t.n++
	if p == len(t.pages) { // behind all others
		if p == 0 || len(t.pages[p-1].names) == pageMost {
			t.pages = append(t.pages, &page[V]{names: []string{name}, values: []V{v}})
			return old, false
		}
		p--
		i = len(t.pages[p].names)
	}
	if len(t.pages[p].names) == pageMost {
		t.split(p)
		if half := len(t.pages[p].names); i > half {
			p, i = p+1, i-half
		}
	}
	pg := t.pages[p]
	pg.names = slices.Insert(pg.names, i, name)
	pg.values = slices.Insert(pg.values, i, v)
	return old, false
}

// Delete removes name and returns the value it had.
func (t *Tree[V]) Delete(name string) (old V, had bool) {
	p, i, had := t.find(name)
	if !had {
		return old, false
	}
	t.n--
	pg := t.pages[p]
	old = pg.values[i]
	pg.names = slices.Delete(pg.names, i, i+1)
	pg.values = slices.Delete(pg.values, i, i+1)
	if len(pg.names) < pageLeast {
		t.join(p)
	}
	return old, true
}

// split moves the second half of page p to a new page behind it.
func (t *Tree[V]) split(p int) {
	pg := t.pages[p]
	half := len(pg.names) / 2
	t.pages = slices.Insert(t.pages, p+1, &page[V]{
		names:  slices.Clone(pg.names[half:]),
		values: slices.Clone(pg.values[half:]),
	})
	pg.names = slices.Delete(pg.names, half, len(pg.names))
	pg.values = slices.Delete(pg.values, half, len(pg.values))
}

// join removes page p if it is empty, and puts a page that has few names left
// together with a neighbour if the two are small.
func (t *Tree[V]) join(p int) {
	switch small := func(p int) bool {
		return p >= 0 && p+1 < len(t.pages) && len(t.pages[p].names)+len(t.pages[p+1].names) <= pageJoin
	}; {
	case len(t.pages[p].names) == 0:
		t.pages = slices.Delete(t.pages, p, p+1)
		if len(t.pages) == 0 {
			t.pages = nil
		}
		return
	case small(p):
	case small(p - 1):
		p--
	default:
		return
	}
	a, b := t.pages[p], t.pages[p+1]
	t.pages[p] = &page[V]{
		names:  slices.Concat(a.names, b.names),
		values: slices.Concat(a.values, b.values),
	}
	t.pages = slices.Delete(t.pages, p+1, p+2)
}

// find returns where name is, or else where it belongs.
func (t *Tree[V]) find(name string) (p, i int, ok bool) {
	p, i = t.seek(bound{name, exactly})
	return p, i, p < len(t.pages) && t.pages[p].names[i] == name
}

// seek returns the first entry that is not before b; p is len(t.pages) if there
// is none.
func (t *Tree[V]) seek(b bound) (p, i int) {
	p = sort.Search(len(t.pages), func(p int) bool {
		names := t.pages[p].names
		return !b.after(names[len(names)-1])
	})
	if p == len(t.pages) {
		return p, 0
	}
	return p, t.pages[p].seek(0, b)
}

// seek returns the first entry at or behind from that is not before b.
func (pg *page[V]) seek(from int, b bound) int {
	return from + sort.Search(len(pg.names)-from, func(i int) bool {
		return !b.after(pg.names[from+i])
	})
}

// Match calls yield for each name that matches filter, in order, until it
// returns false. yield must not change the tree.
func (t *Tree[V]) Match(filter string, yield func(name string, v V) bool) {
	t.scan(filter, "", math.MaxInt, yield)
}

// MatchPage appends to dst the matches that follow the name after in the tree's
// order, at most max of them; after is empty for the first page, and then the
// last name of the page before. The tree may change between pages: a name that
// is there all the time is given exactly once. If more is false there are no
// further matches; if true there may be.
func (t *Tree[V]) MatchPage(filter, after string, max int, dst []Entry[V]) (page []Entry[V], more bool) {
	page, _, more = t.Scan(filter, after, max, math.MaxInt, dst)
	return page, more
}

// Scan is MatchPage with a limit also to the work done: it looks at no more than
// steps names. The next page begins after the name last, which need not be a
// match.
func (t *Tree[V]) Scan(filter, after string, max, steps int, dst []Entry[V]) (page []Entry[V], last string, more bool) {
	if max <= 0 {
		return dst, after, t.n > 0
	}
	end := len(dst) + max
	last, more = t.scan(filter, after, steps, func(name string, v V) bool {
		dst = append(dst, Entry[V]{name, v})
		return len(dst) < end
	})
	return dst, last, more
}

// scan calls yield for the matches after the name after until it returns false
// or steps names have been looked at. It returns the name looked at last and
// whether it was not the last of all that could match.
func (t *Tree[V]) scan(filter, after string, steps int, yield func(string, V) bool) (last string, more bool) {
	from := bound{literal(filter), exactly}
	if after != "" && compare(after, from.name) >= 0 {
		from = bound{after, behind}
	}
	p, i := t.seek(from)
	for last = after; p < len(t.pages); steps-- {
		if steps <= 0 {
			return last, true
		}
		pg := t.pages[p]
		last = pg.names[i]
		matches, next := advance(filter, last)
		if next.how == nowhere {
			if matches {
				yield(last, pg.values[i])
			}
			return last, false
		}
		if matches && !yield(last, pg.values[i]) {
			return last, true
		}
		p, i = t.forward(p, i+1, next)
	}
	return last, false
}

// forward is seek for an entry that is known not to be before place i of page p:
// often it is there or nearby.
func (t *Tree[V]) forward(p, i int, b bound) (int, int) {
	if i == len(t.pages[p].names) {
		p, i = p+1, 0
		if p == len(t.pages) {
			return p, 0
		}
	}
	names := t.pages[p].names
	switch {
	case !b.after(names[i]):
		return p, i
	case !b.after(names[len(names)-1]):
		return p, t.pages[p].seek(i+1, b)
	}
	return t.seek(b)
}

// A bound is a place in the order of names.
type bound struct {
	name string
	how  byte // one of the following
}

const (
	exactly byte = iota // at name
	behind              // after name
	beyond              // after name and all that is below it
	nowhere             // after everything
)

// after reports whether the bound is after name.
func (b bound) after(name string) bool {
	switch c := compare(name, b.name); {
	case b.how == nowhere || c < 0:
		return true
	case b.how == exactly:
		return false
	case c == 0:
		return true
	}
	return b.how == beyond && below(name, b.name)
}

// below reports whether name is prefix followed by further levels.
func below(name, prefix string) bool {
	return len(name) > len(prefix) && name[len(prefix)] == '/' && name[:len(prefix)] == prefix
}

// compare orders names by their bytes, but with / first.
func compare(a, b string) int {
	n := min(len(a), len(b))
	for i := 0; i < n; i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x == '/' || y != '/' && x < y {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// advance reports whether filter matches name and where the next name that
// could match is, at the earliest.
func advance(filter, name string) (matches bool, next bound) {
	if hidden(filter, name) {
		return false, bound{"%", exactly} // the byte after $
	}
	plus := -1 // where the last level that + stands for ends in name
	for from := 0; ; {
		want, rest, more := strings.Cut(filter, "/")
		if want == "#" {
			return true, bound{name, behind}
		}
		end := len(name)
		if i := strings.IndexByte(name[from:], '/'); i >= 0 {
			end = from + i
		}
		if want == "+" {
			plus = end
		} else if c := compare(name[from:end], want); c < 0 {
			return false, bound{name[:from] + literal(filter), exactly}
		} else if c > 0 {
			return false, skip(name, plus)
		}
		switch deeper := end < len(name); {
		case !more:
			return !deeper, skip(name, plus)
		case !deeper && rest == "#":
			return true, bound{name, behind}
		case !deeper:
			return false, bound{name + "/" + literal(rest), exactly}
		}
		filter, from = rest, end+1
	}
}

// skip returns the place beyond all names that share with name the levels up to
// plus, behind which the filter has no further choice; nowhere if it had none.
func skip(name string, plus int) bound {
	if plus < 0 {
		return bound{how: nowhere}
	}
	return bound{name[:plus], beyond}
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
