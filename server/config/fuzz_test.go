// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
)

// FuzzLoad has any text either load, and then load again as it is written, or be refused with places that are in it.
func FuzzLoad(f *testing.F) {
	f.Add(DefaultYAML())
	for _, m := range mistakes {
		f.Add(m.text)
	}
	f.Add("plugins:\n  - name: a.b\n    x: [1, {y: \"#\"}, null]\n    \"k: \": |\n      text\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "${") {
			return // refers to this machine
		}
		c, err := Load(Input{File: "f", Text: []byte(text)})
		if err != nil {
			lines := len(newSource("", []byte(text)).lines)
			for _, m := range err.(Mistakes) {
				if m.Line < 0 || m.Line > lines+1 || m.Problem == "" {
					t.Errorf("%+v in %q", m, text)
				}
				if s := m.Text(); strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' }) {
					t.Errorf("control characters in %q", s)
				}
			}
			return
		}
		for i := range c.Plugins {
			var into map[string]any
			c.Plugins[i].Decode(&into) //nolint:errcheck // it must not panic; what it says is tested elsewhere
		}
		again, err := Load(Input{File: "g", Text: []byte(c.YAML())})
		if err != nil {
			t.Fatalf("%q loads, and is then written as\n%s\nwhich does not: %v", text, c.YAML(), err)
		}
		for _, change := range Changes(c, again) {
			if change.Option != "plugins" { // whose secrets are masked
				t.Errorf("%q changes when it is written and read: %+v", text, change)
			}
		}
	})
}
