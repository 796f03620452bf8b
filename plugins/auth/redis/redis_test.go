// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

type host struct{ log *strings.Builder }

func (h host) Logger() *slog.Logger                       { return slog.New(slog.NewTextHandler(h.log, nil)) }
func (host) Now() time.Time                               { return time.Now() }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

func login(user, pw string) *plugin.Login {
	return &plugin.Login{Client: &plugin.Client{ID: "c1", Username: user}, Password: []byte(pw), HasUser: true, HasPass: true}
}

// plain are options without memory.
func plain(address string) Options {
	o := Defaults()
	o.Addresses = []string{address}
	o.Remote.CacheSize, o.Remote.MaxFailures, o.Remote.Timeout = 0, 1000, 500*time.Millisecond
	return o
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

func want(t *testing.T, a *Auth, l *plugin.Login, v plugin.Verdict) plugin.Identity {
	t.Helper()
	d, id, err := a.Authenticate(t.Context(), l)
	if err != nil || d.Verdict != v {
		t.Errorf("%q: %v, %v; want %v", l.Client.Username, d, err, v)
	}
	return id
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		change func(o *Options)
		want   string
	}{
		{func(o *Options) { o.Addresses = nil }, "addresses is empty"}, {func(o *Options) { o.Addresses = []string{"a"} }, "host:port"},
		{func(o *Options) { o.Addresses = []string{"127.0.0.1:1", "127.0.0.1:2"} }, "cluster: true"},
		{func(o *Options) { o.Sentinel, o.Cluster = "m", true }, "exclude"}, {func(o *Options) { o.Database = -1 }, "database"},
		{func(o *Options) { o.Addresses = []string{"redis.example.org:6379"} }, "plaintext"}, {func(o *Options) { o.Fields = []string{"x"} }, "password_hash"},
		{func(o *Options) { o.Key = "users" }, "same user"}, {func(o *Options) { o.Key = "u:${password}" }, "must not stand"},
		{func(o *Options) { o.Unknown = "x" }, "deny or ignore"}, {func(o *Options) { o.Remote.Timeout = 0 }, "timeout"},
		{func(o *Options) { o.TLS, o.CAFile = true, "nowhere.pem" }, "ca_file"},
	} {
		o := plain("127.0.0.1:1")
		c.change(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), Name+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// A server that is away, mute, or speaks something else lets nobody in.
func TestAwayAndGarbage(t *testing.T) {
	for _, garbage := range []string{"away", "", "HTTP/1.1 400 Bad Request\r\n\r\n", strings.Repeat("x", 100000), "*1000000000\r\n", "$9999999999\r\nx", "%1\r\n", "-ERR no\r\n", "*1000000000\r\n*1000000000\r\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var conns sync.WaitGroup
		if garbage == "away" {
			l.Close()
		}
		conns.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				conns.Go(func() {
					c.SetDeadline(time.Now().Add(3 * time.Second))
					c.Write([]byte(garbage))
					for buf := make([]byte, 1000); ; {
						if _, err := c.Read(buf); err != nil {
							c.Close()
							return
						}
					}
				})
			}
		})
		a := started(t, plain(l.Addr().String()))
		began := time.Now()
		if d, _, err := a.Authenticate(t.Context(), login("ann", "x")); err == nil || d.Verdict == plugin.Allow || time.Since(began) > 5*time.Second {
			t.Errorf("%.20q: %v, %v after %v", garbage, d, err, time.Since(began))
		}
		l.Close()
		a.Stop(t.Context())
		conns.Wait()
	}
}

func TestWithoutUser(t *testing.T) {
	o := plain("127.0.0.1:1")
	nameless := &plugin.Login{Client: &plugin.Client{ID: "c"}}
	want(t, started(t, o), nameless, plugin.Ignore)
	o.Require = true
	a := started(t, o)
	want(t, a, nameless, plugin.Deny)
	for _, name := range []string{"", "a:b", "a{b}", "a\r\nb"} { // refused without asking
		want(t, a, login(name, "x"), plugin.Deny)
	}
	a, _ = New(o)
	if d, _, err := a.Authenticate(t.Context(), login("a", "b")); err == nil || d.Verdict == plugin.Allow {
		t.Error("it answers before Start")
	}
}
