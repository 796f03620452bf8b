// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package scram

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"
	"go.uber.org/goleak"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/textfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is what a broker offers, with a log to read.
type host struct{ log *strings.Builder }

func (h host) Logger() *slog.Logger                       { return slog.New(slog.NewTextHandler(h.log, nil)) }
func (host) Now() time.Time                               { return time.Now() }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

// golden is the example of RFC 7677: user "user", password "pencil".
const golden = "user:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func fileOf(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scram.txt")
	put(t, path, text)
	return path
}

func started(t *testing.T, m Method, path string) *Auth {
	t.Helper()
	a := New(m, Options{Path: path})
	if err := a.Start(t.Context(), host{new(strings.Builder)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Stop(context.Background()) })
	return a
}

// outcome is what an exchange came to.
type outcome struct {
	d      plugin.Decision
	id     plugin.Identity
	proven bool // the server proved to the client that it knows the user
}

// exchangeWith runs an exchange of a client library with the plug-in.
func exchangeWith(t *testing.T, a *Auth, name, password, actFor string) outcome {
	t.Helper()
	client, err := a.method.hash().NewClientUnprepped(name, password, actFor)
	if err != nil {
		t.Fatal(err)
	}
	x, err := a.Begin(t.Context(), &plugin.Client{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	conv, in := client.NewConversation(), ""
	for range 3 {
		out, err := conv.Step(in)
		if err != nil {
			t.Fatal(err)
		}
		reply, done, d, id, err := x.Next(t.Context(), []byte(out))
		if err != nil {
			t.Fatal(err)
		}
		if done {
			if d.Verdict == plugin.Deny && (reply != nil || d.Code != 0 || id.Username != "") {
				t.Errorf("a refusal tells %q, code %v, identity %+v", reply, d.Code, id)
			}
			_, err = conv.Step(string(reply))
			return outcome{d, id, err == nil && conv.Valid()}
		}
		if d.Verdict != plugin.Ignore {
			t.Fatalf("decided in the middle: %v", d)
		}
		in = string(reply)
	}
	t.Fatal("no end")
	return outcome{}
}

// The messages of RFC 7677, section 3, with the credentials that follow from them.
func TestExampleOfTheStandard(t *testing.T) {
	const nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	c := credentialsOf(t, golden)
	server, err := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		x, known := c.find(SHA256, name)
		if !known {
			t.Errorf("%q is unknown", name)
		}
		return x.stored, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	conv := server.WithNonceGenerator(func() string { return nonce }).NewConversation()
	for _, step := range []struct{ in, out string }{
		{"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
		{"c=biws,r=rOprNGfwEbeRWgbNEkqO" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
	} {
		if out, err := conv.Step(step.in); err != nil || out != step.out {
			t.Fatalf("%s: %s, %v", step.in, out, err)
		}
	}
}

func TestExchange(t *testing.T) {
	for m := range methods {
		path := filepath.Join(t.TempDir(), "scram.txt")
		e, err := EditOrCreate(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"alice", "zoë, smith=x"} {
			if err := e.Set(name, m, MinIterations, []byte("wonder")); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Set("other", 1-m, MinIterations, []byte("wonder")); err != nil {
			t.Fatal(err)
		}
		if err := e.Write(); err != nil {
			t.Fatal(err)
		}
		a := started(t, m, path)
		if a.Method() != m.String() || a.Name() != m.plugin() {
			t.Errorf("%v: method %q, name %q", m, a.Method(), a.Name())
		}
		for _, c := range []struct {
			name, password, actFor string
			want                   outcome
		}{
			{"alice", "wonder", "", outcome{plugin.Decision{Verdict: plugin.Allow, Rule: "scram.txt:2"}, plugin.Identity{Username: "alice"}, true}},
			{"alice", "wonder", "alice", outcome{plugin.Decision{Verdict: plugin.Allow, Rule: "scram.txt:2"}, plugin.Identity{Username: "alice"}, true}},
			{"zoë, smith=x", "wonder", "", outcome{plugin.Decision{Verdict: plugin.Allow, Rule: "scram.txt:3"}, plugin.Identity{Username: "zoë, smith=x"}, true}},
			{"alice", "wonde", "", outcome{d: plugin.Decision{Verdict: plugin.Deny, Rule: "scram.txt:2"}}},
			{"alice", "", "", outcome{d: plugin.Decision{Verdict: plugin.Deny, Rule: "scram.txt:2"}}},
			{"alice", "wonder", "root", outcome{d: plugin.Decision{Verdict: plugin.Deny, Rule: "to act for another user is not offered"}}},
			{"bob", "wonder", "", outcome{d: plugin.Decision{Verdict: plugin.Deny, Rule: "scram.txt: unknown user"}}},
			{"other", "wonder", "", outcome{d: plugin.Decision{Verdict: plugin.Deny, Rule: "scram.txt: unknown user"}}},
			{"", "wonder", "", outcome{d: plugin.Decision{Verdict: plugin.Deny, Rule: "scram.txt: unknown user"}}},
		} {
			if got := exchangeWith(t, a, c.name, c.password, c.actFor); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v %s %s: %+v, want %+v", m, c.name, c.password, got, c.want)
			}
		}
	}
}

func TestBadMessagesAreRefused(t *testing.T) {
	a := started(t, SHA256, fileOf(t, golden))
	for _, messages := range [][]string{
		{""}, {"n"}, {"n,,"}, {"n,,n=user"}, {"n,,n=us=er,r=abc"}, {"\xff\xfe,,n=user,r=abc"},
		{"p=tls-unique,,n=user,r=abc"}, {"n,,m=x,n=user,r=abc"}, {"y,,n=user,r=" + strings.Repeat("a", maxMessage)},
		{"n,,n=user,r=abc", ""}, {"n,,n=user,r=abc", "c=biws,r=abc,p="}, {"n,,n=user,r=abc", "n,,n=user,r=abc"},
		{"n,,n=user,r=abc", "c=biws,r=abc,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="},
	} {
		x, err := a.Begin(t.Context(), &plugin.Client{})
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range messages {
			reply, done, d, _, err := x.Next(t.Context(), []byte(m))
			if last := i == len(messages)-1; err != nil || done != last || last && (d.Verdict != plugin.Deny || reply != nil || d.Rule == "") {
				t.Errorf("%.60q: %q, done %v, %+v, %v", messages[:i+1], reply, done, d, err)
			}
		}
		if _, done, d, _, err := x.Next(t.Context(), []byte("n,,n=user,r=abc")); !done || d.Verdict != plugin.Deny || err != nil {
			t.Errorf("%.60q: goes on after the end: %v, %v, %v", messages, done, d, err)
		}
	}
}

// Salt and iterations of an unknown name look like those of a user, and are the same at each try, also after a restart.
func TestUnknownNamesLookLikeUsers(t *testing.T) {
	text := ":secret$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" + golden
	ask := func(a *Auth, name string) string {
		x, err := a.Begin(t.Context(), &plugin.Client{})
		if err != nil {
			t.Fatal(err)
		}
		reply, _, _, _, err := x.Next(t.Context(), []byte("n,,n="+name+",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(reply), ",")
		return rest
	}
	first, second := started(t, SHA256, fileOf(t, text)), started(t, SHA256, fileOf(t, text))
	bob := ask(first, "bob")
	if bob != ask(first, "bob") || bob != ask(second, "bob") {
		t.Error("the salt of an unknown name changes")
	}
	if bob == ask(first, "carol") {
		t.Error("all unknown names have one salt")
	}
	user := ask(first, "user")
	if len(bob) != len(user) || !strings.HasSuffix(bob, ",i=4096") || !strings.HasSuffix(user, ",i=4096") {
		t.Errorf("an unknown name gets %s, a known one %s", bob, user)
	}
	if other := started(t, SHA256, fileOf(t, golden)); ask(other, "bob") == bob {
		t.Error("without a secret of its own a file has that of another")
	}
}

func TestBrokenFileStopsTheStart(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"user", ":1: a line is name:method"},
		{"user:x\n", ":1: a line is name:method"},
		{golden + golden, ":2: user \"user\" has SCRAM-SHA-256 credentials in scram.txt:1 already"},
		{strings.Replace(golden, "SHA-256", "SHA-1", 1), ":1: the method is"},
		{strings.Replace(golden, "SHA-256", "SHA-512", 1), ":1: the credentials are damaged"},
		{strings.Replace(golden, "4096", "4095", 1), ":1: iterations are"},
		{strings.Replace(golden, "4096", "99999999", 1), ":1: iterations are"},
		{strings.Replace(golden, "W22ZaJ0SNY7soEsUEjb6gQ==", "", 1), ":1: the credentials are damaged"},
		{strings.Replace(golden, "WG5d", "", 1), ":1: the credentials are damaged"},
		{strings.Replace(golden, ":wfPL", "", 1), ":1: the credentials are damaged"},
		{golden[4:], ":1: the user name is empty"},
		{"\u2168" + golden, ":1: the user name \"\u2168user\" is not normalised; write it as \"IXuser\""},
		{":secret$AAAA\n", ":1: the secret is damaged"},
		{strings.Repeat(":secret$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 2), ":2: there is a second secret"},
	} {
		path := fileOf(t, c.text)
		a := New(SHA256, Options{Path: path})
		if err := a.Start(t.Context(), host{new(strings.Builder)}); err == nil || !strings.HasPrefix(err.Error(), "auth.scram: "+path+c.want) {
			t.Errorf("%q: error %v, want %s", c.text, err, c.want)
		}
		if _, err := a.Begin(t.Context(), &plugin.Client{}); err == nil {
			t.Errorf("%q: an exchange began", c.text)
		}
	}
	log := new(strings.Builder)
	a := New(SHA256, Options{Path: fileOf(t, "")})
	if err := a.Start(t.Context(), host{log}); err != nil || !strings.Contains(log.String(), "nobody can log in") {
		t.Errorf("an empty file: %v, %s", err, log)
	}
	defer a.Stop(t.Context())
	if o := exchangeWith(t, a, "user", "pencil", ""); o.d.Verdict != plugin.Deny {
		t.Errorf("an empty file lets in: %+v", o)
	}
}

func TestReload(t *testing.T) {
	path := fileOf(t, golden)
	synctest.Test(t, func(t *testing.T) {
		log := new(strings.Builder)
		a := New(SHA256, Options{Path: path})
		if err := a.Start(t.Context(), host{log}); err != nil {
			t.Fatal(err)
		}
		defer a.Stop(context.Background())
		want := func(v plugin.Verdict, when string) {
			t.Helper()
			if o := exchangeWith(t, a, "user", "pencil", ""); o.d.Verdict != v {
				t.Errorf("%s: %+v", when, o)
			}
		}
		want(plugin.Allow, "at first")
		put(t, path, "broken\n")
		if err := a.Reload(t.Context()); err == nil {
			t.Error("a broken file was taken")
		}
		want(plugin.Allow, "after a broken file")
		time.Sleep(3 * textfile.Interval)
		want(plugin.Allow, "after the watcher saw it")
		put(t, path, "# nobody left\n")
		time.Sleep(3 * textfile.Interval)
		want(plugin.Deny, "when removed")
		synctest.Wait()
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors were logged: %s", n, log)
		}
	})
}

func TestConcurrentExchanges(t *testing.T) {
	a := started(t, SHA256, fileOf(t, golden))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				if o := exchangeWith(t, a, "user", "pencil", ""); o.d.Verdict != plugin.Allow {
					t.Errorf("%+v", o)
				}
			}
		})
	}
	for range 10 {
		if err := a.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
}

func TestEditor(t *testing.T) {
	path := fileOf(t, "# ours\n"+golden)
	e, err := EditOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []Method{SHA256, SHA512, SHA256} {
		if err := e.Set("alice", m, MinIterations, []byte("wonder")); err != nil {
			t.Fatal(err)
		}
	}
	want := []Entry{{"user", "SCRAM-SHA-256", 2}, {"alice", "SCRAM-SHA-256", 4}, {"alice", "SCRAM-SHA-512", 5}}
	if got := e.Users(); !reflect.DeepEqual(got, want) {
		t.Errorf("users %v, want %v", got, want)
	}
	if !e.Has("alice", SHA512) || e.Has("user", SHA512) || e.Has("", SHA256) {
		t.Error("Has is wrong")
	}
	if err := e.Remove("alice"); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove("alice"); !errors.Is(err, ErrNoUser) {
		t.Errorf("removed twice: %v", err)
	}
	if err := e.Write(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "# ours\n"+golden+secretLine) || strings.Count(string(text), "\n") != 3 {
		t.Errorf("the file is %s, %v", text, err)
	}
	for _, c := range []struct {
		name, password string
		iterations     int
	}{
		{"", "pw", 5000}, {"a:b", "pw", 5000}, {"#a", "pw", 5000}, {"a\n", "pw", 5000},
		{"a", "", 5000}, {"a", "pw", 4095}, {"a", "pw", MaxIterations + 1}, {"a", "\u0007", 5000},
	} {
		if err := e.Set(c.name, SHA256, c.iterations, []byte(c.password)); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func credentialsOf(t testing.TB, text string) *credentials {
	t.Helper()
	f, err := textfile.Parse("scram.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCredentials(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func FuzzCredentials(f *testing.F) {
	f.Add(golden, "user")
	f.Add(":secret$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n#x\n"+golden, "bob")
	f.Fuzz(func(t *testing.T, text, name string) {
		file, err := textfile.Parse("scram.txt", []byte(text))
		if err != nil {
			return
		}
		c, err := parseCredentials(file)
		if err != nil {
			var where *textfile.Error
			if !errors.As(err, &where) || where.Line < 1 || where.Line > len(file.Lines) {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		e, n := &Editor{file, file.Lines}, 0
		for m := range methods {
			for _, x := range c.of[m].list {
				n++
				if got, known := c.find(m, x.name); !known || got != x || !e.Has(x.name, m) {
					t.Fatalf("%q is not found", x.name)
				}
			}
			if x, known := c.find(m, name); !known && (len(x.stored.Salt) != saltBytes || len(x.stored.StoredKey) != m.size()) {
				t.Fatalf("%q is told to be unknown: %+v", name, x)
			}
		}
		if len(e.Users()) != n {
			t.Fatalf("%d users, the editor sees %d", n, len(e.Users()))
		}
	})
}

func FuzzExchange(f *testing.F) {
	c := credentialsOf(f, golden)
	f.Add("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=rOprNGfwEbeRWgbNEkqO,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	f.Fuzz(func(t *testing.T, first, final string) {
		x, err := newExchange(c, SHA256)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{first, final} {
			if _, _, d, _, err := x.Next(t.Context(), []byte(m)); d.Verdict == plugin.Allow || err != nil {
				t.Fatalf("%v, %v", d, err)
			}
		}
	})
}
