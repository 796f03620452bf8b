// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestDefaultDataDirectory(t *testing.T) {
	for _, c := range []struct {
		system  string
		environ []string
		want    string
	}{
		{"linux", nil, ""},
		{"linux", []string{"HOME=/home/a"}, "/home/a/.local/share/noctule"},
		{"linux", []string{"HOME=/home/a", "XDG_DATA_HOME=/data"}, "/data/noctule"},
		{"linux", []string{"HOME=/home/a", "XDG_DATA_HOME=data"}, "/home/a/.local/share/noctule"},
		{"linux", []string{"HOME=/root", "STATE_DIRECTORY=/var/lib/noctule"}, "/var/lib/noctule"},
		{"linux", []string{"STATE_DIRECTORY=/var/lib/a:/var/lib/b"}, "/var/lib/a"},
		{"darwin", []string{"HOME=/Users/a"}, "/Users/a/Library/Application Support/noctule"},
		{"windows", []string{"LOCALAPPDATA=/Local"}, "/Local/noctule"},
		{"windows", []string{"LocalAppData=/Local"}, "/Local/noctule"},
		{"windows", []string{"HOME=/home/a"}, ""},
	} {
		env := pairs(c.environ)
		if got := defaultData(c.system, func(name string) string { return env[name] }); filepath.ToSlash(got) != c.want {
			t.Errorf("%s %q: got %q, want %q", c.system, c.environ, got, c.want)
		}
	}
}

func TestDataThatIsGivenCounts(t *testing.T) {
	in := Input{File: "f", Text: []byte("data: /mine\n"), Environ: []string{"STATE_DIRECTORY=/var/lib/noctule"}}
	if got := mustLoad(t, in).Data; got != "/mine" {
		t.Errorf("got %q", got)
	}
	if got := mustLoad(t, Input{}).Data; got != "" {
		t.Errorf("got %q without an environment", got)
	}
}

func TestDurabilityWarnings(t *testing.T) {
	for text, want := range map[string][]string{
		"store: {durability: sync}\n":     nil,
		"store: {durability: interval}\n": {"power cut"},
		"store: {durability: memory}\n":   {"in memory only"},
		"store: {durability_by_topic: [{filter: a, durability: memory}, {filter: b, durability: sync}, {filter: c, durability: interval}]}\n": {"messages of a are kept with durability memory", "messages of c"},
		"store: {durability: interval, durability_by_topic: [{filter: a, durability: memory}, {filter: b, durability: sync}]}\n":              {"power cut", "messages of a"},
		"store: {durability: memory, durability_by_topic: [{filter: a, durability: memory}]}\n":                                               {"in memory only"},
	} {
		got := mustLoad(t, Input{File: "f", Text: []byte(text)}).Warnings()
		if len(got) != len(want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
			continue
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: got %q, want %q", text, got[i], want[i])
			}
		}
	}
}
