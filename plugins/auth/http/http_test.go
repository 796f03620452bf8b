// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type host struct{ log *strings.Builder }

func (h host) Logger() *slog.Logger                       { return slog.New(slog.NewTextHandler(h.log, nil)) }
func (host) Now() time.Time                               { return time.Unix(1_700_000_000, 0) }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

// server answers as told and keeps what it was asked.
type server struct {
	*httptest.Server
	status     int
	kind, body string
	asked      int
	path, raw  string
	header     http.Header
	got        string
}

func serve(t *testing.T) *server {
	s := &server{status: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.asked++
		s.path, s.raw, s.header, s.got = r.URL.EscapedPath(), r.URL.RawQuery, r.Header, string(b)
		if s.kind != "" {
			w.Header().Set("Content-Type", s.kind)
		}
		w.WriteHeader(s.status)
		io.WriteString(w, s.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func started(t *testing.T, o Options) *Auth {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context(), host{new(strings.Builder)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Stop(context.Background()) })
	return a
}

// plain are options without memory, for a server.
func plain(url string) Options {
	o := Defaults()
	o.URL, o.CacheSize, o.MaxFailures = url, 0, 1000
	return o
}

func login(user, password string) *plugin.Login {
	return &plugin.Login{Client: &plugin.Client{ID: "c1", Username: user, Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}},
		Password: []byte(password), HasUser: true, HasPass: true}
}

func TestRequests(t *testing.T) {
	s := serve(t)
	for _, c := range []struct {
		name   string
		change func(o *Options)
		check  func() bool
	}{
		{"JSON", func(o *Options) {}, func() bool {
			var m map[string]string
			return json.Unmarshal([]byte(s.got), &m) == nil && reflect.DeepEqual(m, map[string]string{"username": `a"b&c`, "password": "p=\x01é", "clientid": "c1"}) &&
				s.header.Get("Content-Type") == "application/json"
		}},
		{"form", func(o *Options) {
			o.Body, o.Fields = "form", map[string]string{"u": "${username}", "p": "${password}", "ip": "${address}"}
		},
			func() bool {
				return s.got == "ip=192.0.2.1&p=p%3D%01%C3%A9&u=a%22b%26c" && s.header.Get("Content-Type") == "application/x-www-form-urlencoded"
			}},
		{"query", func(o *Options) { o.Method, o.URL = "GET", o.URL+"/x?a=${clientid}" },
			func() bool {
				return s.path == "/x" && s.raw == "a=c1&clientid=c1&password=p%3D%01%C3%A9&username=a%22b%26c" && s.got == ""
			}},
		{"path and header", func(o *Options) {
			o.URL, o.Headers = o.URL+"/u/${username}/in?x=${username}", map[string]string{"authorization": "Bearer t", "X-User": "${username}"}
		}, func() bool {
			return s.path == "/u/a%22b&c/in" && s.raw == "x=a%22b%26c" && s.header.Get("X-User") == `a"b&c` && s.header.Get("Authorization") == "Bearer t"
		}},
		{"PUT", func(o *Options) { o.Method = "PUT" }, func() bool { return true }},
	} {
		o := plain(s.URL)
		c.change(&o)
		a := started(t, o)
		if d, _, err := a.Authenticate(t.Context(), login(`a"b&c`, "p=\x01é")); d.Verdict != plugin.Allow || err != nil {
			t.Errorf("%s: %v, %v", c.name, d, err)
		}
		if !c.check() {
			t.Errorf("%s: asked %s?%s %q %v", c.name, s.path, s.raw, s.got, s.header)
		}
	}
}

// Values that would change the meaning of a request are refused without asking.
func TestInjection(t *testing.T) {
	s := serve(t)
	o := plain(s.URL + "/users/${username}/auth?x=${clientid}")
	o.Headers = map[string]string{"X-Name": "n-${clientid}"}
	a := started(t, o)
	for _, name := range []string{"", ".", "..", "../admin", "a/b", `a\b`, "a\x00b", "a\r\nb", "..%2f", "%2e%2e/", "/", "\xff"} {
		d, _, err := a.Authenticate(t.Context(), login(name, "x"))
		if name == "..%2f" { // an element of its own: its percent sign is escaped
			if s.path != "/users/..%252f/auth" || d.Verdict != plugin.Allow {
				t.Errorf("%q: %s, %v", name, s.path, d)
			}
			continue
		}
		if d.Verdict != plugin.Deny || err != nil {
			t.Errorf("%q: %v, %v", name, d, err)
		}
	}
	for id, ok := range map[string]bool{"a\r\nX-Admin: 1": false, "a\nb": false, "a\x7f": false, "a&admin=1#": true, "é": true} {
		l := login("ann", "x")
		l.Client.ID = id
		if d, _, err := a.Authenticate(t.Context(), l); (d.Verdict == plugin.Allow) != ok || err != nil {
			t.Errorf("%q: %v, %v", id, d, err)
		}
		if ok && (strings.Contains(s.raw, "admin=1") || s.header.Get("X-Admin") != "") {
			t.Errorf("%q got in: %s", id, s.raw)
		}
	}
	a = started(t, plain(s.URL))
	if d, _, _ := a.Authenticate(t.Context(), login("ann", "\xff")); d.Verdict != plugin.Deny {
		t.Error("a password that JSON cannot hold was sent")
	}
}

func TestAnswers(t *testing.T) {
	s := serve(t)
	for _, c := range []struct {
		status     int
		kind, body string
		answer     string
		want       plugin.Verdict
		fails      string
	}{
		{200, "", "", "auto", plugin.Allow, ""},
		{204, "", "", "auto", plugin.Allow, ""},
		{200, "text/plain", "ok", "auto", plugin.Allow, ""},
		{401, "", "", "auto", plugin.Deny, ""}, {403, "application/json", `{"result":"allow"}`, "auto", plugin.Deny, ""}, {404, "", "", "json", plugin.Deny, ""},
		{500, "", "", "auto", plugin.Ignore, "status 500"}, {302, "", "", "auto", plugin.Ignore, "status 302"}, {429, "", "", "auto", plugin.Ignore, "429"},
		{201, "", "", "auto", plugin.Ignore, "status 201"},
		{200, "application/json", `{"result":"ok","data":{}}`, "auto", plugin.Allow, ""}, // Home Assistant
		{200, "application/json", `{"result":"deny"}`, "auto", plugin.Deny, ""},
		{200, "", ` {"result":"deny"}`, "auto", plugin.Deny, ""}, // its type is not said
		{200, "application/json", `{"result":"ignore"}`, "auto", plugin.Ignore, ""},
		{200, "application/json", `{"result":"error","message":"x"}`, "auto", plugin.Deny, ""},
		{200, "application/json", `{}`, "auto", plugin.Allow, ""},
		{200, "application/json", `{}`, "json", plugin.Ignore, "no result"},
		{200, "", ``, "json", plugin.Ignore, "JSON"},
		{200, "application/json", `{"result":"deny"}`, "status", plugin.Allow, ""},
		{200, "application/json", `{"result":"maybe"}`, "auto", plugin.Ignore, `result "maybe"`},
		{200, "application/json", `{"result":true}`, "auto", plugin.Ignore, "JSON"},
		{200, "application/json", `{"result":`, "auto", plugin.Ignore, "JSON"},
		{200, "application/json", `[]`, "auto", plugin.Ignore, "JSON"},
		{200, "application/json", `<html>`, "auto", plugin.Ignore, "JSON"},
		{200, "application/json", `{"result":"allow","groups":"x"}`, "auto", plugin.Ignore, "JSON"},
		{200, "application/json", `{"result":"allow","groups":["a\nb"]}`, "auto", plugin.Ignore, "control"},
		{200, "application/json", `{"result":"allow","username":"a\u0000"}`, "auto", plugin.Ignore, "control"},
		{200, "application/json", `{"result":"allow","expires":"soon"}`, "auto", plugin.Ignore, "no time"},
		{200, "application/json", `{"result":"allow","expires":1600000000}`, "auto", plugin.Deny, ""},
		{200, "", strings.Repeat("x", maxAnswer+1), "auto", plugin.Ignore, "larger"},
	} {
		s.status, s.kind, s.body = c.status, c.kind, c.body
		o := plain(s.URL)
		o.Answer = c.answer
		a := started(t, o)
		d, _, err := a.Authenticate(t.Context(), login("ann", "secret"))
		if d.Verdict != c.want || (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%d %s %.40s (%s): %v, %v; want %v, %s", c.status, c.kind, c.body, c.answer, d, err, c.want, c.fails)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is in %v", err)
		}
	}
}

func TestIdentity(t *testing.T) {
	s := serve(t)
	s.kind = "application/json"
	s.body = `{"result":"allow","username":"ann.b","groups":["ops"],"rules":["topic read a/#"],"claims":{"site":"n"},"expires":1700000060}`
	a := started(t, plain(s.URL))
	_, id, err := a.Authenticate(t.Context(), login("ann", "x"))
	want := plugin.Identity{Username: "ann.b", Groups: []string{"ops"},
		Grant: &plugin.Grant{Claims: map[string]string{"site": "n"}, Rules: []string{"topic read a/#"}, Expires: time.Unix(1_700_000_060, 0)}}
	if err != nil || !reflect.DeepEqual(id, want) {
		t.Errorf("%+v, %v", id, err)
	}
	s.body = `{"result":"allow","is_superuser":true,"client_attrs":{"site":"n"},"expire_at":"2030-01-02T15:04:05Z"}`
	if _, id, err = a.Authenticate(t.Context(), login("ann", "x")); err != nil || id.Groups[0] != "superuser" || len(id.Grant.Rules) != 2 || id.Grant.Expires.Year() != 2030 {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestRememberedAndAway(t *testing.T) {
	s := serve(t)
	o := Defaults()
	o.URL, o.MaxFailures = s.URL, 2
	a := started(t, o)
	for range 3 {
		a.Authenticate(t.Context(), login("ann", "x"))
	}
	a.Authenticate(t.Context(), login("ann", "y"))
	other := login("ann", "x")
	other.Client.ID = "c2" // it is sent, so it decides
	a.Authenticate(t.Context(), other)
	if s.asked != 3 {
		t.Errorf("asked %d times, want 3", s.asked)
	}
	a.Reload(t.Context())
	a.Authenticate(t.Context(), login("ann", "x"))
	if s.asked != 4 {
		t.Errorf("asked %d times after a reload, want 4", s.asked)
	}
	s.Close()
	for range 5 {
		if d, _, err := a.Authenticate(t.Context(), login("eve", "secret")); err == nil || d.Verdict == plugin.Allow || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, %v", d, err)
		}
	}
	if d, _, err := a.Authenticate(t.Context(), login("ann", "x")); d.Verdict != plugin.Allow || err != nil {
		t.Errorf("from memory: %v, %v", d, err)
	}
}

func TestWithoutCredentials(t *testing.T) {
	s := serve(t)
	l := &plugin.Login{Client: &plugin.Client{ID: "c"}}
	o := plain(s.URL)
	if d, _, err := started(t, o).Authenticate(t.Context(), l); d.Verdict != plugin.Ignore || err != nil {
		t.Errorf("%v, %v", d, err)
	}
	o.Require = true
	if d, _, err := started(t, o).Authenticate(t.Context(), l); d.Verdict != plugin.Deny || err != nil || s.asked != 0 {
		t.Errorf("%v, %v, asked %d times", d, err, s.asked)
	}
	a, _ := New(o)
	if d, _, err := a.Authenticate(t.Context(), login("a", "b")); d.Verdict == plugin.Allow || err == nil {
		t.Error("it answers before Start")
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush() // the head comes, the body does not
		<-release
	}))
	defer s.Close()
	defer close(release)
	o := plain(s.URL)
	o.Timeout = 100 * time.Millisecond
	began := time.Now()
	d, _, err := started(t, o).Authenticate(t.Context(), login("ann", "x"))
	if !errors.Is(err, context.DeadlineExceeded) || d.Verdict == plugin.Allow || time.Since(began) > 5*time.Second {
		t.Errorf("%v, %v after %v", d, err, time.Since(began))
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		change func(o *Options)
		want   string
	}{
		{func(o *Options) { o.URL = "" }, "not an address"}, {func(o *Options) { o.URL = "http://${username}/x" }, "without a template in its host"},
		{func(o *Options) { o.URL = "http://example.org/auth" }, "plaintext: true"}, {func(o *Options) { o.URL = "https://u:p@example.org/" }, "header"},
		{func(o *Options) { o.URL += "/#x" }, "#"}, {func(o *Options) { o.URL += "/${user}" }, "not known"}, {func(o *Options) { o.URL += "/?a=${" }, "without }"},
		{func(o *Options) { o.Method = "DELETE" }, "POST, PUT or GET"}, {func(o *Options) { o.Body = "xml" }, "json or form"},
		{func(o *Options) { o.Method, o.Body = "GET", "json" }, "query"}, {func(o *Options) { o.Body = "query" }, "query"},
		{func(o *Options) { o.Headers = map[string]string{"a b": "x"} }, "no name"}, {func(o *Options) { o.Headers = map[string]string{"host": "x"} }, "cannot be chosen"},
		{func(o *Options) { o.Fields = map[string]string{"a": "${b}"} }, "not known"}, {func(o *Options) { o.Answer = "xml" }, "auto, json or status"},
		{func(o *Options) { o.Allow = nil }, "nobody"}, {func(o *Options) { o.Allow = []int{500} }, "no answer"}, {func(o *Options) { o.Deny = []int{200} }, "twice"},
		{func(o *Options) { o.Timeout = 0 }, "timeout"}, {func(o *Options) { o.CAFile = "nowhere.pem" }, "ca_file"},
	} {
		o := plain("http://127.0.0.1:1")
		c.change(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), Name+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}
