// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package sql

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/password"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type host struct{ log *strings.Builder }

func (h host) Logger() *slog.Logger                       { return slog.New(slog.NewTextHandler(h.log, nil)) }
func (host) Now() time.Time                               { return time.Now() }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

func login(user, pw string) *plugin.Login {
	return &plugin.Login{Client: &plugin.Client{ID: "c1", Username: user, Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}},
		Password: []byte(pw), HasUser: true, HasPass: true}
}

func cheap(pw string) string { return password.NewArgon2id(8, 1, 1, []byte(pw)).String() }

// plain are options without memory.
func plain(driver, dsn string) Options {
	o := Defaults()
	o.Driver, o.DSN = driver, dsn
	o.Remote.CacheSize, o.Remote.MaxFailures = 0, 1000
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
		{func(o *Options) { o.Driver = "oracle" }, "postgres or mysql"}, {func(o *Options) { o.DSN = "" }, "dsn is empty"},
		{func(o *Options) { o.DSN = "postgres://a:hidden@127.0.0.1:x/" }, "dsn"}, {func(o *Options) { o.Driver, o.DSN = "mysql", "a:hidden" }, "dsn"},
		{func(o *Options) { o.DSN = "postgres://u:p@db.example.org/x" }, "plaintext"},
		{func(o *Options) { o.DSN = "postgres://u:p@db.example.org/x?sslmode=prefer" }, "plaintext"},
		{func(o *Options) { o.Driver, o.DSN = "mysql", "u:p@tcp(db.example.org:3306)/x" }, "plaintext"},
		{func(o *Options) { o.Driver, o.DSN = "mysql", "u:p@tcp(db.example.org:3306)/x?tls=preferred" }, "plaintext"},
		{func(o *Options) { o.Driver, o.DSN = "mysql", "u:p@tcp(127.0.0.1:3306)/x?multiStatements=true" }, "injections"},
		{func(o *Options) { o.Driver, o.DSN = "mysql", "u:p@tcp(127.0.0.1:3306)/x?interpolateParams=true" }, "injections"},
		{func(o *Options) { o.DSN += "?default_query_exec_mode=simple_protocol" }, "simple_protocol"},
		{func(o *Options) { o.Query = "SELECT password_hash FROM u" }, "same user"},
		{func(o *Options) { o.Query = "SELECT h FROM u WHERE n = '${username}'" }, "quotes"},
		{func(o *Options) {
			o.Query = "SELECT h FROM u WHERE n = \"it's\" AND m = ${username} AND x = '${clientid}'"
		}, "quotes"},
		{func(o *Options) { o.Query = "SELECT h FROM u WHERE n = ${username} AND p = ${password}" }, "must not stand"},
		{func(o *Options) { o.Query = "SELECT h FROM u WHERE n = ${user}" }, "not known"}, {func(o *Options) { o.Unknown = "x" }, "deny or ignore"},
		{func(o *Options) { o.Remote.Parallel = 0 }, "parallel"}, {func(o *Options) { o.CAFile = "x.pem" }, "sslrootcert"},
	} {
		o := plain("postgres", "postgres://u:p@127.0.0.1:1/x")
		c.change(&o)
		_, err := New(o)
		if err == nil || !strings.HasPrefix(err.Error(), Name+": ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	for driver, dsn := range map[string]string{"postgres": "postgres://u:p@db.example.org/x?sslmode=verify-full", "mysql": "u:p@tcp(db.example.org:3306)/x?tls=true", "mariadb": "u@unix(/run/s)/x"} {
		if _, err := New(plain(driver, dsn)); err != nil {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

// A database that is away lets nobody in, and the broker start.
func TestAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	for driver, dsn := range map[string]string{"postgres": "postgres://u:p@" + address + "/x?sslmode=disable", "mysql": "u:p@tcp(" + address + ")/x"} {
		log := new(strings.Builder)
		a, err := New(plain(driver, dsn))
		if err != nil {
			t.Fatal(err)
		}
		if d, _, err := a.Authenticate(t.Context(), login("a", "b")); err == nil || d.Verdict == plugin.Allow {
			t.Error("it answers before Start")
		}
		if err := a.Start(t.Context(), host{log}); err != nil || !strings.Contains(log.String(), "does not answer") {
			t.Errorf("%v, %s", err, log)
		}
		if d, _, err := a.Authenticate(t.Context(), login("ann", "x")); err == nil || d.Verdict == plugin.Allow {
			t.Errorf("%v, %v", d, err)
		}
		a.Stop(t.Context())
	}
}

// A server that speaks no SQL, or nothing at all, is an error within the time.
func TestGarbage(t *testing.T) {
	for _, garbage := range []string{"", "HTTP/1.1 400 Bad Request\r\n\r\n", strings.Repeat("\xff", 100000), "\x00\x00\x00\x00", "R\x7f\xff\xff\xff"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var conns sync.WaitGroup
		conns.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				conns.Go(func() {
					c.Write([]byte(garbage))
					if garbage != "" {
						c.(*net.TCPConn).CloseWrite()
					}
					buf := make([]byte, 1000)
					for {
						if _, err := c.Read(buf); err != nil {
							c.Close()
							return
						}
					}
				})
			}
		})
		for driver, dsn := range map[string]string{"postgres": "postgres://u:p@" + l.Addr().String() + "/x?sslmode=disable&connect_timeout=1", "mysql": "u:p@tcp(" + l.Addr().String() + ")/x?timeout=1s"} {
			o := plain(driver, dsn)
			o.Remote.Timeout = 300 * time.Millisecond
			a, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if err := a.Start(ctx, host{new(strings.Builder)}); err != nil {
				t.Error(err)
			}
			cancel()
			began := time.Now()
			if d, _, err := a.Authenticate(t.Context(), login("ann", "x")); err == nil || d.Verdict == plugin.Allow || time.Since(began) > 5*time.Second {
				t.Errorf("%s, %.10q: %v, %v after %v", driver, garbage, d, err, time.Since(began))
			}
			a.Stop(t.Context())
		}
		l.Close()
		conns.Wait()
	}
}

func TestWithoutUser(t *testing.T) {
	o := plain("postgres", "postgres://u:p@127.0.0.1:1/x")
	a := started(t, o)
	nameless := &plugin.Login{Client: &plugin.Client{ID: "c"}}
	want(t, a, nameless, plugin.Ignore)
	noPassword := login("ann", "")
	noPassword.HasPass = false
	want(t, a, noPassword, plugin.Deny)
	o.Require = true
	want(t, started(t, o), nameless, plugin.Deny)
}
