// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
)

// maxAnswer is the most bytes of an answer that is read.
const maxAnswer = 64 << 10

// body is a JSON answer. Names of EMQX's are understood beside ours.
type body struct {
	Result    *string           `json:"result"`
	Username  string            `json:"username"`
	Groups    []string          `json:"groups"`
	Rules     []string          `json:"rules"`
	Claims    map[string]string `json:"claims"`
	Attrs     map[string]string `json:"client_attrs"`
	Superuser bool              `json:"superuser"`
	IsSuper   bool              `json:"is_superuser"`
	Expires   json.RawMessage   `json:"expires"`
	ExpireAt  json.RawMessage   `json:"expire_at"`
	Data      json.RawMessage   `json:"data"` // Home Assistant's Supervisor; means nothing
}

// read makes an answer of a response.
func (a *Auth) read(resp *http.Response) (remote.Answer, error) {
	o, status := &a.opts, resp.StatusCode
	rule := fmt.Sprintf("%s: status %d", Name, status)
	switch {
	case slices.Contains(o.Deny, status):
		return remote.Deny(rule), nil
	case slices.Contains(o.Ignore, status):
		return remote.Answer{}, nil
	case !slices.Contains(o.Allow, status):
		return remote.Answer{}, fmt.Errorf("the answer has status %d, which is none of allow_status, deny_status and ignore_status", status)
	}
	text, err := remote.ReadBody(resp, maxAnswer)
	if err != nil {
		return remote.Answer{}, err
	}
	allowed := remote.Answer{Decision: plugin.Decision{Verdict: plugin.Allow, Rule: rule}}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json") || bytes.HasPrefix(bytes.TrimSpace(text), []byte("{"))
	if o.Answer == "status" || o.Answer == "auto" && !isJSON {
		return allowed, nil
	}
	var b body
	if err := json.Unmarshal(text, &b); err != nil {
		return remote.Answer{}, errors.New("the answer is not the JSON object that it should be; see answer")
	}
	if b.Result == nil {
		if o.Answer == "json" {
			return remote.Answer{}, errors.New("the answer has no result; it is allow, deny or ignore")
		}
		return allowed, nil
	}
	return a.judge(&b)
}

func (a *Auth) judge(b *body) (remote.Answer, error) {
	rule := fmt.Sprintf("%s: result %.16q", Name, *b.Result)
	switch *b.Result {
	case "deny", "error":
		return remote.Deny(rule), nil
	case "ignore":
		return remote.Answer{}, nil
	case "allow", "ok":
	default:
		return remote.Answer{}, fmt.Errorf("the answer has result %.32q; it is allow, deny or ignore", *b.Result)
	}
	ends, err := instant(b.Expires, b.ExpireAt)
	if err != nil {
		return remote.Answer{}, err
	}
	if !ends.IsZero() && !ends.After(a.now()) {
		return remote.Deny(Name + ": the login has ended"), nil
	}
	claims := b.Claims
	if claims == nil {
		claims = b.Attrs
	}
	id := plugin.Identity{Username: b.Username, Groups: b.Groups}
	if len(claims) > 0 || len(b.Rules) > 0 || !ends.IsZero() {
		id.Grant = &plugin.Grant{Claims: claims, Rules: b.Rules, Expires: ends}
	}
	if b.Superuser || b.IsSuper {
		remote.Superuser(&id)
	}
	if err := remote.CheckIdentity(&id); err != nil {
		return remote.Answer{}, err
	}
	return remote.Answer{Decision: plugin.Decision{Verdict: plugin.Allow, Rule: rule}, Identity: id}, nil
}

// instant reads the first time that is given: seconds since 1970, or as RFC 3339 has it.
func instant(all ...json.RawMessage) (time.Time, error) {
	for _, raw := range all {
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		var seconds int64
		if json.Unmarshal(raw, &seconds) == nil && seconds > 0 && seconds < 1<<40 {
			return time.Unix(seconds, 0), nil
		}
		var t time.Time
		if json.Unmarshal(raw, &t) == nil {
			return t, nil
		}
		return time.Time{}, errors.New("the answer's expires is no time: seconds since 1970, or 2026-01-02T15:04:05Z")
	}
	return time.Time{}, nil
}
