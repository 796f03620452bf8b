// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"slices"
	"strings"
	"testing"

	"github.com/noctule/noctule/mqtt"
)

// rule is a test, and the statements of each version that it proves.
type rule struct {
	name string // of the subtest
	v311 string // identifiers in 3.1.1, separated by spaces; "" if the rule is not one of 3.1.1
	v5   string // in 5.0
	test func(*T)
}

// rule31 is a test of a rule of MQTT 3.1 that differs from 3.1.1.
type rule31 struct {
	name, id string
	test     func(*T)
}

// chapters are all tests, by the file in which they stand.
var chapters = [][]rule{
	connectRules, connackRules, sessionRules, willRules, publishRules, retainRules, propertyRules, qosRules, resendRules, flowRules, sizeRules,
	aliasRules, subscribeRules, unsubscribeRules, topicRules, sharedRules, authRules, utf8Rules, frameRules, disconnectRules, websocketRules,
}

// ids gives the statements that a rule proves in a version.
func (r *rule) ids(v mqtt.Version) []string {
	if v == mqtt.V5 {
		return strings.Fields(r.v5)
	}
	return strings.Fields(r.v311)
}

// proof is a named test of one statement.
type proof struct {
	name string
	test func(*T)
}

// proofs gives the tests of a statement.
func proofs(s statement) (all []proof) {
	if s.version == mqtt.V31 {
		for _, r := range rules31 {
			if r.id == s.id {
				all = append(all, proof{r.name, r.test})
			}
		}
		return all
	}
	for _, rules := range chapters {
		for i := range rules {
			if slices.Contains(rules[i].ids(s.version), s.id) {
				all = append(all, proof{rules[i].name, rules[i].test})
			}
		}
	}
	return all
}

// group is how a version is called in the names of tests.
func group(v mqtt.Version) string {
	return map[mqtt.Version]string{mqtt.V31: "V31", mqtt.V311: "V311", mqtt.V5: "V5"}[v]
}

// TestConformance runs every test of every statement.
func TestConformance(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		t.Run(group(v), func(t *testing.T) {
			t.Parallel()
			for _, s := range statements(t) {
				if s.version == v {
					t.Run(s.id, func(t *testing.T) { prove(t, s) })
				}
			}
		})
	}
}

func prove(t *testing.T, s statement) {
	t.Parallel()
	for _, p := range proofs(s) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			run(t, s.version, p.test)
		})
	}
}
