// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestValidName(t *testing.T) {
	long := strings.Repeat("x", MaxLength)
	for _, name := range []string{"a", "/", "//", " ", "a/b", "$SYS/x", "ä", long} {
		if !ValidName(name) || !ValidName([]byte(name)) {
			t.Errorf("ValidName(%.20q) = false", name)
		}
	}
	for _, name := range []string{"", "+", "#", "a/+", "a+b", "a/#", long + "x"} {
		if ValidName(name) || ValidName([]byte(name)) {
			t.Errorf("ValidName(%.20q) = true", name)
		}
	}
}

func TestLevels(t *testing.T) {
	for name, want := range map[string]int{"a": 1, "/": 2, "a/b": 2, "/a": 2, "a//b": 3, "#": 1} {
		if got := Levels(name); got != want {
			t.Errorf("Levels(%q) = %d, want %d", name, got, want)
		}
	}
}

// The examples of chapter 4.7 and what peers have got wrong.
func TestMatch(t *testing.T) {
	tests := []struct {
		filter, name string
		want         bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player10", false},
		{"sport/#", "sport", true},
		{"sport/#", "sports", false},
		{"#", "a", true},
		{"#", "/", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"+", "finance", true},
		{"+/", "a/", true},
		{"+/", "a", false},
		{"/", "/", true},
		{"//", "//", true},
		{"//", "/", false},
		{"a//b", "a//b", true},
		{"a//b", "a/b", false},
		{"a/+/b", "a//b", true},
		{"+/#", "a", true},
		{"+/#", "/a", true},
		{"+/+/#", "a", false},
		{"+/+/#", "a/b", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"+/#", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/#", "$SYS", true},
		{"$SYS/+", "$SYS/x", true},
		{"a/#", "a/$b", true},
		{"a/+", "a/$b", true},
		{"/#", "/$b", true},
		{"Accounts", "ACCOUNTS", false},
		{"a\u0308", "ä", false},
	}
	for _, test := range tests {
		if got := Match(test.filter, test.name); got != test.want {
			t.Errorf("Match(%q, %q) = %v", test.filter, test.name, got)
		}
	}
}

func TestParseFilter(t *testing.T) {
	long := strings.Repeat("x", MaxLength)
	tests := []struct {
		filter string
		want   Filter
		reason string
	}{
		{"a", Filter{"", "a"}, ""},
		{"/", Filter{"", "/"}, ""},
		{"#", Filter{"", "#"}, ""},
		{"+/+//#", Filter{"", "+/+//#"}, ""},
		{"$SYS/#", Filter{"", "$SYS/#"}, ""},
		{"$share", Filter{"", "$share"}, ""},
		{"$shared/a", Filter{"", "$shared/a"}, ""},
		{"a/$share/b/c", Filter{"", "a/$share/b/c"}, ""},
		{long, Filter{"", long}, ""},
		{"$share/n/a", Filter{"n", "a"}, ""},
		{"$share/n//", Filter{"n", "/"}, ""},
		{"$share/n/+/#", Filter{"n", "+/#"}, ""},
		{"$share/n/a/b/c/d/e/f/g", Filter{"n", "a/b/c/d/e/f/g"}, ""},
		{"", Filter{}, "it is empty"},
		{"a/#/b", Filter{}, "# must be the last level"},
		{"#/", Filter{}, "# must be the last level"},
		{"a#", Filter{}, "# must stand alone in its level"},
		{"a/#b", Filter{}, "# must stand alone in its level"},
		{"##", Filter{}, "# must stand alone in its level"},
		{"+#", Filter{}, "# must stand alone in its level"},
		{"a+", Filter{}, "+ must stand alone in its level"},
		{"a/+b/c", Filter{}, "+ must stand alone in its level"},
		{"++", Filter{}, "+ must stand alone in its level"},
		{long + "x", Filter{}, "it is longer than 65535 bytes"},
		{"a/a/a/a/a/a/a/a", Filter{}, "it has more than 7 levels"},
		{"$share/", Filter{}, "the share name is empty"},
		{"$share//x", Filter{}, "the share name is empty"},
		{"$share/n", Filter{}, "no filter follows the share name"},
		{"$share/n/", Filter{}, "no filter follows the share name"},
		{"$share/+/x", Filter{}, "the share name must not have + or #"},
		{"$share/a+/x", Filter{}, "the share name must not have + or #"},
		{"$share/#", Filter{}, "the share name must not have + or #"},
		{"$share/n/a#", Filter{}, "# must stand alone in its level"},
		{"$share/n/$share/m/x", Filter{}, "a shared subscription cannot be shared again"},
	}
	for _, test := range tests {
		got, err := ParseFilter(test.filter, 7)
		var bad *Error
		switch errors.As(err, &bad); {
		case test.reason == "" && err != nil:
			t.Errorf("ParseFilter(%.40q): %v", test.filter, err)
		case test.reason != "" && bad == nil:
			t.Errorf("ParseFilter(%.40q): no error", test.filter)
		case bad != nil && (bad.Reason != test.reason || bad.Filter != test.filter):
			t.Errorf("ParseFilter(%.40q): %v, want reason %q", test.filter, err, test.reason)
		case got != test.want:
			t.Errorf("ParseFilter(%.40q) = %q", test.filter, got)
		case err == nil && got.String() != test.filter:
			t.Errorf("String of ParseFilter(%.40q) is %q", test.filter, got)
		}
	}
	if _, err := ParseFilter(strings.Repeat("/", 1000), 0); err != nil {
		t.Errorf("1001 levels without a limit: %v", err)
	}
}

func TestErrorIsShort(t *testing.T) {
	_, err := ParseFilter("a#", 0)
	if want := `topic filter "a#": # must stand alone in its level`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	_, err = ParseFilter(strings.Repeat("ä", 20000)+"#", 0)
	if s := err.Error(); len(s) > 500 || !utf8.ValidString(s) {
		t.Errorf("message of %d bytes: %q", len(s), s)
	}
}

// validFilter is another, naive way to say what ParseFilter accepts.
var (
	plainFilter  = regexp.MustCompile(`^([^+#/]*|\+)(/([^+#/]*|\+))*(/#)?$|^#$`)
	sharedFilter = regexp.MustCompile(`^\$share/[^/+#]+/(.+)$`)
)

func naiveValid(s string) (share bool, filter string, ok bool) {
	filter = s
	if strings.HasPrefix(s, "$share/") {
		m := sharedFilter.FindStringSubmatch(s)
		if m == nil || strings.HasPrefix(m[1], "$share/") {
			return true, "", false
		}
		share, filter = true, m[1]
	}
	return share, filter, filter != "" && len(s) <= MaxLength && plainFilter.MatchString(filter)
}

// naiveMatch is another way to say what Match does: by a regular expression.
func naiveMatch(filter, name string) bool {
	if name[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	var re strings.Builder
	re.WriteString("^")
	for i, level := range strings.Split(filter, "/") {
		if level == "#" {
			if i == 0 {
				re.WriteString(".*")
			} else {
				re.WriteString("(/.*)?")
			}
			continue
		}
		if i > 0 {
			re.WriteString("/")
		}
		if level == "+" {
			re.WriteString("[^/]*")
		} else {
			re.WriteString(regexp.QuoteMeta(level))
		}
	}
	return regexp.MustCompile(`(?s)` + re.String() + `$`).MatchString(name)
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"", "a", "+/#", "a#", "$share/n/a/+", "$share//a", "$share/n/$share/m/a", "a/#/b", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\n") {
			return // the decoder's business; and . of a regexp knows no newline
		}
		share, filter, want := naiveValid(s)
		got, err := ParseFilter(s, 0)
		if (err == nil) != want {
			t.Fatalf("ParseFilter(%q): %v, want valid %v", s, err, want)
		}
		if want && (got.Filter != filter || (got.Share != "") != share || got.String() != s) {
			t.Fatalf("ParseFilter(%q) = %+v", s, got)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b")
	f.Add("+/#", "$SYS")
	f.Add("/+", "/")
	f.Fuzz(func(t *testing.T, filter, name string) {
		if _, err := ParseFilter(filter, 0); err != nil || !ValidName(name) {
			return
		}
		if !utf8.ValidString(filter) || !utf8.ValidString(name) || len(filter)+len(name) > 500 {
			return
		}
		want := naiveMatch(filter, name)
		if got := Match(filter, name); got != want {
			t.Fatalf("Match(%q, %q) = %v", filter, name, got)
		}
		ix := NewIndex[int](1)
		ix.Add(filter, 0, 1)
		if got := ix.Any([]byte(name)); got != want {
			t.Fatalf("Any(%q) with %q = %v", name, filter, got)
		}
		tree := NewTree[int]()
		tree.Set(name, 1)
		if got, _ := tree.MatchPage(filter, "", 1, nil); (len(got) == 1) != want {
			t.Fatalf("MatchPage(%q) of %q = %v", filter, name, got)
		}
	})
}

func TestMatchAgainstRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter, name := genFilter(t), genName(t)
		if got, want := Match(filter, name), naiveMatch(filter, name); got != want {
			t.Fatalf("Match(%q, %q) = %v", filter, name, got)
		}
	})
}

// Few different levels, so that much is shared and much matches.
var (
	nameLevels   = []string{"", "a", "b", "ab", "$", "$a", "a!", "é"}
	filterLevels = append([]string{"+", "+"}, nameLevels...)
)

func genName(t *rapid.T) string {
	levels := rapid.SliceOfN(rapid.SampledFrom(nameLevels), 1, 4).Draw(t, "name")
	if name := strings.Join(levels, "/"); name != "" {
		return name
	}
	return "a"
}

func genFilter(t *rapid.T) string {
	levels := rapid.SliceOfN(rapid.SampledFrom(filterLevels), 0, 4).Draw(t, "filter")
	if len(levels) == 0 || rapid.Bool().Draw(t, "rest") {
		levels = append(levels, "#")
	}
	if filter := strings.Join(levels, "/"); filter != "" {
		return filter
	}
	return "a"
}
