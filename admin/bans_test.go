// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/noctule/noctule/broker/ban"
)

func TestBans(t *testing.T) {
	src := source(t)
	src.Key = "secret"
	do := func(method, peer, path, key, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Host, r.RemoteAddr = "localhost", peer
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		w := httptest.NewRecorder()
		guard(nil, routes(*src)).ServeHTTP(w, r)
		return w
	}
	const good = `{"kind":"user","value":"eve","reason":"x"}`
	for _, c := range []struct {
		method, peer, path, key, body string
		code                          int
	}{
		{"POST", local, "/api/v1/bans", "", good, 401}, {"POST", local, "/api/v1/bans", "secre", good, 401}, {"POST", "192.0.2.1:5", "/api/v1/bans", "secret", good, 403},
		{"DELETE", local, "/api/v1/bans?kind=user&value=eve", "", "", 401}, {"GET", "192.0.2.1:5", "/api/v1/bans", "", "", 403},
		{"POST", local, "/api/v1/bans", "secret", "{", 400}, {"POST", local, "/api/v1/bans", "secret", `{"kind":"user","valeu":"x"}`, 400},
		{"POST", local, "/api/v1/bans", "secret", `{"kind":"x","value":"y"}`, 422}, {"POST", local, "/api/v1/bans", "secret", `{"kind":"user","value":"` + strings.Repeat("x", mostBody) + `"}`, 400},
		{"DELETE", local, "/api/v1/bans?kind=user&value=eve", "secret", "", 404}, {"DELETE", local, "/api/v1/bans?kind=x", "secret", "", 422},
	} {
		if w := do(c.method, c.peer, c.path, c.key, c.body); w.Code != c.code {
			t.Errorf("%s %s %.40s: %d %s, want %d", c.method, c.path, c.body, w.Code, w.Body, c.code)
		}
	}
	if w := do("POST", local, "/api/v1/bans", "secret", good); w.Code != 200 || !strings.Contains(w.Body.String(), `"by":"operator"`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var p Page[ban.Ban]
	if w := do("GET", local, "/api/v1/bans", "", ""); json.Unmarshal(w.Body.Bytes(), &p) != nil || len(p.Data) != 1 || p.Data[0].Value != "eve" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := do("DELETE", local, "/api/v1/bans?kind=user&value=eve", "secret", ""); w.Code != 204 || len(src.Broker.Bans()) != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	src.Key = ""
	if w := do("POST", local, "/api/v1/bans", "", good); w.Code != 403 {
		t.Errorf("without a key: %d", w.Code)
	}
}
