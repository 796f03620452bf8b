// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reload says when a changed option takes effect.
type Reload byte

// Moments of a change.
const (
	AtRestart        Reload = iota
	AtNextConnection        // what is connected keeps what it was granted
	Live
)

func (r Reload) String() string { return [...]string{"restart", "next connection", "live"}[r] }

// kind is what values an option takes.
type kind byte

const (
	text kind = iota
	word      // one of a few
	toggle
	count
	size  // bytes
	span  // of time
	texts // a list of text
	sections
	plugins
)

func (k kind) String() string {
	return [...]string{"text", "word", "true or false", "number", "size", "duration", "list of text", "list of sections", "list of plug-ins"}[k]
}

// An option is one setting: a row of the table that everything about options is made from.
type option struct {
	name   string // path within its table
	kind   kind
	reload Reload
	doc    string
	field  func(holder any) any // points to where the value is kept
	words  []string             // of a word, in the order of the values; of a text, examples
	min    int64                // of numbers, sizes and durations
	max    int64                // likewise; 0 means no bound
	check  func(string) error   // of text, also in lists
	of     *table               // of sections
}

// A table is the options that one struct holds.
type table struct {
	options []option
	groups  map[string]string // doc comments of the sections that dotted names make
	make    func() any        // a new holder with its defaults, for lists of sections
}

// in makes the accessor of a field.
func in[H any](f func(*H) any) func(any) any {
	return func(holder any) any { return f(holder.(*H)) }
}

func (t *table) find(name string) *option {
	for i := range t.options {
		if t.options[i].name == name {
			return &t.options[i]
		}
	}
	return nil
}

// group says whether options are below a name.
func (t *table) group(name string) bool {
	for i := range t.options {
		if strings.HasPrefix(t.options[i].name, name+".") {
			return true
		}
	}
	return false
}

// below lists the names that may follow a prefix ("" or one that ends with a dot), in the order of the table.
func (t *table) below(prefix string) []string {
	var names []string
	for i := range t.options {
		rest, ok := strings.CutPrefix(t.options[i].name, prefix)
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(rest, ".")
		if !slices.Contains(names, first) {
			names = append(names, first)
		}
	}
	return names
}

// set reads a scalar into its field. The errors say what is wrong and what would be right.
func (o *option) set(holder any, n *node) (problem, fix string) {
	v := reflect.ValueOf(o.field(holder)).Elem()
	switch o.kind {
	case word:
		return o.setWord(v, n)
	case toggle:
		switch n.text {
		case "true":
			v.SetBool(true)
		case "false":
			v.SetBool(false)
		default:
			return fmt.Sprintf("%q is neither true nor false", n.text), "write true or false"
		}
	case count:
		i, err := strconv.ParseInt(n.text, 10, 64)
		if err != nil {
			return fmt.Sprintf("%q is not a whole number", n.text), "write a number such as " + o.example()
		}
		return o.setNumber(v, i)
	case size:
		i, err := ParseSize(n.text)
		if err != nil {
			return err.Error(), "write a number with its unit, such as " + o.example()
		}
		return o.setNumber(v, i)
	case span:
		d, err := ParseDuration(n.text)
		if err != nil {
			return err.Error(), "write a number with its unit, such as " + o.example()
		}
		return o.setNumber(v, int64(d))
	case text:
		if n.style == number || n.style == boolean {
			return n.text + " is not text here", "put it in quotes"
		}
		v.SetString(n.text) // even if wrong: what follows then finds no second mistake in it
		if o.check != nil {
			if err := o.check(n.text); err != nil {
				return problemAndFix(err)
			}
		}
	}
	return "", ""
}

// advice is an error that knows what would be right.
type advice struct{ problem, fix string }

func (a *advice) Error() string { return a.problem }

func problemAndFix(err error) (problem, fix string) {
	if a, ok := err.(*advice); ok {
		return a.problem, a.fix
	}
	return err.Error(), ""
}

func (o *option) setWord(v reflect.Value, n *node) (problem, fix string) {
	i := slices.Index(o.words, n.text)
	if i < 0 {
		if near := Nearest(n.text, o.words); near != "" {
			return fmt.Sprintf("%q is not known here", n.text), fmt.Sprintf("did you mean %s? (one of %s)", near, strings.Join(o.words, ", "))
		}
		return fmt.Sprintf("%q is not known here", n.text), "write one of " + strings.Join(o.words, ", ")
	}
	if v.Kind() == reflect.String {
		v.SetString(n.text)
	} else {
		v.SetUint(uint64(i))
	}
	return "", ""
}

// most is the greatest value that an option takes.
func (o *option) most(v reflect.Value) int64 {
	if o.max != 0 {
		return o.max
	}
	switch v.Kind() {
	case reflect.Uint8:
		return math.MaxUint8
	case reflect.Uint16:
		return math.MaxUint16
	case reflect.Int:
		return math.MaxInt
	}
	return math.MaxInt64
}

func (o *option) setNumber(v reflect.Value, i int64) (problem, fix string) {
	most := o.most(v)
	switch {
	case i < o.min:
		return o.format(i) + " is too small", fmt.Sprintf("write at least %s", o.format(o.min))
	case i > most:
		return o.format(i) + " is too large", fmt.Sprintf("write at most %s", o.format(most))
	case v.CanInt():
		v.SetInt(i)
	default:
		v.SetUint(uint64(i))
	}
	return "", ""
}

// format writes a number as the option takes it.
func (o *option) format(i int64) string {
	switch o.kind {
	case size:
		return FormatSize(i)
	case span:
		return FormatDuration(time.Duration(i))
	}
	return strconv.FormatInt(i, 10)
}

// example is a value that the option takes.
func (o *option) example() string {
	switch {
	case o.kind == size:
		return "1MiB"
	case o.kind == span:
		return "10s"
	case o.min > 0:
		return strconv.FormatInt(o.min, 10)
	}
	return "100"
}

// value is what a field holds, as it would be written; for lists of text there is values.
func (o *option) value(holder any) string {
	v := reflect.ValueOf(o.field(holder)).Elem()
	switch o.kind {
	case word:
		if v.Kind() == reflect.String {
			return v.String()
		}
		return o.words[min(int(v.Uint()), len(o.words)-1)]
	case toggle:
		return strconv.FormatBool(v.Bool())
	case count, size, span:
		if v.CanInt() {
			return o.format(v.Int())
		}
		return o.format(int64(v.Uint()))
	}
	return v.String()
}

func (o *option) values(holder any) []string { return *o.field(holder).(*[]string) }
