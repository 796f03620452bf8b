// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authfile "github.com/noctule/noctule/plugins/auth/file"
	"github.com/noctule/noctule/plugins/auth/scram"
)

// ended is what a call of the program left.
type ended struct {
	code       int
	out, words string
	err        error
}

// calling runs the program, by the name that args begin with, on some input.
func calling(in string, args ...string) ended {
	cmd := program(args)
	var out, words bytes.Buffer
	cmd.SetIn(strings.NewReader(in))
	cmd.SetOut(&out)
	cmd.SetErr(&words)
	e := ended{err: cmd.Execute()}
	if e.err != nil {
		e.code = exitUsage
		if x, ok := e.err.(*exit); ok {
			e.code = x.code
		}
	}
	e.out, e.words = out.String(), words.String()
	return e
}

func (e ended) want(t *testing.T, code int, text string) {
	t.Helper()
	all := e.out + e.words
	if e.err != nil {
		all += e.err.Error()
	}
	if e.code != code || !strings.Contains(all, text) {
		t.Fatalf("code %d and %q; want %d and %q", e.code, all, code, text)
	}
}

func TestUserVerbs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "users.txt")
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("builder\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	calling("", "noctule", "user", "list", "--file", file).want(t, 1, "`noctule user add` makes one")
	calling("wonder\n", "noctule", "user", "add", "alice", "--file", file).want(t, 0, "added \"alice\"")
	calling("x\n", "noctule", "user", "add", "alice", "--file", file).want(t, 1, "already")
	calling("", "noctule", "user", "add", "bob", "--file", file, "--password-file", secret).want(t, 0, "added \"bob\"")
	calling("", "noctule", "user", "add", "carol", "--file", file).want(t, 1, "the password is empty")
	calling("a\nb\n", "noctule", "user", "add", "carol", "--file", file).want(t, 1, "the two passwords differ")
	calling("x\n", "noctule", "user", "add", "a:b", "--file", file).want(t, 1, "has a colon")
	calling("x\n", "noctule", "user", "passwd", "carol", "--file", file).want(t, 1, "no such user")
	calling("land", "noctule", "user", "passwd", "alice", "--file", file, "--password-file", "-").want(t, 0, "changed \"alice\"")

	list := calling("", "noctule", "user", "list", "--file", file, "-o", "csv")
	if list.out != "name,scheme,line\nalice,argon2id,1\nbob,argon2id,2\n" {
		t.Errorf("csv: %q", list.out)
	}
	for format, want := range map[string]string{
		"table": "alice  argon2id  1", "yaml": "- name: alice", "json": "\"name\": \"alice\"",
	} {
		calling("", "noctule", "user", "list", "--file", file, "-o", format).want(t, 0, want)
	}
	calling("", "noctule", "user", "list", "--file", file, "-o", "xml").want(t, 2, "table, json, yaml or csv")

	wantPassword(t, file, "alice", "land", true)
	wantPassword(t, file, "alice", "wonder", false)
	wantPassword(t, file, "bob", "builder", true)

	calling("", "noctule", "user", "remove", "alice", "nobody", "--file", file).want(t, 1, "no such user: \"nobody\"")
	calling("", "noctule", "user", "remove", "alice", "--file", file).want(t, 0, "removed")
	calling("", "noctule", "user", "list", "--file", file, "-o", "csv").want(t, 0, "name,scheme,line\nbob,argon2id,1\n")
	calling("", "noctule", "user").want(t, 2, "needs a verb")
	calling("", "noctule", "user", "add", "--file", file).want(t, 2, "")
}

func TestScramUsers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scram.txt")
	calling("wonder\n", "noctule", "user", "add", "alice", "--scram", "--iterations", "4096", "--file", file).want(t, 0, "added")
	calling("wonder\n", "noctule", "user", "add", "alice", "--scram", "--file", file).want(t, 1, "already")
	calling("wonder\n", "noctule", "user", "add", "alice", "--scram=SCRAM-SHA-512", "--file", file).want(t, 0, "added")
	calling("wonder\n", "noctule", "user", "add", "bob", "--scram=MD5", "--file", file).want(t, 2, "the method is")
	calling("", "noctule", "user", "list", "--scram", "--file", file, "-o", "csv").
		want(t, 0, "alice,SCRAM-SHA-256,2\nalice,SCRAM-SHA-512,3\n")
	if e, err := scram.Edit(file); err != nil || !e.Has("alice", scram.SHA512) {
		t.Errorf("written: %v, %v", e, err)
	}
	calling("", "noctule", "user", "remove", "alice", "--scram", "--file", file).want(t, 0, "removed")
	calling("", "noctule", "user", "list", "--scram", "--file", file, "-o", "json").want(t, 0, "[]")
}

// wantPassword checks a password against a file.
func wantPassword(t *testing.T, path, name, password string, want bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if hash, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			h, err := authfile.ParseHash(hash)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.Verify([]byte(password)); got != want {
				t.Errorf("%s's password %q: %v, want %v", name, password, got, want)
			}
			return
		}
	}
	t.Errorf("%s is not in the file", name)
}
