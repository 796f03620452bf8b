// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strings"
)

// A Change is an option that differs between two configurations.
type Change struct {
	Option   string
	From, To string // as they would be written
	Reload   Reload
}

// Changes lists what differs, in the order of the table. Listeners are compared by their place in the list.
func Changes(old, next *Config) []Change { return changes(tree, old, next, "") }

func changes(t *table, old, next any, path string) []Change {
	var out []Change
	add := func(o *option, from, to string) {
		if from != to {
			out = append(out, Change{Option: path + o.name, From: from, To: to, Reload: o.reload})
		}
	}
	for i := range t.options {
		o := &t.options[i]
		switch o.kind {
		case texts:
			add(o, flow(o.values(old)), flow(o.values(next)))
		case plugins:
			add(o, pluginsText(*o.field(old).(*[]Plugin)), pluginsText(*o.field(next).(*[]Plugin)))
		case sections:
			a, b := reflect.ValueOf(o.field(old)).Elem(), reflect.ValueOf(o.field(next)).Elem()
			if a.Len() != b.Len() {
				add(o, fmt.Sprintf("%d entries", a.Len()), fmt.Sprintf("%d entries", b.Len()))
				continue
			}
			for i := range a.Len() {
				at := fmt.Sprintf("%s%s[%d].", path, o.name, i)
				out = append(out, changes(o.of, a.Index(i).Addr().Interface(), b.Index(i).Addr().Interface(), at)...)
			}
		default:
			add(o, o.value(old), o.value(next))
		}
	}
	return out
}

// pluginsText writes plug-ins for comparison and for people; secrets are masked.
func pluginsText(list []Plugin) string {
	var b strings.Builder
	for i := range list {
		b.WriteString(list[i].text(""))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
