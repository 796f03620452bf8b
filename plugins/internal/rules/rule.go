// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package rules is what all sources of access rules share: the language of rules, and the decision by them.
//
// A rule allows or denies, for some clients, to publish to or to subscribe to the topics of one filter. Rules are compiled to a Set,
// in which each has a rank: of the rules that match, the one of the lowest rank decides. What no rule matches is left open (Ignore), so
// that the source may say no, or leave it to the next one.
//
// Invariants: names and claims of a client are literals. In the place of a variable, one that is empty or holds + # or / lets no rule
// allow anything, and does not slip from one that denies. What begins with $ is opened only by a filter that begins with $.
//
// A Set is immutable; any goroutine may ask it, and a question about a topic name allocates nothing. The package starts no goroutine,
// reads no file and logs nothing.
package rules

import (
	"slices"
	"strings"

	"github.com/noctule/noctule/mqtt"
)

// Actions is what a rule is about: bits.
type Actions byte

const (
	Publish   Actions = 1 << iota // also a will
	Subscribe                     // also each delivery
	Both      = Publish | Subscribe
)

// Retain is a condition on the RETAIN flag of what is published.
type Retain byte

const (
	AnyRetain Retain = iota
	OnlyRetained
	NotRetained
)

// Rule is one rule. Line names it for people: "acl.txt:12".
type Rule struct {
	Allow   bool
	Who     Who
	Actions Actions
	QoS     QoSSet // of the PUBLISH or SUBSCRIBE; 0 is any. Deliveries are not asked about it
	Retain  Retain // of the PUBLISH
	Filter  Filter
	Line    string

	mosquitto bool // the line is of Mosquitto's format

	rest Who // what is left of Who where the index has looked at its first part
	rank int
}

// QoSSet is a set of qualities of service, a bit each.
type QoSSet byte

func (q QoSSet) has(x mqtt.QoS) bool { return q == 0 || q&(1<<x) != 0 }

// Order is how the rank of rules is found.
type Order byte

const (
	FirstMatch   Order = iota // the order in which they were given
	MostSpecific              // see Compile
)

// Set is compiled rules.
type Set struct {
	rules    []Rule // by rank
	common   node
	byUser   map[string]*node // "" is a client without user name
	byClient map[string]*node
	byGroup  map[string]*node
}

// Len is how many rules there are.
func (s *Set) Len() int { return len(s.rules) }

// Compile makes a Set; the rules are the set's from then on. With MostSpecific, of two rules that match one topic the one goes first that is
// more exact in the first level in which they differ (a word, then a variable, then +, then #), else the one about fewer clients (a
// user, a client, a group, another condition, anybody), else the one that denies, else the earlier.
func Compile(list []Rule, o Order) *Set {
	if o == MostSpecific {
		slices.SortStableFunc(list, moreSpecific)
	}
	s := &Set{rules: list, byUser: map[string]*node{}, byClient: map[string]*node{}, byGroup: map[string]*node{}}
	for i := range list {
		r := &list[i]
		r.rank, r.rest = i, r.Who
		switch {
		case len(r.Who.Users) > 0:
			r.rest.Users = nil
			insertFor(s.byUser, r.Who.Users, r)
		case len(r.Who.Clients) > 0:
			r.rest.Clients = nil
			insertFor(s.byClient, r.Who.Clients, r)
		case len(r.Who.Groups) > 0:
			r.rest.Groups = nil
			insertFor(s.byGroup, r.Who.Groups, r)
		default:
			s.common.insert(r)
		}
	}
	return s
}

func insertFor(m map[string]*node, names []string, r *Rule) {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if m[name] == nil {
			m[name] = &node{}
		}
		m[name].insert(r)
	}
}

func moreSpecific(a, b Rule) int {
	if d := strings.Compare(a.Filter.class(), b.Filter.class()); d != 0 {
		return d
	}
	if d := a.Who.width() - b.Who.width(); d != 0 {
		return d
	}
	switch {
	case !a.Allow && b.Allow:
		return -1
	case a.Allow && !b.Allow:
		return 1
	}
	return 0
}
