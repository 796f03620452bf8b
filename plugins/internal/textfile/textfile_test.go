// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package textfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		lines      []string
		err        string
	}{
		{name: "empty"},
		{name: "no newline at the end", text: "a\nb", lines: []string{"a", "b"}},
		{name: "newline at the end", text: "a\nb\n", lines: []string{"a", "b"}},
		{name: "blank lines stay", text: "\n\na\n\n", lines: []string{"", "", "a", ""}},
		{name: "from Windows", text: "\xef\xbb\xbfa\r\nb\r\n", lines: []string{"a", "b"}},
		{name: "tab", text: "a\tb", lines: []string{"a\tb"}},
		{name: "not UTF-8", text: "a\nb\xff\n", err: "f.txt:2: it is not UTF-8; save the file as UTF-8"},
		{name: "NUL", text: "a\x00b", err: "f.txt:1: it has a control character; remove it"},
		{name: "return within a line", text: "a\rb\n", err: "f.txt:1: it has a control character; remove it"},
		{name: "C1 control", text: "a\u0085b\n", err: "f.txt:1: it has a control character; remove it"},
	} {
		f, err := Parse("f.txt", []byte(c.text))
		switch {
		case c.err != "":
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: error %v, want %s", c.name, err, c.err)
			}
		case err != nil || !slices.Equal(f.Lines, c.lines):
			t.Errorf("%s: %q, %v; want %q", c.name, f.Lines, err, c.lines)
		}
	}
}

func TestComment(t *testing.T) {
	for line, want := range map[string]bool{"": true, " \t": true, "# x": true, "#": true, " # x": false, "a": false} {
		if Comment(line) != want {
			t.Errorf("%q: %v, want %v", line, !want, want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Read(dir); err == nil {
		t.Error("a directory was read")
	}
	big := filepath.Join(dir, "big")
	put(t, big, "", 0o600)
	if err := os.Truncate(big, MaxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(big); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a file too large: %v", err)
	}
}

func TestWriteIsForTheOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := New(path).Write([]string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, path); got != "a\nb\n" {
		t.Errorf("written: %q", got)
	}
	wantMode(t, path, 0o600)
}

func TestWriteKeepsModeButForOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "old\n", 0o644)
	f := read(t, path)
	if !f.ReadableByOthers() && runtime.GOOS != "windows" {
		t.Error("0644 is not seen as open to others")
	}
	if err := f.Write(nil); err != nil {
		t.Fatal(err)
	}
	wantMode(t, path, 0o640)
	if read(t, path).ReadableByOthers() {
		t.Error("still readable by others")
	}
}

func TestWriteFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	put(t, real, "old\n", 0o600)
	if err := os.Symlink(real, link); err != nil {
		if runtime.GOOS == "windows" {
			return // there it is a privilege
		}
		t.Fatal(err)
	}
	if err := read(t, link).Write([]string{"new"}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
	if got := get(t, real); got != "new\n" {
		t.Errorf("behind the link: %q", got)
	}
}

// Two who edit at once do not undo each other's work, and leave nothing behind.
func TestWriteSeesOtherWriters(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	fresh := New(path)
	put(t, path, "old\n", 0o600)
	if err := fresh.Write([]string{"mine"}); err == nil {
		t.Error("a file that came up meanwhile was written over")
	}
	f := read(t, path)
	if err := read(t, path).Write([]string{"theirs"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Write([]string{"mine"}); err == nil {
		t.Error("a changed file was written over")
	}
	if got := get(t, path); got != "theirs\n" {
		t.Errorf("the file has %q", got)
	}
	gone := read(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := gone.Write(nil); err == nil {
		t.Error("a removed file was written again")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "one\n", 0o600)
	f := read(t, path)
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		w := Watch(f, func() { calls.Add(1) })
		defer w.Stop()
		want := func(n int32, why string) {
			t.Helper()
			synctest.Wait()
			if got := calls.Load(); got != n {
				t.Fatalf("%s: called %d times, want %d", why, got, n)
			}
		}
		time.Sleep(10 * Interval)
		want(0, "unchanged")

		put(t, path, "two!\n", 0o600)
		time.Sleep(Interval)
		want(0, "just changed")
		put(t, path, "three!\n", 0o600)
		time.Sleep(Interval)
		want(0, "changed again")
		time.Sleep(5 * Interval)
		want(1, "at rest")

		other := path + ".new"
		put(t, other, "three!\n", 0o600)
		if err := os.Rename(other, path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * Interval)
		want(2, "replaced")

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * Interval)
		want(2, "gone")
		put(t, path, "four\n", 0o600)
		time.Sleep(5 * Interval)
		want(3, "back")
	})
}

func read(t *testing.T, path string) *File {
	t.Helper()
	f, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want && runtime.GOOS != "windows" {
		t.Errorf("mode %o, want %o", got, want)
	}
}
