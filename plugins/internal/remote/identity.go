// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/noctule/noctule/plugin"
)

// Bounds of what an answer may say about one client.
const (
	MaxGroups    = 256
	MaxRules     = 1000
	MaxClaims    = 64
	maxText      = 1024 // bytes of a name or claim
	maxRuleBytes = 4096
)

// SuperuserGroup is the group of who may do everything.
const SuperuserGroup = "superuser"

// superuserRules let a client do everything, in the language of acl.file.
var superuserRules = []string{"topic readwrite #", "topic readwrite $SYS/#"}

// Superuser makes an identity one that may do everything: by its group, and by rules of its own.
func Superuser(id *plugin.Identity) {
	if !slices.Contains(id.Groups, SuperuserGroup) {
		id.Groups = append(slices.Clone(id.Groups), SuperuserGroup)
	}
	g := plugin.Grant{}
	if id.Grant != nil {
		g = *id.Grant
	}
	g.Rules = append(slices.Clone(superuserRules), g.Rules...)
	id.Grant = &g
}

// SplitGroups reads a list of groups: parted by commas, or an array of PostgreSQL without quotes.
func SplitGroups(s string) []string {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
		s = s[1 : len(s)-1]
	}
	var out []string
	for g := range strings.SplitSeq(s, ",") {
		if g = strings.Trim(strings.TrimSpace(g), "\""); g != "" {
			out = append(out, g)
		}
	}
	return out
}

// SplitRules reads rules, a line each.
func SplitRules(s string) []string {
	var out []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// CheckIdentity says what an answer must not say of a client: more than fits, and text that could forge lines of rules and logs.
func CheckIdentity(id *plugin.Identity) error {
	if id.Username != "" && !plain(id.Username, 65535) {
		return errors.New("the user name in the answer has control characters or is not UTF-8")
	}
	if len(id.Groups) > MaxGroups {
		return fmt.Errorf("the answer names %d groups; the most is %d", len(id.Groups), MaxGroups)
	}
	for _, g := range id.Groups {
		if g == "" || !plain(g, maxText) {
			return fmt.Errorf("the answer names the group %.64q, which is empty, too long or has control characters", g)
		}
	}
	if id.Grant == nil {
		return nil
	}
	if len(id.Grant.Rules) > MaxRules || len(id.Grant.Claims) > MaxClaims {
		return fmt.Errorf("the answer has %d rules and %d claims; the most is %d and %d", len(id.Grant.Rules), len(id.Grant.Claims), MaxRules, MaxClaims)
	}
	for _, r := range id.Grant.Rules {
		if !plain(r, maxRuleBytes) {
			return fmt.Errorf("the answer has the rule %.64q, which is too long or has control characters", r)
		}
	}
	for name, v := range id.Grant.Claims {
		if !plain(name, maxText) || !plain(v, maxText) {
			return fmt.Errorf("the answer has the claim %.64q, which is too long or has control characters", name)
		}
	}
	return nil
}

// plain reports whether s is UTF-8 without control characters, of max bytes at most.
func plain(s string, max int) bool {
	return len(s) <= max && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
