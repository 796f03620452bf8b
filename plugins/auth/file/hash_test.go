// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// golden are hashes made by others, with their passwords.
var golden = []struct {
	name, hash, password string
	scheme               Scheme
}{
	{"mosquitto_passwd 2.0.11 -H sha512",
		"$6$udmyIwOjgiewR/t3$uLm1UPzsmUTgu/xLeGWsB9MJZH9AJdbsUveb/mQs9QJ1V2JaU+sPAY5A9x1Ha8/JakTvhbEuolONl07hxeRuIw==",
		"wonder", SaltedSHA512},
	{"mosquitto_passwd 2.0.11 -H sha512-pbkdf2",
		"$7$101$LzETBtCv7g+DoQbW$eLEQqMEi340W1i7ShMeF4dNykgyhjJHILOZRYKrejIo9cK+SYLz4anHYHyOBNh7TBHbzoyjuuTpou66zJfVFrw==",
		"builder", PBKDF2SHA512},
	{"the reference implementation of Argon2, which Mosquitto 2.1 uses",
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"password", Argon2id},
	{"OpenBSD's bcrypt", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U", Bcrypt},
}

// Where mosquitto_passwd is installed, its files are read as they are; the golden hashes stand for it elsewhere.
func TestFilesOfMosquitto(t *testing.T) {
	program, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		t.Log("mosquitto_passwd is not installed; see TestHashesOfOthers")
		return
	}
	path := filepath.Join(t.TempDir(), "passwords")
	for _, args := range [][]string{
		{"-H", "sha512", "-c", "-b", path, "old", "päss:word"},
		{"-H", "sha512-pbkdf2", "-b", path, "new", "päss:word"},
	} {
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	u := usersOf(t, path)
	for _, name := range []string{"old", "new"} {
		if x := u.byName[name]; x == nil || !x.hash.Verify([]byte("päss:word")) || x.hash.Verify([]byte("pass:word")) {
			t.Errorf("%s: not verified", name)
		}
	}
	if u.weak != 2 {
		t.Errorf("%d are called weak, want 2", u.weak)
	}
}

func usersOf(t *testing.T, path string) *users {
	t.Helper()
	a := started(t, Options{Path: path})
	return a.users.Load()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
