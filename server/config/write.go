// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strings"
)

// DefaultYAML is a configuration file with every option, its meaning and its default. Loading it changes nothing.
func DefaultYAML() string {
	w := &writer{docs: true, config: Default()}
	w.b.WriteString(`# Noctule's configuration: every option with its default. Keep the lines that you change; the rest may go.
# Durations and sizes have units (10s, 1h, 30d; 64KB, 1MiB). ${env:NAME} and ${file:PATH} stand for a value kept elsewhere.
# In brackets: when a change takes effect after a reload (SIGHUP).
`)
	w.table(tree, w.config, "", "", "")
	return w.b.String()
}

// YAML is the whole configuration in force, with where each option comes from. Secrets are masked.
func (c *Config) YAML() string {
	w := &writer{config: c}
	w.table(tree, c, "", "", "")
	return w.b.String()
}

// A writer writes a configuration as YAML: with the meaning of each option, or with its origin.
type writer struct {
	b      strings.Builder
	docs   bool
	config *Config
}

// table writes the options behind a prefix. path is where they stand in the tree.
func (w *writer) table(t *table, holder any, prefix, indent, path string) {
	for _, name := range t.below(prefix) {
		at := join(path, name)
		o := t.find(prefix + name)
		if o != nil {
			w.option(o, holder, name, indent, at)
			continue
		}
		if w.docs {
			w.comment(t.groups[prefix+name], indent)
		}
		w.b.WriteString(indent + name + ":\n")
		w.table(t, holder, prefix+name+".", indent+"  ", at)
	}
}

// width is where comments are broken.
const width = 110

// comment writes a comment of any length, after an empty line unless it begins a section.
func (w *writer) comment(s, indent string) {
	if text := w.b.String(); indent == "" || !strings.HasSuffix(text, ":\n") && !strings.HasSuffix(text, "- ") {
		w.b.WriteString("\n")
	}
	line := indent + "#"
	for _, word := range strings.Fields(s) {
		if len(line)+1+len(word) > width {
			w.b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	w.b.WriteString(line + "\n")
}

func (w *writer) option(o *option, holder any, name, indent, path string) {
	if w.docs {
		doc := o.doc
		if o.kind == word {
			doc += " One of " + strings.Join(o.words, ", ") + "."
		}
		if o.kind != sections {
			doc += " [" + o.reload.String() + "]"
		}
		w.comment(doc, indent)
	}
	w.b.WriteString(indent)
	switch o.kind {
	case texts:
		w.texts(o, holder, name)
	case plugins:
		w.plugins(*o.field(holder).(*[]Plugin), name, indent)
		return
	case sections:
		w.sections(o, holder, name, indent, path)
		return
	default:
		w.scalar(o, holder, name)
	}
	w.origin(path)
	w.b.WriteString("\n")
}

func (w *writer) scalar(o *option, holder any, name string) {
	value := o.value(holder)
	if o.kind == text {
		if value == "" && w.docs && len(o.words) > 0 {
			w.b.WriteString("# " + name + ": " + yamlText(o.words[0]))
			return
		}
		value = yamlText(value)
	}
	if o.kind == word && plainWord.MatchString(value) || value == "1.2" || value == "1.3" {
		value = fmt.Sprintf("%q", value)
	}
	w.b.WriteString(name + ": " + value)
}

func (w *writer) texts(o *option, holder any, name string) {
	values := o.values(holder)
	if len(values) == 0 && w.docs {
		w.b.WriteString("# " + name + ": " + flow(o.words))
		return
	}
	w.b.WriteString(name + ": " + flow(values))
}

// origin says where a value comes from.
func (w *writer) origin(path string) {
	if where, ok := w.config.Given(path); ok && !w.docs {
		w.b.WriteString("  # " + where)
	}
}

func (w *writer) plugins(list []Plugin, name, indent string) {
	if len(list) == 0 && w.docs {
		w.b.WriteString(indent + "# " + name + ":\n" + indent + "#   - name: auth.file\n" + indent + "#     path: users.txt\n")
		return
	}
	if len(list) == 0 {
		w.b.WriteString(name + ": []\n")
		return
	}
	w.b.WriteString(name + ":\n")
	for i := range list {
		w.b.WriteString(list[i].text(indent + "  "))
	}
}

func (w *writer) sections(o *option, holder any, name, indent, path string) {
	entries := reflect.ValueOf(o.field(holder)).Elem()
	if entries.Len() == 0 {
		w.noSections(o, name, indent)
		return
	}
	w.b.WriteString(name + ":\n")
	for i := range entries.Len() {
		entry := &writer{docs: w.docs, config: w.config}
		entry.table(o.of, entries.Index(i).Addr().Interface(), "", indent+"    ", fmt.Sprintf("%s[%d]", path, i))
		lines := strings.TrimLeft(entry.b.String(), "\n")
		if w.docs { // the dash stands before a comment
			w.b.WriteString(indent + "  -\n" + lines)
			continue
		}
		w.b.WriteString(indent + "  - " + strings.TrimPrefix(lines, indent+"    "))
	}
}

// noSections writes an empty list: as an example where options are explained.
func (w *writer) noSections(o *option, name, indent string) {
	if !w.docs {
		w.b.WriteString(name + ": []\n")
		return
	}
	w.b.WriteString("# " + name + ":\n")
	lead := "- "
	for i := range o.of.options {
		entry := &o.of.options[i]
		if len(entry.words) == 0 { // the rest is in the reference
			continue
		}
		value := yamlText(entry.words[0])
		if entry.kind == texts {
			value = flow(entry.words)
		}
		w.b.WriteString(indent + "#   " + lead + entry.name + ": " + value + "\n")
		lead = "  "
	}
}
