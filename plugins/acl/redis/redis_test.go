// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package redis

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/noctule/noctule/internal/testkit/servers"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type host struct{}

func (host) Logger() *slog.Logger                         { return slog.New(slog.DiscardHandler) }
func (host) Now() time.Time                               { return time.Unix(1_700_000_000, 0) }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

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

// ask gives the verdict, as the broker asks.
func ask(t *testing.T, a *ACL, user string, action plugin.Action, topic string) string {
	t.Helper()
	x := &plugin.Access{Client: &plugin.Client{ID: "7", Username: user}, Action: action, Topic: topic}
	if d := a.Authorize(x); d.Verdict != plugin.Ignore {
		return d.Verdict.String()
	}
	d, err := a.AuthorizeSlow(t.Context(), x)
	if err != nil {
		return "error: " + err.Error()
	}
	return d.Verdict.String()
}

func TestRedis(t *testing.T) {
	_, address, pw := servers.Redis(t)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, Password: pw, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	do := func(args ...string) {
		t.Helper()
		if err := c.Do(t.Context(), c.B().Arbitrary(args...).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	do("HSET", "mqtt:acl:ann", "home/#", "both", "home/safe/#", "deny", "home/safe/open", "publish", "own/${clientid}", "subscribe", `odd" "$SYS/#`, "subscribe")
	do("HSET", "mqtt:acl:bad", "a", "write")
	do("SET", "mqtt:acl:text", "x")
	o := Defaults()
	o.Addresses, o.Password = []string{address}, pw
	a := started(t, o)
	for _, x := range []struct {
		user   string
		action plugin.Action
		topic  string
		want   string
	}{
		{"ann", plugin.Publish, "home/x", "allow"},
		{"ann", plugin.Publish, "home/safe/x", "deny"},
		{"ann", plugin.Publish, "home/safe/open", "allow"},
		{"ann", plugin.Receive, "home/safe/open", "deny"},
		{"ann", plugin.Subscribe, "own/7", "allow"},
		{"ann", plugin.Subscribe, "own/8", "deny"},
		{"ann", plugin.Subscribe, "elsewhere", "deny"},
		{"ann", plugin.Subscribe, "$SYS/#", "deny"}, // text of the hash stays in its place
		{"ann", plugin.Receive, `odd" "$SYS/x`, "allow"},
		{"bob", plugin.Publish, "home/x", "deny"},
		{"a:nn", plugin.Publish, "home/x", "deny"},
		{"", plugin.Publish, "home/x", "deny"},
		{"ann\r\nDEL x", plugin.Publish, "home/x", "deny"},
		{"bad", plugin.Publish, "a", `error: acl.redis: the rule for "a": it is publish, subscribe, both, all or deny, not "write"`},
	} {
		if got := ask(t, a, x.user, x.action, x.topic); got != x.want {
			t.Errorf("%q %v %s: %s, want %s", x.user, x.action, x.topic, got, x.want)
		}
	}
	if got := ask(t, a, "text", plugin.Publish, "a"); !strings.Contains(got, "WRONGTYPE") {
		t.Error(got)
	}
}

func TestAwayAndMistakes(t *testing.T) {
	o := Defaults()
	o.Addresses = []string{"127.0.0.1:1"}
	a := started(t, o)
	if got := ask(t, a, "ann", plugin.Publish, "a"); !strings.HasPrefix(got, "error: acl.redis: ") {
		t.Error(got)
	}
	if a.Prepare(t.Context(), &plugin.Client{Username: "ann"}) == nil {
		t.Error("a client is let in")
	}
	for want, change := range map[string]func(o *Options){
		"same rights":        func(o *Options) { o.Key = "x" },
		"is not known":       func(o *Options) { o.Key = "x${topic}" },
		"addresses is empty": func(o *Options) { o.Addresses = nil },
		"plaintext":          func(o *Options) { o.Addresses = []string{"redis.example.org:6379"} },
		"stale is":           func(o *Options) { o.Stale = -1 },
	} {
		o := Defaults()
		change(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "acl.redis: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
