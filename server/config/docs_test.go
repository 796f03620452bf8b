// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write docs/configuration.md and docs/noctule.schema.json")

// TestDocumentsAreCurrent compares what the table of options says with the documents that are made from it.
func TestDocumentsAreCurrent(t *testing.T) {
	head, err := os.ReadFile("testdata/configuration-head.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{
		"configuration.md":    []byte(referencePage(string(head))),
		"noctule.schema.json": Schema(),
	} {
		path := filepath.Join("..", "..", "docs", name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what the options are now; run go test ./server/config -update", name)
		}
	}
}

// TestSchemaAgreesWithLoad has the schema and Load judge the same files.
func TestSchemaAgreesWithLoad(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	var schema any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource(SchemaID, schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(text string) error {
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return compiled.Validate(v)
	}
	c, err := Load(Input{})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		DefaultYAML(), c.YAML(), "limits:\n", "limits:\n  max_packet: 2MiB\n  max_session_expiry: 30d\n  max_qos: 1\n",
		"log:\n  level: ${env:LEVEL}\n", "plugins:\n  - name: x\n    any: [1, 2]\n", "policy:\n  sys_interval: -1s\n",
	} {
		if err := judge(text); err != nil {
			t.Errorf("the schema refuses what is right: %v in\n%s", err, text)
		}
		if _, err := Load(Input{File: "f", Text: []byte(text), Environ: []string{"LEVEL=warn"}}); err != nil {
			t.Errorf("Load refuses what is right: %v in\n%s", err, text)
		}
	}
	for _, text := range []string{
		"listener: []\n", "limits:\n  max_packets: 1MiB\n", "limits:\n  max_packet: 12\n", "limits:\n  max_qos: 3\n",
		"log:\n  level: loud\n", "listeners:\n  - adress: x:1\n", "plugins:\n  - path: x\n", "limits:\n  max_keep_alive: 10\n",
		"admin:\n  expose: 1\n",
	} {
		if judge(text) == nil {
			t.Errorf("the schema takes what is wrong: %s", text)
		}
		if _, err := Load(Input{File: "f", Text: []byte(text)}); err == nil {
			t.Errorf("Load takes what is wrong: %s", text)
		}
	}
}

// referencePage is the reference of all options, in Markdown, behind a head that tells how configuration works.
func referencePage(head string) string {
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("\n## Options\n")
	page(&b, tree, Default(), "", "", "")
	return b.String()
}

// page writes a table of the options behind a prefix, and then one for each section below. path is what they are called by.
func page(b *strings.Builder, t *table, holder any, prefix, path, doc string) {
	if path != "" {
		fmt.Fprintf(b, "\n### %s\n\n%s\n", path, doc)
	}
	b.WriteString("\n| option | takes | default | takes effect | meaning |\n|---|---|---|---|---|\n")
	names := t.below(prefix)
	for _, name := range names {
		if o := t.find(prefix + name); o != nil {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", name, o.takes(), o.standard(holder), o.reload, o.doc)
		}
	}
	for _, name := range names {
		o := t.find(prefix + name)
		switch {
		case o == nil:
			page(b, t, holder, prefix+name+".", join(path, name), t.groups[prefix+name])
		case o.kind == sections:
			entry := o.of.make()
			if list := reflect.ValueOf(o.field(holder)).Elem(); list.Len() > 0 {
				entry = list.Index(0).Addr().Interface()
			}
			page(b, o.of, entry, "", join(path, name)+"[]", "A list; each entry has these.")
		}
	}
}

// takes says in words what values there are.
func (o *option) takes() string {
	switch o.kind {
	case word:
		return "`" + strings.Join(o.words, "`, `") + "`"
	case count, size, span:
		s := o.kind.String()
		if o.min != 0 {
			s += " from " + o.format(o.min)
		}
		if o.max != 0 {
			s += " to " + o.format(o.max)
		}
		return s
	}
	return o.kind.String()
}

// standard is the default as it would be written.
func (o *option) standard(holder any) string {
	value := ""
	switch o.kind {
	case sections:
		if reflect.ValueOf(o.field(holder)).Elem().Len() == 0 {
			return "none"
		}
		return "one, below"
	case plugins:
		return "none"
	case texts:
		if len(o.values(holder)) > 0 {
			value = flow(o.values(holder))
		}
	default:
		value = o.value(holder)
	}
	if value == "" {
		return ""
	}
	return "`" + value + "`"
}
