// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import "strings"

// MaxLength is the longest topic name or filter in bytes [MQTT-4.7.3-3].
const MaxLength = 65535

// ValidName reports whether s may be a topic name: not empty, at most
// MaxLength bytes, no wildcard characters [MQTT-4.7.3-1, MQTT-4.7.3-3,
// MQTT-4.7.0-1; 3.1.1: MQTT-4.7.1-1]. That s is UTF-8 without U+0000 is the
// packet decoder's business.
func ValidName[T ~string | ~[]byte](s T) bool {
	if len(s) == 0 || len(s) > MaxLength {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] == '+' || s[i] == '#' {
			return false
		}
	}
	return true
}

// Levels returns how many levels the topic name or filter s has: one more than
// it has slashes, for empty levels count too.
func Levels[T ~string | ~[]byte](s T) int {
	n := 1
	for i := 0; i < len(s); i++ {
		if s[i] == '/' {
			n++
		}
	}
	return n
}

// Match reports whether the topic filter matches the topic name. Both must be
// valid, and the filter is the part without $share and share name. A filter
// that begins with a wildcard does not match a name that begins with $
// [MQTT-4.7.2-1]. Bytes are compared as they are [MQTT-4.7.3-4].
func Match(filter, name string) bool {
	if hidden(filter, name) {
		return false
	}
	return matchLevels(filter, name)
}

// hidden reports whether the $ rule keeps filter from matching name.
func hidden(filter, name string) bool {
	return strings.HasPrefix(name, "$") && startsWild(filter)
}

// startsWild reports whether the first level of filter is a wildcard.
func startsWild(filter string) bool {
	return filter != "" && (filter[0] == '+' || filter[0] == '#')
}

// hasWildcard reports whether the valid filter has a wildcard level.
func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }

// matchLevels is Match without the $ rule, for filters and names that are
// the rest of longer ones.
func matchLevels(filter, name string) bool {
	for {
		want, filterRest, filterMore := strings.Cut(filter, "/")
		if want == "#" {
			return true
		}
		level, nameRest, nameMore := strings.Cut(name, "/")
		if want != "+" && want != level {
			return false
		}
		switch {
		case !filterMore:
			return !nameMore
		case !nameMore:
			return filterRest == "#" // "a/#" matches its parent "a" too.
		}
		filter, name = filterRest, nameRest
	}
}
