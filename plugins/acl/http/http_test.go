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

type host struct{}

func (host) Logger() *slog.Logger                         { return slog.New(slog.DiscardHandler) }
func (host) Now() time.Time                               { return time.Unix(1_700_000_000, 0) }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

// server answers as told and keeps what it was asked.
type server struct {
	*httptest.Server
	status     int
	kind, body string
	asked      int
	url, got   string
	header     http.Header
}

func serve(t *testing.T) *server {
	s := &server{status: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.asked++
		s.url, s.header, s.got = r.URL.RequestURI(), r.Header, string(b)
		if s.kind != "" {
			w.Header().Set("Content-Type", s.kind)
		}
		w.WriteHeader(s.status)
		io.WriteString(w, s.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func started(t *testing.T, o Options) *ACL {
	t.Helper()
	o.MaxFailures = 1000
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context(), host{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Stop(context.Background()) })
	return a
}

func options(url, per string) Options {
	o := Defaults()
	o.URL, o.Per = url, per
	return o
}

func access(action plugin.Action, topic string) *plugin.Access {
	return &plugin.Access{Client: &plugin.Client{ID: "c&1", Username: `a"b`, Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}},
		Action: action, Topic: topic, QoS: 1, Retain: true}
}

func TestRequests(t *testing.T) {
	s := serve(t)
	s.body = `{"result":"allow"}`
	for _, c := range []struct {
		name   string
		o      Options
		change func(o *Options)
		url    string
		fields map[string]string
	}{
		{"client", options(s.URL, "client"), func(*Options) {}, "/", map[string]string{"username": `a"b`, "clientid": "c&1", "address": "192.0.2.1"}},
		{"access", options(s.URL, "access"), func(*Options) {}, "/", map[string]string{"username": `a"b`, "clientid": "c&1", "address": "192.0.2.1",
			"action": "publish", "topic": "x/ü&y", "qos": "1", "retain": "true"}},
		{"query", options(s.URL+"/a/${username}?t=${topic}&x=$${topic}", "access"), func(o *Options) { o.Method, o.Fields = "GET", map[string]string{"c": "<${clientid}>"} },
			"/a/a%22b?t=x%2F%C3%BC%26y&x=${topic}&c=%3Cc%261%3E", nil},
		{"header", options(s.URL, "access"), func(o *Options) {
			o.Headers, o.Fields = map[string]string{"x-topic": "T ${topic} ${action}"}, map[string]string{"a": "${qos}${retain}"}
		},
			"/", map[string]string{"a": "1true"}},
	} {
		c.change(&c.o)
		a := started(t, c.o)
		if d, err := a.AuthorizeSlow(t.Context(), access(plugin.Will, "x/ü&y")); d.Verdict != plugin.Allow || err != nil {
			t.Errorf("%s: %v, %v", c.name, d, err)
		}
		var got map[string]string
		json.Unmarshal([]byte(s.got), &got)
		if s.url != c.url || !reflect.DeepEqual(got, c.fields) {
			t.Errorf("%s: asked %s %s", c.name, s.url, s.got)
		}
		if c.name == "header" && s.header.Get("X-Topic") != "T x/ü&y publish" {
			t.Errorf("header %q", s.header.Get("X-Topic"))
		}
	}
}

func TestAnswers(t *testing.T) {
	s := serve(t)
	for _, c := range []struct {
		status     int
		body       string
		client     string // verdict with per: client
		access     string
		contentTyp string
	}{
		{200, `{"result":"allow"}`, "allow", "allow", ""},
		{200, `{"result":"deny"}`, "deny", "deny", ""},
		{200, `{"result":"ignore"}`, "ignore", "ignore", ""},
		{200, `{"rules":["allow publish a"]}`, "allow", "allow", ""},
		{200, `{"rules":["allow publish b"]}`, "deny", "deny", ""},
		{200, `{"rules":[]}`, "deny", "deny", ""},
		{200, `{"result":"allow","rules":["deny publish a"]}`, "deny", "deny", ""},
		{200, `{"result":"allow","rules":["denie publish a"]}`, "error", "error", ""},
		{200, `{}`, "error", "error", ""},
		{200, `{"result":"maybe"}`, "error", "error", ""},
		{200, `{"rules":"allow publish a"}`, "error", "error", ""},
		{200, `{"result":`, "error", "error", ""},
		{200, `[]`, "error", "error", "application/json"},
		{200, `ok`, "error", "allow", "text/plain"},
		{200, ``, "error", "allow", ""},
		{204, ``, "error", "allow", ""},
		{401, `{"result":"allow"}`, "deny", "deny", ""},
		{403, ``, "deny", "deny", ""},
		{404, ``, "deny", "deny", ""},
		{201, `{"result":"allow"}`, "error", "error", ""},
		{302, ``, "error", "error", ""},
		{500, `{"result":"allow"}`, "error", "error", ""},
		{200, strings.Repeat(" ", maxAnswer+1), "error", "error", ""},
	} {
		s.status, s.body, s.kind = c.status, c.body, c.contentTyp
		for per, want := range map[string]string{"client": c.client, "access": c.access} {
			a := started(t, options(s.URL, per))
			d, err := a.AuthorizeSlow(t.Context(), access(plugin.Publish, "a"))
			got := d.Verdict.String()
			if err != nil {
				got = "error"
			}
			if got != want {
				t.Errorf("%d %.60s, per %s: %s %v, want %s", c.status, c.body, per, got, err, want)
			}
		}
	}
}

// Values that would change the meaning of a request deny, without asking.
func TestHostileValues(t *testing.T) {
	s := serve(t)
	s.body = `{"result":"allow"}`
	o := options(s.URL+"/u/${username}", "access")
	o.Headers = map[string]string{"X-Topic": "t${topic}"}
	a := started(t, o)
	for _, c := range [][2]string{{"", "a"}, {"..", "a"}, {"a/b", "a"}, {`a\b`, "a"}, {"a\r\nb", "a"}, {"ann", "a\r\nX: y"}, {"ann", "a\nb"}, {"a\x00", "a"}, {"ann", "\xff"}} {
		x := access(plugin.Publish, c[1])
		x.Client.Username = c[0]
		if d := a.Authorize(x); d.Verdict != plugin.Deny {
			t.Errorf("%q: %v", c, d)
		}
	}
	if s.asked != 0 {
		t.Errorf("asked %d times", s.asked)
	}
	unsure := access(plugin.Publish, "a")
	unsure.Client.Anonymous = true
	if d, err := started(t, options(s.URL, "client")).AuthorizeSlow(t.Context(), unsure); err != nil || d.Verdict != plugin.Allow || strings.Contains(s.got, `a\"b`) {
		t.Errorf("a name that nobody vouches for was sent: %s", s.got)
	}
}

func TestMistakes(t *testing.T) {
	for want, change := range map[string]func(o *Options){
		"per is":                 func(o *Options) { o.Per = "topic" },
		"method is":              func(o *Options) { o.Method = "PUT" },
		"is not an address":      func(o *Options) { o.URL = "example.org" },
		"without a template in":  func(o *Options) { o.URL = "https://${username}/x" },
		"unencrypted":            func(o *Options) { o.URL = "http://example.org/x" },
		"a password stands":      func(o *Options) { o.URL = "https://u:p@example.org/x" },
		"never sent":             func(o *Options) { o.URL = "https://example.org/x#y" },
		"with per: access only":  func(o *Options) { o.Fields = map[string]string{"t": "${topic}"} },
		"stand in the query":     func(o *Options) { o.Per, o.URL = "access", "https://example.org/${topic}" },
		"${password} must not":   func(o *Options) { o.Fields = map[string]string{"p": "${password}"} },
		"is not known":           func(o *Options) { o.Fields = map[string]string{"p": "${user}"} },
		"is no name of a header": func(o *Options) { o.Headers = map[string]string{"a b": "x"} },
		"Host cannot be chosen":  func(o *Options) { o.Headers = map[string]string{"host": "x"} },
		"cache_ttl is":           func(o *Options) { o.CacheTTL = 0 },
	} {
		o := options("https://example.org/acl", "client")
		change(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), Name+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
