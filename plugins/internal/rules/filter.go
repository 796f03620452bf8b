// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import "strings"

// Both functions of this file take valid topic filters without share name, and know that a wildcard in the first level
// matches no name that begins with $ [MQTT-4.7.2-1]. They allocate nothing and are linear in the length of the filters.

// covers reports whether every topic name that filter matches is matched by rule.
func covers(rule, filter string) bool {
	if startsWild(rule) && strings.HasPrefix(filter, "$") {
		return false
	}
	filter = spelledOut(filter)
	for {
		want, ruleRest, ruleMore := strings.Cut(rule, "/")
		if want == "#" {
			return true
		}
		level, filterRest, filterMore := strings.Cut(filter, "/")
		if level == "#" || want != "+" && want != level {
			return false // names of any length, or of any word in this level, against fewer
		}
		switch {
		case !ruleMore:
			return !filterMore
		case !filterMore:
			return ruleRest == "#" // "a/#" matches its parent "a" too
		}
		rule, filter = ruleRest, filterRest
	}
}

// overlaps reports whether there is a topic name that both filters match.
func overlaps(a, b string) bool {
	if startsWild(a) && strings.HasPrefix(b, "$") || startsWild(b) && strings.HasPrefix(a, "$") {
		return false
	}
	a, b = spelledOut(a), spelledOut(b)
	for {
		x, aRest, aMore := strings.Cut(a, "/")
		y, bRest, bMore := strings.Cut(b, "/")
		switch {
		case x == "#", y == "#":
			return true
		case x != y && x != "+" && y != "+":
			return false
		case !aMore && !bMore:
			return true
		case !aMore:
			return bRest == "#"
		case !bMore:
			return aRest == "#"
		}
		a, b = aRest, bRest
	}
}

// spelledOut writes # so that it needs no level of its own: a name has at least one level, and is not empty.
func spelledOut(filter string) string {
	switch filter {
	case "#":
		return "+/#"
	case "/#":
		return "/+/#"
	}
	return filter
}

func startsWild(filter string) bool {
	return strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")
}

// both is a filter for the names that two overlapping filters have in common. It allocates.
func both(a, b string) string {
	a, b = spelledOut(a), spelledOut(b)
	var out strings.Builder
	for {
		x, aRest, aMore := strings.Cut(a, "/")
		y, bRest, bMore := strings.Cut(b, "/")
		switch {
		case x == "#":
			out.WriteString(b)
			return out.String()
		case y == "#":
			out.WriteString(a)
			return out.String()
		case x == "+":
			out.WriteString(y)
		default:
			out.WriteString(x)
		}
		if !aMore || !bMore { // where one goes on, it is with a # that takes nothing here
			return out.String()
		}
		out.WriteByte('/')
		a, b = aRest, bRest
	}
}
