// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// A source is a text that options were read from.
type source struct {
	name  string   // a file, a variable or a flag
	lines []string // nil where a line says nothing to the one who wrote the value
}

// lineEnds makes one kind of line end of the three that YAML knows.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func newSource(name string, text []byte) *source {
	return &source{name: name, lines: strings.Split(lineEnds.Replace(string(text)), "\n")}
}

// A place is where something was written. The zero value is the defaults.
type place struct {
	src       *source
	line, col int // from 1; 0 where the source has no lines
}

func (p place) String() string {
	switch {
	case p.src == nil:
		return "default"
	case p.line == 0:
		return p.src.name
	}
	return p.src.name + ":" + strconv.Itoa(p.line)
}

// A Mistake is one thing wrong with a configuration, for a person to read.
type Mistake struct {
	Source       string // file, environment variable or flag
	Line, Column int    // from 1; 0 where there are none
	Option       string // path such as limits.max_packet; empty for faults of syntax
	Problem      string
	Fix          string // what to write instead; empty where nobody can say
	snippet      string
}

func mistake(p place, option, problem, fix string) *Mistake {
	m := &Mistake{Line: p.line, Column: p.col, Option: words(option), Problem: words(problem), Fix: words(fix)}
	if p.src == nil {
		return m
	}
	m.Source = p.src.name
	if p.line >= 1 && p.line <= len(p.src.lines) {
		m.snippet = snippet(p)
	}
	return m
}

// Error is the mistake on one line.
func (m *Mistake) Error() string {
	var b strings.Builder
	if m.Source != "" {
		b.WriteString(m.Source)
		if m.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", m.Line, m.Column)
		}
		b.WriteString(": ")
	}
	if m.Option != "" {
		b.WriteString(m.Option + ": ")
	}
	b.WriteString(m.Problem)
	if m.Fix != "" {
		b.WriteString("; " + m.Fix)
	}
	return b.String()
}

// Text is the mistake with the line it is on.
func (m *Mistake) Text() string {
	if m.snippet == "" {
		return m.Error()
	}
	return m.Error() + "\n" + m.snippet
}

// Mistakes are all that is wrong with a configuration; the error that Load returns.
type Mistakes []*Mistake

// Error lists the mistakes, a line each.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.Error()
	}
	return strings.Join(lines, "\n")
}

// Text lists the mistakes with the lines they are on.
func (ms Mistakes) Text() string {
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = m.Text()
	}
	return strings.Join(texts, "\n")
}

// widest is how much of a line a snippet shows.
const widest = 120

// words is text that may go to a terminal or a log: a space for each control character.
func words(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// snippet shows a line with a caret under the column.
func snippet(p place) string {
	line := words(p.src.lines[p.line-1])
	runes := []rune(line)
	if len(runes) > widest {
		runes = append(runes[:widest], '…')
	}
	number := fmt.Sprintf("%5d | ", p.line)
	col := max(1, min(p.col, len(runes)+1))
	return number + string(runes) + "\n" + strings.Repeat(" ", len(number)+col-1) + "^"
}
