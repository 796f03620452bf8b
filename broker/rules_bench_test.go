// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"testing"

	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/transport"
)

// wide is a rule with every limit, none of which is reached.
func wide() limit.Rule {
	most := limit.Rate{PerSecond: limit.MaxRate, Burst: limit.MaxBurst}
	return limit.Rule{Name: "wide", Policy: limit.Reject, Connects: most, MessagesIn: most, BytesIn: most, MessagesOut: most, BytesOut: most,
		MaxConnections: 1 << 40, Caps: limit.Caps{MaxQoS: 2, MaxSubscriptions: 1 << 20, MaxPacket: 1 << 20, MaxTopicLevels: 100, MaxTopicLength: 1000}}
}

// withRule binds all connections of the broker of a test to a rule.
func withRule(t testing.TB, c *connection, r limit.Rule) {
	l := c.sh.b.Limits()
	l.Rules = []limit.Rule{r}
	if err := c.sh.b.setConfig(l, Policy{}); err != nil {
		t.Fatal(err)
	}
	c.sh.each(func(c *connection) {
		c.rebind(c.sh.b.config.Load())
		if c.bound == nil || len(c.bound.in) == 0 {
			t.Fatal("the rule does not hold")
		}
	})
}

// What comes in under a rule is counted without an allocation.
func TestRulesDoNotAllocate(t *testing.T) {
	for _, policy := range []limit.Policy{limit.Pause, limit.Reject} {
		routed(t, mqtt.V5, 0, func(c *connection) {
			r := wide()
			r.Policy = policy
			withRule(t, c, r)
			b := packet(mqtt.V5)
			if n := testing.AllocsPerRun(1000, func() { c.Feed(b) }); n != 0 && !raced {
				t.Errorf("%v: %v allocations", policy, n)
			}
		})
	}
}

// BenchmarkRules is the way of a QoS 0 message from one client to another, without a rule, with limits on what comes in, and with
// limits both ways. Sockets are not in it.
func BenchmarkRules(b *testing.B) {
	in := wide()
	in.MessagesOut, in.BytesOut = limit.Rate{}, limit.Rate{}
	pause := in
	pause.Policy = limit.Pause
	for _, how := range []struct {
		name string
		rule limit.Rule
	}{{"none", limit.Rule{}}, {"in, pause", pause}, {"in, reject", in}, {"in and out", wide()}} {
		b.Run(how.name, func(b *testing.B) {
			routed(b, mqtt.V311, 1, func(c *connection) {
				if how.rule.Name != "" {
					withRule(b, c, how.rule)
				}
				p := packet(mqtt.V311)
				b.ReportAllocs()
				for b.Loop() {
					if _, _, v := c.Feed(p); v != transport.GoOn {
						b.Fatal("it is paused")
					}
				}
			})
		})
	}
}
