// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"strings"

	"github.com/noctule/noctule/plugins/internal/textfile"
	"github.com/noctule/noctule/topic"
)

// access is what a rule is about.
type access byte

const (
	read access = 1 << iota
	write
	deny // both, whatever other rules allow
)

// rule is a line "topic" or "pattern" of the file.
type rule struct {
	access   access
	filter   string // a valid topic filter
	personal bool   // levels %c and %u stand for the client's identity
	line     string // "acl.txt:12"
}

// section is the rules about the same clients, in the order of the file.
type section struct {
	allow []rule
	deny  []rule
}

func (s *section) add(x rule) {
	if x.access == deny {
		s.deny = append(s.deny, x)
		return
	}
	s.allow = append(s.allow, x)
}

// rules is what a file says, by whom it is about. Immutable but for decided.
type rules struct {
	anonymous *section            // topic lines before the first user line
	users     map[string]*section // topic lines by user
	patterns  *section            // for everybody
	count     int
	otherwise string     // the Rule of decisions that no line made
	decided   *decisions // nil until the rules are in force
}

// maxLevels is the most levels of a filter in the file.
const maxLevels = 256

// parse reads all lines, or none. The format is Mosquitto's.
func parse(f *textfile.File) (*rules, error) {
	r := &rules{
		anonymous: &section{}, users: map[string]*section{}, patterns: &section{},
		otherwise: f.Base() + ": no rule allows it",
	}
	own := r.anonymous
	for i, line := range f.Lines {
		if textfile.Comment(line) {
			continue
		}
		word, rest := cutBlank(line)
		var err error
		switch word {
		case "user":
			own, err = r.user(rest)
		case "topic", "pattern":
			x := rule{line: fmt.Sprintf("%s:%d", f.Base(), i+1)}
			if err = x.parse(word, rest); err != nil {
				break
			}
			r.count++
			if word == "pattern" {
				r.patterns.add(x)
			} else {
				own.add(x)
			}
		default:
			err = fmt.Errorf("a line begins with user, topic, pattern or #, not with %q", word)
		}
		if err != nil {
			return nil, &textfile.Error{Path: f.Path, Line: i + 1, Text: err.Error()}
		}
	}
	return r, nil
}

// user is the section of a user, which may be begun several times in one file.
func (r *rules) user(name string) (*section, error) {
	if name == "" {
		return nil, errors.New("user needs a name")
	}
	if r.users[name] == nil {
		r.users[name] = &section{}
	}
	return r.users[name], nil
}

// parse reads what follows "topic" or "pattern": a filter, or an access and a filter, which then may have blanks.
func (x *rule) parse(word, rest string) error {
	if rest == "" {
		return fmt.Errorf("%s needs a topic filter", word)
	}
	x.access, x.filter = read|write, rest
	if kind, after := cutBlank(rest); after != "" {
		x.filter = after
		switch kind {
		case "read":
			x.access = read
		case "write":
			x.access = write
		case "readwrite":
		case "deny":
			x.access = deny
		default:
			return fmt.Errorf("the access is read, write, readwrite or deny, not %q", kind)
		}
	}
	f, err := topic.ParseFilter(x.filter, maxLevels)
	if err != nil {
		return err
	}
	if f.Share != "" {
		return fmt.Errorf("rules are about topics: write %q without $share and share name", f.Filter)
	}
	if word != "pattern" {
		return nil
	}
	for level := range strings.SplitSeq(x.filter, "/") {
		if level == "%c" || level == "%u" {
			x.personal = true
		} else if strings.Contains(level, "%c") || strings.Contains(level, "%u") {
			return fmt.Errorf("%%c and %%u must stand alone in their level, not as in %q", level)
		}
	}
	return nil
}

// cutBlank splits off the first word.
func cutBlank(s string) (word, rest string) {
	s = strings.Trim(s, " \t")
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimLeft(s[i:], " \t")
	}
	return s, ""
}
