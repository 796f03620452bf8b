// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/noctule/noctule/topic"
)

func TestCoversAndOverlaps(t *testing.T) {
	for _, c := range []struct {
		rule, filter     string
		covers, overlaps bool
	}{
		{"a", "a", true, true},
		{"a", "b", false, false},
		{"#", "#", true, true},
		{"#", "a/+/b", true, true},
		{"+/#", "#", true, true},
		{"#", "+/#", true, true},
		{"+", "#", false, true},
		{"+/+/#", "#", false, true},
		{"a/#", "a", true, true},
		{"a/#", "a/#", true, true},
		{"a/#", "#", false, true},
		{"a/+", "a", false, false},
		{"a/+", "a/#", false, true},
		{"a/+/#", "a/#", false, true},
		{"a/+/#", "a", false, false},
		{"a/+/#", "a/b", true, true},
		{"a/+", "a/b", true, true},
		{"a/b", "a/+", false, true},
		{"a/+/c", "a/b/+", false, true},
		{"a/+/c", "+/b/d", false, false},
		{"a/", "a", false, false},
		{"+/+", "/", true, true},
		{"+", "$SYS", false, false},
		{"#", "$SYS/#", false, false},
		{"+/a", "$SYS/a", false, false},
		{"$SYS/#", "$SYS/a", true, true},
		{"$SYS/#", "#", false, false},
		{"$SYS/#", "+/a", false, false},
		{"a/#", "a/$b", true, true},
		{"a/+", "a/$b", true, true},
	} {
		if got := covers(c.rule, c.filter); got != c.covers {
			t.Errorf("covers(%q, %q) = %v", c.rule, c.filter, got)
		}
		if a, b := overlaps(c.rule, c.filter), overlaps(c.filter, c.rule); a != c.overlaps || b != c.overlaps {
			t.Errorf("overlaps(%q, %q) = %v, the other way round %v", c.rule, c.filter, a, b)
		}
	}
}

// names are all topic names of up to four levels of these words: enough to tell apart all filters of up to three levels
// of two of them, for one level more stands for all that # may take, and a word that no filter has for all others.
var names = func() (all []string) {
	words := []string{"", "a", "$b", "other"}
	level := []string{""}
	for depth := range 4 {
		var next []string
		for _, prefix := range level {
			for _, w := range words {
				name := w
				if depth > 0 {
					name = prefix + "/" + w
				}
				next = append(next, name)
				if name != "" {
					all = append(all, name)
				}
			}
		}
		level = next
	}
	return all
}()

func filters() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "$b", "+"}), 0, 3).Draw(t, "levels")
		if len(levels) == 0 || rapid.Bool().Draw(t, "rest") {
			levels = append(levels, "#")
		}
		if f := strings.Join(levels, "/"); f != "" {
			return f
		}
		return "+"
	})
}

// Both functions agree with a try of every name.
func TestFiltersAgainstNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := filters().Draw(t, "a"), filters().Draw(t, "b")
		wantCovers, wantOverlaps := true, false
		for _, n := range names {
			inA, inB := topic.Match(a, n), topic.Match(b, n)
			wantCovers = wantCovers && (inA || !inB)
			wantOverlaps = wantOverlaps || inA && inB
		}
		if got := covers(a, b); got != wantCovers {
			t.Errorf("covers(%q, %q) = %v", a, b, got)
		}
		if got := overlaps(a, b); got != wantOverlaps {
			t.Errorf("overlaps(%q, %q) = %v", a, b, got)
		}
	})
}

func TestFiltersAllocateNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		covers("a/+/b/#", "a/b/b/c/d")
		overlaps("a/+/b/#", "+/b/b/c/#")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
