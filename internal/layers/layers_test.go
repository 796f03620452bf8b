// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package layers tests the house: who may import whom, that each package says what it is, and that each file carries its licence.
package layers

import (
	"bufio"
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/noctule/noctule/"

// floors are the floors of ARCHITECTURE.md, by the first matching prefix. A package imports only lower floors, or its own children.
var floors = []struct {
	prefix string
	floor  int
}{
	{"cmd/", 6},
	{"server", 5},
	{"admin", 4}, {"plugins/", 4}, {"verify", 4},
	{"broker", 3}, {"client", 3},
	{"session", 2}, {"store/wal", 1}, {"store", 2}, {"plugin", 2}, {"transport", 2},
	{"mqtt", 1}, {"topic", 1}, {"loop", 1},
	{"internal/loadtest", 4}, {"internal/load", 1}, {"internal/testkit/memnet", 1}, {"internal/testkit/faultfs", 1}, {"internal/testkit/wire", 2}, {"internal/testkit/servers", 1}, {"internal/layers", 0}, {"internal/invariants", 0}, {"internal/sim", 5}, {"conformance", 6}, {"interop", 6},
}

func floor(path string) (int, bool) {
	for _, f := range floors {
		if path == strings.TrimSuffix(f.prefix, "/") || strings.HasPrefix(path, f.prefix) {
			return f.floor, true
		}
	}
	return 0, false
}

// root is the module's folder.
func root(t *testing.T) string {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

func TestImportsGoDown(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := strings.TrimPrefix(words[0], module)
		own, ok := floor(from)
		if !ok {
			t.Errorf("%s stands on no floor: add it to ARCHITECTURE.md and to this test", from)
			continue
		}
		for _, to := range words[1:] {
			to, ours := strings.CutPrefix(to, module)
			if !ours {
				continue
			}
			seen++
			below, ok := floor(to)
			family := strings.Split(from, "/")[0] == strings.Split(to, "/")[0]
			if !ok || below >= own && !family {
				t.Errorf("%s (floor %d) imports %s (floor %d)", from, own, to, below)
			}
		}
	}
	if seen < 20 {
		t.Fatalf("only %d imports were seen", seen)
	}
}

// The pure packages reach for no clock, network, file or goroutine.
func TestPurePackages(t *testing.T) {
	forbidden := []string{"net", "os", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "sync"}
	for _, pkg := range []string{"mqtt", "session", "topic"} {
		each(t, filepath.Join(root(t), pkg), func(path string, src []byte) {
			if strings.HasSuffix(path, "_test.go") {
				return
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				for _, bad := range forbidden {
					if i.Path.Value == `"`+bad+`"` && !(pkg == "topic" && bad == "sync") {
						t.Errorf("%s imports %s", path, bad)
					}
				}
			}
			for _, bad := range []string{"time.Now(", "time.Sleep(", "\tgo func"} {
				if bytes.Contains(src, []byte(bad)) {
					t.Errorf("%s uses %s", path, bad)
				}
			}
		})
	}
}

func TestEveryFileCarriesItsLicence(t *testing.T) {
	each(t, root(t), func(path string, src []byte) {
		s := bufio.NewScanner(bytes.NewReader(src))
		var head []string
		for len(head) < 2 && s.Scan() {
			head = append(head, s.Text())
		}
		if strings.Join(head, "\n") != "// Copyright 2026 The Noctule Authors\n// SPDX-License-Identifier: Apache-2.0" {
			t.Errorf("%s has no licence header", path)
		}
	})
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	said := map[string]bool{}
	each(t, root(t), func(path string, src []byte) {
		dir := filepath.Dir(path)
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		said[dir] = said[dir] || f.Doc != nil
	})
	for dir, ok := range said {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// each calls f for every Go file below dir.
func each(t *testing.T, dir string, f func(path string, src []byte)) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err == nil {
			f(path, src)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
