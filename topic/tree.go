// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import "slices"

// Tree is a map from topic name to V.
type Tree[V any] struct{ entries []Entry[V] }

// Entry is a topic name with its value.
type Entry[V any] struct {
	Name  string
	Value V
}

// NewTree returns an empty tree.
func NewTree[V any]() *Tree[V] { return &Tree[V]{} }

func (t *Tree[V]) find(name string) (int, bool) {
	return slices.BinarySearchFunc(t.entries, name, func(e Entry[V], n string) int {
		if e.Name < n {
			return -1
		} else if e.Name > n {
			return 1
		}
		return 0
	})
}

// Set stores v under name and returns what was there.
func (t *Tree[V]) Set(name string, v V) (old V, had bool) {
	i, ok := t.find(name)
	if ok {
		old, t.entries[i].Value = t.entries[i].Value, v
		return old, true
	}
	t.entries = slices.Insert(t.entries, i, Entry[V]{name, v})
	return old, false
}

// Delete removes name and returns what was there.
func (t *Tree[V]) Delete(name string) (old V, had bool) {
	i, ok := t.find(name)
	if !ok {
		return old, false
	}
	old = t.entries[i].Value
	t.entries = slices.Delete(t.entries, i, i+1)
	return old, true
}

// Get returns the value of name.
func (t *Tree[V]) Get(name string) (v V, ok bool) {
	i, ok := t.find(name)
	if ok {
		v = t.entries[i].Value
	}
	return v, ok
}

// Len returns the number of names.
func (t *Tree[V]) Len() int { return len(t.entries) }

// Match calls yield for each matching name in order until it returns false.
func (t *Tree[V]) Match(filter string, yield func(name string, v V) bool) {
	for _, e := range t.entries {
		if Match(filter, e.Name) && !yield(e.Name, e.Value) {
			return
		}
	}
}

// MatchPage appends to dst[:0] at most max matches that follow after.
func (t *Tree[V]) MatchPage(filter, after string, max int, dst []Entry[V]) (page []Entry[V], more bool) {
	page = dst[:0]
	for _, e := range t.entries {
		if (after == "" || e.Name > after) && Match(filter, e.Name) {
			if len(page) == max {
				return page, true
			}
			page = append(page, e)
		}
	}
	return page, false
}
