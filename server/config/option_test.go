// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestEveryFieldHasAnOption finds fields of the limits, the policy and the store that nobody can configure.
func TestEveryFieldHasAnOption(t *testing.T) {
	c := Default()
	reachable := map[any]string{}
	for _, o := range tree.options {
		p := o.field(c)
		if other, ok := reachable[p]; ok {
			t.Errorf("%s and %s set the same field", o.name, other)
		}
		reachable[p] = o.name
	}
	for _, holder := range []any{&c.Limits.Limits, &c.Policy, &c.Policy.LoginAttempts, &c.Policy.Flapping, &c.Store, &c.Store.Limits, &c.Admin, &c.Log, &c.Auth, &c.Alarms, &c.Shutdown} {
		v := reflect.ValueOf(holder).Elem()
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if name == "ServerReference" || holder == any(&c.Store) && name == "Limits" || holder == any(&c.Policy) && (name == "LoginAttempts" || name == "Flapping") { // the administrator's answer to one client; holders of their own
				continue
			}
			if _, ok := reachable[v.Field(i).Addr().Interface()]; !ok {
				t.Errorf("no option sets %s.%s", v.Type(), name)
			}
		}
	}
}

func TestOptionsAreDocumented(t *testing.T) {
	for _, table := range []*table{tree, listenerTable, durabilityTable} {
		for _, o := range table.options {
			if !strings.HasSuffix(o.doc, ".") || strings.Contains(o.doc, "\n") {
				t.Errorf("%s: the doc comment wants to be sentences: %q", o.name, o.doc)
			}
			if i := strings.LastIndexByte(o.name, '.'); i > 0 && table.groups[o.name[:i]] == "" {
				t.Errorf("%s: its section has no doc comment", o.name)
			}
			if o.kind == texts && (o.check == nil || len(o.words) == 0) {
				t.Errorf("%s: a list of text wants a check and an example", o.name)
			}
		}
	}
}

// TestDefaultsAreInRange loads the default file, which has every option, through the checks of each.
func TestDefaultYAMLIsTheDefault(t *testing.T) {
	text := DefaultYAML()
	got, err := Load(Input{File: "default.yaml", Text: []byte(text)})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want, err := Load(Input{})
	if err != nil {
		t.Fatal(err)
	}
	if c := Changes(want, got); len(c) > 0 {
		t.Errorf("the default file changes %v", c)
	}
	for _, o := range tree.options {
		name := o.name[strings.LastIndexByte(o.name, '.')+1:]
		if !strings.Contains(text, name+":") {
			t.Errorf("the default file lacks %s", o.name)
		}
	}
}

func TestYAMLLoadsAsItself(t *testing.T) {
	in := Input{File: "f.yaml", Text: []byte(`
listeners:
  - name: public
    address: "[::]:8883"
    plaintext: true
    websocket: {origins: ["*", "https://a.example"]}
  - address: unix:///tmp/x y.sock
log: {level: debug, format: json}
auth: {anonymous: nowhere}
limits: {max_session_expiry: 30d, max_packet: 1500KB, max_qos: 1}
policy: {shared_strategy: hash_topic, response_information: "true"}
store: {durability: interval, on_damage: refuse, write_buffer: 2MiB, durability_by_topic: [{filter: "a/#", durability: memory}, {filter: b, durability: sync}]}
plugins:
  - name: auth.file
    path: users.txt
    nested: {list: [a, "#", 3, true], text: "a: b"}
`)}
	first, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Load(Input{File: "g.yaml", Text: []byte(first.YAML())})
	if err != nil {
		t.Fatalf("%v\n%s", err, first.YAML())
	}
	if c := Changes(first, second); len(c) > 0 {
		t.Errorf("written and read again, it differs: %v\n%s", c, first.YAML())
	}
	if !strings.Contains(first.YAML(), "max_packet: 1500KB  # f.yaml:") && !strings.Contains(first.YAML(), "max_packet: 1500000B  # f.yaml:") {
		t.Errorf("no origin at max_packet:\n%s", first.YAML())
	}
}

func TestYAMLMasksSecrets(t *testing.T) {
	c, err := Load(Input{File: "f", Environ: []string{"TOKEN=t0p"}, Text: []byte(`
plugins:
  - name: auth.http
    url: https://user:s3cret@example.org/x
    password: hunter2
    api_key: abc123
    nested: {client_secret: "def456", path: "${env:TOKEN}"}
    tokens: [ok]
    headers: {Authorization: "Bearer b3arer", X-Api-Key: k3y}
`)})
	if err != nil {
		t.Fatal(err)
	}
	text := c.YAML()
	for _, s := range []string{"s3cret", "hunter2", "abc123", "def456", "t0p", "b3arer", "k3y"} {
		if strings.Contains(text, s) {
			t.Errorf("%q is shown:\n%s", s, text)
		}
	}
	if !strings.Contains(text, "${env:TOKEN}") {
		t.Errorf("a reference is not shown as one:\n%s", text)
	}
}

func TestChangesSayWhen(t *testing.T) {
	old, err := Load(Input{})
	if err != nil {
		t.Fatal(err)
	}
	next, err := Load(Input{File: "f", Text: []byte("log: {level: debug}\nlimits: {max_packet: 2MiB}\nadmin: {address: off}\nlisteners: [{address: \"127.0.0.1:1\"}]\n")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range Changes(old, next) {
		got = append(got, c.Option+" "+c.From+" "+c.To+" "+c.Reload.String())
	}
	want := []string{
		"listeners[0].name localhost:1883 127.0.0.1:1 restart", "listeners[0].address localhost:1883 127.0.0.1:1 restart",
		"admin.address 127.0.0.1:18083 off restart", "log.level info debug live", "limits.max_packet 1MiB 2MiB next connection",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
