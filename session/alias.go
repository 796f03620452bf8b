// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"strings"

	"github.com/noctule/noctule/mqtt"
)

// aliasesIn are the mappings that the peer made.
type aliasesIn struct {
	topics []string // by alias - 1
}

// resolve takes an alias within the maximum.
func (a *aliasesIn) resolve(alias uint16, p *mqtt.Publish) *mqtt.Error {
	if len(p.Topic) > 0 {
		for int(alias) > len(a.topics) {
			a.topics = append(a.topics, "")
		}
		if a.topics[alias-1] != string(p.Topic) {
			a.topics[alias-1] = string(p.Topic)
		}
		return nil
	}
	if int(alias) > len(a.topics) || a.topics[alias-1] == "" {
		return &mqtt.Error{Code: mqtt.ProtocolError, Op: "PUBLISH", Err: errors.New("topic alias was never set")}
	}
	p.Topic = append(p.Topic, a.topics[alias-1]...)
	return nil
}

// aliasesOut are the mappings that we made: the first topics that are worth one keep theirs for the life of the connection.
type aliasesOut struct {
	topics map[string]uint16 // made on first use
}

// aliasWorth is the length of topic from which an alias saves bytes: the property costs three, and its first use the topic too.
const aliasWorth = 4

// use gives the alias for a topic, of at most so many, and whether the peer knows it already. 0 = none.
func (a *aliasesOut) use(topic string, most uint16) (alias uint16, known bool) {
	if alias, ok := a.topics[topic]; ok {
		return alias, true
	}
	if len(a.topics) >= int(most) {
		return 0, false
	}
	if a.topics == nil {
		a.topics = make(map[string]uint16)
	}
	alias = uint16(len(a.topics) + 1)
	a.topics[strings.Clone(topic)] = alias // a message's topic shares its memory with the payload
	return alias, false
}

// forget takes back a mapping whose PUBLISH was not sent after all.
func (a *aliasesOut) forget(topic string) { delete(a.topics, topic) }
