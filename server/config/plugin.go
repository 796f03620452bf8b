// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Plugin is the configuration of one plug-in: its name, and options that only the plug-in knows.
type Plugin struct {
	Name string

	path string
	node *node // the whole section
	src  *source
}

// plugin takes the name out of a plug-in's section; the rest is kept as it was written.
func (d *decoder) plugin(n *node, path string) (Plugin, bool) {
	p := Plugin{path: path, node: n, src: n.at.src}
	for _, pair := range n.pairs {
		if pair.key != "name" {
			d.hashes(pair.value, join(path, pair.key))
			continue
		}
		if pair.value.shape != scalar || pair.value.text == "" {
			d.wrong(pair.value.at, path+".name", "has no value", "write the plug-in's name, such as auth.file")
			return p, false
		}
		p.Name = pair.value.text
		d.config.places[path+".name"] = pair.value.at
	}
	if p.Name == "" {
		d.wrong(n.at, path, "has no name", "write name: auth.file, or what the plug-in is called")
		return p, false
	}
	return p, true
}

// hashes finds filters that YAML took for comments. No option of a plug-in may be empty.
func (d *decoder) hashes(n *node, path string) {
	switch {
	case n.bareHash():
		d.wrong(n.at, path, "has no value", hashFix)
	case n.shape == nothing:
		d.wrong(n.at, path, "has no value", "write one, or remove the line; a filter of one # is written \"#\", in quotes")
	}
	for _, p := range n.pairs {
		d.hashes(p.value, join(path, p.key))
	}
	for i, item := range n.items {
		d.hashes(item, fmt.Sprintf("%s[%d]", path, i))
	}
}

// Decode fills a struct, whose fields are named by yaml tags, with the plug-in's options. An option that the struct does not have
// is a mistake. Durations are written as everywhere (10s, 30d). Errors are of type Mistakes.
func (p *Plugin) Decode(into any) error {
	full, ok := p.node.yaml.(*ast.MappingNode)
	if !ok {
		return nil
	}
	rest := ast.Mapping(full.Start, full.IsFlowStyle)
	for i, v := range full.Values {
		if i < len(p.node.pairs) && p.node.pairs[i].key == "name" {
			continue
		}
		rest.Values = append(rest.Values, v)
	}
	if len(rest.Values) == 0 {
		return nil
	}
	err := decodeSafely(rest, into)
	if err == nil {
		return nil
	}
	return Mistakes{p.translate(err, into)}
}

// decodeSafely contains the decoder, which is not ours.
func decodeSafely(n ast.Node, into any) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("does not fit: %v", v)
		}
	}()
	return yaml.NodeToValue(n, into, yaml.Strict(), yaml.CustomUnmarshaler(func(d *time.Duration, b []byte) error {
		text := strings.Trim(strings.TrimSpace(string(b)), "\"'")
		v, err := ParseDuration(text)
		if err != nil {
			return &misfit{text, err}
		}
		*d = v
		return nil
	}))
}

// A misfit is a value that is no duration. The decoder does not say where it stood.
type misfit struct {
	text string
	err  error
}

func (m *misfit) Error() string { return m.err.Error() }

// translate says what the decoder found in words of ours.
func (p *Plugin) translate(err error, into any) *Mistake {
	at, option := p.node.at, p.path
	if m, ok := errors.AsType[*misfit](err); ok {
		if n, path := p.node.scalarLike(m.text, p.path); n != nil {
			at, option = n.at, path
		}
		return mistake(at, option, m.Error(), "write a number with its unit, such as 10s")
	}
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil || ye.GetToken().Position == nil {
		return mistake(at, option, p.Name+": "+words(err.Error()), "")
	}
	t := ye.GetToken()
	at = place{src: p.src, line: t.Position.Line, col: t.Position.Column}
	option = p.at(at, p.node, p.path)
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		names := fields(reflect.TypeOf(into))
		fix := ""
		switch near := Nearest(t.Value, names); {
		case near != "":
			fix = "did you mean " + near + "?"
		case len(names) > 0:
			fix = "what " + p.Name + " understands: " + strings.Join(names, ", ")
		}
		return mistake(at, option, "unknown option of "+p.Name, fix)
	}
	return mistake(at, option, words(ye.GetMessage()), "")
}

// scalarLike finds the first scalar with a text, and its path.
func (n *node) scalarLike(text, path string) (*node, string) {
	if n.shape == scalar && n.text == text {
		return n, path
	}
	for _, p := range n.pairs {
		if found, at := p.value.scalarLike(text, join(path, p.key)); found != nil {
			return found, at
		}
	}
	for i, item := range n.items {
		if found, at := item.scalarLike(text, fmt.Sprintf("%s[%d]", path, i)); found != nil {
			return found, at
		}
	}
	return nil, ""
}

// at finds the path of what stands at a place.
func (p *Plugin) at(where place, n *node, path string) string {
	for _, pair := range n.pairs {
		child := join(path, pair.key)
		if pair.at.line == where.line && (pair.at.col == where.col || pair.value.at.col == where.col) {
			return child
		}
		if found := p.at(where, pair.value, child); found != child {
			return found
		}
	}
	for i, item := range n.items {
		child := fmt.Sprintf("%s[%d]", path, i)
		if item.shape == scalar && item.at.line == where.line && item.at.col == where.col {
			return child
		}
		if found := p.at(where, item, child); found != child {
			return found
		}
	}
	return path
}

// fields lists the names of a struct's options, those of structs inside it too.
func fields(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for f := range t.Fields() {
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
			continue
		case name == "":
			name = strings.ToLower(f.Name)
		}
		names = append(names, name)
		names = append(names, fields(f.Type)...)
	}
	return names
}

// Mistake makes an error about the plug-in that names its place.
func (p *Plugin) Mistake(problem, fix string) *Mistake {
	for _, pair := range p.node.pairs {
		if pair.key == "name" {
			return mistake(pair.value.at, p.path+".name", problem, fix)
		}
	}
	return mistake(p.node.at, p.path, problem, fix)
}
