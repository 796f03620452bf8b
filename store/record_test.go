// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/noctule/noctule/mqtt"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// examples has each command with every field set, and some with none.
func examples() []command {
	m := &mqtt.Message{
		Topic: "a/b", Payload: []byte("payload"), QoS: 2, Retain: true, Properties: mqtt.AppendPropUser(nil, "k", "v"),
		Received: 1_700_000_000_000_000_000, Expiry: 1_700_000_060_000_000_000, ClientID: "pub", Username: "user",
	}
	o := Owner{ID: 300, Epoch: 2}
	refs := []Ref{{15, 1}, {0, 1 << 40}}
	shared := []Shared{{"$share/g/a", Ref{3, 9}}}
	window := []Inflight{
		{ID: 1, QoS: 2, State: Sent, Ref: Ref{1, 77}, Share: "$share/g/a", Identifiers: []uint32{1, 268435455}},
		{ID: 65535, QoS: 1, Retain: true, Message: m},
		{ID: 7, QoS: 2, State: Released, Ref: Ref{2, 5}},
	}
	return []command{
		&Claim{ClientID: "c", Username: "u", CleanStart: true, Expiry: Never, Will: &Will{Message: m, Delay: 30}, Now: 1_700_000_000_000_000_001},
		&Claim{},
		&Drop{ClientID: "c", Username: "u", AnyUser: true, Now: 5},
		&Detach{Owner: o, Expiry: 60, KeepWill: true, Window: window, Acked: refs, AckedShare: shared, NextID: 8, Now: 6},
		&Subscribe{Owner: o, Subscriptions: []Subscription{
			{Filter: "a/#", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Identifier: 9}, {Filter: "b"}}},
		&Unsubscribe{Owner: o, Filters: []string{"a/#", "b"}},
		&Publish{Message: m, Publisher: o, PacketID: 12, WillOf: 4},
		&Publish{Publisher: o, PacketID: 12, IdentifierOnly: true},
		&Release{Owner: o, PacketID: 12},
		&Window{Owner: o, Entries: window, NextID: 3},
		&Ack{Owner: o, Refs: refs, Share: shared, IDs: []uint16{1, 65535}},
		&Tick{Now: -1},
		&recovery{Now: 7, Limits: Limits{1, 2, 3, 4, Reject, 5, 6, 7, 8}},
		&expire{Session: 5, Share: "$share/g/a", Refs: refs},
	}
}

// The golden file holds what earlier versions wrote; a line in it is never changed once released.
func TestRecordsGolden(t *testing.T) {
	const file = "testdata/records.golden"
	var b strings.Builder
	for _, c := range examples() {
		fmt.Fprintf(&b, "%T %s\n", c, hex.EncodeToString(appendRecord(nil, c)))
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Fatalf("records changed:\n%s\nwant\n%s", b.String(), want)
	}
	lines := strings.Split(strings.TrimSpace(string(want)), "\n")
	for i, c := range examples() {
		_, text, _ := strings.Cut(lines[i], " ")
		record, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeRecord(record); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%T decodes to %+v, %v", c, got, err)
		}
	}
}

func TestRecordsThatAreNotWholeAreRefused(t *testing.T) {
	for _, c := range examples() {
		record := appendRecord(nil, c)
		for i := range record {
			if _, err := decodeRecord(record[:i]); err == nil {
				t.Fatalf("%T cut at %d is accepted", c, i)
			}
		}
		if _, err := decodeRecord(append(record, 0)); err == nil {
			t.Fatalf("%T with a byte too many is accepted", c)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, c := range examples() {
		f.Add(appendRecord(nil, c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeRecord(b)
		if err != nil {
			return
		}
		d, err := decodeRecord(appendRecord(nil, c))
		if err != nil || !bytes.Equal(appendRecord(nil, c), appendRecord(nil, d)) {
			t.Fatalf("%+v does not survive a round trip: %v", c, err)
		}
	})
}

// FuzzApply applies whatever decodes, after a few commands that make a session with id 1.
func FuzzApply(f *testing.F) {
	f.Add([]byte{})
	var all []byte
	for _, c := range examples() {
		body := appendRecord(nil, c)
		all = append(appendUint(all, uint64(len(body))), body...)
	}
	f.Add(all)
	for seed := range uint64(8) {
		v := newInventor(seed)
		m := testMachine(Limits{})
		var some []byte
		for at := Position(1); at < 60; at++ {
			c := v.next()
			m.apply(at, c)
			v.learn(c)
			body := appendRecord(nil, c)
			some = append(appendUint(some, uint64(len(body))), body...)
		}
		f.Add(some)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := testMachine(Limits{MaxQueueMessages: 5})
		m.apply(1, &Claim{ClientID: "c", Expiry: 5})
		m.apply(2, &Subscribe{Owner: Owner{1, 1}, Subscriptions: []Subscription{{Filter: "#", QoS: 1}, {Filter: "$share/g/#", QoS: 2}}})
		m.apply(3, &Publish{Message: &mqtt.Message{Topic: "a", QoS: 1, Retain: true, Payload: []byte("x")}})
		d := decoder{b: b}
		for at := Position(4); len(d.b) > 0; at++ {
			if c, err := decodeRecord(d.bytes()); err == nil && d.err == nil {
				m.apply(at, c)
			}
		}
		if err := m.inconsistency(); err != nil {
			t.Fatal(err)
		}
		if int64(len(m.bodies.(memoryBodies))) != m.stats.Messages {
			t.Fatalf("%d messages, %d counted", len(m.bodies.(memoryBodies)), m.stats.Messages)
		}
	})
}
