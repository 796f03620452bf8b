// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestACLTest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acl.txt")
	rules := "topic read news/#\nuser alice\n  topic readwrite home/# \npattern write devices/%c/state\n"
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"alice", "publish", "home/x"}, 0, "allow: acl.txt:3: topic readwrite home/#\n"},
		{[]string{"alice", "pub", "home/x"}, 0, "allow: acl.txt:3: topic readwrite home/#\n"},
		{[]string{"alice", "publish", "news/x"}, 1, "deny: acl.txt: no rule allows it\n"},
		{[]string{"", "receive", "news/x"}, 0, "allow: acl.txt:1: topic read news/#\n"},
		{[]string{"", "subscribe", "$share/g/news/+"}, 0, "allow: acl.txt:1: topic read news/#\n"},
		{[]string{"", "will", "news/x"}, 1, "deny: acl.txt: no rule allows it\n"},
		{[]string{"bob", "publish", "devices/lamp/state"}, 1, "deny: acl.txt: no rule allows it\n"},
		{[]string{"bob", "publish", "devices/lamp/state", "--client", "lamp"}, 0, "allow: acl.txt:4: pattern write devices/%c/state\n"},
	} {
		e := calling("", append([]string{"noctule", "acl", "test", "--file", file}, c.args...)...)
		if e.code != c.code || e.out != c.out {
			t.Errorf("%q: code %d, %q; want %d, %q", c.args, e.code, e.out, c.code, c.out)
		}
	}
	for _, args := range [][]string{
		{"alice", "publish"}, {"alice", "read", "a"}, {"alice", "publish", "a/#"}, {"alice", "publish", ""}, {"alice", "subscribe", "a/#/b"},
		{"alice", "publish", "a", "--file", file + ".none"},
	} {
		calling("", append([]string{"noctule", "acl", "test", "--file", file}, args...)...).want(t, 2, "")
	}
	calling("", "noctule", "acl").want(t, 2, "needs a verb")
}

// In our own language, with all that a client may be known by.
func TestACLTestByRules(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acl.txt")
	rules := `deny any publish retain=yes #
allow user alice client lamp-7 publish qos=0,1 home/#
allow group staff address 10.0.0.0/8 subscribe news/#
allow any both t/${claim.tenant}/#
allow claim.role admin subscribe $SYS/#
`
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		out  string
	}{
		{"alice publish home/x --client lamp-7 --qos 1", 0, "allow: acl.txt:2: allow user alice client lamp-7 publish qos=0,1 home/#\n"},
		{"alice publish home/x --client lamp-7 --qos 2", 1, "deny: acl.txt: no rule allows it\n"},
		{"alice publish home/x --client lamp-8", 1, "deny: acl.txt: no rule allows it\n"},
		{"alice publish home/x --client lamp-7 --retain", 1, "deny: acl.txt:1: deny any publish retain=yes #\n"},
		{"bob subscribe news/a --group night --group staff --address 10.1.2.3", 0, "allow: acl.txt:3: allow group staff address 10.0.0.0/8 subscribe news/#\n"},
		{"bob subscribe news/a --group staff --address 11.1.2.3", 1, "deny: acl.txt: no rule allows it\n"},
		{"bob subscribe news/a --group staff", 1, "deny: acl.txt: no rule allows it\n"},
		{"bob will t/acme/x --claim tenant=acme --claim role=user", 0, "allow: acl.txt:4: allow any both t/${claim.tenant}/#\n"},
		{"bob publish t/other/x --claim tenant=+", 1, "deny: acl.txt: no rule allows it\n"},
		{"bob subscribe $share/g/$SYS/# --claim role=admin", 0, "allow: acl.txt:5: allow claim.role admin subscribe $SYS/#\n"},
	} {
		e := calling("", append([]string{"noctule", "acl", "test", "--file", file}, strings.Fields(c.args)...)...)
		if e.code != c.code || e.out != c.out {
			t.Errorf("%s: code %d, %q; want %d, %q", c.args, e.code, e.out, c.code, c.out)
		}
	}
	for args, want := range map[string]string{"--qos 3": "0, 1 or 2", "--claim x": "name=value", "--claim =x": "name=value", "--address ten": "no IP address"} {
		calling("", append([]string{"noctule", "acl", "test", "a", "publish", "b", "--file", file}, strings.Fields(args)...)...).want(t, 2, want)
	}
}

// The manual's examples of acl test give what it says, by the file of rules in the manual.
func TestACLExamplesOfTheManual(t *testing.T) {
	rules, err := os.ReadFile("../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("../../docs/cli-access.md")
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile("(?s)```\n(# before the first user.*?)```").FindSubmatch(rules)
	calls := regexp.MustCompile(`(?m)^\$ (noctule acl test .*)\n(.*\n)`).FindAllSubmatch(examples, -1)
	if file == nil || len(calls) < 4 {
		t.Fatalf("%d examples", len(calls))
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("acl.txt", file[1], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		args := strings.Fields(strings.ReplaceAll(string(c[1]), "'", ""))
		if e := calling("", args...); e.out != string(c[2]) {
			t.Errorf("%s: %q, the manual says %q", c[1], e.out, c[2])
		}
	}
}

// The ten lines of the manual are rules, and say what it says.
func TestRulesOfTheManual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/acl.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile("(?s)```\n(# acl.txt: .*?)```").FindSubmatch(manual)
	if rules == nil {
		t.Fatal("no rules")
	}
	file := filepath.Join(t.TempDir(), "acl.txt")
	if err := os.WriteFile(file, rules[1], 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"alice publish alarms/x --retain":                                    "deny: acl.txt:2: ",
		"bob subscribe news/+":                                               "allow: acl.txt:3: ",
		"alice publish home/safe/door":                                       "deny: acl.txt:4: ",
		"alice publish home/lamp":                                            "allow: acl.txt:5: ",
		"bob publish cmd/7/set --group operators --qos 1":                    "allow: acl.txt:6: ",
		"bob publish cmd/7/set --group operators --qos 2":                    "deny: acl.txt: no rule",
		"bob publish devices/lamp-7/on --client lamp-7":                      "allow: acl.txt:7: ",
		"root subscribe # --claim role=admin --address 10.1.2.3":             "allow: acl.txt:3: ",
		"root receive elsewhere --claim role=admin --address 10.1.2.3":       "allow: acl.txt:8: ",
		"root receive $SYS/broker/uptime --claim role=admin --address ::1":   "deny: acl.txt: no rule",
		"bob publish machines/press/on":                                      "deny: acl.txt: no rule",
		"bob subscribe public/x":                                             "deny: acl.txt: no rule",
		"bob publish cmd/7/set --group staff --address 10.1.2.3 --claim a=b": "deny: acl.txt: no rule",
	} {
		e := calling("", append([]string{"noctule", "acl", "test", "--file", file}, strings.Fields(args)...)...)
		if !strings.HasPrefix(e.out, want) {
			t.Errorf("%s: %q, want %s", args, e.out, want)
		}
	}
	if e := calling("", "noctule", "acl", "test", "--file", file, "", "subscribe", "public/x"); e.code != 0 {
		t.Errorf("anonymous: %q", e.out)
	}
}
