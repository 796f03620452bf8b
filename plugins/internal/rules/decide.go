// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"math"
	"slices"

	"github.com/noctule/noctule/plugin"
)

// question is an Access as rules see it.
type question struct {
	a       *plugin.Access
	actions Actions // the one that is asked for
	deliver bool    // about a delivery, not about a packet of the client
}

func questionOf(a *plugin.Access) question {
	switch a.Action {
	case plugin.Subscribe:
		return question{a: a, actions: Subscribe}
	case plugin.Receive:
		return question{a: a, actions: Subscribe, deliver: true}
	}
	return question{a: a, actions: Publish}
}

// concerns says whether a rule whose filter matches is about the question.
func (r *Rule) concerns(q *question) bool {
	if r.Actions&q.actions == 0 {
		return false
	}
	switch {
	case q.deliver:
		if r.QoS != 0 && !r.Allow { // it refuses some subscriptions, not what comes by others
			return false
		}
	case !r.QoS.has(q.a.QoS):
		return false
	case q.actions == Publish && r.Retain != AnyRetain && (r.Retain == OnlyRetained) != q.a.Retain:
		return false
	}
	return r.rest.includes(q.a.Client)
}

// Ask is Decide or, about a subscription, Subscription. whole is true for all other questions.
func (s *Set) Ask(a *plugin.Access) (d plugin.Decision, whole bool) {
	if a.Action == plugin.Subscribe {
		return s.Subscription(a)
	}
	return s.Decide(a), true
}

// Decide answers a question; Ignore where no rule says anything. For plugin.Subscribe see Subscription.
func (s *Set) Decide(a *plugin.Access) plugin.Decision {
	if a.Action == plugin.Subscribe {
		d, _ := s.Subscription(a)
		return d
	}
	l := lookup{q: questionOf(a), best: math.MaxInt}
	c := a.Client
	l.walk(&s.common, a.Topic, true, false)
	if len(s.byUser) > 0 {
		l.walk(s.byUser[userOf(c)], a.Topic, true, false)
	}
	if len(s.byClient) > 0 {
		l.walk(s.byClient[c.ID], a.Topic, true, false)
	}
	if len(s.byGroup) > 0 {
		for _, g := range c.Groups {
			l.walk(s.byGroup[g], a.Topic, true, false)
		}
	}
	if l.best == math.MaxInt {
		return plugin.Decision{}
	}
	return s.rules[l.best].decision()
}

func (r *Rule) decision() plugin.Decision {
	if r.Allow {
		return plugin.Decision{Verdict: plugin.Allow, Rule: r.Line}
	}
	return plugin.Decision{Verdict: plugin.Deny, Rule: r.Line}
}

// maxTries bounds the work of one question about a filter.
const maxTries = 20_000

// Subscription answers whether a client may subscribe to a.Topic, a filter: yes where a name exists that the filter matches and that the client
// may receive, as far as single rules tell. whole says that this holds for all names that the filter matches: one rule allows them all, and
// none before it denies any.
func (s *Set) Subscription(a *plugin.Access) (d plugin.Decision, whole bool) {
	q := questionOf(a)
	var denied []*Rule
	var filters []string
	tries := 0
	for _, i := range s.overlapping(a.Client, a.Topic) {
		r := &s.rules[i]
		if !r.concerns(&q) {
			continue
		}
		f, err := r.filterFor(a.Client)
		if err != nil || !overlaps(f, a.Topic) {
			continue
		}
		if !r.Allow {
			if covers(f, a.Topic) {
				return r.decision(), false
			}
			denied, filters = append(denied, r), append(filters, f)
			continue
		}
		if len(filters) == 0 {
			return r.decision(), covers(f, a.Topic)
		}
		common := both(f, a.Topic)
		by := slices.IndexFunc(filters, func(no string) bool { return covers(no, common) })
		if by < 0 {
			return r.decision(), false
		}
		d = denied[by].decision()
		if tries += len(filters); tries > maxTries {
			break
		}
	}
	return d, false
}

// overlapping finds the rules that may be about names that a filter matches, and perhaps some more, by rank.
func (s *Set) overlapping(c *plugin.Client, filter string) []int {
	g := gather{c: c}
	g.walk(&s.common, filter)
	g.walk(s.byUser[userOf(c)], filter)
	g.walk(s.byClient[c.ID], filter)
	for _, group := range c.Groups {
		g.walk(s.byGroup[group], filter)
	}
	slices.Sort(g.found)
	return slices.Compact(g.found)
}
