// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package standard

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/noctule/noctule/plugin"
)

// least are the options without which a plug-in cannot be.
var least = map[string]string{
	"auth.http": "{url: https://example.org/auth, cache_ttl: 10s, ca_file: \"\"}",
	"auth.ldap": "{url: \"ldaps://x\", base: \"dc=x\"}",
	"acl.sql":   "{driver: postgres, stale: 1m, cache_ttl: 10s, dsn: \"postgres://u:p@127.0.0.1/x\"}",
	"acl.http":  "{url: https://example.org/acl, cache_ttl: 10s, stale: 1m, unmatched: ignore, ca_file: \"\"}",
	"auth.sql":  "{driver: postgres, dsn: \"postgres://u:p@127.0.0.1/x\"}",
	"auth.jwt":  "keys: [{secret: 0123456789abcdef0123456789abcdef}]",
}

// Each factory makes a plug-in of the name that it is registered by.
func TestNames(t *testing.T) {
	want := []string{"acl.file", "acl.http", "acl.identity", "acl.redis", "acl.sql", "auth.file", "auth.http", "auth.jwt", "auth.ldap", "auth.redis", "auth.scram", "auth.scram.sha512", "auth.sql"}
	if got := plugin.Names(); !slices.Equal(got, want) {
		t.Fatalf("registered: %q, want %q", got, want)
	}
	for _, name := range want {
		f, err := plugin.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := f(func(into any) error {
			if least[name] == "" {
				return nil
			}
			return yaml.UnmarshalWithOptions([]byte(least[name]), into, yaml.Strict())
		})
		if err != nil {
			t.Fatal(err)
		}
		if p.Name() != name {
			t.Errorf("%s makes a plug-in called %s", name, p.Name())
		}
	}
}

// Every folder with a plug-in that registers itself is linked here; the example is not.
func TestAllLinked(t *testing.T) {
	source, err := os.ReadFile("standard.go")
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob("../*/*/plugin.go")
	if err != nil || len(folders) == 0 {
		t.Fatalf("plug-ins: %v, %v", folders, err)
	}
	for _, f := range folders {
		path := "plugins/" + strings.TrimPrefix(filepath.ToSlash(filepath.Dir(f)), "../")
		if !strings.Contains(string(source), path+"\"") {
			t.Errorf("%s is not linked", path)
		}
	}
}
