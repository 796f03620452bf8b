// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package ldap

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
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type host struct{ log *strings.Builder }

func (h host) Logger() *slog.Logger                       { return slog.New(slog.NewTextHandler(h.log, nil)) }
func (host) Now() time.Time                               { return time.Now() }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

func login(user, pw string) *plugin.Login {
	return &plugin.Login{Client: &plugin.Client{ID: "c1", Username: user}, Password: []byte(pw), HasUser: true, HasPass: true}
}

// plain are options without memory.
func plain(url string) Options {
	o := Defaults()
	o.URL, o.Base = url, "ou=people,dc=example,dc=org"
	o.CacheSize, o.MaxFailures, o.Timeout = 0, 1000, 2*time.Second
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
		{func(o *Options) { o.URL = "" }, "not an address"}, {func(o *Options) { o.URL = "http://x" }, "not an address"},
		{func(o *Options) { o.URL = "ldap://ldap.example.org" }, "start_tls: true"},
		{func(o *Options) { o.URL, o.StartTLS = "ldaps://x", true }, "from the beginning"}, {func(o *Options) { o.Base = "" }, "no base"},
		{func(o *Options) { o.BindDN = "cn=x" }, "anonymous bind"}, {func(o *Options) { o.UserDN = "uid=x,dc=y" }, "same user"},
		{func(o *Options) { o.UserDN = "${username}" }, "distinguished name"}, {func(o *Options) { o.UserDN = "uid=${name},dc=x" }, "not known"},
		{func(o *Options) { o.Filter = "uid=${username}" }, "no filter"}, {func(o *Options) { o.Filter = "(uid=ann)" }, "same user"},
		{func(o *Options) { o.Filter = "(&(uid=${username})(userPassword=${password}))" }, "must not stand"},
		{func(o *Options) { o.GroupBase, o.GroupFilter = "dc=x", "(member=x)" }, "${dn}"}, {func(o *Options) { o.GroupBase, o.GroupFilter = "dc=x", "(member=${dn}" }, "no filter"},
		{func(o *Options) { o.Unknown = "x" }, "deny or ignore"}, {func(o *Options) { o.Timeout = 0 }, "timeout"}, {func(o *Options) { o.CAFile = "nowhere.pem" }, "ca_file"},
	} {
		o := plain("ldap://127.0.0.1")
		c.change(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), Name+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// What needs no directory to be refused.
func TestWithoutAsking(t *testing.T) {
	o := plain("ldap://127.0.0.1:1")
	nameless := &plugin.Login{Client: &plugin.Client{ID: "c"}}
	a := started(t, o)
	want(t, a, nameless, plugin.Ignore)
	want(t, a, login("ann", ""), plugin.Deny)
	want(t, a, login("", "x"), plugin.Deny)
	noPassword := login("ann", "")
	noPassword.HasPass = false
	want(t, a, noPassword, plugin.Deny)
	o.Require = true
	want(t, started(t, o), nameless, plugin.Deny)
	a, _ = New(o)
	if d, _, err := a.Authenticate(t.Context(), login("a", "b")); err == nil || d.Verdict == plugin.Allow {
		t.Error("it answers before Start")
	}
}

func TestEscaping(t *testing.T) {
	o := plain("ldap://127.0.0.1:1")
	a := started(t, o)
	for name, want := range map[string]string{
		"ann": "(uid=ann)", "*": `(uid=\2a)`, "a)(|(uid=*": `(uid=a\29\28|\28uid=\2a)`, `\`: `(uid=\5c)`, "é": `(uid=\c3\a9)`, "a\x00": `(uid=a\00)`,
	} {
		if got, _ := a.who(login(name, "x")); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	o.UserDN = "uid=${username},ou=people"
	a = started(t, o)
	for name, want := range map[string]string{
		"ann": "uid=ann,ou=people", "ann,ou=admins": `uid=ann\,ou=admins,ou=people`, " a ": `uid=\ a\ ,ou=people`, "#a+b": `uid=\#a\+b,ou=people`, `a"<>;\`: `uid=a\"\<\>\;\\,ou=people`,
	} {
		if got, _ := a.who(login(name, "x")); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// A directory that is away, mute, or speaks something else lets nobody in.
func TestAwayAndGarbage(t *testing.T) {
	for _, garbage := range []string{"away", "", "HTTP/1.1 400 Bad Request\r\n\r\n", strings.Repeat("\xff", 100000), "\x30\x84\x7f\xff\xff\xff\x02", "\x30\x80\x00",
		"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"[:10], "\x30\x0c\x02\x01\x63\x61\x07\x0a\x01\x00\x04\x00\x04\x00"} {
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
					defer c.Close()
					c.SetDeadline(time.Now().Add(3 * time.Second))
					buf := make([]byte, 1000)
					c.Read(buf)
					c.Write([]byte(garbage))
					for {
						if _, err := c.Read(buf); err != nil {
							return
						}
					}
				})
			}
		})
		o := plain("ldap://" + l.Addr().String())
		o.Timeout = 300 * time.Millisecond
		for _, dn := range []string{"", "uid=${username},ou=people"} {
			for _, startTLS := range []bool{false, true} {
				o.UserDN, o.StartTLS = dn, startTLS
				a := started(t, o)
				began := time.Now()
				d, _, err := a.Authenticate(t.Context(), login("ann", "secret"))
				if err == nil || d.Verdict == plugin.Allow || time.Since(began) > 3*time.Second || strings.Contains(err.Error(), "secret") {
					t.Errorf("%.20q, %q, %v: %v, %v after %v", garbage, dn, startTLS, d, err, time.Since(began))
				}
			}
		}
		l.Close()
		conns.Wait()
	}
}
