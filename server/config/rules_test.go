// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"

	"github.com/noctule/noctule/broker/limit"
)

const ruleText = `
listeners:
  - name: public
    address: "127.0.0.1:1"
limits:
  rules:
    - name: gateways
      groups: [gateways]
      messages_in: 10000
    - name: devices
      listeners: [public]
      addresses: ["10.0.0.0/8", "::1"]
      per: address
      policy: reject
      connects: 10
      connects_burst: 50
      bytes_in: 1MiB
      max_qos: 1
      max_packet: 64KiB
      max_session_expiry: 1h
`

func TestRulesAreRead(t *testing.T) {
	c, err := Load(Input{File: "f.yaml", Text: []byte(ruleText)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := limit.NewSet(c.Limits.Rules, nil); err != nil {
		t.Fatal(err)
	}
	first, second := &c.Limits.Rules[0], &c.Limits.Rules[1]
	if first.Per != limit.PerClient || first.MessagesIn.PerSecond != 10000 || first.MaxQoS != 2 {
		t.Errorf("%+v", first)
	}
	if second.Per != limit.PerAddress || second.Policy != limit.Reject || second.Connects != (limit.Rate{PerSecond: 10, Burst: 50}) ||
		second.BytesIn.PerSecond != 1<<20 || second.MaxQoS != 1 || second.MaxPacket != 64<<10 || second.MaxSessionExpiry.Hours() != 1 {
		t.Errorf("%+v", second)
	}
	again, err := Load(Input{File: "g.yaml", Text: []byte(c.YAML())})
	if err != nil {
		t.Fatalf("%v\n%s", err, c.YAML())
	}
	if diff := Changes(c, again); len(diff) > 0 {
		t.Errorf("written and read again, it differs: %v", diff)
	}
}

func TestMistakesInRules(t *testing.T) {
	for text, want := range map[string][]string{
		"- {messages_in: 1}": {"has no name"},
		"- {name: a, messages_in: 1}\n    - {name: a, messages_in: 1}": {"a rule is called \"a\" already"},
		"- {name: a}":                                       {"limits nothing", "messages_in: 100"},
		"- {name: a, messages_in_burst: 5}":                 {"a burst without a rate", "write messages_in too"},
		"- {name: a, connects: 1, policy: drop}":            {"nothing for the policy"},
		"- {name: a, connects: 1, per: clients}":            {"did you mean client"},
		"- {name: a, conects: 1}":                           {"unknown option", "did you mean connects"},
		"- {name: a, connects: 1, listeners: [publc]}":      {"no listener is called \"publc\"", "did you mean public"},
		"- {name: a, connects: 1, addresses: [10.0.0.300]}": {"not a range of addresses"},
		"- {name: a, connects: 1, users: [\"\"]}":           {"an empty name"},
		"- {name: a, bytes_in: 5000000000B}":                {"too large"},
		"- {name: a, bytes_in: 100}":                        {"has no unit"},
		"- {name: a, max_packet: 1B}":                       {"too small", "at least 128B"},
		"- {name: a, max_retained: 3, per: address}":        {"by client or user"},
		"- {name: a, max_qos: 3}":                           {"too large"},
	} {
		_, err := Load(Input{File: "f", Text: []byte("listeners: [{name: public, address: \"127.0.0.1:1\"}]\nlimits:\n  rules:\n    " + text + "\n")})
		if err == nil {
			t.Errorf("%s is accepted", text)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v\nlacks %q", text, err, w)
			}
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	for text, want := range map[string]Memory{"auto": {Share: 0.7}, "off": {}, "50%": {Share: 0.5}, "2GiB": {Bytes: 2 << 30}, "12.5%": {Share: 0.125}} {
		c, err := Load(Input{File: "f", Text: []byte("memory: {limit: " + text + "}\n")})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := ParseMemory(c.Memory); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"lots": "write auto, off", "0%": "from 1% to 100%", "101%": "from 1% to 100%", "NaN%": "from 1%", "1MiB": "at least 32MiB",
		"-1GiB": "write auto"} {
		if _, err := Load(Input{File: "f", Text: []byte("memory: {limit: \"" + text + "\"}\n")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
