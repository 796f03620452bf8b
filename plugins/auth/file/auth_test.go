// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/password"
	"github.com/noctule/noctule/plugins/internal/textfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is what a broker offers, with a log to read.
type host struct{ log *strings.Builder }

func (h host) Logger() *slog.Logger                          { return slog.New(slog.NewTextHandler(h.log, nil)) }
func (host) Now() time.Time                                  { return time.Now() }
func (host) Publish(context.Context, *mqtt.Message) error    { return errors.ErrUnsupported }
func (host) Disconnect(id string, code mqtt.ReasonCode) bool { return false }

// cheap is a line for a user whose password costs next to nothing to check.
func cheap(name, pw string) string {
	return name + ":" + password.NewArgon2id(8, 1, 1, []byte(pw)).String() + "\n"
}

func fileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.txt")
	write(t, path, text)
	return path
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

func login(name, password string) *plugin.Login {
	return &plugin.Login{Client: &plugin.Client{ID: "c", Username: name}, Password: []byte(password), HasUser: true, HasPass: true}
}

func wantVerdict(t *testing.T, a *Auth, l *plugin.Login, want plugin.Verdict) plugin.Decision {
	t.Helper()
	d, id, err := a.Authenticate(t.Context(), l)
	if err != nil || d.Verdict != want {
		t.Fatalf("%s: %v by %q, %v; want %v", l.Client.Username, d.Verdict, d.Rule, err, want)
	}
	if id.Username != "" || id.Groups != nil {
		t.Errorf("an identity was made up: %+v", id)
	}
	return d
}

func TestAuthenticate(t *testing.T) {
	path := fileOf(t, "# people\n\n"+cheap("alice", "wonder")+cheap("zoë smith", "pass:word"))
	nameless := &plugin.Login{Client: &plugin.Client{ID: "c"}}
	noPassword := login("alice", "")
	noPassword.HasPass = false
	for _, c := range []struct {
		name  string
		opts  Options
		login *plugin.Login
		want  plugin.Verdict
		rule  string
	}{
		{"right", Options{}, login("alice", "wonder"), plugin.Allow, "users.txt:3"},
		{"right, with blanks and colons", Options{}, login("zoë smith", "pass:word"), plugin.Allow, "users.txt:4"},
		{"wrong", Options{}, login("alice", "wonde"), plugin.Deny, "users.txt:3"},
		{"empty password", Options{}, login("alice", ""), plugin.Deny, "users.txt:3"},
		{"another's password", Options{}, login("alice", "pass:word"), plugin.Deny, "users.txt:3"},
		{"names are compared as they are", Options{}, login("Alice", "wonder"), plugin.Deny, "users.txt: unknown user"},
		{"a comment is no user", Options{}, login("# people", ""), plugin.Deny, "users.txt: unknown user"},
		{"empty user name", Options{}, login("", "wonder"), plugin.Deny, "users.txt: unknown user"},
		{"unknown", Options{}, login("bob", "wonder"), plugin.Deny, "users.txt: unknown user"},
		{"unknown, for the next", Options{UnknownUsers: "ignore"}, login("bob", "wonder"), plugin.Ignore, ""},
		{"wrong, not for the next", Options{UnknownUsers: "ignore"}, login("alice", "x"), plugin.Deny, "users.txt:3"},
		{"no user name", Options{}, nameless, plugin.Ignore, ""},
		{"no user name, but required", Options{Require: true}, nameless, plugin.Deny, "users.txt: no user name or no password given"},
		{"no password", Options{}, noPassword, plugin.Deny, "users.txt: no user name or no password given"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opts.Path = path
			if d := wantVerdict(t, started(t, c.opts), c.login, c.want); d.Rule != c.rule {
				t.Errorf("rule %q, want %q", d.Rule, c.rule)
			} else if d.Code != 0 {
				t.Errorf("code %v: all refusals have the same", d.Code)
			}
		})
	}
}

func TestNotStartedRefuses(t *testing.T) {
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d, _, err := a.Authenticate(t.Context(), login("alice", "wonder")); err == nil || d.Verdict == plugin.Allow {
		t.Errorf("%v, %v", d, err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Parallel: -1}, {Parallel: 1025}, {UnknownUsers: "allow"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	a, err := New(Options{})
	if err != nil || a.opts.Path != "users.txt" || cap(a.hashing) < 1 {
		t.Errorf("defaults: %+v, %v", a, err)
	}
}

// CVE-2018-12551: a line that is no user must not become one that needs no password. CVE-2017-7652: nor may a file that cannot
// be read leave the door open. Both keep the broker from starting, and say where.
func TestBrokenFileStopsTheStart(t *testing.T) {
	good := cheap("alice", "wonder")
	for _, c := range []struct{ text, want string }{
		{"alice", ":1: a line is name:hash"},
		{good + "\nbob\n", ":3: a line is name:hash"},
		{good + ":" + strings.TrimPrefix(good, "alice:"), ":2: a line is name:hash"},
		{"alice:", ":1: the password is not hashed"},
		{"alice:wonder", ":1: the password is not hashed; run `noctule passwd -U`"},
		{"alice:$6$abc", ":1: the password's hash is damaged"},
		{"alice:$9$abc", ":1: the password's hash is of no known kind"},
		{good + good, ":2: user \"alice\" stands in users.txt:1 already"},
		{good + "b\x00b:$6$", ":2: it has a control character"},
		{"b\xffb:x", ":1: it is not UTF-8"},
	} {
		path := fileOf(t, c.text)
		a, err := New(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		err = a.Start(t.Context(), host{new(strings.Builder)})
		if err == nil || !strings.HasPrefix(err.Error(), "auth.file: "+path+c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
		if d, _, err := a.Authenticate(t.Context(), login("alice", "wonder")); err == nil || d.Verdict == plugin.Allow {
			t.Errorf("%q: %v, %v afterwards", c.text, d, err)
		}
	}
	a, err := New(Options{Path: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context(), host{new(strings.Builder)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestEmptyFileLetsNobodyIn(t *testing.T) {
	for _, text := range []string{"", "\n", "# nobody\n"} {
		a := started(t, Options{Path: fileOf(t, text)})
		wantVerdict(t, a, login("alice", "wonder"), plugin.Deny)
		wantVerdict(t, a, login("", ""), plugin.Deny)
	}
}

func TestWarnings(t *testing.T) {
	path := fileOf(t, "a:"+golden[0].hash+"\n")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	log := new(strings.Builder)
	a, err := New(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context(), host{log}); err != nil {
		t.Fatal(err)
	}
	defer a.Stop(t.Context())
	for _, want := range []string{"chmod 600", "quick to guess", "users=1"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no warning of %q in %s", want, log)
		}
	}
}

// A failed reload changes nothing; a good one changes all, and forgets the logins of before.
func TestReload(t *testing.T) {
	path := fileOf(t, cheap("alice", "wonder")+cheap("bob", "builder"))
	a := started(t, Options{Path: path})
	wantVerdict(t, a, login("alice", "wonder"), plugin.Allow)

	write(t, path, cheap("alice", "other")+"bob:broken\n")
	if err := a.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), path+":2: ") {
		t.Errorf("a broken file: %v", err)
	}
	wantVerdict(t, a, login("alice", "wonder"), plugin.Allow)
	wantVerdict(t, a, login("bob", "builder"), plugin.Allow)

	write(t, path, cheap("alice", "other"))
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, a, login("alice", "wonder"), plugin.Deny)
	wantVerdict(t, a, login("alice", "other"), plugin.Allow)
	wantVerdict(t, a, login("bob", "builder"), plugin.Deny)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	wantVerdict(t, a, login("alice", "other"), plugin.Allow)
}

func TestChangedFileIsRead(t *testing.T) {
	path := fileOf(t, cheap("alice", "wonder"))
	synctest.Test(t, func(t *testing.T) {
		log := new(strings.Builder)
		a, err := New(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context(), host{log}); err != nil {
			t.Fatal(err)
		}
		defer a.Stop(context.Background())
		write(t, path, cheap("bob", "builder!"))
		time.Sleep(3 * textfile.Interval)
		wantVerdict(t, a, login("alice", "wonder"), plugin.Deny)
		wantVerdict(t, a, login("bob", "builder!"), plugin.Allow)

		write(t, path, "broken")
		time.Sleep(3 * textfile.Interval)
		wantVerdict(t, a, login("bob", "builder!"), plugin.Allow)
		synctest.Wait()
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), path+":1: ") {
			t.Errorf("%d errors were logged: %s", n, log)
		}
	})
}

// busy takes all turns to hash, so that a login that needs one fails.
func busy(a *Auth) (free func()) {
	for range cap(a.hashing) {
		a.hashing <- struct{}{}
	}
	return func() {
		for range cap(a.hashing) {
			<-a.hashing
		}
	}
}

func hashes(t *testing.T, a *Auth, l *plugin.Login) bool {
	t.Helper()
	defer busy(a)()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, _, err := a.Authenticate(ctx, l)
	if err == nil {
		return false
	}
	if !errors.Is(err, context.Canceled) || d.Verdict == plugin.Allow {
		t.Fatalf("%v, %v", d, err)
	}
	return true
}

// A name that is unknown costs a hash like one that is known, and so does a wrong password.
func TestEqualWork(t *testing.T) {
	for _, text := range []string{"", cheap("alice", "wonder")} {
		a := started(t, Options{Path: fileOf(t, text), Parallel: 2})
		for _, l := range []*plugin.Login{login("alice", "wrong"), login("bob", "wonder"), login("", "")} {
			for range 2 {
				if !hashes(t, a, l) {
					t.Errorf("%q was refused without a hash", l.Client.Username)
				}
				wantVerdict(t, a, l, plugin.Deny)
			}
		}
	}
}

// What stands in for an unknown name is always the same, and for many names is spread over all users.
func TestStandIn(t *testing.T) {
	path := fileOf(t, cheap("a", "1")+cheap("b", "2")+"c:"+golden[1].hash+"\n")
	u := usersOf(t, path)
	seen := map[string]int{}
	for i := range 3000 {
		name := fmt.Sprint("user", i)
		x := u.standIn(name)
		if x != u.standIn(name) {
			t.Fatalf("%s: two stand-ins", name)
		}
		seen[x.name]++
	}
	for _, name := range []string{"a", "b", "c"} {
		if seen[name] < 800 {
			t.Errorf("%s stood in %d times of 3000", name, seen[name])
		}
	}
}

// The password of the user who stands in for an unknown name lets nobody in under that name.
func TestStandInIsNobody(t *testing.T) {
	a := started(t, Options{Path: fileOf(t, cheap("alice", "wonder"))})
	for range 3 {
		wantVerdict(t, a, login("bob", "wonder"), plugin.Deny)
	}
	wantVerdict(t, a, login("alice", "wonder"), plugin.Allow)
	wantVerdict(t, a, login("bob", "wonder"), plugin.Deny)
}

func TestSuccessIsRememberedForAMinute(t *testing.T) {
	path := fileOf(t, cheap("alice", "wonder"))
	synctest.Test(t, func(t *testing.T) {
		a := started(t, Options{Path: path, Parallel: 1})
		good := login("alice", "wonder")
		if !hashes(t, a, good) {
			t.Error("the first login was not hashed")
		}
		wantVerdict(t, a, good, plugin.Allow)
		time.Sleep(59 * time.Second)
		if hashes(t, a, good) {
			t.Error("a login within the minute was hashed")
		}
		if !hashes(t, a, login("alice", "wonde")) || !hashes(t, a, login("alicew", "onder")) {
			t.Error("another login passed for the same")
		}
		time.Sleep(time.Second)
		if !hashes(t, a, good) {
			t.Error("a login after a minute was not hashed")
		}
		wantVerdict(t, a, good, plugin.Allow)
		if err := a.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !hashes(t, a, good) {
			t.Error("a login from before the reload was remembered")
		}
		a.Stop(t.Context())
	})
}

func TestRecentIsBounded(t *testing.T) {
	r, now := newRecent(), time.Unix(1e9, 0)
	for i := range maxRecent + 100 {
		d := r.digest(fmt.Sprint(i), nil)
		r.add(d, now)
		if !r.has(d, now) {
			t.Fatalf("%d: not kept", i)
		}
		if len(r.until) > maxRecent {
			t.Fatalf("%d are kept", len(r.until))
		}
	}
	now = now.Add(recentFor)
	r.add(r.digest("late", nil), now)
	if len(r.until) != 1 {
		t.Errorf("%d are kept when all but one have run out", len(r.until))
	}
}

// Many at once, while the file is read again and again; for the race detector.
func TestConcurrentLogins(t *testing.T) {
	path := fileOf(t, cheap("alice", "wonder")+cheap("bob", "builder"))
	a := started(t, Options{Path: path, Parallel: 2})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				name, password, want := "alice", "wonder", plugin.Allow
				if i%2 == 1 {
					name, password, want = "bob", "wonder", plugin.Deny
				}
				if d, _, err := a.Authenticate(t.Context(), login(name, password)); err != nil || d.Verdict != want {
					t.Errorf("%s: %v, %v", name, d, err)
				}
			}
		})
	}
	for range 20 {
		if err := a.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
}

func BenchmarkRememberedLogin(b *testing.B) {
	path := filepath.Join(b.TempDir(), "users.txt")
	if err := os.WriteFile(path, []byte(cheap("alice", "wonder")), 0o600); err != nil {
		b.Fatal(err)
	}
	a, err := New(Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Start(b.Context(), host{new(strings.Builder)}); err != nil {
		b.Fatal(err)
	}
	defer a.Stop(context.Background())
	l := login("alice", "wonder")
	b.ReportAllocs()
	for b.Loop() {
		if d, _, err := a.Authenticate(b.Context(), l); err != nil || d.Verdict != plugin.Allow {
			b.Fatal(d, err)
		}
	}
}
