// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"strings"

	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/store"
)

// Dropped is for store.Options.OnDrop.
func (w *StoreWatch) Dropped(d store.Dropped) { w.pass(func(b *Broker) { b.storeDropped(&d) }) }

// storeDropped enters what the store has dropped.
func (b *Broker) storeDropped(d *store.Dropped) {
	b.drops.Note(strings.ReplaceAll(d.Cause.String(), "-", "_"), func() journal.Drop {
		return journal.Drop{Client: strings.Clone(d.ClientID), Readers: d.Readers, Topic: strings.Clone(d.Topic), Filter: strings.Clone(d.Filter),
			Ref: refText(d.Ref), Size: d.Size, Publisher: strings.Clone(d.Publisher)}
	})
}
