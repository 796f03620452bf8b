// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package jwt

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
	"github.com/noctule/noctule/topic"
)

// maxToken is the most bytes of a token; honest ones have one or two thousand.
const maxToken = 16 << 10

// noClaim stands for no claim.
const noClaim = "none"

// looksLikeToken reports whether s has the form of a signed token, good or bad.
func looksLikeToken(s string) bool {
	head, rest, ok := strings.Cut(s, ".")
	if !ok || strings.Count(rest, ".") != 1 || len(head) > maxToken {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return false
	}
	var header struct {
		Alg *string `json:"alg"`
	}
	return json.Unmarshal(b, &header) == nil && header.Alg != nil
}

var errCritical = errors.New("the token has extensions that are not understood (crit)")

// judge verifies a token, and says who its holder is.
func (a *Auth) judge(ctx context.Context, token string, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	if a.now == nil {
		return plugin.Decision{}, plugin.Identity{}, errors.New(Name + ": not started")
	}
	if len(token) > maxToken {
		return deny(fmt.Sprintf("the token is larger than %d bytes", maxToken))
	}
	claims := jwt.MapClaims{}
	t, err := a.parser().ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // RFC 7515, section 4.1.11
			return nil, errCritical
		}
		kid, _ := t.Header["kid"].(string)
		return a.keys.find(ctx, kid, t.Method.Alg())
	})
	if err != nil || !t.Valid {
		return deny(why(err))
	}
	if err := a.required(claims, l); err != nil {
		return deny(err.Error())
	}
	id, err := a.identity(claims)
	if err != nil {
		return deny(err.Error())
	}
	return plugin.Decision{Verdict: plugin.Allow, Rule: Name}, id, nil
}

// why is the reason of a refusal, without what stands in the token.
func why(err error) string {
	for _, known := range []error{jwt.ErrTokenExpired, jwt.ErrTokenNotValidYet, jwt.ErrTokenInvalidIssuer, jwt.ErrTokenInvalidAudience,
		jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenSignatureInvalid, errCritical, errNoKey} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "the token is malformed"
}

func (a *Auth) parser() *jwt.Parser {
	o := &a.opts
	with := []jwt.ParserOption{jwt.WithValidMethods(algorithms), jwt.WithTimeFunc(a.now), jwt.WithLeeway(o.Leeway), jwt.WithJSONNumber(),
		jwt.WithStrictDecoding()}
	if !o.AllowNoExpiry {
		with = append(with, jwt.WithExpirationRequired())
	}
	if o.Issuer != "" {
		with = append(with, jwt.WithIssuer(o.Issuer))
	}
	if len(o.Audience) > 0 {
		with = append(with, jwt.WithAudience(o.Audience...))
	}
	return jwt.NewParser(with...)
}

// required checks the claims that have to be something.
func (a *Auth) required(claims jwt.MapClaims, l *plugin.Login) error {
	for _, name := range slices.Sorted(maps.Keys(a.require)) {
		want, err := a.require[name].Expand(l, remote.Verbatim)
		if err != nil {
			return err
		}
		v, ok := find(claims, name)
		got, isText := text(v)
		if !ok || !isText || want == "" || subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
			return fmt.Errorf("claim %s is not what is required", name)
		}
	}
	return nil
}

// identity reads the claims.
func (a *Auth) identity(claims jwt.MapClaims) (id plugin.Identity, err error) {
	o := &a.opts
	if o.UsernameClaim != noClaim {
		v, _ := find(claims, o.UsernameClaim)
		if id.Username, _ = text(v); id.Username == "" {
			return id, fmt.Errorf("no claim %s to be the user name", o.UsernameClaim)
		}
	}
	g := &plugin.Grant{Claims: map[string]string{}}
	if v, ok := find(claims, o.GroupsClaim); ok {
		if id.Groups, ok = list(v); !ok {
			return id, fmt.Errorf("claim %s is no list of groups", o.GroupsClaim)
		}
	}
	if v, ok := find(claims, o.RulesClaim); ok {
		if g.Rules, err = rules(v); err != nil {
			return id, fmt.Errorf("claim %s: %w", o.RulesClaim, err)
		}
	}
	flatten(g.Claims, "", claims, 0)
	exp, err := claims.GetExpirationTime()
	if err != nil {
		return id, err
	}
	if exp != nil {
		g.Expires = exp.Add(o.Leeway)
	}
	id.Grant = g
	return id, remote.CheckIdentity(&id)
}

// find is a claim by its name, or by a path with dots to one in an object.
func find(claims map[string]any, path string) (any, bool) {
	if v, ok := claims[path]; ok {
		return v, true
	}
	head, rest, ok := strings.Cut(path, ".")
	if !ok {
		return nil, false
	}
	inner, ok := claims[head].(map[string]any)
	if !ok {
		return nil, false
	}
	return find(inner, rest)
}

// text is a claim that is one value.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// list is a claim that is several texts: an array, or one text with blanks or commas.
func list(v any) ([]string, bool) {
	if s, ok := v.(string); ok {
		return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }), true
	}
	array, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, 0, len(array))
	for _, x := range array {
		s, ok := x.(string)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// rules reads the claim with rules. What is not understood refuses the token: a rule that is lost might be one that denies.
func rules(v any) ([]string, error) {
	lists, ok := v.(map[string]any)
	if !ok {
		if _, isText := v.(string); isText {
			return nil, errors.New("rules are a list of lines, or an object with pub, sub and all")
		}
		lines, ok := list(v)
		if !ok {
			return nil, errors.New("rules are a list of lines, or an object with pub, sub and all")
		}
		return lines, nil
	}
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(lists)) {
		word, ok := map[string]string{"pub": "write", "sub": "read", "all": "readwrite"}[kind]
		if !ok {
			return nil, fmt.Errorf("%.32q is none of pub, sub and all", kind)
		}
		filters, ok := lists[kind].([]any)
		if !ok {
			return nil, fmt.Errorf("%s is no list of filters", kind)
		}
		for _, x := range filters {
			f, _ := x.(string)
			if p, err := topic.ParseFilter(f, 256); err != nil || p.Share != "" || strings.TrimSpace(f) != f {
				return nil, fmt.Errorf("%s has %.64q, which is no topic filter", kind, f)
			}
			out = append(out, "topic "+word+" "+f)
		}
	}
	return out, nil
}

// deepest is how far claims in objects are handed on.
const deepest = 4

// flatten hands single values on, those in objects by their path, in a fixed order and as many as fit.
func flatten(into map[string]string, prefix string, claims map[string]any, depth int) {
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		switch v := claims[name].(type) {
		case map[string]any:
			if depth < deepest {
				flatten(into, prefix+name+".", v, depth+1)
			}
		default:
			if s, ok := text(v); ok && len(into) < remote.MaxClaims && len(s) <= 1024 {
				into[prefix+name] = s
			}
		}
	}
}
