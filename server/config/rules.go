// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"

	"github.com/noctule/noctule/broker/limit"
)

// ruleTable is the options of one of limits.rules.
var ruleTable = &table{
	make: func() any { return newRule() },
	options: []option{
		{
			name: "name", kind: text, reload: Live, check: checkName, words: []string{"devices"},
			doc:   "What logs and metrics call the rule. It has to be given, and no other rule may have it.",
			field: in(func(r *limit.Rule) any { return &r.Name }),
		},
		{
			name: "listeners", kind: texts, reload: Live, check: checkPattern, words: []string{"public"},
			doc:   "Holds for clients of these listeners only, by name. * stands for any run of characters, here and below.",
			field: in(func(r *limit.Rule) any { return &r.Listeners }),
		},
		{
			name: "users", kind: texts, reload: Live, check: checkPattern, words: []string{"meter-*"},
			doc:   "Holds for these users only.",
			field: in(func(r *limit.Rule) any { return &r.Users }),
		},
		{
			name: "groups", kind: texts, reload: Live, check: checkPattern, words: []string{"gateways"},
			doc:   "Holds only for users with one of these groups, as the plug-in that let them in gave them; without *.",
			field: in(func(r *limit.Rule) any { return &r.Groups }),
		},
		{
			name: "clients", kind: texts, reload: Live, check: checkPattern, words: []string{"sensor-*"},
			doc:   "Holds for these client identifiers only.",
			field: in(func(r *limit.Rule) any { return &r.Clients }),
		},
		{
			name: "addresses", kind: texts, reload: Live, check: checkPrefix, words: []string{"203.0.113.0/24"},
			doc:   "Holds for clients from these address ranges only.",
			field: in(func(r *limit.Rule) any { return &r.Addresses }),
		},
		{
			name: "per", kind: word, reload: Live, words: limit.PerWords,
			doc:   "What rates and counts are for: each client identifier, each user, each address (of IPv6: each /64), each listener, or all clients of the rule together. For each of these the first rule that matches a client holds for it.",
			field: in(func(r *limit.Rule) any { return &r.Per }),
		},
		{
			name: "policy", kind: word, reload: Live, words: limit.PolicyWords,
			doc:   "What happens beyond messages_in and bytes_in: the client is not read until it may go on; or QoS 0 is dropped, and QoS 1 and 2 are answered 0x97 (reject: clients before 5.0 wait; drop: theirs are acknowledged and dropped); or the connection ends.",
			field: in(func(r *limit.Rule) any { return &r.Policy }),
		},
		rateOption("connects", count, "CONNECT packets a second. More are refused with 0x9F (3.x: code 3). 0 means no bound, here and below.",
			func(r *limit.Rule) *limit.Rate { return &r.Connects }),
		burstOption("connects", count, func(r *limit.Rule) *limit.Rate { return &r.Connects }),
		rateOption("messages_in", count, "PUBLISH packets a second from the clients.", func(r *limit.Rule) *limit.Rate { return &r.MessagesIn }),
		burstOption("messages_in", count, func(r *limit.Rule) *limit.Rate { return &r.MessagesIn }),
		rateOption("bytes_in", size, "Bytes of MQTT packets a second from the clients.", func(r *limit.Rule) *limit.Rate { return &r.BytesIn }),
		burstOption("bytes_in", size, func(r *limit.Rule) *limit.Rate { return &r.BytesIn }),
		rateOption("messages_out", count, "PUBLISH packets a second to the clients. What is more waits in their queues.", func(r *limit.Rule) *limit.Rate { return &r.MessagesOut }),
		burstOption("messages_out", count, func(r *limit.Rule) *limit.Rate { return &r.MessagesOut }),
		rateOption("bytes_out", size, "Bytes of PUBLISH packets a second to the clients; likewise.", func(r *limit.Rule) *limit.Rate { return &r.BytesOut }),
		burstOption("bytes_out", size, func(r *limit.Rule) *limit.Rate { return &r.BytesOut }),
		{
			name: "max_connections", kind: count, reload: Live,
			doc:   "Connections at once. More are refused with 0x97 (3.x: code 3).",
			field: in(func(r *limit.Rule) any { return &r.MaxConnections }),
		},
		{
			name: "max_retained", kind: count, reload: Live,
			doc:   "Retained messages that are there by the clients, with per: client or user. More are refused with 0x97; clients before 5.0 are cut off.",
			field: in(func(r *limit.Rule) any { return &r.MaxRetained }),
		},
		{
			name: "max_retained_bytes", kind: size, reload: Live,
			doc:   "Likewise, in bytes of topic and payload.",
			field: in(func(r *limit.Rule) any { return &r.MaxRetainedBytes }),
		},
		capOption("max_packet", size, 128, 256*mib+4, func(r *limit.Rule) any { return &r.MaxPacket }),
		{
			name: "max_qos", kind: count, reload: AtNextConnection, max: 2,
			doc:   "Of each connection, like limits.max_qos.",
			field: in(func(r *limit.Rule) any { return &r.MaxQoS }),
		},
		capOption("max_topic_levels", count, 0, 65535, func(r *limit.Rule) any { return &r.MaxTopicLevels }),
		capOption("max_topic_length", size, 0, 65535, func(r *limit.Rule) any { return &r.MaxTopicLength }),
		capOption("max_subscriptions", count, 0, 100_000_000, func(r *limit.Rule) any { return &r.MaxSubscriptions }),
		capOption("receive_maximum", count, 0, 65535, func(r *limit.Rule) any { return &r.ReceiveMaximum }),
		capOption("max_inflight", count, 0, 65535, func(r *limit.Rule) any { return &r.MaxInflight }),
		capOption("max_queue_messages", count, 0, 0, func(r *limit.Rule) any { return &r.MaxQueueMessages }),
		capOption("max_queue_bytes", size, 0, 0, func(r *limit.Rule) any { return &r.MaxQueueBytes }),
		capOption("max_session_expiry", span, 0, 0xFFFFFFFE*second, func(r *limit.Rule) any { return &r.MaxSessionExpiry }),
	},
}

func newRule() *limit.Rule { return &limit.Rule{Caps: limit.Caps{MaxQoS: 2}} }

func rateOption(name string, k kind, doc string, rate func(*limit.Rule) *limit.Rate) option {
	return option{name: name, kind: k, reload: Live, max: limit.MaxRate, doc: doc, field: in(func(r *limit.Rule) any { return &rate(r).PerSecond })}
}

func burstOption(name string, k kind, rate func(*limit.Rule) *limit.Rate) option {
	return option{name: name + "_burst", kind: k, reload: Live, max: limit.MaxBurst, doc: "How many may come at once. 0 means as many as in a second.",
		field: in(func(r *limit.Rule) any { return &rate(r).Burst })}
}

// capOption bounds each connection, as the limit of the same name bounds all. least is the least that is not 0.
func capOption(name string, k kind, least, most int64, field func(*limit.Rule) any) option {
	doc := "Of each connection, like limits." + name + ". 0 means no bound of this rule's."
	if least > 0 {
		doc = strings.TrimSuffix(doc, ".") + "; else at least " + (&option{kind: k}).format(least) + "."
	}
	return option{name: name, kind: k, reload: AtNextConnection, max: most, doc: doc, field: in(field)}
}

func checkPattern(s string) error {
	if s == "" {
		return &advice{"an empty name", "write one, or \"*\" for all"}
	}
	return nil
}

// checkRules finds rules that limit nothing or nobody, and numbers that mean nothing.
func (c *Config) checkRules(wrong func(path, problem, fix string)) {
	names := map[string]bool{}
	for i := range c.Limits.Rules {
		r := &c.Limits.Rules[i]
		path := fmt.Sprintf("limits.rules[%d]", i)
		switch {
		case r.Name == "":
			wrong(path, "has no name", "write name: devices, say")
		case names[r.Name]:
			wrong(path+".name", fmt.Sprintf("a rule is called %q already", r.Name), "write another name")
		}
		names[r.Name] = true
		c.checkRule(r, path, wrong)
	}
}

func (c *Config) checkRule(r *limit.Rule, path string, wrong func(path, problem, fix string)) {
	rates := map[string]limit.Rate{"connects": r.Connects, "messages_in": r.MessagesIn, "bytes_in": r.BytesIn, "messages_out": r.MessagesOut, "bytes_out": r.BytesOut}
	limited := false
	for _, name := range []string{"connects", "messages_in", "bytes_in", "messages_out", "bytes_out"} {
		rate := rates[name]
		limited = limited || rate.Limited()
		if !rate.Limited() && rate.Burst > 0 {
			wrong(path+"."+name+"_burst", "a burst without a rate", "write "+name+" too")
		}
	}
	counts := r.MaxConnections > 0 || r.BoundsRetained() || r.Caps != limit.Caps{MaxQoS: 2}
	if !limited && !counts {
		wrong(path, "limits nothing", "write messages_in: 100, say, or max_connections: 10")
	}
	if r.Policy != limit.Pause && !r.MessagesIn.Limited() && !r.BytesIn.Limited() {
		wrong(path+".policy", "there is nothing for the policy", "write messages_in or bytes_in too")
	}
	if r.MaxPacket > 0 && r.MaxPacket < 128 {
		wrong(path+".max_packet", FormatSize(int64(r.MaxPacket))+" is too small", "write at least 128B")
	}
	if r.BoundsRetained() && r.Per != limit.PerClient && r.Per != limit.PerUser {
		wrong(path+".per", "retained messages are counted by client or user", "write per: user")
	}
	for i, name := range r.Listeners {
		if strings.Contains(name, "*") {
			continue
		}
		var known []string
		found := false
		for _, l := range c.Listeners {
			known = append(known, l.Name)
			found = found || l.Name == name
		}
		if !found {
			fix := "the listeners are called " + strings.Join(known, ", ")
			if near := Nearest(name, known); near != "" {
				fix = "did you mean " + near + "?"
			}
			wrong(fmt.Sprintf("%s.listeners[%d]", path, i), fmt.Sprintf("no listener is called %q", name), fix)
		}
	}
}
