// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

// Matches is what Index.Match found: for each filter that matches, its
// subscribers. It is made once, by its zero value, and used again and again by
// one goroutine. A list with more than 64 subscribers may change while it is
// looked at, so Count and AppendOwner need not agree to the last.
type Matches[S comparable] struct {
	sets     []*set[S]
	at, next []*branch[S] // work space of trie.match
}

// Reset forgets what was found.
func (m *Matches[S]) Reset() {
	clear(m.sets)
	m.sets = m.sets[:0]
}

// Empty reports whether no filter matched.
func (m *Matches[S]) Empty() bool { return len(m.sets) == 0 }

// Lists returns how many filters matched.
func (m *Matches[S]) Lists() int { return len(m.sets) }

// OwnerFilters returns how many filters with subscribers of owner matched. If it
// is 1, AppendOwner gives no subscriber twice.
func (m *Matches[S]) OwnerFilters(owner int) int {
	n := 0
	for _, s := range m.sets {
		if s.count(owner) > 0 {
			n++
		}
	}
	return n
}

// Count returns how many subscriptions of owner matched.
func (m *Matches[S]) Count(owner int) int {
	n := 0
	for _, s := range m.sets {
		n += s.count(owner)
	}
	return n
}

// AppendOwner appends the subscribers of owner to dst, in slices of which none
// is empty and none ever changes: they may be kept and read on any goroutine, but
// must not be written to. Within one filter no subscriber is twice.
func (m *Matches[S]) AppendOwner(dst [][]S, owner int) [][]S {
	for _, s := range m.sets {
		dst = s.appendOwner(dst, owner)
	}
	return dst
}

// add adds a filter's subscribers; nil stands for none.
func (m *Matches[S]) add(s *set[S]) {
	if s != nil {
		m.sets = append(m.sets, s)
	}
}

// follow goes along the edge e, which leads over the first level of name; more
// says that levels follow it.
func (m *Matches[S]) follow(e *entry[S], name string, more bool) {
	switch {
	case e == nil:
	case e.branch == nil:
		if matchLevels(e.text, name) {
			m.add(&e.set)
		}
	default:
		m.add(e.branch.rest.Load())
		if more {
			m.next = append(m.next, e.branch)
		} else {
			m.add(e.branch.own.Load())
		}
	}
}
