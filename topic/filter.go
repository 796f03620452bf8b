// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"fmt"
	"strings"
)

// sharePrefix begins the filter of a shared subscription [MQTT-4.8.2-1].
const sharePrefix = "$share/"

// A Filter is a parsed topic filter. Both strings are parts of the parsed one.
type Filter struct {
	Share  string // share name; empty if the subscription is not shared
	Filter string // what is matched, without $share and share name
}

// String returns the filter as the client wrote it.
func (f Filter) String() string {
	if f.Share == "" {
		return f.Filter
	}
	return sharePrefix + f.Share + "/" + f.Filter
}

// Wild reports whether the filter has a wildcard.
func (f Filter) Wild() bool { return hasWildcard(f.Filter) }

// An Error says why a topic filter is not valid.
type Error struct {
	Filter string // as it was given
	Reason string // for people
}

// Error quotes at most the first 100 bytes of the filter.
func (e *Error) Error() string {
	const most = 100
	if len(e.Filter) > most {
		return fmt.Sprintf("topic filter %.*q...: %s", most, e.Filter, e.Reason)
	}
	return fmt.Sprintf("topic filter %q: %s", e.Filter, e.Reason)
}

// ParseFilter checks the topic filter s and takes it apart. maxLevels limits
// the levels of what is matched; 0 or less is no limit. The error is an *Error.
// That s is UTF-8 without U+0000 is the packet decoder's business.
func ParseFilter(s string, maxLevels int) (Filter, error) {
	f := Filter{Filter: s}
	reason := ""
	if len(s) > MaxLength {
		reason = "it is longer than 65535 bytes" // [MQTT-4.7.3-3]
	} else if rest, shared := strings.CutPrefix(s, sharePrefix); shared {
		f, reason = parseShare(rest)
	}
	if reason == "" {
		reason = checkLevels(f.Filter, maxLevels)
	}
	if reason != "" {
		return Filter{}, &Error{Filter: s, Reason: reason}
	}
	return f, nil
}

// parseShare takes apart what follows "$share/". The standard leaves open
// whether the filter of a shared subscription may be one of a shared
// subscription again; it is refused, so that a filter without its share name is
// never mistaken for one with.
func parseShare(s string) (f Filter, reason string) {
	name, filter, found := strings.Cut(s, "/")
	switch {
	case name == "":
		return f, "the share name is empty" // [MQTT-4.8.2-1]
	case strings.ContainsAny(name, "+#"):
		return f, "the share name must not have + or #" // [MQTT-4.8.2-2]
	case !found || filter == "":
		return f, "no filter follows the share name" // [MQTT-4.8.2-2]
	case strings.HasPrefix(filter, sharePrefix):
		return f, "a shared subscription cannot be shared again"
	}
	return Filter{Share: name, Filter: filter}, ""
}

// checkLevels returns what is wrong with the levels of filter, or "".
func checkLevels(filter string, maxLevels int) string {
	if filter == "" {
		return "it is empty" // [MQTT-4.7.3-1]
	}
	if maxLevels > 0 && Levels(filter) > maxLevels {
		return fmt.Sprintf("it has more than %d levels", maxLevels)
	}
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		switch {
		case level == "#" && more:
			return "# must be the last level" // [MQTT-4.7.1-1; 3.1.1: MQTT-4.7.1-2]
		case level == "#" || level == "+":
		case strings.Contains(level, "#"):
			return "# must stand alone in its level" // [MQTT-4.7.1-1; 3.1.1: MQTT-4.7.1-2]
		case strings.Contains(level, "+"):
			return "+ must stand alone in its level" // [MQTT-4.7.1-2; 3.1.1: MQTT-4.7.1-3]
		}
	}
	return ""
}
