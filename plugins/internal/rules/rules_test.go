// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/textfile"
	"github.com/noctule/noctule/topic"
)

func setOf(t testing.TB, text string) *Set {
	t.Helper()
	f, err := textfile.Parse("acl.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// certified is a client with a verified certificate.
func certified() *plugin.Client {
	u, _ := url.Parse("spiffe://plant/press-4")
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "press-4"}, Issuer: pkix.Name{CommonName: "Plant CA", Organization: []string{"Plant"}},
		DNSNames: []string{"press-4.plant.example"}, EmailAddresses: []string{"press@plant.example"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 4)}, URIs: []*url.URL{u}}
	return &plugin.Client{ID: "c", TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}}
}

// ask asks a set, and compares the index with the plain scan.
func ask(t testing.TB, s *Set, a *plugin.Access) plugin.Decision {
	t.Helper()
	d := s.Decide(a)
	if a.Action != plugin.Subscribe {
		if want := scan(s, a); d != want {
			t.Errorf("%v %q: %v, the plain scan says %v", a.Action, a.Topic, d, want)
		}
	}
	return d
}

// scan is Decide without an index.
func scan(s *Set, a *plugin.Access) plugin.Decision {
	q := questionOf(a)
	for i := range s.rules {
		r := s.rules[i]
		r.rest = r.Who
		f, err := r.filterFor(a.Client)
		if err == nil && r.concerns(&q) && topic.Match(f, a.Topic) {
			return r.decision()
		}
	}
	return plugin.Decision{}
}

func TestConditions(t *testing.T) {
	at := func(address string) *plugin.Client {
		ip, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return &plugin.Client{ID: "c", Remote: ip}
	}
	alice := &plugin.Client{ID: "lamp-7", Username: "alice", Groups: []string{"staff", "night"},
		Grant: &plugin.Grant{Claims: map[string]string{"role": "admin", "tenant": "acme", "empty": ""}}}
	unsure := &plugin.Client{ID: "lamp-7", Username: "alice", Anonymous: true}
	unverified := certified()
	unverified.TLS.VerifiedChains = nil
	for _, c := range []struct {
		rule   string
		client *plugin.Client
		name   string
		want   bool
	}{
		{"any publish a", alice, "a", true},
		{"any publish a", unsure, "a", true},
		{"user alice publish a", alice, "a", true},
		{"user alice publish a", unsure, "a", false},
		{"user bob,alice publish a", alice, "a", true},
		{`user "bob,alice" publish a`, alice, "a", false},
		{"user bob publish a", alice, "a", false},
		{"anonymous publish a", alice, "a", false},
		{"anonymous publish a", unsure, "a", true},
		{"client lamp-7 publish a", unsure, "a", true},
		{"client lamp publish a", unsure, "a", false},
		{"group night publish a", alice, "a", true},
		{"group day,staff publish a", alice, "a", true},
		{"group day publish a", alice, "a", false},
		{"user alice client lamp-7 group staff claim.role admin publish a", alice, "a", true},
		{"user alice client lamp-8 publish a", alice, "a", false},
		{"client lamp-7 group day publish a", alice, "a", false},
		{"claim.role admin publish a", alice, "a", true},
		{"claim.role user,admin publish a", alice, "a", true},
		{"claim.role adm publish a", alice, "a", false},
		{"claim.role admin publish a", unsure, "a", false},
		{"claim.role admin claim.tenant other publish a", alice, "a", false},
		{"address 10.0.0.0/8 publish a", at("10.1.2.3:5"), "a", true},
		{"address 10.0.0.0/8 publish a", at("11.1.2.3:5"), "a", false},
		{"address 10.0.0.0/8 publish a", at("[::ffff:10.1.2.3]:5"), "a", true},
		{"address ::1,10.1.2.3 publish a", at("10.1.2.3:5"), "a", true},
		{"address fe80::/10 publish a", at("[fe80::1%lo]:5"), "a", true},
		{"address 0.0.0.0/0,::/0 publish a", alice, "a", false},
		{"address 0.0.0.0/0 publish a", &plugin.Client{Remote: &net.UnixAddr{Name: "/run/x"}}, "a", false},
		{"cert.cn press-4 publish a", certified(), "a", true},
		{"cert.cn press-4 publish a", unverified, "a", false},
		{"cert.cn press-5 publish a", certified(), "a", false},
		{"cert.cn press-4 publish a", alice, "a", false},
		{"cert.san PRESS-4.plant.example publish a", certified(), "a", true},
		{"cert.san press@plant.example publish a", certified(), "a", true},
		{"cert.san 10.0.0.4 publish a", certified(), "a", true},
		{"cert.san spiffe://plant/press-4 publish a", certified(), "a", true},
		{"cert.san press-4 publish a", certified(), "a", false},
		{"cert.issuer \"Plant CA\" publish a", certified(), "a", true},
		{`cert.issuer "CN=Plant CA,O=Plant" publish a`, certified(), "a", true},
		{"cert.issuer Other publish a", certified(), "a", false},
		{"any publish x/${username}/y", alice, "x/alice/y", true},
		{"any publish x/${username}/y", alice, "x/bob/y", false},
		{"any publish x/${username}/y", alice, "x/${username}/y", false},
		{"any publish x/${username}/y", unsure, "x/alice/y", false},
		{"any publish x/${username}/y", unsure, "x//y", false},
		{"any publish ${clientid}/#", alice, "lamp-7", true},
		{"any publish ${claim.tenant}/${username}/+", alice, "acme/alice/x", true},
		{"any publish ${claim.tenant}/${username}/+", alice, "acme/bob/x", false},
		{"any publish dev-${clientid}.${username}/x", alice, "dev-lamp-7.alice/x", true},
		{"any publish dev-${clientid}.${username}/x", alice, "dev-lamp-7.bob/x", false},
		{"any publish dev-${clientid}.${username}/x", alice, "dev-lamp-7.alice2/x", false},
		{"any publish x${claim.empty}/y", alice, "x/y", false},
		{"any publish x${claim.none}/y", alice, "x/y", false},
		{"any publish machines/${cert.cn}/#", certified(), "machines/press-4/on", true},
		{"any publish machines/${cert.cn}/#", unverified, "machines/press-4/on", false},
		{"any publish a b/c \"d e\"", alice, "d e", true},
		{"any publish a b/c \"d e\"", alice, "b/c", true},
		{"any publish a b/c \"d e\"", alice, "d", false},
		{"any subscribe a", alice, "a", false},
		{"any both a", alice, "a", true},
		{"any publish $SYS/#", alice, "$SYS/x", true},
		{"any publish #", alice, "$SYS/x", false},
		{"any publish +/x", alice, "$SYS/x", false},
		{"any publish #", alice, "x/$SYS", true},
	} {
		s := setOf(t, "allow "+c.rule+"\n")
		d := ask(t, s, &plugin.Access{Client: c.client, Topic: c.name})
		if want := map[bool]string{true: "allow acl.txt:1", false: "ignore "}[c.want]; d.Verdict.String()+" "+d.Rule != want {
			t.Errorf("allow %s: %s of %+v: %v %s", c.rule, c.name, c.client, d.Verdict, d.Rule)
		}
	}
}

func TestQoSAndRetain(t *testing.T) {
	s := setOf(t, "allow any publish qos=0,2 a\nallow any publish retain=no b\nallow any both retain=yes qos=1 c\nallow any subscribe qos=0 d\n"+
		"deny any subscribe qos=2 e\nallow any subscribe e\nallow any publish \"qos=1\" retain=\n")
	c := &plugin.Client{ID: "c"}
	for _, x := range []struct {
		action plugin.Action
		topic  string
		qos    mqtt.QoS
		retain bool
		want   plugin.Verdict
	}{
		{plugin.Publish, "a", 0, false, plugin.Allow},
		{plugin.Publish, "a", 1, false, plugin.Ignore},
		{plugin.Will, "a", 2, true, plugin.Allow},
		{plugin.Will, "a", 1, true, plugin.Ignore},
		{plugin.Publish, "b", 1, false, plugin.Allow},
		{plugin.Publish, "b", 1, true, plugin.Ignore},
		{plugin.Publish, "c", 1, true, plugin.Allow},
		{plugin.Publish, "c", 1, false, plugin.Ignore},
		{plugin.Publish, "c", 0, true, plugin.Ignore},
		{plugin.Subscribe, "c", 1, false, plugin.Allow},
		{plugin.Subscribe, "c", 2, false, plugin.Ignore},
		{plugin.Subscribe, "d", 0, false, plugin.Allow},
		{plugin.Subscribe, "d", 1, false, plugin.Ignore},
		{plugin.Receive, "d", 1, true, plugin.Allow}, // of a message, not of the subscription
		{plugin.Subscribe, "e", 2, false, plugin.Deny},
		{plugin.Subscribe, "e", 1, false, plugin.Allow},
		{plugin.Receive, "e", 2, false, plugin.Allow},
		{plugin.Publish, "qos=1", 0, false, plugin.Allow},
		{plugin.Publish, "retain=", 0, false, plugin.Allow},
	} {
		if d := ask(t, s, &plugin.Access{Client: c, Action: x.action, Topic: x.topic, QoS: x.qos, Retain: x.retain}); d.Verdict != x.want {
			t.Errorf("%+v: %v by %s", x, d.Verdict, d.Rule)
		}
	}
}

func TestOrder(t *testing.T) {
	const body = "deny any both home/#\nallow user alice both home/+/lamp\nallow any publish home/hall/lamp\ndeny user alice publish home/hall/lamp\n" +
		"allow any publish own/${clientid}\ndeny any publish own/+\nallow client c publish tie\ndeny any publish tie\ndeny any publish same\nallow any publish same\n"
	alice, bob := &plugin.Client{ID: "c", Username: "alice"}, &plugin.Client{ID: "d", Username: "bob"}
	for _, x := range []struct {
		client          *plugin.Client
		topic           string
		first, specific string
	}{
		{alice, "home/x/lamp", "deny acl.txt:2", "allow acl.txt:3"},
		{bob, "home/x/lamp", "deny acl.txt:2", "deny acl.txt:2"},
		{alice, "home/hall/lamp", "deny acl.txt:2", "deny acl.txt:5"},
		{bob, "home/hall/lamp", "deny acl.txt:2", "allow acl.txt:4"},
		{alice, "own/c", "allow acl.txt:6", "allow acl.txt:6"},
		{alice, "own/d", "deny acl.txt:7", "deny acl.txt:7"},
		{alice, "tie", "allow acl.txt:8", "allow acl.txt:8"},
		{bob, "tie", "deny acl.txt:9", "deny acl.txt:9"},
		{bob, "same", "deny acl.txt:10", "deny acl.txt:10"},
		{bob, "other", "ignore ", "ignore "},
	} {
		for order, want := range map[string]string{"first": x.first, "specific": x.specific} {
			d := ask(t, setOf(t, "order "+order+"\n"+body), &plugin.Access{Client: x.client, Topic: x.topic})
			if got := d.Verdict.String() + " " + d.Rule; got != want {
				t.Errorf("order %s: %s %s: %s, want %s", order, x.client.Username, x.topic, got, want)
			}
		}
	}
}

// Names and claims are literals (CVE-2017-7650): what would widen a rule makes it allow nothing, and one that denies is not escaped from.
func TestHostileValues(t *testing.T) {
	allow := setOf(t, "allow any both own/${username}/state own/${clientid}-x/state t/${claim.tenant}/#\n")
	deny := setOf(t, "deny any both own/${username}/state\nallow any both #\n")
	for _, v := range []string{"#", "+", "a/+", "a/b", "/", "", "+/+", "#/", "a#", "a\x00b", "${username}", "$SYS", "\xff", "A", "%u"} {
		c := &plugin.Client{ID: v, Username: v, Grant: &plugin.Grant{Claims: map[string]string{"tenant": v}}}
		literal := v != "" && !strings.ContainsAny(v, "+#/")
		for _, name := range []string{"own/" + v + "/state", "own/victim/state", "own//state", "own/a/b/state", "own/" + v + "-x/state", "t/victim/x", "t//x",
			"t/" + v + "/x", "own", "own/victim"} {
			if strings.ContainsAny(name, "+#") {
				continue
			}
			mine := literal && (name == "own/"+v+"/state" || name == "own/"+v+"-x/state" || name == "t/"+v+"/x")
			d := ask(t, allow, &plugin.Access{Client: c, Topic: name})
			if (d.Verdict == plugin.Allow) != mine {
				t.Errorf("%q may publish to %q: %v", v, name, d)
			}
			if d := ask(t, deny, &plugin.Access{Client: c, Topic: name}); name == "own/"+v+"/state" && d.Verdict != plugin.Deny {
				t.Errorf("%q slips from the rule that denies %q", v, name)
			}
		}
		for _, filter := range []string{"own/+/state", "own/#", "#", "own/victim/state", "t/+/x", "t/victim/#"} {
			d := allow.Decide(&plugin.Access{Client: c, Action: plugin.Subscribe, Topic: filter})
			if d.Verdict == plugin.Allow && (!literal || strings.Contains(filter, "victim")) {
				t.Errorf("%q may subscribe to %q", v, filter)
			}
		}
	}
}

func TestSubscriptions(t *testing.T) {
	s := setOf(t, "deny any subscribe home/safe/#\nallow user alice subscribe home/#\nallow any subscribe home/+/lamp\nallow any subscribe own/${clientid}/#\n"+
		"deny any subscribe all/x\nallow any subscribe all/#\nallow any publish out/#\ndeny any publish quiet/#\nallow any subscribe quiet/# $SYS/broker/uptime\n")
	alice, bob := &plugin.Client{ID: "c", Username: "alice"}, &plugin.Client{ID: "d", Username: "bob"}
	for _, x := range []struct {
		client *plugin.Client
		filter string
		want   string
		whole  bool
	}{
		{alice, "home/#", "allow acl.txt:2", false},
		{alice, "home/hall/#", "allow acl.txt:2", true},
		{alice, "home/safe/#", "deny acl.txt:1", false},
		{alice, "home/safe/x/+", "deny acl.txt:1", false},
		{alice, "+/safe/#", "allow acl.txt:6", false}, // all/safe/#; of home/safe/# nothing
		{bob, "home/#", "allow acl.txt:3", false},
		{bob, "home/hall/lamp", "allow acl.txt:3", true},
		{bob, "home/safe/lamp", "deny acl.txt:1", false},
		{bob, "home/hall/x", "ignore ", false},
		{bob, "own/d/#", "allow acl.txt:4", true},
		{bob, "own/c/#", "ignore ", false},
		{bob, "own/#", "allow acl.txt:4", false},
		{bob, "all/+", "allow acl.txt:6", false},
		{bob, "all/y/+", "allow acl.txt:6", true},
		{bob, "all/x", "deny acl.txt:5", false},
		{bob, "out/#", "ignore ", false},
		{bob, "quiet/#", "allow acl.txt:9", true},
		{bob, "$SYS/#", "allow acl.txt:9", false},
		{bob, "$SYS/broker/uptime", "allow acl.txt:9", true},
		{bob, "$SYS/broker/load", "ignore ", false},
		{bob, "#", "allow acl.txt:3", false},
	} {
		d, whole := s.Subscription(&plugin.Access{Client: x.client, Action: plugin.Subscribe, Topic: x.filter})
		if got := d.Verdict.String() + " " + d.Rule; got != x.want || whole != x.whole {
			t.Errorf("%s %s: %s whole %v, want %s %v", x.client.Username, x.filter, got, whole, x.want, x.whole)
		}
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"allow":                                      "who is missing: write any",
		"allow publish a":                            "who is missing: write any",
		"allow any":                                  "the action is missing",
		"allow any publish":                          "a topic filter is missing",
		"allow any publish qos=1":                    "a topic filter is missing",
		"allow any write a":                          `"write" is neither an action`,
		"allow users alice publish a":                `"users" is neither an action`,
		"allow \"any\" publish a":                    `"any" is neither an action`,
		"allow any \"publish\" a":                    `"publish" is neither an action`,
		"allow user":                                 "user needs a value",
		"allow user a, publish x":                    "user has an empty value",
		"allow user \"\" publish x":                  "user has an empty value",
		"allow user a user b publish x":              "user stands once in a rule; write a list: user a,b",
		"allow anonymous user a publish x":           "user stands once",
		"allow user a anonymous publish x":           "nobody is anonymous and has a user name",
		"allow claim. x publish a":                   `"claim." is neither`,
		"allow address 10.0.0.1/8 publish a":         "write 10.0.0.0/8",
		"allow address ten publish a":                "is no address and no network",
		"allow address ::ffff:1.2.3.4/128 publish a": "is no address and no network",
		"allow any publish qos=3 a":                  "write qos=0",
		"allow any publish qos= a":                   "write qos=0",
		"allow any publish qos=0 qos=1 a":            "qos= stands once",
		"allow any publish retain=maybe a":           "write retain=yes or retain=no",
		"allow any publish retain=no retain=no a":    "retain= stands once",
		"allow any subscribe retain=no a":            "a subscription has none",
		"allow any publish a/#/b":                    "# must be the last level",
		"allow any publish a${username":              "has ${ without }",
		"allow any publish ${user}":                  "no variable is called ${user}",
		"allow any publish ${claim.}":                "no variable is called ${claim.}",
		"allow any publish $share/g/a":               "without $share and share name",
		"allow any publish \"a":                      `a quote " is not closed`,
		"allow any publish \"a\"b":                   "after a closing quote",
		`allow any publish "a\b"`:                    `\ stands before`,
		"order":                                      "write order first",
		"order last":                                 "write order first",
		"allow any publish a\norder first":           "order stands once, before the rules",
		"order first\norder first":                   "order stands once, before the rules",
		"Allow any publish a":                        "a line begins with allow, deny, order or #",
		"allow any publish a\ntopic b":               "topic is a line of Mosquitto's format",
		"topic b\nallow any publish a":               "allow is a line of our format",
	} {
		f, err := textfile.Parse("acl.txt", []byte("# first\n"+text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		line := 2 + strings.Count(text, "\n")
		if _, err := Read(f); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("acl.txt:%d: ", line)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

// A rule of Mosquitto's topic lines is a literal: our variables mean nothing there.
func TestMosquittoTopicsHaveNoVariables(t *testing.T) {
	s := setOf(t, "topic ${clientid}/x\ntopic %c/y\n")
	for name, want := range map[string]plugin.Verdict{"c/x": plugin.Ignore, "${clientid}/x": plugin.Allow, "c/y": plugin.Ignore, "%c/y": plugin.Allow} {
		if d := ask(t, s, &plugin.Access{Client: &plugin.Client{ID: "c"}, Topic: name}); d.Verdict != want {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// ruleLines draws rules over few words, so that they meet.
func ruleLines() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "$b", "+", "${username}", "${clientid}", "a${claim.x}", "${claim.x}${clientid}"}), 1, 3).Draw(t, "levels")
		if rapid.Bool().Draw(t, "rest") {
			levels = append(levels, "#")
		}
		filter := strings.Join(levels, "/")
		if filter == "" {
			filter = "#"
		}
		return strings.Join([]string{pick("verdict", "allow", "deny"), pick("who", "any", "user a", "user a,b", "client a", "group a", "group a,b", "user b client a",
			"anonymous", "claim.x a", "address 10.0.0.0/8", "group b address 10.0.0.0/8"), pick("action", "publish", "subscribe", "both"),
			pick("qos", "", "qos=0", "qos=1,2"), filter}, " ")
	})
}

func clients() *rapid.Generator[*plugin.Client] {
	return rapid.Custom(func(t *rapid.T) *plugin.Client {
		value := rapid.SampledFrom([]string{"", "a", "b", "$b", "+", "#", "a/b", "ab", "\x00"})
		c := &plugin.Client{ID: value.Draw(t, "id"), Username: value.Draw(t, "user"), Anonymous: rapid.Bool().Draw(t, "anonymous"),
			Groups: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2).Draw(t, "groups")}
		if rapid.Bool().Draw(t, "claims") {
			c.Grant = &plugin.Grant{Claims: map[string]string{"x": value.Draw(t, "x")}}
		}
		if rapid.Bool().Draw(t, "near") {
			c.Remote = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}
		}
		return c
	})
}

// moreExact is the order of MostSpecific, level by level, for two rules that match one name.
func moreExact(a, b *Rule) bool {
	kind := func(l *level) int {
		switch {
		case l.parts != nil:
			return 1
		case l.text == "+":
			return 2
		case l.text == "#":
			return 3
		}
		return 0
	}
	for i := range min(len(a.Filter.levels), len(b.Filter.levels)) {
		if x, y := kind(&a.Filter.levels[i]), kind(&b.Filter.levels[i]); x != y {
			return x < y
		}
	}
	if x, y := len(a.Filter.levels), len(b.Filter.levels); x != y {
		return x < y // the longer one has a # that takes nothing
	}
	if x, y := a.Who.width(), b.Who.width(); x != y {
		return x < y
	}
	return !a.Allow && b.Allow
}

// The index finds what a scan of all rules finds, in both orders; a subscription is allowed if, and whole only if, a try of all names agrees.
func TestIndexAgainstScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(ruleLines(), 1, 12).Draw(t, "rules")
		specific := rapid.Bool().Draw(t, "specific")
		f := &textfile.File{Path: "acl.txt", Lines: lines}
		list, _, err := readOurs(f, false)
		if err != nil {
			t.Fatal(err)
		}
		given := slices.Clone(list)
		order := FirstMatch
		if specific {
			order = MostSpecific
		}
		s := Compile(list, order)
		c := clients().Draw(t, "client")
		q := mqtt.QoS(rapid.IntRange(0, 2).Draw(t, "qos"))
		for _, name := range names {
			for _, action := range []plugin.Action{plugin.Publish, plugin.Receive} {
				a := &plugin.Access{Client: c, Action: action, Topic: name, QoS: q}
				asked := questionOf(a)
				var best *Rule
				for i := range given {
					r := given[i]
					r.rest = r.Who
					filter, err := r.filterFor(c)
					if err == nil && topic.Match(filter, name) && r.concerns(&asked) && (best == nil || specific && moreExact(&r, best)) {
						best = &r
					}
				}
				want := plugin.Decision{}
				if best != nil {
					want = best.decision()
				}
				if d := s.Decide(a); d != want {
					t.Fatalf("%v %q by %q with %+v: %v, want %v", action, name, lines, c, d, want)
				}
			}
		}
		filter := filters().Draw(t, "filter")
		d, whole := s.Subscription(&plugin.Access{Client: c, Action: plugin.Subscribe, Topic: filter, QoS: q})
		some, all := false, true
		for _, name := range names {
			if topic.Match(filter, name) {
				yes := scanSubscribe(s, c, name, q).Verdict == plugin.Allow
				some, all = some || yes, all && yes
			}
		}
		if some && d.Verdict != plugin.Allow {
			t.Fatalf("subscribe %q by %q: %v, but names are allowed", filter, lines, d)
		}
		if whole && !all {
			t.Fatalf("subscribe %q by %q: whole, but names are not allowed", filter, lines)
		}
		if !strings.ContainsAny(filter, "+#") && (d.Verdict == plugin.Allow) != some {
			t.Fatalf("subscribe %q by %q: %v", filter, lines, d)
		}
	})
}

// scanSubscribe is the plain scan for a subscription to one name.
func scanSubscribe(s *Set, c *plugin.Client, name string, q mqtt.QoS) plugin.Decision {
	return scan(s, &plugin.Access{Client: c, Action: plugin.Subscribe, Topic: name, QoS: q})
}

func FuzzRules(f *testing.F) {
	f.Add("allow any both a/${username}/#\ndeny user \"a b\",c subscribe qos=0 #", "alice", "c", "home/x")
	f.Add("order specific\nallow address 10.0.0.0/8 cert.cn x claim.y z publish retain=no a${claim.y}", "", "#", "a")
	f.Add("pattern deny %c/#\ntopic #", "+", "a/b", "a/b/c")
	f.Add("user a\ntopic read a/%c", "a", "%c", "a/%c")
	f.Fuzz(func(t *testing.T, text, user, client, name string) {
		file, err := textfile.Parse("acl.txt", []byte(text))
		if err != nil {
			return
		}
		s, err := Read(file)
		if err != nil {
			var where *textfile.Error
			if !errors.As(err, &where) || where.Line < 1 || where.Line > len(file.Lines) {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		if !topic.ValidName(name) {
			return
		}
		c := &plugin.Client{ID: client, Username: user, Grant: &plugin.Grant{Claims: map[string]string{"y": user}}}
		for action := range plugin.Receive + 1 {
			d := ask(t, s, &plugin.Access{Client: c, Action: action, Topic: name})
			if d.Verdict != plugin.Ignore && (s.Len() == 0 || d.Rule == "") {
				t.Fatalf("%v by %d rules: %v", action, s.Len(), d)
			}
		}
		d, _ := s.Subscription(&plugin.Access{Client: c, Action: plugin.Subscribe, Topic: name})
		if want := scanSubscribe(s, c, name, 0); want.Verdict == plugin.Allow != (d.Verdict == plugin.Allow) {
			t.Fatalf("subscribe %q: %v, by the plain scan %v", name, d, want)
		}
	})
}

// thousand is a file of 1000 rules for one user, of which the last matches.
func thousand() string {
	var b strings.Builder
	for i := range 999 {
		fmt.Fprintf(&b, "allow user alice both plant/line%d/+/values/#\n", i)
	}
	b.WriteString("allow user alice both plant/+/robot/state\n")
	return b.String()
}

func TestDecideAllocatesNothing(t *testing.T) {
	s := setOf(t, thousand()+"deny any both no/${username}/a${clientid}b/#\nallow group g address 10.0.0.0/8 claim.x y publish #\n")
	c := &plugin.Client{ID: "r", Username: "alice", Groups: []string{"g"}, Grant: &plugin.Grant{}, Remote: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}}
	for _, name := range []string{"plant/line1000/robot/state", "no/alice/arb/x", "nothing/at/all"} {
		a := &plugin.Access{Client: c, Topic: name}
		if n := testing.AllocsPerRun(100, func() { s.Decide(a) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	s := setOf(b, thousand())
	c := &plugin.Client{ID: "robot-controller-17", Username: "alice"}
	for name, topics := range map[string][]string{"allowed": {"plant/line1000/robot/state", "plant/line7/robot/state"}, "denied": {"plant/line8/robot/other"},
		"deep": {"plant/line500/x/values/a/b/c/d"}} {
		b.Run("1000 rules/"+name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Decide(&plugin.Access{Client: c, Topic: topics[i%len(topics)]})
				i++
			}
		})
	}
	b.Run("subscribe", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Decide(&plugin.Access{Client: c, Action: plugin.Subscribe, Topic: "plant/line500/+/values/#"})
		}
	})
}
