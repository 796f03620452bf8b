// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(lines ...string) *plugin.Client {
	return &plugin.Client{ID: "c", Username: "alice", Grant: &plugin.Grant{Rules: lines, Claims: map[string]string{"tenant": "acme"}}}
}

func TestRulesOfALogin(t *testing.T) {
	a := New()
	mixed := []string{"topic readwrite own/#", "allow publish t/${claim.tenant}/#", "topic deny own/no", "deny any both x/#", "allow subscribe qos=0 \"a b\"",
		"pattern read in/%u", "topic write ${clientid}"}
	for question, want := range map[string]string{
		"publish own/a":                "allow login:1",
		"publish own/no":               "deny login:3",
		"publish t/acme/x":             "allow login:2",
		"publish t/other/x":            "ignore ",
		"receive x/y":                  "deny login:4",
		"subscribe a b":                "allow login:5",
		"receive in/alice":             "allow login:6",
		"receive in/bob":               "ignore ",
		"publish c":                    "ignore ", // in topic lines a variable is a literal
		"publish ${clientid}":          "allow login:7",
		"subscribe own/#":              "allow login:1",
		"subscribe $share/g/own/#":     "deny login: a shared subscription needs one rule that allows all of it",
		"subscribe $share/g/own/a/#":   "allow login:1",
		"subscribe $share/g/in/alice":  "allow login:6",
		"subscribe $share/g/elsewhere": "ignore ",
	} {
		action, about, _ := strings.Cut(question, " ")
		x := &plugin.Access{Client: client(mixed...), Topic: about}
		for x.Action.String() != action {
			x.Action++
		}
		if plain, ok := strings.CutPrefix(about, "$share/g/"); ok {
			x.Share, x.Topic = "g", plain
		}
		if d := a.Authorize(x); d.Verdict.String()+" "+d.Rule != want {
			t.Errorf("%s: %v %s, want %s", question, d.Verdict, d.Rule, want)
		}
	}
}

func TestWithoutRulesItHasNoOpinion(t *testing.T) {
	for _, c := range []*plugin.Client{{ID: "c"}, {ID: "c", Grant: &plugin.Grant{}}} {
		if d := New().Authorize(&plugin.Access{Client: c, Topic: "a"}); d.Verdict != plugin.Ignore {
			t.Errorf("%+v: %v", c, d)
		}
	}
}

// What cannot be obeyed whole denies everything, also what a readable rule would allow.
func TestUnreadableRulesDeny(t *testing.T) {
	many := make([]string, rules.MaxOwn+1)
	for i := range many {
		many[i] = "allow publish a"
	}
	long := []string{"allow publish a", "allow publish " + strings.Repeat("x", rules.MaxOwnBytes)}
	for _, lines := range [][]string{{"allow publish a", "allow write b"}, {"allow publish a", "user alice"}, {"allow publish a\nallow publish #"},
		{"allow publish a", "x\x00"}, {"allow publish a", "\xff"}, many, long} {
		a := New()
		for _, action := range []plugin.Action{plugin.Publish, plugin.Subscribe, plugin.Will, plugin.Receive} {
			d := a.Authorize(&plugin.Access{Client: client(lines...), Action: action, Topic: "a"})
			if d.Verdict != plugin.Deny || !strings.HasPrefix(d.Rule, "login") {
				t.Errorf("%.40q: %v %s", lines, d.Verdict, d.Rule)
			}
		}
	}
}

// More clients than the table has room for, from many goroutines: each is answered by its own rules.
func TestManyClients(t *testing.T) {
	a := New()
	clients := make([]*plugin.Client, 3*buckets*ways)
	for i := range clients {
		clients[i] = client(fmt.Sprintf("allow publish own/%d", i))
	}
	var all sync.WaitGroup
	for part := range 4 {
		all.Go(func() {
			for i := part; i < len(clients); i += 2 {
				yes := a.Authorize(&plugin.Access{Client: clients[i], Topic: fmt.Sprintf("own/%d", i)})
				no := a.Authorize(&plugin.Access{Client: clients[i], Topic: fmt.Sprintf("own/%d", i+1)})
				if yes.Verdict != plugin.Allow || no.Verdict != plugin.Ignore {
					t.Errorf("%d: %v %v", i, yes, no)
				}
			}
		})
	}
	all.Wait()
}

func TestAuthorizeAllocatesNothing(t *testing.T) {
	a, c := New(), client("allow publish own/${username}/#")
	x := &plugin.Access{Client: c, Topic: "own/alice/x"}
	if n := testing.AllocsPerRun(100, func() { a.Authorize(x) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
