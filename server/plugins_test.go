// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	_ "github.com/noctule/noctule/plugins/standard"
	"github.com/noctule/noctule/server/config"
)

// Options of authenticators are read with their defaults, durations and templates, and mistakes are told with their place.
func TestAuthenticatorOptions(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"{name: auth.http, url: \"http://127.0.0.1:1/u/${username}\", timeout: 1s, cache_ttl: 2m, headers: {a: b}}", ""},
		{"{name: auth.jwt, jwks: \"https://id.example.org/keys\", jwks_refresh: 1h, audience: [mqtt], require: {sub: \"${clientid}\"}}", ""},
		{"{name: auth.jwt, keys: [{secret: \"${env:SECRET}\"}]}", ""},
		{"{name: auth.sql, driver: mysql, dsn: \"u:p@tcp(127.0.0.1:1)/x\", query: \"SELECT password_hash FROM u WHERE n = ${username}\", unknown_users: ignore, parallel: 4}", ""},
		{"{name: auth.redis, addresses: [\"127.0.0.1:6379\"], key: \"u:${username}\", max_failures: 3}", ""},
		{"{name: auth.http, url: \"http://127.0.0.1:1\", time_out: 1s}", "did you mean timeout?"},
		{"{name: auth.http, url: \"http://127.0.0.1:1\", timeout: 5}", "5 has no unit"},
		{"{name: auth.http, url: \"http://10.0.0.1/x\"}", "plaintext: true"},
		{"{name: auth.jwt}", "there is no key"},
		{"{name: auth.jwt, keys: [{secret: \"${env:NOWHERE}\"}]}", "NOWHERE"},
		{"{name: auth.sql, driver: mysql, dsn: \"u:p@tcp(127.0.0.1:1)/x\", query: \"SELECT h FROM u WHERE n = '${username}'\"}", "quotes"},
	} {
		cfg, err := config.Load(config.Input{File: "n.yaml", Text: []byte("plugins:\n  - " + c.text + "\n"),
			Environ: []string{"SECRET=0123456789abcdef0123456789abcdef"}})
		if err == nil {
			err = Check(cfg)
		}
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "n.yaml:2")) {
			t.Errorf("%s: %v; want %q", c.text, err, c.want)
		}
	}
}

// Every configuration in docs/access.md is right.
func TestExamplesOfAccess(t *testing.T) {
	text, err := os.ReadFile("../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, block := range strings.Split(string(text), "```yaml\n") {
		if i == 0 {
			continue
		}
		block, _, _ = strings.Cut(block, "```")
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		block = regexp.MustCompile(`/run/secrets/\w+`).ReplaceAllLiteralString(block, secret)
		cfg, err := config.Load(config.Input{File: "access.yaml", Text: []byte(block), Environ: []string{"API_TOKEN=t", "SUPERVISOR_TOKEN=t", "DB_PASSWORD=p"}})
		if err == nil {
			_, err = buildPlugins(cfg)
		}
		if err != nil {
			t.Errorf("%s%v", block, err)
		}
		n++
	}
	if n < 8 {
		t.Errorf("%d examples were seen", n)
	}
}
