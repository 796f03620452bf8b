// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/plugin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errAway = errors.New("connection refused")
	allow   = Answer{Decision: plugin.Decision{Verdict: plugin.Allow}}
)

// asked is a server that answers as told.
type asked struct {
	n      int
	answer Answer
	err    error
}

func (a *asked) ask(context.Context) (Answer, error) { a.n++; return a.answer, a.err }

func key(parts ...string) (k [][]byte) {
	for _, p := range parts {
		k = append(k, []byte(p))
	}
	return k
}

func step(o Options) (*Step, *strings.Builder) {
	log := new(strings.Builder)
	return NewStep("auth.test", o, time.Now, slog.New(slog.NewTextHandler(log, nil))), log
}

func TestAnswersAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := step(Defaults())
		a := &asked{answer: allow}
		want := func(n int, verdict plugin.Verdict, when string, k ...string) {
			t.Helper()
			d, _, err := s.Ask(t.Context(), key(k...), a.ask)
			if err != nil || d.Verdict != verdict || a.n != n {
				t.Errorf("%s: %v, %v, asked %d times; want %v, %d", when, d.Verdict, err, a.n, verdict, n)
			}
		}
		want(1, plugin.Allow, "first", "ann", "secret")
		want(1, plugin.Allow, "again", "ann", "secret")
		a.answer = Deny("wrong")
		want(2, plugin.Deny, "another password", "ann", "secre")
		want(3, plugin.Deny, "the same bytes, parted otherwise", "anns", "ecret")
		want(3, plugin.Deny, "a refusal again", "ann", "secre")
		time.Sleep(5 * time.Second)
		want(4, plugin.Deny, "a refusal is forgotten soon", "ann", "secre")
		time.Sleep(55 * time.Second)
		want(5, plugin.Deny, "a success later", "ann", "secret")
		a.answer = Answer{Decision: allow.Decision, Identity: plugin.Identity{Grant: &plugin.Grant{Expires: time.Now().Add(10 * time.Second)}}}
		want(6, plugin.Allow, "with an end", "bob", "b")
		time.Sleep(9 * time.Second)
		want(6, plugin.Allow, "before the end", "bob", "b")
		time.Sleep(time.Second)
		want(7, plugin.Allow, "at the end", "bob", "b")
		s.Forget()
		want(8, plugin.Allow, "after Forget", "bob", "b")
		a.err = errAway
		for range 2 { // errors are not remembered
			if _, _, err := s.Ask(t.Context(), key("eve"), a.ask); !errors.Is(err, errAway) || !strings.HasPrefix(err.Error(), "auth.test: ") {
				t.Errorf("error %v", err)
			}
		}
		if a.n != 10 {
			t.Errorf("asked %d times, want 10", a.n)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	o := Defaults()
	o.CacheSize = 100
	s, _ := step(o)
	a := &asked{answer: allow}
	for i := range 1000 {
		s.Ask(t.Context(), key(fmt.Sprint(i)), a.ask)
	}
	if n := len(s.cache.entries); n != 100 {
		t.Errorf("%d answers are remembered, want 100", n)
	}
	if s.Ask(t.Context(), key("999"), a.ask); a.n != 1000 {
		t.Error("the last one was dropped")
	}
	o.CacheSize = 0
	s, _ = step(o)
	for range 2 {
		s.Ask(t.Context(), key("x"), a.ask)
	}
	if a.n != 1002 {
		t.Error("an answer was remembered without memory")
	}
}

func TestNobodyIsAskedWhoIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := step(Defaults())
		a := &asked{err: errAway}
		ask := func() error {
			_, _, err := s.Ask(t.Context(), key("k"), a.ask)
			return err
		}
		for range 5 {
			if err := ask(); !errors.Is(err, errAway) {
				t.Fatal(err)
			}
		}
		for range 100 {
			if err := ask(); !errors.Is(err, ErrAway) || a.n != 5 {
				t.Fatalf("%v, asked %d times", err, a.n)
			}
		}
		time.Sleep(5 * time.Second)
		if err := ask(); !errors.Is(err, errAway) || a.n != 6 {
			t.Fatalf("the trial: %v, asked %d times", err, a.n)
		}
		if err := ask(); !errors.Is(err, ErrAway) {
			t.Fatalf("after a trial that failed: %v", err)
		}
		time.Sleep(5 * time.Second)
		_, _, err := s.Ask(t.Context(), key("k"), func(ctx context.Context) (Answer, error) {
			if err := ask(); !errors.Is(err, ErrAway) {
				t.Errorf("during the trial: %v", err)
			}
			return allow, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Forget()
		a.err = nil
		if err := ask(); err != nil {
			t.Errorf("after a trial that succeeded: %v", err)
		}
		if strings.Count(log.String(), "level=WARN") != 1 || strings.Count(log.String(), "level=INFO") != 1 {
			t.Errorf("the log says %s", log)
		}
	})
}

// One success ends a row of failures, and what the client itself broke off is none.
func TestFailuresInARow(t *testing.T) {
	s, _ := step(Defaults())
	a := &asked{}
	for i := range 40 {
		a.err = errAway
		if i%5 == 4 {
			a.err = nil
		}
		if _, _, err := s.Ask(t.Context(), key(fmt.Sprint(i)), a.ask); errors.Is(err, ErrAway) {
			t.Fatal("it was not asked")
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		s.Ask(gone, key("gone"), func(ctx context.Context) (Answer, error) { return Answer{}, ctx.Err() })
	}
	if _, _, err := s.Ask(t.Context(), key("x"), a.ask); err != nil {
		t.Errorf("after clients that went away: %v", err)
	}
}

func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Defaults()
		o.Parallel, o.MaxFailures = 2, 1000
		s, _ := step(o)
		began := time.Now()
		var mu sync.Mutex
		now, most := 0, 0
		hang := func(ctx context.Context) (Answer, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			now--
			mu.Unlock()
			return Answer{}, ctx.Err()
		}
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				if _, _, err := s.Ask(t.Context(), key(fmt.Sprint(i)), hang); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != 3*time.Second || most != 2 {
			t.Errorf("it took %v, %d at once", took, most)
		}
	})
}

// A panic frees its place, and counts as a failure.
func TestPanic(t *testing.T) {
	o := Defaults()
	o.Parallel, o.MaxFailures = 1, 2
	s, _ := step(o)
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			s.Ask(t.Context(), key("x"), func(context.Context) (Answer, error) { panic("on purpose") })
		}()
	}
	if _, _, err := s.Ask(t.Context(), key("x"), (&asked{}).ask); !errors.Is(err, ErrAway) {
		t.Errorf("error %v", err)
	}
}

func TestOptions(t *testing.T) {
	o := Defaults()
	if err := o.Check("auth.test"); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(o *Options){
		func(o *Options) { o.Timeout = 0 }, func(o *Options) { o.Timeout = time.Hour }, func(o *Options) { o.Parallel = 0 },
		func(o *Options) { o.Parallel = 2000 }, func(o *Options) { o.CacheTTL = -1 }, func(o *Options) { o.CacheTTL = 48 * time.Hour },
		func(o *Options) { o.CacheDenied = -1 }, func(o *Options) { o.CacheSize = -1 }, func(o *Options) { o.CacheSize = 1 << 30 },
		func(o *Options) { o.MaxFailures = 0 }, func(o *Options) { o.RetryAfter = 0 },
	} {
		o := Defaults()
		change(&o)
		if err := o.Check("auth.test"); err == nil || !strings.Contains(err.Error(), "; write ") {
			t.Errorf("%+v: error %v", o, err)
		}
	}
}

func loginOf(user, password string) *plugin.Login {
	return &plugin.Login{Client: &plugin.Client{ID: "c1", Username: user, Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}},
		Password: []byte(password), HasUser: true, HasPass: true}
}

func TestTemplate(t *testing.T) {
	bracket := func(s string) (string, error) { return "<" + s + ">", nil }
	for _, c := range []struct{ text, want string }{
		{"", ""}, {"plain $ text }", "plain $ text }"},
		{"u/${username}/x", "u/<ann>/x"},
		{"${username}${clientid}", "<ann><c1>"},
		{"$${username}", "${username}"},
		{"a$${b}${address}", "a${b}<192.0.2.1>"},
		{"${cert.cn}", "<>"}, // no certificate
	} {
		x, err := Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := x.Expand(loginOf("ann", "pw"), bracket); err != nil || got != c.want {
			t.Errorf("%q: %q, %v; want %q", c.text, got, err, c.want)
		}
	}
	// A value is not looked at again.
	x, _ := Parse("${username}")
	if got, _ := x.Expand(loginOf("${password}", "secret"), Verbatim); got != "${password}" {
		t.Errorf("a value was expanded: %q", got)
	}
	for _, bad := range []string{"${", "${username", "${}", "${user}", "${password}", "${env:X}"} {
		if _, err := Parse(bad, "password"); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	x, _ = Parse("select ${username}, ${clientid}")
	if text, names := x.Split(func(i int) string { return fmt.Sprintf("$%d", i+1) }); text != "select $1, $2" || strings.Join(names, " ") != "username clientid" {
		t.Errorf("split: %q %q", text, names)
	}
}

func TestIdentities(t *testing.T) {
	for _, bad := range []plugin.Identity{
		{Username: "a\nb"}, {Username: "\xff"}, {Groups: []string{""}}, {Groups: []string{"a\x00"}}, {Groups: make([]string, MaxGroups+1)},
		{Grant: &plugin.Grant{Rules: []string{"topic read a\ntopic read #"}}}, {Grant: &plugin.Grant{Rules: make([]string, MaxRules+1)}},
		{Grant: &plugin.Grant{Claims: map[string]string{"a": strings.Repeat("x", 2000)}}},
	} {
		if err := CheckIdentity(&bad); err == nil {
			t.Errorf("%.100v was taken", bad)
		}
	}
	id := plugin.Identity{Groups: []string{"a"}, Grant: &plugin.Grant{Rules: []string{"topic read x"}, Claims: map[string]string{"m": "n"}}}
	Superuser(&id)
	if strings.Join(id.Groups, ",") != "a,superuser" || len(id.Grant.Rules) != 3 || id.Grant.Claims["m"] != "n" || CheckIdentity(&id) != nil {
		t.Errorf("superuser %+v", id)
	}
	if g := SplitGroups(`{ops, "dev team",}`); strings.Join(g, "|") != "ops|dev team" {
		t.Errorf("groups %q", g)
	}
	if r := SplitRules("topic read a\r\n\n# x\n topic write b"); strings.Join(r, "|") != "topic read a|topic write b" {
		t.Errorf("rules %q", r)
	}
}

func TestHTTPClient(t *testing.T) {
	var o TLSOptions
	for url, ok := range map[string]bool{
		"https://example.org/x": true, "http://127.0.0.1:1/x": true, "http://localhost/x": true, "http://[::1]/": true,
		"http://example.org/": false, "http://10.0.0.1/": false, "ftp://localhost/": false, "localhost/auth": false, "http://": false, "%": false,
	} {
		if _, err := o.CheckURL(url); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
	o.Plaintext = true
	if _, err := o.CheckURL("http://supervisor/auth"); err != nil {
		t.Error(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("a redirection was followed")
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
		w.Write(make([]byte, 2000))
	}))
	defer srv.Close()
	c, err := o.NewHTTPClient(1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	resp, err := c.Get(srv.URL)
	if err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Fatalf("%v, %v", resp, err)
	}
	defer resp.Body.Close()
	if _, err := ReadBody(resp, 1999); err == nil {
		t.Error("a large answer was read")
	}
	srv.Close()
	if _, err := c.Get(srv.URL + "?password=secret"); err == nil || strings.Contains(WithoutURL(err).Error(), "secret") {
		t.Errorf("error %v", WithoutURL(err))
	}
	for _, bad := range []TLSOptions{{CAFile: "nowhere.pem"}, {CAFile: "remote_test.go"}, {CertFile: "x.pem"}, {CertFile: "x.pem", KeyFile: "y.pem"}} {
		if _, err := bad.NewHTTPClient(1); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
