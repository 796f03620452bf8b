// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/noctule/noctule/mqtt"
)

// The window behaves like a list of entries with unique identifiers, whatever the order of acknowledgements.
func TestWindowAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o Outflow[int]
		limit := rapid.IntRange(1, 40).Draw(t, "max")
		o.init(uint16(limit))
		o.next = uint16(rapid.IntRange(65_500, 65_535).Draw(t, "next"))
		var want []Inflight[int]
		for tag := range rapid.IntRange(1, 400).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "add") && o.Free() > 0 {
				id := o.Add(Delivery[int]{QoS: 1, Tag: tag})
				for _, w := range want {
					if w.ID == id || id == 0 {
						t.Fatalf("identifier %d is in use or 0", id)
					}
				}
				want = append(want, Inflight[int]{ID: id, Delivery: Delivery[int]{QoS: 1, Tag: tag}})
			} else if len(want) > 0 {
				i := rapid.IntRange(0, len(want)-1).Draw(t, "which")
				got, ok := o.Remove(want[i].ID)
				if !ok || got.Tag != want[i].Tag {
					t.Fatalf("removed %v, %v, want tag %d", got.Tag, ok, want[i].Tag)
				}
				if _, again := o.Remove(want[i].ID); again {
					t.Fatal("removed twice")
				}
				want = append(want[:i:i], want[i+1:]...)
			}
			if o.Len() != len(want) || o.Len() > limit {
				t.Fatalf("%d entries, want %d, at most %d", o.Len(), len(want), limit)
			}
			i := 0
			for e := range o.Window {
				if e.ID != want[i].ID || e.Tag != want[i].Tag {
					t.Fatalf("entry %d is %d, want %d", i, e.ID, want[i].ID)
				}
				i++
			}
		}
	})
}

// A resumed window continues with the same entries, and gives none of their identifiers again.
func TestResumedWindowKeepsIdentifiers(t *testing.T) {
	for _, c := range []struct {
		ids  []uint16
		next uint16
	}{{nil, 0}, {nil, 77}, {[]uint16{5}, 6}, {[]uint16{5, 7, 9}, 12}, {[]uint16{65_534, 65_535, 1, 3}, 4}, {[]uint16{9}, 0}, {[]uint16{9, 11}, 10}} {
		var entries []Inflight[int]
		for _, id := range c.ids {
			entries = append(entries, Inflight[int]{ID: id, State: Sent, Delivery: Delivery[int]{QoS: 1}})
		}
		var o Outflow[int]
		o.init(100)
		o.Resume(entries, c.next)
		if o.Len() != len(c.ids) {
			t.Fatalf("%v: %d entries", c.ids, o.Len())
		}
		for range 50 {
			id := o.Add(Delivery[int]{QoS: 1})
			for _, old := range c.ids {
				if id == old {
					t.Fatalf("%v, next %d: identifier %d given twice", c.ids, c.next, id)
				}
			}
		}
		for _, id := range c.ids {
			if o.Find(id) == nil {
				t.Fatalf("%v: %d is gone", c.ids, id)
			}
		}
	}
}

// A peer that never acknowledges its oldest message does not make the ring grow without bound.
func TestWindowSpanIsBounded(t *testing.T) {
	var o Outflow[int]
	o.init(10)
	first := o.Add(Delivery[int]{QoS: 1})
	for o.Free() > 0 {
		o.Remove(o.Add(Delivery[int]{QoS: 1}))
	}
	if len(o.ring) > 4*spanLeast {
		t.Fatalf("the ring has %d slots", len(o.ring))
	}
	o.Remove(first)
	if o.Free() != 10 {
		t.Fatalf("%d free after the oldest was acknowledged, want 10", o.Free())
	}
}

func TestAcknowledgements(t *testing.T) {
	type step struct {
		t    mqtt.PacketType
		code mqtt.ReasonCode
		want AckResult
		left int
	}
	for name, c := range map[string]struct {
		qos   mqtt.QoS
		steps []step
	}{
		"QoS 1":                   {1, []step{{mqtt.PUBREC, 0, Ignored, 1}, {mqtt.PUBCOMP, 0, Ignored, 1}, {mqtt.PUBACK, 0, Done, 0}, {mqtt.PUBACK, 0, Ignored, 0}}},
		"QoS 1 refused":           {1, []step{{mqtt.PUBACK, mqtt.NotAuthorized, Refused, 0}}},
		"QoS 2":                   {2, []step{{mqtt.PUBACK, 0, Ignored, 1}, {mqtt.PUBCOMP, 0, Ignored, 1}, {mqtt.PUBREC, 0, ToRelease, 1}, {mqtt.PUBREC, 0, ToRelease, 1}}},
		"QoS 2 refused":           {2, []step{{mqtt.PUBREC, mqtt.QuotaExceeded, Refused, 0}}},
		"QoS 2, no PUBREL so far": {2, []step{{mqtt.PUBREC, 0, ToRelease, 1}, {mqtt.PUBCOMP, 0, Ignored, 1}}},
	} {
		s := New[int](Limits{Version: mqtt.V5, ReceiveMaximum: 10, OwnMaximum: 10})
		id := s.Out.Add(Delivery[int]{QoS: c.qos, Message: &mqtt.Message{Topic: "t"}})
		s.Open(id, 0, &out{})
		for i, st := range c.steps {
			got, _ := s.Out.Acknowledge(st.t, id, st.code)
			if got != st.want || s.Out.Len() != st.left {
				t.Errorf("%s, step %d: result %d with %d left, want %d with %d", name, i, got, s.Out.Len(), st.want, st.left)
			}
		}
	}
}

// out is a Sink that keeps everything.
type out struct{ b []byte }

func (o *out) Buf() []byte  { return o.b }
func (o *out) Set(b []byte) { o.b = b }
func (o *out) Ref(b []byte) { o.b = append(o.b, b...) }

func TestInflow(t *testing.T) {
	var f Inflow
	f.init(2, true)
	if a, err := f.Begin(2, 7); a != Take || err != nil {
		t.Fatalf("first: %v, %v", a, err)
	}
	if a, _ := f.Begin(2, 7); a != Wait {
		t.Fatalf("repeated while being accepted: %v, want Wait", a)
	}
	var o out
	f.Accepted(2, 7, mqtt.Success, mqtt.V5, &o)
	if a, _ := f.Begin(2, 7); a != Repeat {
		t.Fatalf("repeated after PUBREC: %v, want Repeat", a)
	}
	if a, err := f.Begin(1, 8); a != Take || err != nil {
		t.Fatalf("second: %v, %v", a, err)
	}
	if _, err := f.Begin(1, 9); err == nil || err.Code != mqtt.ReceiveMaximumExceeded {
		t.Fatalf("third of two: %v, want 0x93", err)
	}
	if !f.Release(7) || f.Release(7) {
		t.Fatal("an identifier is released once")
	}
	if _, err := f.Begin(2, 9); err != nil {
		t.Fatalf("after a release: %v", err)
	}
	f.Accepted(2, 9, mqtt.QuotaExceeded, mqtt.V5, &o)
	if a, err := f.Begin(2, 9); a != Take || err != nil {
		t.Fatalf("a refused identifier is free [MQTT-4.3.3-9]: %v, %v", a, err)
	}
}

func TestIdentifierSetAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s idSet
		want := map[uint16]bool{}
		for range rapid.IntRange(1, 600).Draw(t, "steps") {
			id := uint16(rapid.IntRange(1, 300).Draw(t, "id"))
			if rapid.IntRange(0, 2).Draw(t, "op") > 0 {
				s.add(id)
				want[id] = true
			} else if s.remove(id) != want[id] {
				t.Fatalf("remove %d", id)
			} else {
				delete(want, id)
			}
			if s.n != len(want) || len(s.all()) != len(want) || s.has(id) != want[id] {
				t.Fatalf("%d identifiers, want %d", s.n, len(want))
			}
		}
	})
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[int]
		var want []int
		for i := range rapid.IntRange(1, 300).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "push") {
				q.Push(Delivery[int]{Message: &mqtt.Message{Payload: make([]byte, i)}, Tag: i})
				want = append(want, i)
			} else if d, ok := q.Pop(); ok != (len(want) > 0) || ok && d.Tag != want[0] {
				t.Fatalf("popped %v, %v", d.Tag, ok)
			} else if ok {
				want = want[1:]
			}
			bytes := 0
			for _, w := range want {
				bytes += w
			}
			if q.Len() != len(want) || q.Bytes() != bytes {
				t.Fatalf("%d of %d bytes, want %d of %d", q.Len(), q.Bytes(), len(want), bytes)
			}
		}
	})
}
