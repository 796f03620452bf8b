// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"strings"

	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
)

// Drops is the journal of dropped messages of QoS 1 and 2.
func (b *Broker) Drops() *journal.Journal { return b.drops }

// storeDropped enters what the store has dropped.
func (b *Broker) storeDropped(d *store.Dropped) {
	b.drops.Note(strings.ReplaceAll(d.Cause.String(), "-", "_"), func() journal.Drop {
		return journal.Drop{Client: strings.Clone(d.ClientID), Readers: d.Readers, Topic: strings.Clone(d.Topic), Filter: strings.Clone(d.Filter),
			Ref: refText(d.Ref), Size: d.Size, Publisher: strings.Clone(d.Publisher)}
	})
}

func refText(ref store.Ref) string {
	if ref == (store.Ref{}) {
		return ""
	}
	return fmt.Sprintf("%d:%d", ref.Group, ref.Position)
}

// dropOf counts a message that one receiver does not get, and enters it in the journal unless its QoS is 0. filter is that of the shared
// subscription that had it, ref where it is stored; both may be missing.
func (sh *shard) dropOf(clientID, filter string, ref store.Ref, m *mqtt.Message, cause plugin.Cause) {
	sh.tally.dropped[cause].Add(1)
	if m == nil {
		return
	}
	kind := messageDropped
	if cause == plugin.MessageExpired {
		kind = messageExpired
	}
	sh.b.events.message(sh, kind, clientID, m, cause)
	if m.QoS == 0 {
		return
	}
	sh.b.drops.Note(cause.String(), func() journal.Drop {
		return journal.Drop{Client: clientID, Topic: strings.Clone(m.Topic), Filter: filter, Ref: refText(ref), QoS: byte(m.QoS),
			Size: int64(m.Size()), Publisher: strings.Clone(m.ClientID)}
	})
}

// drop is dropOf for a message that is in no queue.
func (sh *shard) drop(clientID string, m *mqtt.Message, cause plugin.Cause) {
	sh.dropOf(clientID, "", store.Ref{}, m, cause)
}
