// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
)

// Names of the user properties of CONNACK that tell a 5.0 client that an acknowledgement does not mean "on disk": the class of
// durability, and the weakest class that some topics have.
const (
	PropertyDurability        = "durability"
	PropertyDurabilityByTopic = "durability-by-topic"
)

// classOf is the class of durability of a message that goes to the store. It costs nothing where no topic has a class of its own.
func (b *Broker) classOf(name string) store.Durability {
	class := b.opts.Durability
	if class == store.InMemory {
		return class // nothing is written, whatever the topic
	}
	for _, t := range b.config.Load().policy.DurabilityByTopic {
		if topic.Match(t.Filter, name) {
			return t.Durability
		}
	}
	return class
}

// weakness is what a 5.0 client is told at CONNACK about classes weaker than store.Sync; empty where there are none.
func weakness(class store.Durability, topics []TopicDurability) mqtt.Properties {
	var p mqtt.Properties
	if class > store.Sync {
		p = mqtt.AppendPropUser(p, PropertyDurability, class.String())
	}
	weakest := class
	for _, t := range topics {
		weakest = max(weakest, t.Durability)
	}
	if weakest > class {
		p = mqtt.AppendPropUser(p, PropertyDurabilityByTopic, weakest.String())
	}
	return p
}
