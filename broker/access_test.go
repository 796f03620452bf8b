// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	aclfile "github.com/noctule/noctule/plugins/acl/file"
	aclidentity "github.com/noctule/noctule/plugins/acl/identity"
)

// ruled is a broker whose accesses a file decides. Users log in by their name; who they are else comes from whoami.
type ruled struct {
	*brokertest.Broker
	t    *testing.T
	acl  *aclfile.ACL
	path string
}

// names lets everybody in, with the identity that is set for the user name.
type names struct {
	named
	identities map[string]plugin.Identity
}

func (n *names) Authenticate(_ context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	return plugin.Decision{Verdict: plugin.Allow}, n.identities[l.Client.Username], nil
}

func byRules(t *testing.T, rules string, identities map[string]plugin.Identity, more ...plugin.Plugin) *ruled {
	t.Helper()
	r := &ruled{t: t, path: filepath.Join(t.TempDir(), "acl.txt")}
	if err := os.WriteFile(r.path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	r.acl = aclfile.New(aclfile.Options{Path: r.path})
	r.Broker = brokertest.New(t, broker.Options{Loops: 2, Plugins: append([]plugin.Plugin{&names{"auth.test", identities}, r.acl}, more...)})
	return r
}

// change puts other rules in force.
func (r *ruled) change(rules string) {
	r.t.Helper()
	if err := os.WriteFile(r.path, []byte(rules), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := r.acl.Reload(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// as connects a user whose client identifier is its name; the session lasts for an hour if it is to.
func (r *ruled) as(user string, lasts bool) *wire.Client {
	r.t.Helper()
	p := mqtt.Connect{ClientID: []byte(user), HasUsername: true, Username: []byte(user), CleanStart: !lasts}
	if lasts {
		p.Properties = expiry(3600)
	}
	c, _ := connect(r.t, r.Broker, mqtt.V5, p)
	return c
}

// code publishes with QoS 1 and says how it was answered.
func code(c *wire.Client, topic string, retain bool) mqtt.ReasonCode {
	m := publish(topic, "x", 1, 7)
	m.Retain = retain
	c.Send(&m)
	return c.WantAck(mqtt.PUBACK, 7).Code
}

// granted subscribes with QoS 1 and says how it was answered.
func granted(c *wire.Client, filter string) mqtt.ReasonCode {
	c.Send(&mqtt.Subscribe{ID: 5, Subscriptions: []mqtt.Subscription{{Filter: []byte(filter), QoS: 1}}})
	return wire.Want[*mqtt.Suback](c).Codes[0]
}

func TestEveryWayInIsAsked(t *testing.T) {
	r := byRules(t, "deny any publish retain=yes quiet/#\nallow any publish qos=0,1 open/# quiet/#\nallow user ann subscribe open/# $SYS/broker/uptime\n", nil)
	ann := r.as("ann", false)
	for _, c := range []struct {
		filter string
		want   mqtt.ReasonCode
	}{{"open/+", 1}, {"open/#", 1}, {"#", 1}, {"closed/#", mqtt.NotAuthorized}, {"$share/g/open/x", 1}, {"$share/g/#", mqtt.NotAuthorized},
		{"$share/g/closed", mqtt.NotAuthorized}, {"$SYS/broker/uptime", 1}, {"$SYS/broker/load/#", mqtt.NotAuthorized}, {"quiet/x", mqtt.NotAuthorized}} {
		if got := granted(ann, c.filter); got != c.want {
			t.Errorf("subscribe to %s: %v, want %v", c.filter, got, c.want)
		}
		ann.Send(&mqtt.Unsubscribe{ID: 99, Filters: [][]byte{[]byte(c.filter)}})
		for {
			if _, ok := ann.Next().(*mqtt.Unsuback); ok { // $SYS may come in between
				break
			}
		}
	}
	p := r.as("bob", false)
	for _, c := range []struct {
		topic  string
		retain bool
		want   mqtt.ReasonCode
	}{{"open/x", true, mqtt.NoMatchingSubscribers}, {"quiet/x", false, mqtt.NoMatchingSubscribers}, {"quiet/x", true, mqtt.NotAuthorized},
		{"closed", false, mqtt.NotAuthorized}, {"open", false, mqtt.NoMatchingSubscribers}, {"$SYS/broker/uptime", false, mqtt.NotAuthorized}} {
		if got := code(p, c.topic, c.retain); got != c.want && !(c.retain && got == mqtt.Success) {
			t.Errorf("publish to %s, retain %v: %v, want %v", c.topic, c.retain, got, c.want)
		}
	}
	m := publish("open/x", "x", 2, 8)
	p.Send(&m)
	if got := p.WantAck(mqtt.PUBREC, 8).Code; got != mqtt.NotAuthorized {
		t.Errorf("publish with QoS 2: %v", got)
	}
	for topic, want := range map[string]bool{"open/w": true, "closed/w": false} {
		will := mqtt.Connect{ClientID: []byte("w"), HasUsername: true, Username: []byte("w"), CleanStart: true, HasWill: true,
			Will: mqtt.Will{Topic: []byte(topic), QoS: 1}}
		if want {
			connect(t, r.Broker, mqtt.V5, will)
		} else if got := refusal(t, r.Broker, mqtt.V5, will); got != mqtt.NotAuthorized {
			t.Errorf("will to %s: %v", topic, got)
		}
	}
}

// A wide subscription brings what is allowed, of retained messages too.
func TestWideSubscriptionIsNarrowed(t *testing.T) {
	r := byRules(t, "allow user bob both #\ndeny any subscribe home/safe/#\nallow any subscribe home/#\n", nil)
	p := r.as("bob", false)
	for _, q := range []mqtt.QoS{0, 1, 2} {
		s := r.as(fmt.Sprint("ann", q), false)
		for i, name := range []string{"home/a", "home/safe/x", "garden/y"} {
			m := publish(name, "kept", q, uint16(i+1))
			m.Retain = true
			p.Publish(m)
		}
		s.Subscribe(1, 2, "#")
		answer(s, s.WantPublish("home/a", "kept"))
		s.WantQuiet()
		for i, name := range []string{"home/safe/x", "garden/y", "home/a"} {
			p.Publish(publish(name, "live", q, uint16(i+1)))
		}
		answer(s, s.WantPublish("home/a", "live"))
		s.WantQuiet()
	}
	// Each client was refused two retained messages, and two live ones for itself and each that came before it; of retained ones too.
	if n := r.Stats().Dropped[plugin.DeliveryRefused]; n != 3*2+(1+2+3)*2+(1+2)*2 {
		t.Errorf("%d deliveries were refused", n)
	}
}

// CVE-2021-34434, CVE-2018-12546: who has lost a right gets nothing by it any more: live, queued, half delivered or retained. The
// subscription stays, silent, and speaks again when the right comes back.
func TestRevokedRightsEnd(t *testing.T) {
	const before, after = "allow user bob both #\nallow user ann both a/# b/# out\n", "allow user bob both #\nallow user ann both b/#\n"
	r := byRules(t, before, nil)
	p, s := r.as("bob", false), r.as("ann", true)
	s.Subscribe(1, 2, "a/#", "b/#")
	p.Publish(publish("a/1", "half", 1, 1)) // never acknowledged
	s.WantPublish("a/1", "half")
	if got := code(s, "out", false); got == mqtt.NotAuthorized {
		t.Errorf("publish before: %v", got)
	}
	s.Disconnect()
	for i, q := range []mqtt.QoS{1, 2, 1, 2} {
		p.Publish(publish([]string{"a/2", "b/2"}[i/2], fmt.Sprint(q), q, uint16(i+2)))
	}
	kept := publish("a/3", "kept", 1, 9)
	kept.Retain = true
	p.Publish(kept)
	r.change(after)
	s = r.as("ann", true)
	answer(s, s.WantPublish("b/2", "1"))
	answer(s, s.WantPublish("b/2", "2"))
	s.WantQuiet()
	for _, q := range []mqtt.QoS{0, 1, 2} {
		p.Publish(publish("a/4", "live", q, 10))
		p.Publish(publish("b/4", "live", q, 11))
		answer(s, s.WantPublish("b/4", "live"))
	}
	s.WantQuiet()
	if got := code(s, "out", false); got != mqtt.NotAuthorized {
		t.Errorf("publish after: %v", got)
	}
	if got := granted(s, "a/#"); got != mqtt.NotAuthorized {
		t.Errorf("subscribe after: %v", got)
	}
	s.WantQuiet()
	r.change(before)
	p.Publish(publish("a/5", "again", 1, 12))
	answer(s, s.WantPublish("a/5", "again"))
	s.WantQuiet()
}

// A member of a shared subscription that has lost the right leaves it; its messages go to those who have it, none is lost.
func TestRevokedSharedSubscriptionEnds(t *testing.T) {
	const before, after = "allow any both a/#\n", "allow user bob,pub both a/#\n"
	for _, lasts := range []bool{false, true} {
		t.Run(fmt.Sprint(lasts), func(t *testing.T) {
			r := byRules(t, before, nil)
			p, ann, bob := r.as("pub", false), r.as("ann", lasts), r.as("bob", lasts)
			for _, c := range []*wire.Client{ann, bob} {
				if got := granted(c, "$share/g/a/#"); got != 1 {
					t.Fatalf("subscribe: %v", got)
				}
			}
			r.change(after)
			const n = 20
			for i := range uint16(n) {
				p.Publish(publish("a/x", fmt.Sprint(i), 1, i+1))
			}
			seen := map[string]bool{}
			for range n {
				m := wire.Want[*mqtt.Publish](bob)
				answer(bob, m)
				seen[string(m.Payload)] = true
			}
			if len(seen) != n {
				t.Errorf("%d of %d messages arrived", len(seen), n)
			}
			bob.WantQuiet()
			ann.WantQuiet()
			if lasts { // it is gone from the stored session too
				r.change(before)
				ann.Disconnect()
				bob.Disconnect()
				ann = r.as("ann", true)
				p.Publish(publish("a/x", "later", 1, 30))
				ann.WantQuiet()
				bob = r.as("bob", true)
				answer(bob, bob.WantPublish("a/x", "later"))
			}
		})
	}
}

// A will is asked about again when it is published. While the broker runs it knows what the login told of the client.
func TestStoredWillIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		name, after string
		want        bool
	}{{"allowed", "", true}, {"revoked", "allow user watch subscribe wills/#\n", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := byRules(t, "allow user watch subscribe wills/#\nallow group devices publish wills/${claim.site}/#\n",
					map[string]plugin.Identity{"ann": {Groups: []string{"devices"}, Grant: &plugin.Grant{Claims: map[string]string{"site": "york"}}}})
				w := r.as("watch", false)
				w.Patience = time.Hour
				w.Subscribe(1, 1, "wills/#")
				x, _ := connect(t, r.Broker, mqtt.V5, mqtt.Connect{ClientID: []byte("x"), HasUsername: true, Username: []byte("ann"), Properties: expiry(3600),
					HasWill: true, Will: mqtt.Will{Topic: []byte("wills/york/x"), Payload: []byte("gone"), QoS: 1,
						Properties: mqtt.AppendPropUint32(nil, mqtt.PropWillDelayInterval, 60)}})
				x.Conn.Close()
				time.Sleep(30 * time.Second)
				if c.after != "" {
					r.change(c.after)
				}
				time.Sleep(60 * time.Second)
				if c.want {
					answer(w, w.WantPublish("wills/york/x", "gone"))
				}
				w.WantQuiet()
				refused := r.Stats().Dropped[plugin.PublishRefused]
				if (refused == 0) != c.want {
					t.Errorf("%d publishes were refused", refused)
				}
				r.Stop()
			})
		})
	}
}

// badge is an authentication method whose data is the group that the client says it is in.
type badge struct{ named }

func (badge) Method() string { return "badge" }

func (b badge) Begin(context.Context, *plugin.Client) (plugin.Exchange, error) { return b, nil }

func (badge) Next(_ context.Context, data []byte) ([]byte, bool, plugin.Decision, plugin.Identity, error) {
	return nil, true, plugin.Decision{Verdict: plugin.Allow}, plugin.Identity{Username: "ann", Groups: []string{string(data)}}, nil
}

// A re-authentication that changes groups changes rights at once, also those that were remembered.
func TestReauthenticationChangesRights(t *testing.T) {
	r := byRules(t, "allow user bob both #\nallow group day both day/#\nallow group night both night/#\n", nil, badge{"auth.badge"})
	method := mqtt.AppendPropString(nil, mqtt.PropAuthenticationMethod, "badge")
	data := func(group string) mqtt.Properties {
		return mqtt.AppendPropBytes(append(mqtt.Properties(nil), method...), mqtt.PropAuthenticationData, []byte(group))
	}
	c, _ := connect(t, r.Broker, mqtt.V5, mqtt.Connect{ClientID: []byte("c"), CleanStart: true, Properties: data("day")})
	p := r.as("bob", false)
	granted(c, "day/in")
	rights := func(day, night bool) {
		t.Helper()
		for range 2 { // the second time it is remembered
			for topic, want := range map[string]bool{"day/x": day, "night/x": night} {
				if got := code(c, topic, false); (got != mqtt.NotAuthorized) != want {
					t.Errorf("publish to %s: %v", topic, got)
				}
			}
			p.Publish(publish("day/in", "x", 1, 1))
			if day {
				answer(c, c.WantPublish("day/in", "x"))
			}
			c.WantQuiet()
		}
	}
	rights(true, false)
	c.Send(&mqtt.Auth{Code: mqtt.ReAuthenticate, Properties: data("night")})
	if a := wire.Want[*mqtt.Auth](c); a.Code != mqtt.Success {
		t.Fatalf("re-authentication: %v", a.Code)
	}
	rights(false, true)
}

func TestRulesOfTheLogin(t *testing.T) {
	identities := map[string]plugin.Identity{
		"ann":  {Grant: &plugin.Grant{Rules: []string{"allow both own/${clientid}/#", "deny both shared/no"}}},
		"bad":  {Grant: &plugin.Grant{Rules: []string{"allow both #", "nonsense"}}},
		"root": {Grant: &plugin.Grant{Rules: []string{"topic readwrite #", "topic readwrite $SYS/#"}}},
	}
	allowed := func(t *testing.T, c *wire.Client, topic string, want bool) {
		t.Helper()
		if got := code(c, topic, false); (got != mqtt.NotAuthorized) != want {
			t.Errorf("publish to %s: %v", topic, got)
		}
		if got := granted(c, topic); (got == 1) != want {
			t.Errorf("subscribe to %s: %v", topic, got)
		}
		c.Send(&mqtt.Unsubscribe{ID: 99, Filters: [][]byte{[]byte(topic)}})
		wire.Want[*mqtt.Unsuback](c)
	}
	t.Run("alone", func(t *testing.T) {
		b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{&names{"auth.test", identities}, aclidentity.New()}})
		r := &ruled{Broker: b, t: t}
		ann := r.as("ann", false)
		allowed(t, ann, "own/ann/x", true)
		allowed(t, ann, "own/bob/x", false)
		allowed(t, ann, "elsewhere", false) // there are rules: what they do not allow is denied
		allowed(t, r.as("bad", false), "a", false)
		allowed(t, r.as("other", false), "elsewhere", true) // nobody decides about who has no rules
		ann.Subscribe(2, 1, "own/#")
		other := r.as("other", false)
		other.Publish(publish("own/bob/x", "x", 1, 1))
		ann.WantQuiet()
		other.Publish(publish("own/ann/x", "x", 1, 2))
		answer(ann, ann.WantPublish("own/ann/x", "x"))
	})
	t.Run("before a file", func(t *testing.T) {
		r := byRules(t, "allow any both shared/#\n", identities, aclidentity.New()) // it is asked first wherever it stands
		ann := r.as("ann", false)
		allowed(t, ann, "own/ann/x", true)
		allowed(t, ann, "shared/yes", true)
		allowed(t, ann, "shared/no", false)
		allowed(t, ann, "elsewhere", false)
		allowed(t, r.as("bad", false), "shared/yes", false)
		allowed(t, r.as("root", false), "anywhere", true)
		allowed(t, r.as("other", false), "shared/no", true)
		allowed(t, r.as("other", false), "own/other/x", false)
	})
	t.Run("nobody reads them", func(t *testing.T) {
		r := byRules(t, "allow any both #\n", identities)
		allowed(t, r.as("ann", false), "own/ann/x", false)
		allowed(t, r.as("other", false), "own/ann/x", true)
	})
	if _, err := broker.New(broker.Options{Plugins: []plugin.Plugin{aclidentity.New(), second{aclidentity.New()}}}); err == nil {
		t.Error("two read the rules of logins")
	}
}

type second struct{ *aclidentity.ACL }

func (second) Name() string { return "acl.second" }

// counting is a steady authorizer that counts how often it is asked.
type counting struct {
	named
	asked, version atomic.Int64
}

func (c *counting) Authorize(a *plugin.Access) plugin.Decision {
	c.asked.Add(1)
	if strings.HasPrefix(a.Topic, "no") {
		return plugin.Decision{Verdict: plugin.Deny}
	}
	return plugin.Decision{Verdict: plugin.Allow}
}

func (c *counting) AuthorizesReceive() bool { return true }
func (c *counting) RulesVersion() uint64    { return uint64(c.version.Load()) }

// What was decided is asked once for a connection, until the rules change.
func TestDecisionsAreRemembered(t *testing.T) {
	c := &counting{named: "acl.test"}
	b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{c}})
	s, p := clean(t, b, mqtt.V5, "s"), clean(t, b, mqtt.V5, "p")
	s.Subscribe(1, 0, "yes")
	round := func(want int64) {
		t.Helper()
		before := c.asked.Load()
		for range 10 {
			p.Publish(publish("yes", "x", 1, 1))
			s.WantPublish("yes", "x")
			if got := code(p, "no", false); got != mqtt.NotAuthorized {
				t.Errorf("denied topic: %v", got)
			}
		}
		if n := c.asked.Load() - before; n != want {
			t.Errorf("asked %d times, want %d", n, want)
		}
	}
	round(3) // yes, no, and the delivery
	round(0)
	c.version.Add(1)
	round(3)
	q := clean(t, b, mqtt.V5, "p") // another connection
	p.WantClosed()
	p = q
	round(2)
}

// later is an authorizer that knows from memory only what it was asked elsewhere.
type later struct {
	named
	known atomic.Bool
	fail  atomic.Bool
	asked atomic.Int64
}

func (l *later) Authorize(a *plugin.Access) plugin.Decision {
	if l.known.Load() && a.Topic == "slow" {
		return plugin.Decision{Verdict: plugin.Deny, Rule: "later"}
	}
	return plugin.Decision{}
}

func (l *later) AuthorizeSlow(_ context.Context, a *plugin.Access) (plugin.Decision, error) {
	l.asked.Add(1)
	if l.fail.Load() {
		return plugin.Decision{Verdict: plugin.Allow}, errors.New("away")
	}
	l.known.Store(true)
	return l.Authorize(a), nil
}

// Authorizers are asked in their order, those that ask elsewhere too; an error denies, whoever comes next.
func TestSlowAuthorizersKeepTheirPlace(t *testing.T) {
	l := &later{named: "acl.later"}
	all := &counting{named: "acl.test"}
	b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{l, all}})
	c := clean(t, b, mqtt.V5, "c")
	for topic, want := range map[string]mqtt.ReasonCode{"slow": mqtt.NotAuthorized, "other": mqtt.NoMatchingSubscribers, "no": mqtt.NotAuthorized} {
		for range 2 {
			if got := code(c, topic, false); got != want {
				t.Errorf("%s: %v, want %v", topic, got, want)
			}
		}
	}
	if l.asked.Load() == 0 {
		t.Error("it was not asked elsewhere")
	}
	l.fail.Store(true)
	if got := code(c, "other", false); got != mqtt.NotAuthorized {
		t.Errorf("after an error: %v", got)
	}
}

// preparing is an authorizer that has to load what it knows of a client first.
type preparing struct {
	counting
	away     atomic.Bool
	prepared atomic.Int64
}

func (p *preparing) Prepare(_ context.Context, c *plugin.Client) error {
	if p.away.Load() {
		return errors.New("away")
	}
	if c.Username == "panic" {
		panic("on purpose")
	}
	p.prepared.Add(1)
	return nil
}

// Who comes while its rights cannot be loaded is asked to come again, and loses nothing that waits for it.
func TestRightsThatCannotBeLoadedRefuse(t *testing.T) {
	p := &preparing{counting: counting{named: "acl.test"}}
	b := brokertest.New(t, broker.Options{Loops: 2, Plugins: []plugin.Plugin{p, &names{named: "auth.test"}}})
	r := &ruled{Broker: b, t: t}
	s := r.as("ann", true)
	s.Subscribe(1, 1, "yes")
	s.Disconnect()
	r.as("bob", false).Publish(publish("yes", "queued", 1, 1))
	p.away.Store(true)
	again := mqtt.Connect{ClientID: []byte("ann"), HasUsername: true, Username: []byte("ann"), Properties: expiry(3600)}
	if got := refusal(t, b, mqtt.V5, again); got != mqtt.ServerUnavailable {
		t.Errorf("told %v, want 0x88", got)
	}
	p.away.Store(false)
	if got := refusal(t, b, mqtt.V5, login("panic", "")); got != mqtt.ServerUnavailable {
		t.Errorf("after a panic: told %v, want 0x88", got)
	}
	s = r.as("ann", true)
	answer(s, s.WantPublish("yes", "queued"))
	if n := p.prepared.Load(); n != 3 {
		t.Errorf("prepared %d times, want 3", n)
	}
}

// blind is an authorizer that sees no deliveries.
type blind struct{ named }

func (blind) Authorize(*plugin.Access) plugin.Decision { return plugin.Decision{Verdict: plugin.Allow} }

// Where rules say nothing about a delivery, the subscription that another authorizer has allowed stands; alone, they deny.
func TestDeliveryThatNobodyDecides(t *testing.T) {
	for _, with := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "acl.txt")
		if err := os.WriteFile(path, []byte("deny user ann subscribe a/no\nallow user bob both #\nallow user ann subscribe other\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		plugins := []plugin.Plugin{&names{named: "auth.test"}, aclfile.New(aclfile.Options{Path: path, Unmatched: "ignore"})}
		if with {
			plugins = append(plugins, blind{"acl.blind"})
		}
		r := &ruled{Broker: brokertest.New(t, broker.Options{Loops: 2, Plugins: plugins}), t: t}
		ann, bob := r.as("ann", false), r.as("bob", false)
		granted(ann, "#") // of which other is allowed
		for i, name := range []string{"a/no", "a/yes", "other"} {
			bob.Publish(publish(name, "x", 1, uint16(i+1)))
		}
		if with {
			answer(ann, ann.WantPublish("a/yes", "x"))
		}
		answer(ann, ann.WantPublish("other", "x"))
		ann.WantQuiet()
	}
}
