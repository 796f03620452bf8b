// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"strings"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/topic"
)

// Filter is a topic filter whose levels may have variables.
type Filter struct {
	text   string
	levels []level
}

// level is a level of a filter: a word, + or # as text, or parts with at least one variable.
type level struct {
	text  string
	parts []part // nil without variables
}

// part is a piece of a level: text, or a variable if it has a source.
type part struct {
	text   string
	source FieldSource
}

// maxLevels is the most levels of a filter.
const maxLevels = 256

func (f *Filter) String() string { return f.text }

// PlainFilter takes a filter as it is.
func PlainFilter(text string) (Filter, error) {
	return filterOf(text, func(s string) (level, error) { return level{text: s}, nil })
}

// ParseFilter reads a filter in which ${username}, ${clientid}, ${cert.cn} and ${claim.NAME} are variables.
func ParseFilter(text string) (Filter, error) { return filterOf(text, parseLevel) }

// mosquittoPattern reads a filter in which the levels %u and %c are variables.
func mosquittoPattern(text string) (Filter, error) {
	return filterOf(text, func(s string) (level, error) {
		switch {
		case s == "%c":
			return level{text: s, parts: []part{{source: ClientID}}}, nil
		case s == "%u":
			return level{text: s, parts: []part{{source: Username}}}, nil
		case strings.Contains(s, "%c") || strings.Contains(s, "%u"):
			return level{}, fmt.Errorf("%%c and %%u must stand alone in their level, not as in %q", s)
		}
		return level{text: s}, nil
	})
}

func filterOf(text string, parse func(string) (level, error)) (Filter, error) {
	f, err := topic.ParseFilter(text, maxLevels)
	if err != nil {
		return Filter{}, err
	}
	if f.Share != "" {
		return Filter{}, fmt.Errorf("rules are about topics: write %q without $share and share name", f.Filter)
	}
	out := Filter{text: text}
	for s := range strings.SplitSeq(text, "/") {
		l, err := parse(s)
		if err != nil {
			return Filter{}, err
		}
		out.levels = append(out.levels, l)
	}
	return out, nil
}

func parseLevel(s string) (level, error) {
	l := level{text: s}
	for rest := s; rest != ""; {
		before, after, found := strings.Cut(rest, "${")
		if before != "" {
			l.parts = append(l.parts, part{text: before})
		}
		if !found {
			break
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed {
			return l, fmt.Errorf("%q has ${ without }", s)
		}
		v, err := variable(name)
		if err != nil {
			return l, err
		}
		l.parts = append(l.parts, v)
		rest = behind
	}
	if len(l.parts) == 1 && l.parts[0].source == 0 {
		l.parts = nil
	}
	return l, nil
}

// variable is the part for a name; of a claim the text is the claim's name.
func variable(name string) (part, error) {
	switch name {
	case "username":
		return part{source: Username}, nil
	case "clientid":
		return part{source: ClientID}, nil
	case "cert.cn":
		return part{source: CertCN}, nil
	}
	if claim, ok := strings.CutPrefix(name, "claim."); ok && claim != "" {
		return part{source: Claim, text: claim}, nil
	}
	return part{}, fmt.Errorf("no variable is called ${%s}: there are ${username}, ${clientid}, ${cert.cn} and ${claim.NAME}", name)
}

// class is a letter for each level; of filters that match one name the more exact one has the smaller.
func (f *Filter) class() string {
	var b strings.Builder
	for i := range f.levels {
		switch l := &f.levels[i]; {
		case l.parts != nil:
			b.WriteByte('1')
		case l.text == "+":
			b.WriteByte('2')
		case l.text == "#":
			b.WriteByte('3')
		default:
			b.WriteByte('0')
		}
	}
	return b.String()
}

func (p *part) value(c *plugin.Client) string {
	if p.source == 0 {
		return p.text
	}
	return valueOf(c, p.source, p.text)
}

// fill says what becomes of a level with variables for a client: plain, all of it there and harmless; partial, a value is missing, so that the
// level allows nothing; wide, a value is more than one level or a wildcard, so that it allows nothing, and denies all that is below.
type fill byte

const (
	plain fill = iota
	partial
	wide
)

func (l *level) fill(c *plugin.Client) fill {
	f := plain
	for i := range l.parts {
		p := &l.parts[i]
		if p.source == 0 {
			continue
		}
		v := p.value(c)
		if strings.ContainsAny(v, "+#/") {
			return wide
		}
		if v == "" {
			f = partial
		}
	}
	return f
}

// equals says whether a filled level is a word. It allocates nothing.
func (l *level) equals(c *plugin.Client, word string) bool {
	for i := range l.parts {
		after, ok := strings.CutPrefix(word, l.parts[i].value(c))
		if !ok {
			return false
		}
		word = after
	}
	return word == ""
}

var errNothing = errors.New("the rule says nothing about this client")

// filterFor is a rule's filter with a client's own in the place of the variables, or errNothing.
func (r *Rule) filterFor(c *plugin.Client) (string, error) {
	var b strings.Builder
	for i := range r.Filter.levels {
		l := &r.Filter.levels[i]
		if i > 0 {
			b.WriteByte('/')
		}
		if l.parts == nil {
			b.WriteString(l.text)
			continue
		}
		f := l.fill(c)
		if f != plain && r.Allow {
			return "", errNothing
		}
		if f == wide {
			b.WriteString("+/#")
			return b.String(), nil
		}
		at := b.Len()
		for j := range l.parts {
			b.WriteString(l.parts[j].value(c))
		}
		if at == 0 && r.Allow && l.parts[0].source != 0 && strings.HasPrefix(b.String(), "$") {
			return "", errNothing
		}
	}
	if b.Len() == 0 {
		return "", errNothing // no name is empty
	}
	return b.String(), nil
}
