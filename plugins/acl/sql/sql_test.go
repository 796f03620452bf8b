// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package sql

import (
	"context"
	"errors"
	"log/slog"
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

func options(driver, dsn string) Options {
	o := Defaults()
	o.Driver, o.DSN, o.MaxFailures = driver, dsn, 1000
	return o
}

func started(t *testing.T, o Options) *ACL {
	t.Helper()
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

// ask asks as the broker does.
func ask(t *testing.T, a *ACL, user string, action plugin.Action, topic string) string {
	t.Helper()
	x := &plugin.Access{Client: &plugin.Client{ID: "7", Username: user}, Action: action, Topic: topic}
	d, err := a.AuthorizeSlow(t.Context(), x)
	if err != nil {
		return "error: " + err.Error()
	}
	if again := a.Authorize(x); d.Verdict != plugin.Ignore && again != d {
		t.Errorf("%s %v %s: %v, then %v", user, action, topic, d, again)
	}
	return strings.TrimSpace(d.Verdict.String() + " " + d.Rule)
}

const dsn = "postgres://u:p@127.0.0.1:1/x"

func TestMistakes(t *testing.T) {
	for want, change := range map[string]func(o *Options){
		"driver is":            func(o *Options) { o.Driver = "oracle" },
		"dsn is empty":         func(o *Options) { o.DSN = "" },
		"unencrypted":          func(o *Options) { o.DSN = "postgres://u:p@example.org/x?sslmode=disable" },
		"same rights":          func(o *Options) { o.Query = "SELECT rule FROM x" },
		"stands in quotes":     func(o *Options) { o.Query = "SELECT rule FROM x WHERE a = '${username}'" },
		"is not known":         func(o *Options) { o.Query = "SELECT rule FROM x WHERE a = ${topic}" },
		"${password} must not": func(o *Options) { o.Query = "SELECT rule FROM x WHERE a = ${password}" },
		"unmatched is":         func(o *Options) { o.Unmatched = "allow" },
	} {
		o := options("postgres", dsn)
		change(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), Name+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A database that is away does not keep the broker from starting; it denies, and lets nobody in.
func TestAway(t *testing.T) {
	a := started(t, options("postgres", dsn))
	if got := ask(t, a, "ann", plugin.Publish, "a"); !strings.HasPrefix(got, "error: ") {
		t.Error(got)
	}
	c := &plugin.Client{Username: "ann"}
	if err := a.Prepare(t.Context(), c); err == nil {
		t.Error("a client is let in")
	}
	if d := a.Authorize(&plugin.Access{Client: c, Action: plugin.Receive, Topic: "a"}); d.Verdict != plugin.Deny {
		t.Error(d)
	}
}
