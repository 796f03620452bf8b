// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// plainText is text that YAML takes as text without quotes; plainWord is not, though it looks so.
var (
	plainText = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*$`)
	plainWord = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|null|y|n)$`)
)

// yamlText writes text as YAML.
func yamlText(s string) string {
	if plainText.MatchString(s) && !plainWord.MatchString(s) {
		return s
	}
	b, err := json.Marshal(s) // YAML reads it as the same text
	if err != nil {
		return "\"\""
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(b))
}

// flow writes a list on one line.
func flow(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = yamlText(s)
		if strings.HasPrefix(s, "*") {
			out[i] = strconv.Quote(s)
		}
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// secret matches the names of options whose values are not shown.
var secret = regexp.MustCompile(`(?i)(^|[-_])(password|passwd|passphrase|secret|token|credentials?|dsn|api[-_]?key|private[-_]?key|signing[-_]?key|authorization)$`)

// login matches a password within a URL.
var login = regexp.MustCompile(`://([^/@:\s]*):[^/@\s]+@`)

// mask is what is shown instead of a secret.
const mask = "********"

// shown is a scalar as it may be shown: as it was written, so that a reference stays one, and without passwords.
func (n *node) shown(key string) string {
	switch {
	case n.raw != n.text:
		return yamlText(n.raw)
	case secret.MatchString(key):
		return yamlText(mask)
	case n.style == number || n.style == boolean:
		return n.text
	}
	return yamlText(login.ReplaceAllString(n.text, "://$1:"+mask+"@"))
}

// text writes a plug-in's section as an entry of a list.
func (p *Plugin) text(indent string) string {
	var b strings.Builder
	p.node.write(&b, indent+"  ", "")
	return indent + "- " + strings.TrimPrefix(b.String(), indent+"  ")
}

// write writes a node and all below it, a line each. key is what the node's value belongs to.
func (n *node) write(b *strings.Builder, indent, key string) {
	switch n.shape {
	case mapping:
		for _, p := range n.pairs {
			b.WriteString(indent + yamlText(p.key) + ":")
			p.value.writeValue(b, indent, p.key)
		}
	case list:
		for _, item := range n.items {
			b.WriteString(indent + "-")
			item.writeValue(b, indent, key)
		}
	}
}

// writeValue writes what follows a key or a dash.
func (n *node) writeValue(b *strings.Builder, indent, key string) {
	switch {
	case n.shape == scalar:
		b.WriteString(" " + n.shown(key) + "\n")
	case n.shape == nothing:
		b.WriteString(" null\n")
	case len(n.pairs)+len(n.items) == 0:
		b.WriteString(map[shape]string{mapping: " {}\n", list: " []\n"}[n.shape])
	default:
		b.WriteString("\n")
		n.write(b, indent+"  ", key)
	}
}
