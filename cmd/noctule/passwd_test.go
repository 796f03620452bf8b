// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The flags of mosquitto_passwd do what they do there, by our verb and by its name.
func TestPasswd(t *testing.T) {
	for _, name := range [][]string{{"noctule", "passwd"}, {"/usr/bin/mosquitto_passwd"}} {
		t.Run(filepath.Base(name[0]), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "passwords")
			passwd := func(in string, args ...string) ended {
				return calling(in, append(append([]string{}, name...), args...)...)
			}
			const fast = "sha512"
			passwd("", "-b", file, "alice", "wonder").want(t, 1, "-c makes a new file")
			passwd("", "-H", fast, "-c", "-b", file, "alice", "-wonder").want(t, 0, "")
			passwd("builder\nbuilder\n", "-H", fast, file, "bob").want(t, 0, "")
			passwd("builder\nbuilde\n", "-H", fast, file, "bob").want(t, 1, "differ")
			passwd("", "-b", file, "a:b", "x").want(t, 1, "has a colon")
			wantPassword(t, file, "alice", "-wonder", true)
			wantPassword(t, file, "bob", "builder", true)

			passwd("", "-D", file, "nobody").want(t, 1, "no such user")
			passwd("", "-D", file, "alice").want(t, 0, "")
			calling("", "noctule", "user", "list", "-f", file, "-o", "csv").want(t, 0, "name,scheme,line\nbob,sha512,1\n")
			passwd("", "-cb", file, "carol", "x").want(t, 0, "")
			calling("", "noctule", "user", "list", "-f", file, "-o", "csv").want(t, 0, "name,scheme,line\ncarol,argon2id,1\n")

			if err := os.WriteFile(file, []byte("u1:p:1\nu2:p2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			passwd("", "-b", file, "u1", "x").want(t, 1, "noctule passwd -U")
			passwd("", "-H", fast, "-U", file).want(t, 0, "")
			wantPassword(t, file, "u1", "p:1", true)
			wantPassword(t, file, "u2", "p2", true)

			for _, wrong := range [][]string{
				{}, {file}, {"-b", file, "x"}, {"-U", file, "x"}, {"-D", "-b", file, "x", "y"}, {"-U", "-c", file}, {"-D", "-c", file, "x"},
				{"-H", "md5", file, "x"}, {"-z"}, {"-U", file + ".none"}, {"-D", file + ".none", "x"},
			} {
				passwd("x\n", wrong...).want(t, 1, "")
			}
		})
	}
}

// Where Mosquitto is installed, its own program goes on with a file of ours.
func TestPasswdFileIsMosquittos(t *testing.T) {
	theirs, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		t.Log("mosquitto_passwd is not installed")
		return
	}
	file := filepath.Join(t.TempDir(), "passwords")
	calling("", "noctule", "passwd", "-H", "sha512", "-c", "-b", file, "ours", "a").want(t, 0, "")
	if out, err := exec.Command(theirs, "-b", file, "theirs", "b").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	calling("", "noctule", "passwd", "-H", "sha512-pbkdf2", "-b", file, "third", "c").want(t, 0, "")
	wantPassword(t, file, "ours", "a", true)
	wantPassword(t, file, "theirs", "b", true)
	wantPassword(t, file, "third", "c", true)
}

func TestPipedPassword(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "a\n": "a", "a\r\n": "a", " a b \n": " a b ", "a\na\n": "a", "a\n\n": "a", "a\na\nb": "a",
		"": "", "\n": "", "\na": "", "a\nb\n": "",
	} {
		got, err := askPassword(strings.NewReader(in), new(strings.Builder))
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}
