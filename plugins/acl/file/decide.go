// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"slices"
	"strings"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/topic"
)

// who is a client as rules see it. A user name that nobody vouches for is none.
type who struct{ user, client string }

func whoIs(c *plugin.Client) who {
	if c.Anonymous {
		return who{client: c.ID}
	}
	return who{c.Username, c.ID}
}

// sections are the rules for a client: its own, then the patterns.
func (r *rules) sections(w who) [2]*section {
	own := r.anonymous
	if w.user != "" {
		own = r.users[w.user]
	}
	if own == nil {
		own = &section{}
	}
	return [2]*section{own, r.patterns}
}

// decide answers by the rules: a deny rule that matches wins, else one that allows, else it is denied.
func (r *rules) decide(w who, action plugin.Action, name string) plugin.Decision {
	if action == plugin.Subscribe {
		return r.subscribe(w, name)
	}
	need := write
	if action == plugin.Receive {
		need = read
	}
	all := r.sections(w)
	for _, s := range all {
		for i := range s.deny {
			if filter, ok := s.deny[i].filterFor(w); ok && topic.Match(filter, name) {
				return plugin.Decision{Verdict: plugin.Deny, Rule: s.deny[i].line}
			}
		}
	}
	for _, s := range all {
		for i := range s.allow {
			if s.allow[i].access&need == 0 {
				continue
			}
			if filter, ok := s.allow[i].filterFor(w); ok && topic.Match(filter, name) {
				return plugin.Decision{Verdict: plugin.Allow, Rule: s.allow[i].line}
			}
		}
	}
	return plugin.Decision{Verdict: plugin.Deny, Rule: r.otherwise}
}

// subscribe allows a filter if a read rule overlaps it and no deny rule makes that void: covers the filter or the rule.
// What the filter matches beyond that is held back at delivery.
func (r *rules) subscribe(w who, filter string) plugin.Decision {
	all := r.sections(w)
	var denied []string
	for _, s := range all {
		for i := range s.deny {
			f, ok := s.deny[i].filterFor(w)
			if ok && covers(f, filter) {
				return plugin.Decision{Verdict: plugin.Deny, Rule: s.deny[i].line}
			}
			if ok {
				denied = append(denied, f)
			}
		}
	}
	for _, s := range all {
		for i := range s.allow {
			if s.allow[i].access&read == 0 {
				continue
			}
			if f, ok := s.allow[i].filterFor(w); ok && overlaps(f, filter) && !coveredByAny(denied, f) {
				return plugin.Decision{Verdict: plugin.Allow, Rule: s.allow[i].line}
			}
		}
	}
	return plugin.Decision{Verdict: plugin.Deny, Rule: r.otherwise}
}

func coveredByAny(rules []string, filter string) bool {
	return slices.ContainsFunc(rules, func(r string) bool { return covers(r, filter) })
}

// filterFor is the rule's filter with the client's identity in the place of %c and %u, or false where the rule says
// nothing about that client.
//
// An identity is a literal: with + # or / in it, it is no level of a topic name, and a rule that would grant by it grants nothing
// (CVE-2017-7650). A deny rule must not be escaped from by such a name: it then denies all below the place. An
// identity that begins with $ opens no way to $ topics, as a rule for these begins with $ in the file.
func (x *rule) filterFor(w who) (string, bool) {
	if !x.personal {
		return x.filter, true
	}
	var b strings.Builder
	for rest, more := x.filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch level {
		case "%c":
			level = w.client
		case "%u":
			level = w.user
		default:
			b.WriteString(level)
			if more {
				b.WriteByte('/')
			}
			continue
		}
		if level == "" {
			return "", false
		}
		if strings.ContainsAny(level, "+#/") {
			b.WriteByte('#')
			return b.String(), x.access == deny
		}
		if b.Len() == 0 && level[0] == '$' && x.access != deny {
			return "", false
		}
		b.WriteString(level)
		if more {
			b.WriteByte('/')
		}
	}
	return b.String(), true
}
