// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/noctule/noctule/plugin"
)

// The rules of logins are obeyed without being named; who names the plug-in has it once.
func TestRulesOfLoginsAreRead(t *testing.T) {
	for text, want := range map[string][]string{
		"{}":                          {"acl.identity"},
		"plugins: [{name: acl.file}]": {"acl.file", "acl.identity"},
		"plugins: [{name: acl.identity}, {name: acl.file}]": {"acl.identity", "acl.file"},
	} {
		all, err := buildPlugins(load(t, text))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		readers := 0
		for _, p := range all {
			names = append(names, p.Name())
			if _, ok := p.(plugin.GrantAuthorizer); ok {
				readers++
			}
		}
		if !slices.Equal(names, want) || readers != 1 {
			t.Errorf("%s: %q, want %q", text, names, want)
		}
	}
}

func TestAuthorizerOptions(t *testing.T) {
	for text, want := range map[string]string{
		"{name: acl.file, path: x, unmatched: ignore, broad_subscriptions: refuse}": "",
		"{name: acl.file, unmatched: allow}":                                        "write deny",
		"{name: acl.file, broad_subscriptions: x}":                                  "write narrow",
		"{name: acl.file, rules: x}":                                                "rules",
		"{name: acl.identity, path: x}":                                             "path",
		"{name: acl.http, url: \"https://x.example/a?u=${username}&t=${topic}\", per: access, headers: {X: \"${clientid}\"}, cache_ttl: 10s, stale: 1m, timeout: 1s}": "",
		"{name: acl.http, url: \"https://x.example/a?t=${topic}\"}": "with per: access only",
		"{name: acl.http}": "is not an address",
		"{name: acl.sql, driver: mysql, dsn: \"u:p@tcp(127.0.0.1:3306)/d\", query: \"SELECT rule FROM r WHERE c = ${clientid}\", unmatched: ignore}": "",
		"{name: acl.redis, addresses: [\"127.0.0.1:1\"], key: \"r:${clientid}\", allow_colons: true, cache_ttl: 1h, stale: 0s}":                      "",
		"{name: acl.redis, addres: x}":      "addresses",
		"{name: acl.sql, driver: postgres}": "dsn is empty",
	} {
		_, err := buildPlugins(load(t, "plugins:\n  - "+text+"\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
