// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"fmt"

	"github.com/noctule/noctule/store/wal"
)

// describe names a command for people who want to know what was lost.
func describe(c command) string {
	switch c := c.(type) {
	case *Claim:
		return fmt.Sprintf("a connect of client %q", c.ClientID)
	case *Drop:
		return fmt.Sprintf("the end of the session of client %q", c.ClientID)
	case *Detach:
		return fmt.Sprintf("a disconnect of session %d", c.Owner.ID)
	case *Subscribe:
		if len(c.Subscriptions) > 0 {
			return fmt.Sprintf("a subscribe of session %d to %q", c.Owner.ID, c.Subscriptions[0].Filter)
		}
	case *Unsubscribe:
		if len(c.Filters) > 0 {
			return fmt.Sprintf("an unsubscribe of session %d from %q", c.Owner.ID, c.Filters[0])
		}
	case *Publish:
		if c.Message != nil {
			return fmt.Sprintf("a message of client %q to topic %q, %d bytes", c.Message.ClientID, c.Message.Topic, len(c.Message.Payload))
		}
		return fmt.Sprintf("packet identifier %d of session %d", c.PacketID, c.Publisher.ID)
	case *Release:
		return fmt.Sprintf("the release of packet identifier %d of session %d", c.PacketID, c.Owner.ID)
	case *Window:
		return fmt.Sprintf("%d deliveries in flight to session %d", len(c.Entries), c.Owner.ID)
	case *Ack:
		return fmt.Sprintf("%d acknowledgements of session %d", len(c.Refs)+len(c.Share)+len(c.IDs), c.Owner.ID)
	}
	return fmt.Sprintf("a command of kind %d", c.kind())
}

var kindNames = map[byte]string{
	kindBody: "message", kindCursor: "cursor", kindDue: "will that is due", kindFilter: "filter", kindMeta: "counters",
	kindQueue: "queue row", kindReceived: "packet identifier", kindRefs: "reference count", kindRetained: "retained message",
	kindSession: "session", kindSub: "subscription", kindWill: "will", kindWindow: "delivery in flight",
}

// describeKey names a row.
func describeKey(key []byte) string {
	if len(key) < prefixLen {
		return "the state"
	}
	name, rest := kindNames[key[2]], key[prefixLen:]
	if name == "" {
		return fmt.Sprintf("row %q", key)
	}
	switch key[2] {
	case kindFilter, kindRetained, kindSession:
		return fmt.Sprintf("%s %q", name, rest)
	case kindMeta:
		return name
	}
	if len(rest) < 8 {
		return fmt.Sprintf("%s %x", name, rest)
	}
	n := binary.BigEndian.Uint64(rest)
	switch rest = rest[8:]; {
	case key[2] == kindSub:
		return fmt.Sprintf("%s %q of session %d", name, rest, n)
	case len(rest) == 8:
		return fmt.Sprintf("%s %d of %d", name, binary.BigEndian.Uint64(rest), n)
	case len(rest) == 2:
		return fmt.Sprintf("%s %d of session %d", name, binary.BigEndian.Uint16(rest), n)
	}
	return fmt.Sprintf("%s %d", name, n)
}

// logDamageText says what was wrong with the log, in one line.
func logDamageText(d *wal.Damage) string {
	text := fmt.Sprintf("%s: %d bytes at %d", d.Why, d.Length, d.Offset)
	if d.First != 0 {
		text += fmt.Sprintf(", positions %d to %d", d.First, d.Last)
	}
	if c, err := decodeRecord(d.Record); err == nil {
		text += "; it seems to have been " + describe(c)
	}
	return text
}
