// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	aclfile "github.com/noctule/noctule/plugins/acl/file"
)

// What is remembered is never the answer to another question, however many are asked; the text of a question is lent.
func TestRightsAnswerTheirQuestion(t *testing.T) {
	var r rights
	rnd := rand.New(rand.NewPCG(1, 2))
	answer := func(of, version uint64, a *plugin.Access) string {
		return fmt.Sprint(of, version, a.Action, a.QoS, a.Retain, a.Topic)
	}
	hits := 0
	for range 200_000 {
		of, version := 1+rnd.Uint64N(40), rnd.Uint64N(3)
		lent := fmt.Appendf(nil, "a/%d", rnd.IntN(8))
		a := &plugin.Access{Action: plugin.Action(rnd.IntN(4)), QoS: mqtt.QoS(rnd.IntN(3)), Retain: rnd.IntN(2) == 1, Topic: unsafe.String(&lent[0], len(lent))}
		if x := r.find(of, version, a); x == nil {
			r.keep(of, version, a, plugin.Decision{Rule: answer(of, version, a)})
		} else if hits++; x.d.Rule != answer(of, version, a) {
			t.Fatalf("%s: answered with that of %s", answer(of, version, a), x.d.Rule)
		}
		clear(lent)
	}
	if hits < 3_000 {
		t.Errorf("only %d hits", hits)
	}
	if len(r.slots) != rightBuckets*rightWays {
		t.Errorf("it has grown to %d", len(r.slots))
	}
}

func TestRightsAreBounded(t *testing.T) {
	var r rights
	if r.find(1, 1, &plugin.Access{Topic: "a"}) != nil || r.slots != nil {
		t.Error("something is held before the first decision")
	}
	long := &plugin.Access{Topic: strings.Repeat("x", maxRightTopic+1)}
	r.keep(1, 1, long, plugin.Decision{})
	if r.slots != nil || r.find(1, 1, long) != nil {
		t.Error("a long topic is held")
	}
}

// thousandRules is a started acl.file with 1000 rules for a user, of which the last allows.
func thousandRules(t testing.TB) *aclfile.ACL {
	var b strings.Builder
	for i := range 999 {
		fmt.Fprintf(&b, "allow user alice both plant/line%d/+/values/#\n", i)
	}
	b.WriteString("allow user alice both plant/+/state\n")
	path := filepath.Join(t.TempDir(), "acl.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := aclfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// withRules is routed with the authorizer in place.
func withRules(t testing.TB, acl plugin.Plugin, subscribers int, f func(c *connection)) {
	routed(t, mqtt.V311, subscribers, func(c *connection) {
		if err := c.sh.b.hooks.add([]plugin.Plugin{acl}); err != nil {
			t.Error(err)
		}
		c.sh.each(func(c *connection) { c.client.Username = "alice" })
		f(c)
	})
}

func TestAuthorizedQoS0RoutesWithoutAllocation(t *testing.T) {
	withRules(t, thousandRules(t), 50, func(c *connection) {
		b := packet(mqtt.V311)
		before := c.sh.traffic.n[PublishSent]
		allocs := testing.AllocsPerRun(1000, func() { c.Feed(b) })
		if sent := c.sh.traffic.n[PublishSent] - before; sent != 1001*50 {
			t.Errorf("%d deliveries, want %d", sent, 1001*50)
		}
		if allocs != 0 && !raced {
			t.Errorf("%v allocations", allocs)
		}
	})
}

// A decision about a publish with 1000 rules: remembered, and for a topic that is new each time.
func BenchmarkDecide(b *testing.B) {
	withRules(b, thousandRules(b), 0, func(c *connection) {
		a := &c.sh.access
		ask := func(b *testing.B, topic string, want plugin.Verdict) {
			*a = plugin.Access{Client: c.client, Action: plugin.Publish, Topic: topic}
			if d, _ := c.decide(a); d.Verdict != want {
				b.Fatal(d)
			}
		}
		b.Run("remembered", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ask(b, "plant/7/state", plugin.Allow)
			}
		})
		topics := make([]string, 100_000)
		for i := range topics {
			topics[i] = fmt.Sprintf("plant/%d/state", i)
		}
		b.Run("first time", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ask(b, topics[i%len(topics)], plugin.Allow)
			}
		})
	})
}

func BenchmarkRouteAuthorized(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			withRules(b, thousandRules(b), n, func(c *connection) {
				p := packet(mqtt.V311)
				b.ReportAllocs()
				for b.Loop() {
					c.Feed(p)
				}
			})
		})
	}
}
