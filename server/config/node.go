// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// shape is what a node looks like.
type shape byte

const (
	nothing shape = iota // written, but empty
	scalar
	list
	mapping
	broken // reported already
)

func (s shape) String() string {
	return [...]string{"nothing", "a single value", "a list", "a section", "a mistake"}[s]
}

// style is how a scalar was written.
type style byte

const (
	plain style = iota // a word without quotes, or a value of the environment or of a flag
	quoted
	number
	boolean
)

// A node is a value as written, wherever that was.
type node struct {
	shape shape
	style style
	text  string // of a scalar, with references expanded
	raw   string // of a scalar, as written: what is shown
	at    place
	pairs []pair  // of a mapping, in order of writing
	items []*node // of a list
	yaml  ast.Node
}

type pair struct {
	key   string
	at    place
	value *node
}

// hashFix is the advice for a filter that YAML took for a comment.
const hashFix = "in YAML a bare # begins a comment: write \"#\" in quotes"

// A reader turns YAML into nodes and gathers what is wrong.
type reader struct {
	src    *source
	lookup lookup
	found  Mistakes
}

func (r *reader) wrong(at place, option, problem, fix string) {
	r.found = append(r.found, mistake(at, option, problem, fix))
}

// parseYAML reads a text that may be empty. A nil node without mistakes is an empty text.
func parseYAML(src *source, text []byte, l lookup) (*node, Mistakes) {
	r := &reader{src: src, lookup: l}
	file, err := parseSafely(text)
	if err != nil {
		r.syntax(err)
		return nil, r.found
	}
	var root *node
	for i, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if i > 0 && root != nil {
			r.wrong(r.place(doc.Body.GetToken()), "", "a second document begins here", "remove the --- before it")
			break
		}
		root = r.node(doc.Body, "", 0)
	}
	return root, r.found
}

// parseSafely contains the parser: a text that makes it panic is a text with a mistake.
func parseSafely(text []byte) (f *ast.File, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.New("not valid YAML")
		}
	}()
	return parser.ParseBytes(text, 0)
}

// syntax reports what the parser refused.
func (r *reader) syntax(err error) {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		r.wrong(place{src: r.src, line: 1, col: 1}, "", "not valid YAML", "check quotes, brackets and indentation")
		return
	}
	at := r.place(ye.GetToken())
	problem, fix := words(ye.GetMessage()), "check quotes, brackets and indentation"
	line := ""
	if at.line >= 1 && at.line <= len(r.src.lines) {
		line = r.src.lines[at.line-1]
	}
	switch {
	case strings.Contains(line, "[#") || strings.Contains(line, ", #") || strings.Contains(line, "{#") || strings.Contains(line, ": #"):
		fix = hashFix
	case strings.Contains(line, "\t"):
		problem, fix = "a tab where YAML wants spaces", "indent with spaces"
	case strings.Contains(problem, "already defined"):
		problem, fix = "this option is given twice: "+problem, "remove one"
	case strings.Contains(problem, "mapping value is not allowed"):
		fix = "put a value that holds \": \" in quotes"
	}
	r.wrong(at, "", problem, fix)
}

func (r *reader) place(t *token.Token) place {
	if t == nil || t.Position == nil || r.src.lines == nil {
		return place{src: r.src}
	}
	return place{src: r.src, line: t.Position.Line, col: t.Position.Column}
}

// deepest is how far sections may be nested.
const deepest = 32

// node converts one node of the syntax tree and all below it. option is its path.
func (r *reader) node(n ast.Node, option string, depth int) *node {
	at := r.place(n.GetToken())
	if depth > deepest {
		r.wrong(at, option, "nested too deeply", "")
		return &node{shape: broken, at: at, yaml: n}
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return &node{at: at, yaml: n}
	case *ast.MappingNode:
		return r.mapping(n, option, depth)
	case *ast.SequenceNode:
		out := &node{shape: list, at: at, yaml: n}
		for i, v := range n.Values {
			out.items = append(out.items, r.node(v, fmt.Sprintf("%s[%d]", option, i), depth+1))
		}
		return out
	case *ast.StringNode:
		s := plain
		if t := n.Token.Type; t == token.SingleQuoteType || t == token.DoubleQuoteType {
			s = quoted
		}
		out := r.scalar(n, s, n.Value, at, option)
		if out.shape == scalar {
			n.Value = out.text // plug-ins decode the syntax tree
		}
		return out
	case *ast.LiteralNode:
		out := r.scalar(n, quoted, n.Value.Value, at, option)
		if out.shape == scalar {
			n.Value.Value = out.text
		}
		return out
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return r.scalar(n, number, n.GetToken().Value, at, option)
	case *ast.BoolNode:
		return r.scalar(n, boolean, n.Token.Value, at, option)
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		r.wrong(at, option, "anchors and aliases are not understood", "write the value out, or put it in quotes if it begins with & or *")
	case *ast.TagNode:
		r.wrong(at, option, "tags are not understood", "put a value that begins with ! in quotes")
	default:
		r.wrong(at, option, "not understood here", "")
	}
	return &node{shape: broken, at: at, yaml: n}
}

func (r *reader) mapping(n *ast.MappingNode, option string, depth int) *node {
	out := &node{shape: mapping, at: r.place(n.GetToken()), yaml: n}
	for _, v := range n.Values {
		key, at := "", r.place(v.Key.GetToken())
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
			key = k.GetToken().Value
		default:
			r.wrong(at, option, "not understood as the name of an option", "")
			continue
		}
		child := key
		if option != "" {
			child = option + "." + key
		}
		value := r.node(v.Value, child, depth+1)
		if value.shape == nothing {
			value.at = at // an empty value has no place of its own
		}
		out.pairs = append(out.pairs, pair{key, at, value})
	}
	if len(out.pairs) > 0 {
		out.at = out.pairs[0].at
	}
	return out
}

func (r *reader) scalar(n ast.Node, s style, text string, at place, option string) *node {
	l := r.lookup
	l.keep = strings.HasPrefix(option, "plugins")
	value, err := l.expand(text)
	if err != nil {
		problem, fix := problemAndFix(err)
		r.wrong(at, option, problem, fix)
		return &node{shape: broken, at: at, yaml: n}
	}
	return &node{shape: scalar, style: s, text: value, raw: text, at: at, yaml: n}
}

// bareHash says that an empty value has a comment where the value should be.
func (n *node) bareHash() bool {
	if n.shape != nothing || n.at.src == nil || n.at.line < 1 || n.at.line > len(n.at.src.lines) {
		return false
	}
	line := n.at.src.lines[n.at.line-1]
	rest := line[min(max(0, n.at.col-1), len(line)):]
	_, after, ok := strings.Cut(rest, "#")
	if !ok {
		return false
	}
	before := strings.TrimSpace(rest[:len(rest)-len(after)-1])
	return before == "" || strings.HasSuffix(before, ":") || strings.HasSuffix(before, "-")
}
