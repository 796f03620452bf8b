// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"slices"
	"sync"
)

// Index maps filters to subscribers.
type Index[S comparable] struct {
	mu   sync.RWMutex
	subs map[string]map[int][]S
	n    int
}

// NewIndex returns an empty index for the given number of owners.
func NewIndex[S comparable](owners int) *Index[S] {
	return &Index[S]{subs: map[string]map[int][]S{}}
}

// Add adds a subscription; false if it was there already.
func (ix *Index[S]) Add(filter string, owner int, s S) bool {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if slices.Contains(ix.subs[filter][owner], s) {
		return false
	}
	if ix.subs[filter] == nil {
		ix.subs[filter] = map[int][]S{}
	}
	ix.subs[filter][owner] = append(slices.Clone(ix.subs[filter][owner]), s)
	ix.n++
	return true
}

// Remove removes a subscription; false if it was not there.
func (ix *Index[S]) Remove(filter string, owner int, s S) bool {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	i := slices.Index(ix.subs[filter][owner], s)
	if i < 0 {
		return false
	}
	l := slices.Delete(slices.Clone(ix.subs[filter][owner]), i, i+1)
	ix.subs[filter][owner] = l
	if len(l) == 0 {
		delete(ix.subs[filter], owner)
		if len(ix.subs[filter]) == 0 {
			delete(ix.subs, filter)
		}
	}
	ix.n--
	return true
}

// Len returns the number of subscriptions.
func (ix *Index[S]) Len() int { ix.mu.RLock(); defer ix.mu.RUnlock(); return ix.n }

// Filters returns the number of different filters.
func (ix *Index[S]) Filters() int { ix.mu.RLock(); defer ix.mu.RUnlock(); return len(ix.subs) }

// Match appends to m the lists of all matching filters.
func (ix *Index[S]) Match(name []byte, m *Matches[S]) { ix.MatchString(string(name), m) }

// MatchString is Match for a string.
func (ix *Index[S]) MatchString(name string, m *Matches[S]) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for f, owners := range ix.subs {
		if Match(f, name) {
			c := map[int][]S{}
			for o, l := range owners {
				c[o] = l
			}
			m.lists = append(m.lists, c)
		}
	}
}

// Any reports whether any filter matches name.
func (ix *Index[S]) Any(name []byte) bool {
	var m Matches[S]
	ix.Match(name, &m)
	return !m.Empty()
}

// Matches is what Match found.
type Matches[S comparable] struct{ lists []map[int][]S }

// Reset forgets everything.
func (m *Matches[S]) Reset() { m.lists = m.lists[:0] }

// Empty reports whether no filter matched.
func (m *Matches[S]) Empty() bool { return len(m.lists) == 0 }

// Lists returns the number of filters that matched.
func (m *Matches[S]) Lists() int { return len(m.lists) }

// Count returns the number of subscriptions of owner.
func (m *Matches[S]) Count(owner int) int {
	n := 0
	for _, l := range m.lists {
		n += len(l[owner])
	}
	return n
}

// OwnerFilters returns how many of the filters have subscribers of owner.
func (m *Matches[S]) OwnerFilters(owner int) int {
	n := 0
	for _, l := range m.lists {
		if len(l[owner]) > 0 {
			n++
		}
	}
	return n
}

// AppendOwner appends the lists of owner to dst.
func (m *Matches[S]) AppendOwner(dst [][]S, owner int) [][]S {
	for _, l := range m.lists {
		if len(l[owner]) > 0 {
			dst = append(dst, l[owner])
		}
	}
	return dst
}
