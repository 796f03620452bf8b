// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"

	"github.com/noctule/noctule/plugins/internal/textfile"
)

// readMosquitto reads Mosquitto's format. The rules come out in the order in which they decide: what denies goes before what allows,
// topic lines before patterns.
func readMosquitto(f *textfile.File) ([]Rule, error) {
	var denies, deniesByPattern, allows, allowsByPattern []Rule
	users := []string{""}
	for i, line := range f.Lines {
		if textfile.Comment(line) {
			continue
		}
		word, rest := cutBlank(line)
		var err error
		switch word {
		case "user":
			if rest == "" {
				err = errors.New("user needs a name")
			}
			users = []string{rest}
		case "topic", "pattern":
			r := Rule{Line: fmt.Sprintf("%s:%d", f.Base(), i+1)}
			if word == "topic" {
				r.Who.Users = users
			}
			if err = r.parseMosquitto(word, rest); err != nil {
				break
			}
			switch {
			case !r.Allow && word == "topic":
				denies = append(denies, r)
			case !r.Allow:
				deniesByPattern = append(deniesByPattern, r)
			case word == "topic":
				allows = append(allows, r)
			default:
				allowsByPattern = append(allowsByPattern, r)
			}
		case "allow", "deny", "order":
			err = fmt.Errorf("%s is a line of our format, and the lines above are Mosquitto's; use one of the two in a file", word)
		default:
			err = fmt.Errorf("a line begins with user, topic, pattern or #, not with %q", word)
		}
		if err != nil {
			return nil, &textfile.Error{Path: f.Path, Line: i + 1, Text: err.Error()}
		}
	}
	return slices.Concat(denies, deniesByPattern, allows, allowsByPattern), nil
}

// parseMosquitto reads what follows "topic" or "pattern": a filter, or an access and a filter, which then may have blanks.
func (r *Rule) parseMosquitto(word, rest string) error {
	if rest == "" {
		return fmt.Errorf("%s needs a topic filter", word)
	}
	r.Allow, r.Actions, r.mosquitto = true, Both, true
	filter := rest
	if kind, after := cutBlank(rest); after != "" {
		filter = after
		switch kind {
		case "read":
			r.Actions = Subscribe
		case "write":
			r.Actions = Publish
		case "readwrite":
		case "deny":
			r.Allow = false
		default:
			return fmt.Errorf("the access is read, write, readwrite or deny, not %q", kind)
		}
	}
	parse := PlainFilter
	if word == "pattern" {
		parse = mosquittoPattern
	}
	var err error
	r.Filter, err = parse(filter)
	return err
}
