// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package table

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/password"
)

func login(pw string) *plugin.Login {
	return &plugin.Login{Client: &plugin.Client{ID: "c", Username: "ann"}, Password: []byte(pw), HasUser: true, HasPass: true}
}

func hash(pw string) string { return password.NewArgon2id(8, 1, 1, []byte(pw)).String() }

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  Options
		row   Row
		pw    string
		want  plugin.Verdict
		fails string
	}{
		{"right", Options{}, Row{Hash: hash("a")}, "a", plugin.Allow, ""},
		{"wrong", Options{}, Row{Hash: hash("a")}, "b", plugin.Deny, ""},
		{"unknown", Options{}, nil, "a", plugin.Deny, ""},
		{"unknown, for the next", Options{Unknown: "ignore"}, nil, "a", plugin.Ignore, ""},
		{"null", Options{}, Row{}, "", plugin.Deny, ""},
		{"empty", Options{PlainPasswords: true}, Row{Hash: ""}, "", plugin.Deny, ""},
		{"plain", Options{}, Row{Hash: "secret"}, "secret", plugin.Ignore, "not hashed"},
		{"plain, allowed", Options{PlainPasswords: true}, Row{Hash: "secret"}, "secret", plugin.Allow, ""},
		{"plain, wrong", Options{PlainPasswords: true}, Row{Hash: "secret"}, "secre", plugin.Deny, ""},
		{"a hash is no password", Options{PlainPasswords: true}, Row{Hash: "$9$x"}, "$9$x", plugin.Ignore, "no known kind"},
		{"superuser", Options{}, Row{Hash: hash("a"), Superuser: "perhaps"}, "a", plugin.Ignore, "true or false"},
		{"group", Options{}, Row{Hash: hash("a"), Groups: "a,b\nc"}, "a", plugin.Ignore, "control"},
	} {
		j := NewJudge("auth.test", c.opts)
		a, err := j.Judge(t.Context(), login(c.pw), c.row)
		if a.Verdict != c.want || (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %v, %v", c.name, a, err)
		}
	}
	if err := (&Options{Unknown: "allow"}).Check(); err == nil {
		t.Error("unknown_users: allow was taken")
	}
}

func TestIdentity(t *testing.T) {
	for text, want := range map[string]bool{"1": true, "t": true, "TRUE": true, "\x01": true, "0": false, "false": false, "": false, "\x00": false} {
		a, err := NewJudge("auth.test", Options{}).Judge(t.Context(), login("a"), Row{Hash: hash("a"), Superuser: text, Groups: "{x,y}",
			Rules: "topic read a\ntopic write b", Username: "Ann", "site": "n"})
		if err != nil || a.Username != "Ann" || a.Grant.Claims["site"] != "n" || len(a.Grant.Claims) != 1 {
			t.Fatalf("%+v, %v", a, err)
		}
		if super := len(a.Groups) == 3; super != want || len(a.Grant.Rules) != 2+2*len(a.Groups)-4 || !reflect.DeepEqual(a.Groups[:2], []string{"x", "y"}) {
			t.Errorf("%q: %+v, %+v", text, a, a.Grant)
		}
	}
}

// A name that is unknown costs a hash of the kind last seen, and waits for its turn as the others.
func TestUnknownNamesAreHashed(t *testing.T) {
	j := NewJudge("auth.test", Options{})
	if _, err := j.Judge(t.Context(), login("x"), Row{Hash: hash("a")}); err != nil {
		t.Fatal(err)
	}
	if h, _, _ := j.hashOf(nil); !strings.HasPrefix(h.String(), "$argon2id$v=19$m=8,t=1,p=1$") {
		t.Errorf("an unknown name is hashed as %s", h)
	}
	for range cap(j.hashing) {
		j.hashing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range []Row{nil, {}, {Hash: hash("a")}} {
		if _, err := j.Judge(ctx, login("x"), r); err == nil {
			t.Errorf("%v: it did not wait", r)
		}
	}
}
