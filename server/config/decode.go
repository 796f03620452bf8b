// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strings"
)

// A decoder puts nodes into a Config and gathers what is wrong.
type decoder struct {
	config *Config
	found  Mistakes
}

func (d *decoder) wrong(at place, option, problem, fix string) {
	d.found = append(d.found, mistake(at, option, problem, fix))
}

// root decodes a whole configuration; nil is an empty one.
func (d *decoder) root(n *node) {
	switch {
	case n == nil || n.shape == nothing || n.shape == broken:
	case n.shape != mapping:
		d.wrong(n.at, "", "a configuration is a list of options, not "+n.shape.String(), "write option: value, a line each")
	default:
		d.section(tree, d.config, n, "", "")
	}
}

// section decodes a mapping. prefix is what its options begin with in their table, path where it stands in the tree.
func (d *decoder) section(t *table, holder any, n *node, prefix, path string) {
	for _, p := range n.pairs {
		name, at := prefix+p.key, join(path, p.key)
		o := t.find(name)
		switch {
		case o != nil:
			d.option(o, holder, p.value, at)
		case t.group(name):
			d.group(t, holder, p.value, name, at)
		default:
			d.wrong(p.at, at, "unknown option", meant(t, p.key, prefix))
		}
	}
}

func (d *decoder) group(t *table, holder any, n *node, name, path string) {
	switch n.shape {
	case broken:
	case nothing: // all of it may be commented out
	case mapping:
		d.section(t, holder, n, name+".", path)
	default:
		d.wrong(n.at, path, "a section is wanted, not "+n.shape.String(), "write its options below it: "+strings.Join(t.below(name+"."), ", "))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// meant is the advice for a name that there is not.
func meant(t *table, key, prefix string) string {
	names := t.below(prefix)
	if near := Nearest(key, names); near != "" {
		return "did you mean " + near + "?"
	}
	for _, o := range t.options { // known, but not here
		if section, ok := strings.CutSuffix(o.name, "."+key); ok {
			return fmt.Sprintf("did you mean %s, in the section %s?", key, section)
		}
	}
	if len(names) > 16 {
		return "noctule config default lists what there is"
	}
	return "what there is: " + strings.Join(names, ", ")
}

// option decodes the value of one option.
func (d *decoder) option(o *option, holder any, n *node, path string) {
	if n.shape == broken {
		return
	}
	d.config.places[path] = n.at
	switch o.kind {
	case texts:
		d.texts(o, holder, n, path)
	case sections:
		d.sections(o, holder, n, path)
	case plugins:
		d.plugins(o, holder, n, path)
	default:
		d.scalar(o, holder, n, path)
	}
}

func (d *decoder) scalar(o *option, holder any, n *node, path string) {
	if n.shape != scalar {
		d.wrongShape(o, n, path)
		return
	}
	if problem, fix := o.set(holder, n); problem != "" {
		d.wrong(n.at, path, problem, fix)
	}
}

// wrongShape reports a value that is empty, or a list or a section where there should be none.
func (d *decoder) wrongShape(o *option, n *node, path string) {
	switch {
	case n.bareHash():
		d.wrong(n.at, path, "has no value", hashFix)
	case n.shape == nothing:
		d.wrong(n.at, path, "has no value", "write one, or remove the line")
	default:
		d.wrong(n.at, path, fmt.Sprintf("a %s is wanted, not %s", o.kind, n.shape), o.sample(path))
	}
}

// sample says how an option is written.
func (o *option) sample(path string) string {
	key := path[strings.LastIndexByte(path, '.')+1:]
	switch o.kind {
	case texts:
		return fmt.Sprintf("write %s: [%q]", key, o.words[0])
	case sections:
		return "write its entries below it, each with - before its first line"
	case plugins:
		return "write its entries below it, such as - name: auth.file"
	case toggle:
		return fmt.Sprintf("write %s: true", key)
	case word, text:
		if len(o.words) > 0 {
			return fmt.Sprintf("write %s: %s", key, yamlText(o.words[0]))
		}
	}
	return fmt.Sprintf("write %s: %s", key, o.example())
}

func (d *decoder) texts(o *option, holder any, n *node, path string) {
	if n.shape != list {
		d.wrongShape(o, n, path)
		return
	}
	values := make([]string, 0, len(n.items))
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case item.shape == broken:
		case item.bareHash():
			d.wrong(item.at, at, "has no value", hashFix)
		case item.shape != scalar || item.style == number || item.style == boolean:
			d.wrong(item.at, at, "text is wanted", "put it in quotes")
		default:
			if err := o.check(item.text); err != nil {
				problem, fix := problemAndFix(err)
				d.wrong(item.at, at, problem, fix)
			}
			values = append(values, item.text)
		}
	}
	*o.field(holder).(*[]string) = values
}

func (d *decoder) sections(o *option, holder any, n *node, path string) {
	if n.shape != list {
		d.wrongShape(o, n, path)
		return
	}
	out := reflect.ValueOf(o.field(holder)).Elem()
	out.SetZero()
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.config.places[at] = item.at
		if item.shape == broken {
			continue
		}
		if item.shape != mapping {
			d.wrong(item.at, at, "a section is wanted, not "+item.shape.String(), "write "+yamlText(o.of.options[0].name)+": and so on: "+strings.Join(o.of.below(""), ", "))
			continue
		}
		entry := o.of.make()
		d.section(o.of, entry, item, "", at)
		out.Set(reflect.Append(out, reflect.ValueOf(entry).Elem()))
	}
}

func (d *decoder) plugins(o *option, holder any, n *node, path string) {
	if n.shape != list {
		d.wrongShape(o, n, path)
		return
	}
	list := o.field(holder).(*[]Plugin)
	*list = nil
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.config.places[at] = item.at
		if item.shape == broken {
			continue
		}
		if item.shape != mapping {
			d.wrong(item.at, at, "a section is wanted, not "+item.shape.String(), "write - name: auth.file, and the plug-in's options below it")
			continue
		}
		if p, ok := d.plugin(item, at); ok {
			*list = append(*list, p)
		}
	}
}
