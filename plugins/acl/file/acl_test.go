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
	"github.com/noctule/noctule/plugins/internal/textfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is what a broker offers, with a log to read.
type host struct{ log *strings.Builder }

func (h host) Logger() *slog.Logger                       { return slog.New(slog.NewTextHandler(h.log, nil)) }
func (host) Now() time.Time                               { return time.Now() }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func fileOf(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acl.txt")
	put(t, path, text)
	return path
}

func aclOf(t testing.TB, text string) *ACL {
	t.Helper()
	a, err := Read(fileOf(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask is a question in short: "user client action topic". A user of - is none, of ?name is not vouched for.
func ask(t testing.TB, a *ACL, question string) plugin.Decision {
	t.Helper()
	w := strings.SplitN(question, " ", 4)
	user, unsure := strings.CutPrefix(strings.TrimPrefix(w[0], "-"), "?")
	c := &plugin.Client{ID: w[1], Username: user, Anonymous: unsure || w[0] == "-"}
	x := &plugin.Access{Client: c, Topic: w[3]}
	for x.Action = range plugin.Receive + 1 {
		if x.Action.String() == w[2] {
			d := a.Authorize(x)
			if again := a.Authorize(x); again != d {
				t.Fatalf("%s: %v, then %v", question, d, again)
			}
			return d
		}
	}
	t.Fatalf("%s: no such action", question)
	return plugin.Decision{}
}

const semantics = `# For everybody without a name.
topic read news/#
topic read $SYS/broker/uptime

user alice
topic home/#
topic deny home/safe/#
topic read weather/+/now
topic write reports/alice
topic readwrite two words/#

user bob
topic read #
topic deny home/+/private

	user   carol smith
topic	write	a/b

user dave

user bob
topic write later/#

pattern read devices/%c/set
pattern write devices/%c/state
pattern users/%u/#
pattern deny users/%u/locked
pattern read public/#
`

func TestSemantics(t *testing.T) {
	a := aclOf(t, semantics)
	for question, want := range map[string]string{
		// Without a user name: the first section, and patterns.
		"- c receive news/a":             "allow acl.txt:2",
		"- c publish news/a":             "deny",
		"- c receive $SYS/broker/uptime": "allow acl.txt:3",
		"- c receive $SYS/broker/load":   "deny",
		"- c receive home/x":             "deny",
		"- c receive public/x":           "allow acl.txt:28",
		"- c publish devices/c/state":    "allow acl.txt:25",
		"- c publish users//x":           "deny",
		"- c receive users/%u/x":         "deny",
		"?alice c publish home/x":        "deny", // nobody vouches for the name
		"?alice c publish users/alice/x": "deny",
		"?alice c receive news/a":        "allow acl.txt:2",

		"alice c publish home/x":           "allow acl.txt:6",
		"alice c will home/x":              "allow acl.txt:6",
		"alice c receive home":             "allow acl.txt:6",
		"alice c publish home/safe/x":      "deny acl.txt:7",
		"alice c will home/safe":           "deny acl.txt:7",
		"alice c receive home/safe/x":      "deny acl.txt:7",
		"alice c receive news/a":           "deny", // the section without name is not hers
		"alice c receive weather/york/now": "allow acl.txt:8",
		"alice c publish weather/york/now": "deny",
		"alice c will weather/york/now":    "deny",
		"alice c publish reports/alice":    "allow acl.txt:9",
		"alice c receive reports/alice":    "deny",
		"alice c publish two words/x":      "allow acl.txt:10",
		"alice c publish HOME/x":           "deny",

		"dave c publish a/b":      "deny",
		"dave c receive public/x": "allow acl.txt:28",
		"nobody c publish a/b":    "deny",

		"bob c receive anything/at/all":    "allow acl.txt:13",
		"bob c receive $SYS/broker/uptime": "deny", // # does not name it
		"bob c receive home/x/private":     "deny acl.txt:14",
		"bob c publish anything":           "deny",
		"bob c publish later/x":            "allow acl.txt:22", // a section may go on

		"dave lamp-7 receive devices/lamp-7/set":   "allow acl.txt:24",
		"dave lamp-7 publish devices/lamp-7/state": "allow acl.txt:25",
		"dave lamp-7 publish devices/lamp-7/set":   "deny",
		"dave lamp-7 publish devices/lamp-8/state": "deny",
		"dave lamp-7 publish devices/%c/state":     "deny",
		"dave c publish users/dave/x":              "allow acl.txt:26",
		"dave c publish users/bob/x":               "deny",
		"dave c publish users/dave/locked":         "deny acl.txt:27",
		"bob c receive users/bob/locked":           "deny acl.txt:27", // also against his own section

		// Subscriptions: allowed where something could arrive.
		"alice c subscribe home/#":            "allow acl.txt:6",
		"alice c subscribe #":                 "allow acl.txt:6",
		"alice c subscribe home/safe/#":       "deny acl.txt:7",
		"alice c subscribe home/safe/x/+":     "deny acl.txt:7",
		"alice c subscribe weather/#":         "allow acl.txt:8",
		"alice c subscribe reports/alice":     "deny", // write only
		"alice c subscribe other/#":           "deny",
		"alice c subscribe +/safe/x":          "allow acl.txt:10", // of home/safe/x nothing arrives
		"bob c subscribe $SYS/#":              "deny",
		"- c subscribe $SYS/#":                "allow acl.txt:3",
		"- c subscribe #":                     "allow acl.txt:2",
		"dave lamp-7 subscribe devices/+/set": "allow acl.txt:24",
		"dave c subscribe users/+/locked":     "deny acl.txt:27", // of it all that he has
		"dave c subscribe users/dave/locked":  "deny acl.txt:27",
	} {
		d := ask(t, a, question)
		if want == "deny" {
			want = "deny acl.txt: no rule allows it"
		}
		if got := d.Verdict.String() + " " + d.Rule; got != want || d.Code != 0 {
			t.Errorf("%s: %s with code %v, want %s", question, got, d.Code, want)
		}
	}
	carol := &plugin.Access{Client: &plugin.Client{Username: "carol smith"}, Topic: "a/b"}
	if d := a.Authorize(carol); d.Verdict != plugin.Allow || d.Rule != "acl.txt:17" {
		t.Errorf("a name with a blank: %v", d)
	}
}

func TestRuleNamesItsLine(t *testing.T) {
	lines := strings.Split(semantics, "\n")
	a := aclOf(t, semantics)
	for question, line := range map[string]string{
		"alice c publish home/safe/x":   "topic deny home/safe/#",
		"bob c publish later/x":         "topic write later/#",
		"- c receive public/x":          "pattern read public/#",
		"dave c publish users/dave/x":   "pattern users/%u/#",
		"alice c subscribe weather/#":   "topic read weather/+/now",
		"alice c subscribe home/safe/#": "topic deny home/safe/#",
	} {
		var n int
		d := ask(t, a, question)
		if _, err := fmt.Sscanf(d.Rule, "acl.txt:%d", &n); err != nil || n < 1 || n > len(lines) || lines[n-1] != line {
			t.Errorf("%s: by %s, want the line %q", question, d.Rule, line)
		}
	}
}

// CVE-2017-7650: identities with + # or / match no pattern, and do not slip from one that denies.
func TestCVE_2017_7650_IdentitiesAreLiterals(t *testing.T) {
	a := aclOf(t, "pattern devices/%c/state\npattern users/%u/#\npattern read all/#\npattern deny all/%u/secret\npattern deny all/%c/x/hidden\n")
	for question, want := range map[string]plugin.Verdict{
		"dave + publish devices/+/state":      plugin.Deny,
		"dave + publish devices/lamp-7/state": plugin.Deny,
		"dave # publish devices/lamp-7/state": plugin.Deny,
		"dave + receive devices/lamp-7/state": plugin.Deny,
		"dave + subscribe devices/+/state":    plugin.Deny,
		"dave + subscribe devices/#":          plugin.Deny,
		"dave a/b publish devices/a/b/state":  plugin.Deny,
		"# c publish users/dave/x":            plugin.Deny,
		"+ c publish users/dave/x":            plugin.Deny,
		"a+b c publish users/a+b/x":           plugin.Deny,
		"dave/x c publish users/dave/x/y":     plugin.Deny,
		"dave + publish users/dave/x":         plugin.Allow, // the rule is not about the client identifier
		"dave %u publish devices/dave/state":  plugin.Deny,
		"dave %u publish devices/%u/state":    plugin.Allow,
		"%c lamp publish users/lamp/x":        plugin.Deny,
		"dave c receive all/x":                plugin.Allow,
		"dave c receive all/dave/secret":      plugin.Deny,
		"dave c receive all/bob/secret":       plugin.Allow,
		"da/ve c receive all/da/ve/secret":    plugin.Deny,
		"# c receive all/bob/secret":          plugin.Deny,
		"dave l/x receive all/l/x/x/hidden":   plugin.Deny,
		"dave l/x subscribe all/l/x/x/hidden": plugin.Deny,
	} {
		if d := ask(t, a, question); d.Verdict != want {
			t.Errorf("%s: %v by %s", question, d.Verdict, d.Rule)
		}
	}
}

// An identity that begins with $ opens no way to $ topics, but is denied them where a rule says so.
func TestIdentityIsNoSystemTopic(t *testing.T) {
	a := aclOf(t, "pattern %u/#\npattern x/%u/#\npattern $own/%c/#\npattern deny %c/no\ntopic $d/#\n")
	for question, want := range map[string]plugin.Verdict{
		"$SYS c receive $SYS/broker/uptime": plugin.Deny,
		"$SYS c subscribe $SYS/#":           plugin.Deny,
		"$SYS c publish x/$SYS/y":           plugin.Allow,
		"dave $c publish $own/$c/y":         plugin.Allow,
		"dave c publish dave/y":             plugin.Allow,
		"- $d receive $d/yes":               plugin.Allow,
		"- $d receive $d/no":                plugin.Deny,
	} {
		if d := ask(t, a, question); d.Verdict != want {
			t.Errorf("%s: %v by %s", question, d.Verdict, d.Rule)
		}
	}
}

// CVE-2018-12550: an empty file does not mean that everything is allowed.
func TestCVE_2018_12550_EmptyFileDeniesAll(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# topic #\n", "user alice\n"} {
		log := new(strings.Builder)
		a := New(Options{Path: fileOf(t, text)})
		if err := a.Start(t.Context(), host{log}); err != nil {
			t.Fatal(err)
		}
		defer a.Stop(context.Background())
		for _, action := range []string{"publish", "subscribe", "will", "receive"} {
			for _, user := range []string{"-", "alice"} {
				if d := ask(t, a, user+" c "+action+" a"); d.Verdict != plugin.Deny {
					t.Errorf("%q: %s may %s", text, user, action)
				}
			}
		}
		if !strings.Contains(log.String(), "everything is denied") {
			t.Errorf("%q: no warning in %s", text, log)
		}
	}
}

// CVE-2018-12551 and CVE-2017-7652, for rules: what cannot be read whole is not used, and is not "no rules".
func TestCVE_2018_12551_BrokenFileFailsClosed(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"topic", ":1: topic needs a topic filter"},
		{"topic read a\npattern", ":2: pattern needs a topic filter"},
		{"user", ":1: user needs a name"},
		{"user \t", ":1: user needs a name"},
		{"topics a", ":1: a line begins with allow, deny, order or # (in Mosquitto's format with user, topic, pattern or #), not with \"topics\""},
		{"Topic a", ":1: a line begins with"},
		{"{\"a\":1}", ":1: a line begins with"},
		{"topic reed a", ":1: the access is read, write, readwrite or deny, not \"reed\""},
		{"topic deny write a/b\ntopic a b", ":2: the access is"},
		{"topic read a/#/b", ":1: topic filter \"a/#/b\": # must be the last level"},
		{"topic a+", ":1: topic filter"},
		{"topic read $share/g/a", ":1: rules are about topics: write \"a\""},
		{"topic read " + strings.Repeat("/", 256), ":1: topic filter"},
		{"pattern read dev-%c/x", ":1: %c and %u must stand alone in their level"},
		{"pattern read x/%u%c", ":1: %c and %u must stand alone"},
		{"topic a\x00", ":1: it has a control character"},
		{"topic a\xff", ":1: it is not UTF-8"},
	} {
		path := fileOf(t, c.text+"\n")
		a := New(Options{Path: path})
		err := a.Start(t.Context(), host{new(strings.Builder)})
		if err == nil || !strings.HasPrefix(err.Error(), "acl.file: "+path+c.want) {
			t.Errorf("%q: error %v, want %s", c.text, err, c.want)
		}
		if d := ask(t, a, "- c publish a"); d.Verdict != plugin.Deny {
			t.Errorf("%q: %v afterwards", c.text, d)
		}
	}
	a := New(Options{Path: filepath.Join(t.TempDir(), "none")})
	if err := a.Start(t.Context(), host{new(strings.Builder)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// CVE-2021-34434: rights that are taken away end at once, for messages of subscriptions that exist too.
func TestCVE_2021_34434_RevokedRightsEnd(t *testing.T) {
	path := fileOf(t, "user alice\ntopic home/#\n")
	a, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !a.AuthorizesReceive() {
		t.Fatal("deliveries are not asked about")
	}
	for _, q := range []string{"alice c subscribe home/#", "alice c receive home/x", "alice c publish home/x"} {
		if d := ask(t, a, q); d.Verdict != plugin.Allow {
			t.Errorf("%s: %v", q, d)
		}
	}
	put(t, path, "user alice\ntopic deny home/#\ntopic broken+\n")
	if err := a.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), path+":3: ") {
		t.Errorf("a broken file: %v", err)
	}
	if d := ask(t, a, "alice c receive home/x"); d.Verdict != plugin.Allow {
		t.Errorf("after a broken file: %v", d)
	}
	put(t, path, "user alice\ntopic read garden/#\n")
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"alice c subscribe home/#", "alice c receive home/x", "alice c publish home/x"} {
		if d := ask(t, a, q); d.Verdict != plugin.Deny {
			t.Errorf("%s: %v after it was revoked", q, d)
		}
	}
}

func TestChangedFileIsRead(t *testing.T) {
	path := fileOf(t, "topic a\n")
	synctest.Test(t, func(t *testing.T) {
		log := new(strings.Builder)
		a := New(Options{Path: path})
		if err := a.Start(t.Context(), host{log}); err != nil {
			t.Fatal(err)
		}
		defer a.Stop(context.Background())
		put(t, path, "topic b/c\n")
		time.Sleep(3 * textfile.Interval)
		if d := ask(t, a, "- c publish a"); d.Verdict != plugin.Deny {
			t.Errorf("before: %v", d)
		}
		if d := ask(t, a, "- c publish b/c"); d.Verdict != plugin.Allow {
			t.Errorf("after: %v", d)
		}
		put(t, path, "topik\n")
		time.Sleep(3 * textfile.Interval)
		synctest.Wait()
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors were logged: %s", n, log)
		}
	})
}

func TestAuthorizeAllocatesNothing(t *testing.T) {
	a := aclOf(t, "pattern write devices/%c/#\npattern read #\npattern deny no/%u/#\n")
	c := &plugin.Client{ID: "lamp", Username: "alice"}
	for action := range plugin.Receive + 1 {
		if action == plugin.Subscribe { // it may be as long as all rules that overlap
			continue
		}
		x := &plugin.Access{Client: c, Action: action, Topic: "devices/lamp/state"}
		if n := testing.AllocsPerRun(100, func() { a.Authorize(x) }); n != 0 {
			t.Errorf("%v: %v allocations", action, n)
		}
	}
}

// Many at once, while the file is read again and again; for the race detector.
func TestConcurrentQuestions(t *testing.T) {
	a := aclOf(t, "pattern write devices/%c/#\n")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 2000 {
				id := fmt.Sprint("c", i%50)
				x := &plugin.Access{Client: &plugin.Client{ID: id}, Topic: fmt.Sprintf("devices/c%d/x", i%7)}
				if d := a.Authorize(x); (d.Verdict == plugin.Allow) != (i%50 == i%7) {
					t.Errorf("%s %s: %v", id, x.Topic, d)
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
