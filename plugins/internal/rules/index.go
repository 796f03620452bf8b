// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"

	"github.com/noctule/noctule/plugin"
)

// node is a place in the tree of the rules' filters: the levels on the way to it are the filter's. A question about a name visits each node once
// at most, and of these only those that the name's levels lead to, so that its cost does not grow with the number of rules elsewhere.
type node struct {
	words map[string]*node
	plus  *node
	vars  []varEdge
	here  []*Rule // filters that end here, by rank
	below []*Rule // filters that go on with #, by rank
}

// varEdge leads on by a level with variables.
type varEdge struct {
	level level
	to    *node
}

// insert adds a rule; rules come in the order of their rank.
func (n *node) insert(r *Rule) {
	for i := range r.Filter.levels {
		l := &r.Filter.levels[i]
		switch {
		case l.parts != nil:
			n = n.varNode(l)
		case l.text == "#":
			n.below = append(n.below, r)
			return
		case l.text == "+":
			if n.plus == nil {
				n.plus = &node{}
			}
			n = n.plus
		default:
			if n.words == nil {
				n.words = map[string]*node{}
			}
			if n.words[l.text] == nil {
				n.words[l.text] = &node{}
			}
			n = n.words[l.text]
		}
	}
	n.here = append(n.here, r)
}

func (n *node) varNode(l *level) *node {
	for i := range n.vars {
		if n.vars[i].level.text == l.text {
			return n.vars[i].to
		}
	}
	n.vars = append(n.vars, varEdge{*l, &node{}})
	return n.vars[len(n.vars)-1].to
}

// lookup finds the rule of the lowest rank for a name.
type lookup struct {
	q    question
	best int
}

// take looks at rules whose filter matches.
func (l *lookup) take(list []*Rule, denyOnly bool) {
	for _, r := range list {
		if r.rank >= l.best {
			return
		}
		if !(denyOnly && r.Allow) && r.concerns(&l.q) {
			l.best = r.rank
			return
		}
	}
}

// walk goes down from a node, nil for none, by the rest of a name. top says that it is the whole name.
func (l *lookup) walk(n *node, rest string, top, denyOnly bool) {
	if n == nil {
		return
	}
	hidden := top && strings.HasPrefix(rest, "$") // from wildcards [MQTT-4.7.2-1]
	if !hidden {
		l.take(n.below, denyOnly)
	}
	word, tail, more := strings.Cut(rest, "/")
	if next := n.words[word]; next != nil {
		l.step(next, tail, more, denyOnly)
	}
	if n.plus != nil && !hidden {
		l.step(n.plus, tail, more, denyOnly)
	}
	for i := range n.vars {
		e := &n.vars[i]
		switch f := e.level.fill(l.q.a.Client); {
		case f == wide:
			if !hidden {
				l.all(e.to)
			}
		case e.level.equals(l.q.a.Client, word):
			l.step(e.to, tail, more, denyOnly || f == partial || hidden && e.level.parts[0].source != 0)
		}
	}
}

// step goes on at the node of a name's level.
func (l *lookup) step(n *node, tail string, more, denyOnly bool) {
	if more {
		l.walk(n, tail, false, denyOnly)
		return
	}
	l.take(n.here, denyOnly)
	l.take(n.below, denyOnly) // "a/#" matches its parent "a" too
}

// all takes what denies at a node and below.
func (l *lookup) all(n *node) {
	l.take(n.here, true)
	l.take(n.below, true)
	for _, next := range n.words {
		l.all(next)
	}
	if n.plus != nil {
		l.all(n.plus)
	}
	for i := range n.vars {
		l.all(n.vars[i].to)
	}
}

// gather collects the ranks of rules that may overlap a filter.
type gather struct {
	c     *plugin.Client
	found []int
}

func (g *gather) take(list []*Rule) {
	for _, r := range list {
		g.found = append(g.found, r.rank)
	}
}

func (g *gather) walk(n *node, rest string) {
	if n == nil {
		return
	}
	g.take(n.below)
	word, tail, more := strings.Cut(rest, "/")
	if word == "#" {
		g.all(n)
		return
	}
	if word == "+" {
		for _, next := range n.words {
			g.step(next, tail, more)
		}
	} else if next := n.words[word]; next != nil {
		g.step(next, tail, more)
	}
	if n.plus != nil {
		g.step(n.plus, tail, more)
	}
	for i := range n.vars {
		e := &n.vars[i]
		if e.level.fill(g.c) == wide {
			g.all(e.to)
			continue
		}
		if word == "+" || e.level.equals(g.c, word) {
			g.step(e.to, tail, more)
		}
	}
}

func (g *gather) step(n *node, tail string, more bool) {
	if more {
		g.walk(n, tail)
		return
	}
	g.take(n.here)
	g.take(n.below)
}

// all takes everything at a node and below.
func (g *gather) all(n *node) {
	g.take(n.here)
	g.take(n.below)
	for _, next := range n.words {
		g.all(next)
	}
	if n.plus != nil {
		g.all(n.plus)
	}
	for i := range n.vars {
		g.all(n.vars[i].to)
	}
}
