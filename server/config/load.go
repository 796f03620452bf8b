// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// mostInConfig is how many bytes a configuration file may have.
const mostInConfig = 8 << 20

// EnvPrefix is what the variables that set options begin with.
const EnvPrefix = "NOCTULE_"

// Input is where a configuration comes from.
type Input struct {
	File    string   // path; empty for none
	Text    []byte   // the content of File, if it was read already
	Environ []string // as of os.Environ
	Flags   []Setting
}

// A Setting is an option as given by a flag.
type Setting struct {
	Flag   string // as typed, for mistakes: --log-level
	Option string // path of the option: log.level
	Value  string // for lists and sections: YAML
}

// Load reads and checks a configuration: defaults, then the file, the environment and the flags. Its error is of type Mistakes.
func Load(in Input) (*Config, error) {
	c := Default()
	d := &decoder{config: c}
	env := pairs(in.Environ)
	l := lookup{env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }, file: readSmall}
	if in.File != "" {
		d.file(in, l)
	}
	d.environment(env, l)
	for _, s := range in.Flags {
		d.setting(&source{name: s.Flag}, s.Option, s.Value, l)
	}
	if len(d.found) == 0 { // or else what was not understood would be missed
		d.found = c.check()
	}
	if len(d.found) > 0 {
		slices.SortStableFunc(d.found, func(a, b *Mistake) int {
			if a.Source != b.Source {
				return 0
			}
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, d.found
	}
	if c.Data == "" {
		c.Data = defaultData(runtime.GOOS, func(name string) string { return env[name] })
	}
	return c, nil
}

func pairs(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			m[name] = value
		}
	}
	return m
}

func (d *decoder) file(in Input, l lookup) {
	data := in.Text
	if data == nil {
		var err error
		if data, err = readConfig(in.File); err != nil {
			d.wrong(place{src: &source{name: in.File}}, "", words(reason(err)), "name a file that can be read")
			return
		}
	}
	root, found := parseYAML(newSource(in.File, data), data, l)
	d.found = append(d.found, found...)
	d.root(root)
}

// reason is an error of the operating system without the path, which is said already.
func reason(err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, mostInConfig+1))
	if err == nil && len(b) > mostInConfig {
		err = fmt.Errorf("larger than %s", FormatSize(mostInConfig))
	}
	return b, err
}

// environment applies the variables, in order of their names.
func (d *decoder) environment(env map[string]string, l lookup) {
	var names []string
	for name, value := range env {
		if strings.HasPrefix(name, EnvPrefix) && value != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		d.variable(name, env[name], l)
	}
}

// variable applies one variable. One without two underscores may belong to somebody else (Kubernetes sets NOCTULE_PORT for a
// service of that name) and is passed over where no option is called so. An empty one counts as not set.
func (d *decoder) variable(name, value string, l lookup) {
	option := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, EnvPrefix), "__", "."))
	if tree.find(option) != nil {
		d.setting(newSource("$"+name, []byte(value)), option, value, l)
		return
	}
	if base, ok := strings.CutSuffix(option, "_file"); ok && tree.find(base) != nil {
		content, err := l.value(value)
		if err != nil {
			d.wrong(place{src: &source{name: "$" + name}}, base, words(err.Error()), "name a file that can be read")
			return
		}
		d.setting(&source{name: "$" + name}, base, content, literally)
		return
	}
	if !strings.Contains(name, "__") {
		return
	}
	d.wrong(place{src: &source{name: "$" + name}}, option, "unknown option", nearestVariable(option))
}

// literally takes a value as it is: the content of a file refers to nothing further.
var literally = lookup{}

func nearestVariable(option string) string {
	names := make([]string, len(tree.options))
	for i, o := range tree.options {
		names[i] = o.name
	}
	if near := Nearest(option, names); near != "" {
		return "did you mean " + Variable(near) + "?"
	}
	return "remove it, or write an option of the configuration with __ for each dot"
}

// Variable is the environment variable that sets an option.
func Variable(option string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(option, ".", "__"))
}

// setting applies an option that was given by an environment variable or a flag.
func (d *decoder) setting(src *source, option, value string, l lookup) {
	at := place{src: src}
	o := tree.find(option)
	if o == nil {
		d.wrong(at, option, "unknown option", nearestVariable(option))
		return
	}
	switch o.kind {
	case texts, sections, plugins:
		n, found := parseYAML(src, []byte(value), l)
		d.found = append(d.found, found...)
		if n == nil {
			n = &node{shape: list, at: at}
		}
		if len(found) == 0 {
			d.option(o, d.config, n, option)
		}
	default:
		expanded, err := l.expand(value)
		if err != nil {
			problem, fix := problemAndFix(err)
			d.wrong(at, option, problem, fix)
			return
		}
		d.option(o, d.config, &node{shape: scalar, text: expanded, raw: value, at: at}, option)
	}
}
