// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
	"time"
)

type pluginOptions struct {
	Path    string        `yaml:"path"`
	Timeout time.Duration `yaml:"timeout"`
	Limit   int           `yaml:"limit"`
	Topics  []string      `yaml:"topics"`
	Rules   []struct {
		Filter string `yaml:"filter"`
	} `yaml:"rules"`
}

func onePlugin(t *testing.T, text string) *Plugin {
	t.Helper()
	c := mustLoad(t, Input{File: "n.yaml", Text: []byte(text), Environ: []string{"P=users.txt"}})
	return &c.Plugins[0]
}

func TestPluginDecode(t *testing.T) {
	var o pluginOptions
	p := onePlugin(t, `plugins:
  - path: ${env:P}
    name: x.y
    timeout: 30d
    limit: 3
    topics: ["#", a/b]
    rules:
      - filter: "+"
`)
	if err := p.Decode(&o); err != nil {
		t.Fatal(err)
	}
	if p.Name != "x.y" || o.Path != "users.txt" || o.Timeout != 720*time.Hour || o.Limit != 3 || len(o.Topics) != 2 || o.Topics[0] != "#" || o.Rules[0].Filter != "+" {
		t.Errorf("got %+v", o)
	}
	var again pluginOptions
	if err := p.Decode(&again); err != nil || again.Path != "users.txt" {
		t.Errorf("decoded again: %+v, %v", again, err)
	}
	if err := onePlugin(t, "plugins: [{name: x.y}]\n").Decode(&o); err != nil {
		t.Errorf("without options: %v", err)
	}
}

func TestPluginDecodeMistakes(t *testing.T) {
	for _, c := range []struct{ options, at, want string }{
		{"    paht: x\n", "3:5", "plugins[0].paht: unknown option of x.y; did you mean path?"},
		{"    zzzzzzzz: x\n", "3:5", "what x.y understands: path, timeout, limit, topics, rules"},
		{"    limit: many\n", "3:12", "plugins[0].limit: "},
		{"    path: [a]\n", "3:", "plugins[0].path"},
		{"    timeout: 10\n", "3:", "10 has no unit"},
		{"    rules:\n      - fitler: a\n", "4:9", "plugins[0].rules[0].fitler: unknown option of x.y; did you mean filter?"},
		{"    topics: a\n", "3:", "plugins[0].topics"},
	} {
		var o pluginOptions
		err := onePlugin(t, "plugins:\n  - name: x.y\n"+c.options).Decode(&o)
		if err == nil || !strings.HasPrefix(err.Error(), "n.yaml:"+c.at) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s %s", c.options, err, c.at, c.want)
		}
	}
}

// Templates of plug-ins are left to them; what has a kind is expanded all the same.
func TestPluginTemplates(t *testing.T) {
	var o pluginOptions
	p := onePlugin(t, "plugins: [{name: x.y, path: \"${env:P}/${username}/$${clientid}\", topics: ['${claim.sub}']}]\n")
	if err := p.Decode(&o); err != nil || o.Path != "users.txt/${username}/$${clientid}" || o.Topics[0] != "${claim.sub}" {
		t.Errorf("got %+v, %v", o, err)
	}
	_, err := Load(Input{File: "n.yaml", Text: []byte("plugins: [{name: x.y, path: \"${user:name}\"}]\n")})
	if err == nil || !strings.Contains(err.Error(), "${user:name} is not understood") {
		t.Errorf("error %v", err)
	}
}
