// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/noctule/noctule/plugins/internal/textfile"
)

func edit(t *testing.T, path string) *Editor {
	t.Helper()
	e, err := EditOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEdit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.txt")
	if _, err := Edit(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	e := edit(t, path)
	for _, name := range []string{"alice", "bob", "zoë smith"} {
		if err := e.Set(name, SaltedSHA512, []byte("pw of "+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Write(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "# ours\n\n"+string(text)+"# the end\n")

	e = edit(t, path)
	if err := e.Set("bob", SaltedSHA512, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove("alice"); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove("alice"); !errors.Is(err, ErrNoUser) {
		t.Errorf("removed twice: %v", err)
	}
	if err := e.Write(); err != nil {
		t.Fatal(err)
	}
	want := []Entry{{"bob", "sha512", 3}, {"zoë smith", "sha512", 4}}
	e = edit(t, path)
	if got := e.Users(); !reflect.DeepEqual(got, want) {
		t.Errorf("users %v, want %v", got, want)
	}
	if e.Has("alice") || !e.Has("bob") || e.Has("# ours") {
		t.Error("Has is wrong")
	}
	if !strings.HasPrefix(strings.Join(e.lines, "\n"), "# ours\n\nbob:") || e.lines[4] != "# the end" {
		t.Errorf("comments or order were lost: %q", e.lines)
	}
	u := usersOf(t, path)
	if !u.byName["bob"].hash.Verify([]byte("new")) || !u.byName["zoë smith"].hash.Verify([]byte("pw of zoë smith")) {
		t.Error("the passwords are not those set")
	}
}

func TestSetRefuses(t *testing.T) {
	e := edit(t, filepath.Join(t.TempDir(), "users.txt"))
	for _, name := range []string{"", "a:b", "a\nb", "a\tb", "a\x00", "a\x7f", "\u0085", "#a", " a", "a ", "a\xff", strings.Repeat("a", 65536)} {
		if err := e.Set(name, SaltedSHA512, []byte("pw")); err == nil {
			t.Errorf("name %.10q was taken", name)
		}
	}
	for _, password := range []string{"", strings.Repeat("a", 65536)} {
		if err := e.Set("alice", SaltedSHA512, []byte(password)); err == nil {
			t.Errorf("a password of %d bytes was taken", len(password))
		}
	}
	if len(e.lines) != 0 {
		t.Errorf("lines were written: %q", e.lines)
	}
}

func TestEditRefusesBrokenFiles(t *testing.T) {
	path := fileOf(t, "alice:plain\n")
	var wrong *textfile.Error
	if _, err := EditOrCreate(path); !errors.As(err, &wrong) || wrong.Line != 1 {
		t.Errorf("error %v", err)
	}
	e, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Set("bob", SaltedSHA512, []byte("builder")); err != nil {
		t.Fatal(err)
	}
	if err := e.Write(); err != nil {
		t.Fatal(err)
	}
	if got := edit(t, path).Users(); len(got) != 1 || got[0].Name != "bob" {
		t.Errorf("created anew: %v", got)
	}
}

func TestHashPlain(t *testing.T) {
	path := fileOf(t, "# plain\nalice:wonder:land\n"+cheap("bob", "builder"))
	e, n, err := HashPlain(path, SaltedSHA512)
	if err != nil || n != 1 {
		t.Fatalf("%d hashed, %v", n, err)
	}
	if err := e.Write(); err != nil {
		t.Fatal(err)
	}
	u := usersOf(t, path)
	if !u.byName["alice"].hash.Verify([]byte("wonder:land")) || !u.byName["bob"].hash.Verify([]byte("builder")) {
		t.Error("the passwords are not those of before")
	}
	for _, text := range []string{"alice\n", "alice:\n", ":x\n", "a:x\na:y\n"} {
		path := fileOf(t, text)
		if _, _, err := HashPlain(path, SaltedSHA512); err == nil {
			t.Errorf("%q was hashed", text)
		}
	}
}

func FuzzUsers(f *testing.F) {
	for _, g := range golden {
		f.Add("# x\nuser:" + g.hash + "\n")
	}
	f.Add(cheap("alice", "wonder") + cheap("alice", "wonder"))
	f.Add("a:b\n:\n::")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := textfile.Parse("users.txt", []byte(text))
		if err != nil {
			return
		}
		u, err := parseUsers(file)
		if err != nil {
			var where *textfile.Error
			if !errors.As(err, &where) || where.Line < 1 || where.Line > len(file.Lines) {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		e := &Editor{file, file.Lines}
		if len(e.Users()) != len(u.list) || len(u.byName) != len(u.list) {
			t.Fatalf("%d users, %d by name, the editor sees %d", len(u.list), len(u.byName), len(e.Users()))
		}
		for _, x := range u.list {
			if err := CheckName(x.name); err != nil || !e.Has(x.name) {
				t.Fatalf("user %q: %v, has %v", x.name, err, e.Has(x.name))
			}
			again, err := ParseHash(x.hash.String())
			if err != nil || !reflect.DeepEqual(again, x.hash) {
				t.Fatalf("%s is read as %v, %v", x.hash, again, err)
			}
		}
	})
}
