// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/noctule/noctule/mqtt"
)

// inventor makes up commands, most of them sensible. It learns owners and positions from the results.
type inventor struct {
	rand   *rand.Rand
	now    int64
	owners []Owner
	refs   []Ref
	dues   []SessionID
}

func newInventor(seed uint64) *inventor {
	return &inventor{rand: rand.New(rand.NewPCG(seed, 1)), now: 1e9}
}

var (
	someFilters = []string{"a", "b", "a/b", "a/+", "#", "+/b", "$share/g/a", "$share/g/#", "$share/h/+/b", "c/1", "c/+"}
	someTopics  = []string{"a", "b", "a/b", "a/c", "c/1", "c/2", "d"}
)

func pick[T any](v *inventor, list []T) (t T) {
	if len(list) > 0 {
		t = list[v.rand.IntN(len(list))]
	}
	return t
}

func (v *inventor) owner() Owner {
	o := pick(v, v.owners[max(0, len(v.owners)-6):])
	if v.rand.IntN(30) == 0 {
		o.Epoch-- // of a claim before; one that is not made yet, nobody can have
	}
	return o
}

func (v *inventor) message() *mqtt.Message {
	m := &mqtt.Message{
		Topic:    pick(v, someTopics),
		Payload:  make([]byte, v.rand.IntN(20)),
		QoS:      mqtt.QoS(v.rand.IntN(3)),
		Retain:   v.rand.IntN(4) == 0,
		Received: v.now,
		ClientID: "p",
	}
	if v.rand.IntN(4) == 0 {
		m.Expiry = v.now + int64(v.rand.IntN(20))*1e9
	}
	if v.rand.IntN(4) == 0 {
		m.Properties = mqtt.AppendPropUser(nil, "k", "v")
	}
	return m
}

func (v *inventor) some(list []Ref) (refs []Ref) {
	list = list[max(0, len(list)-40):]
	for range v.rand.IntN(6) {
		refs = append(refs, pick(v, list))
	}
	return refs
}

func (v *inventor) window() (entries []Inflight) {
	for range v.rand.IntN(4) {
		e := Inflight{
			ID:          uint16(1 + v.rand.IntN(6)),
			QoS:         mqtt.QoS(1 + v.rand.IntN(2)),
			State:       SendState(v.rand.IntN(2)),
			Identifiers: []uint32{uint32(v.rand.IntN(9))},
		}
		switch v.rand.IntN(3) {
		case 0:
			e.Message = v.message()
		case 1:
			e.Share = pick(v, someFilters[6:9])
			e.Ref = pick(v, v.refs[max(0, len(v.refs)-40):])
		default:
			e.Ref = pick(v, v.refs[max(0, len(v.refs)-40):])
		}
		if !slices.ContainsFunc(entries, func(o Inflight) bool { return o.ID == e.ID }) {
			entries = append(entries, e)
		}
	}
	return entries
}

func (v *inventor) shared() (list []Shared) {
	for range v.rand.IntN(3) {
		list = append(list, Shared{pick(v, someFilters[6:9]), pick(v, v.refs[max(0, len(v.refs)-40):])})
	}
	return list
}

func (v *inventor) subscriptions() (subs []Subscription) {
	for range 1 + v.rand.IntN(3) {
		subs = append(subs, Subscription{Filter: pick(v, someFilters), QoS: mqtt.QoS(v.rand.IntN(3)), Identifier: 7})
	}
	return subs
}

func (v *inventor) next() command {
	v.now += int64(v.rand.IntN(3)) * 1e9
	client := fmt.Sprint("c", v.rand.IntN(5))
	switch n := v.rand.IntN(100); {
	case n < 8:
		c := &Claim{ClientID: client, Username: "u", CleanStart: v.rand.IntN(4) == 0, Expiry: uint32(v.rand.IntN(30)), Now: v.now}
		if v.rand.IntN(10) == 0 {
			c.Username = "other"
		}
		if v.rand.IntN(2) == 0 {
			c.Will = &Will{Message: v.message(), Delay: uint32(v.rand.IntN(10))}
		}
		return c
	case n < 10:
		return &Drop{ClientID: client, Username: "u", AnyUser: v.rand.IntN(2) == 0, Now: v.now}
	case n < 16:
		return &Detach{Owner: v.owner(), Expiry: uint32(v.rand.IntN(30)), KeepWill: v.rand.IntN(2) == 0, Window: v.window(),
			Acked: v.some(v.refs), AckedShare: v.shared(), NextID: uint16(v.rand.IntN(9)), Now: v.now}
	case n < 26:
		return &Subscribe{Owner: v.owner(), Subscriptions: v.subscriptions()}
	case n < 30:
		return &Unsubscribe{Owner: v.owner(), Filters: []string{pick(v, someFilters), pick(v, someFilters)}}
	case n < 66:
		p := &Publish{Message: v.message()}
		switch v.rand.IntN(6) {
		case 0:
			p.Publisher, p.PacketID, p.IdentifierOnly = v.owner(), uint16(1+v.rand.IntN(4)), v.rand.IntN(4) == 0
		case 1:
			p.WillOf = pick(v, v.dues)
		}
		return p
	case n < 70:
		return &Release{Owner: v.owner(), PacketID: uint16(1 + v.rand.IntN(4))}
	case n < 76:
		return &Window{Owner: v.owner(), Entries: v.window(), NextID: uint16(v.rand.IntN(9))}
	case n < 94:
		return &Ack{Owner: v.owner(), Refs: v.some(v.refs), Share: v.shared(), IDs: []uint16{uint16(v.rand.IntN(7))}}
	case n < 97:
		return &expire{Session: v.owner().ID, Share: pick(v, []string{"", "", "$share/g/#"}), Refs: v.some(v.refs)}
	case n < 98 && v.rand.IntN(8) == 0:
		return &recovery{Now: v.now}
	}
	return &Tick{Now: v.now}
}

// learn looks at the results of a command.
func (v *inventor) learn(c command) {
	switch c := c.(type) {
	case *Claim:
		if c.Err == nil {
			v.owners = append(v.owners, c.Owner)
		}
		for _, w := range c.Wills {
			v.dues = append(v.dues, w.ID)
		}
	case *Tick:
		for _, w := range c.Wills {
			v.dues = append(v.dues, w.ID)
		}
	case *Publish:
		if c.Matched {
			v.refs = append(v.refs, c.Ref)
		}
	}
}

func testMachine(limits Limits) *machine { return newMachine(&sortedRows{}, memoryBodies{}, limits, 4) }

func testLimits(seed uint64) Limits {
	return []Limits{{}, {MaxQueueMessages: 5, MaxRetained: 3}, {MaxQueueBytes: 60, MaxSessions: 3}}[seed%3]
}

// again is a command as it comes out of the log.
func again(t testing.TB, c command) command {
	d, err := decodeRecord(appendRecord(nil, c))
	if err != nil {
		t.Fatalf("%T: %v", c, err)
	}
	return d
}

func TestSameLogGivesSameState(t *testing.T) {
	for seed := range uint64(40) {
		v := newInventor(seed)
		one, two := testMachine(testLimits(seed)), testMachine(testLimits(seed))
		for at := Position(1); at <= 1500; at++ {
			c := v.next()
			d := again(t, c)
			one.apply(at, c)
			two.apply(at, d)
			v.learn(c)
			if at%50 == 0 && one.hash() != two.hash() {
				t.Fatalf("seed %d: state differs after %d commands", seed, at)
			}
		}
	}
}

func TestLoadRebuildsTheMachine(t *testing.T) {
	for seed := range uint64(40) {
		v := newInventor(seed)
		one, two := testMachine(testLimits(seed)), testMachine(testLimits(seed))
		for at := Position(1); at <= 1500; at++ {
			c := v.next()
			d := again(t, c)
			one.apply(at, c)
			two.apply(at, d)
			v.learn(c)
			if fmt.Sprint(c.failed()) != fmt.Sprint(d.failed()) {
				t.Fatalf("seed %d: command %d: %+v and %+v", seed, at, c, d)
			}
			if at%5 != 0 {
				continue
			}
			if err := one.inconsistency(); err != nil {
				t.Fatalf("seed %d: after %d (%T %+v): %v", seed, at, c, c, err)
			}
			if at%95 == 0 { // the second is loaded anew
				if one.hash() != two.hash() {
					t.Fatalf("seed %d: state differs after %d commands", seed, at)
				}
				loaded := newMachine(two.rows, two.bodies, two.limits, two.groups)
				if err := loaded.load(); err != nil {
					t.Fatal(err)
				}
				two = loaded
			}
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	for seed := range uint64(40) {
		v := newInventor(seed)
		m := testMachine(testLimits(seed))
		at := Position(1)
		for ; at <= 1500; at++ {
			c := v.next()
			m.apply(at, c)
			v.learn(c)
			if int64(len(m.bodies.(memoryBodies))) != m.stats.Messages {
				t.Fatalf("seed %d: %d messages, %d counted", seed, len(m.bodies.(memoryBodies)), m.stats.Messages)
			}
		}
		for c := range 5 {
			m.apply(at, &Drop{ClientID: fmt.Sprint("c", c), AnyUser: true, Now: v.now})
			at++
		}
		for _, name := range someTopics {
			m.apply(at, &Publish{Message: &mqtt.Message{Topic: name, Retain: true}})
			at++
		}
		for _, id := range v.dues {
			m.apply(at, &Publish{WillOf: id, Message: &mqtt.Message{Topic: "x"}})
			at++
		}
		for len(m.dueWills) > 0 {
			tick := &Tick{Now: v.now + 1e12}
			m.apply(at, tick)
			at++
			for id := range m.dueWills {
				m.apply(at, &Publish{WillOf: id, Message: &mqtt.Message{Topic: "x"}})
				at++
			}
		}
		if m.stats.Messages != 0 || m.stats.MessageBytes != 0 || m.stats.Retained != 0 || m.stats.RetainedBytes != 0 ||
			m.stats.Subscriptions != 0 || m.stats.Sessions != 0 || m.stats.Attached != 0 || m.shared != 0 || m.index.Len() != 0 {
			t.Fatalf("seed %d: %+v, %d shared, %d in the index", seed, m.stats, m.shared, m.index.Len())
		}
		from, to := allRows()
		m.rows.Scan(from, to, func(key, value []byte) bool {
			if key[2] != kindMeta {
				t.Fatalf("seed %d: row %q left", seed, key)
			}
			return true
		})
	}
}

// inconsistency finds out whether mirrors and rows agree, for tests: it names the first difference between this machine
// and one that load makes of the same rows.
func (m *machine) inconsistency() error {
	m.flush()
	o := newMachine(m.rows, m.bodies, m.limits, m.groups)
	if err := o.load(); err != nil {
		return err
	}
	if len(o.filters) != len(m.filters) || len(o.byID) != len(m.byID) || len(o.timers) != len(m.timers) ||
		len(o.unhanded) != len(m.unhanded) || o.retained.Len() != m.retained.Len() ||
		o.expiries.tree.Len() != m.expiries.tree.Len() || o.expiries.first != m.expiries.first {
		return fmt.Errorf("%d filters, %d sessions, %d timers, %d wills, %d retained, %d expiries became %d, %d, %d, %d, %d, %d",
			len(m.filters), len(m.byID), len(m.timers), len(m.unhanded), m.retained.Len(), m.expiries.tree.Len(),
			len(o.filters), len(o.byID), len(o.timers), len(o.unhanded), o.retained.Len(), o.expiries.tree.Len())
	}
	for name, f := range m.filters {
		if err := f.differs(o.filters[name]); err != nil {
			return fmt.Errorf("filter %q: %w", name, err)
		}
	}
	return nil
}

func (f *filter) differs(o *filter) error {
	if o == nil || f.id != o.id || f.readers != o.readers || f.count != o.count || f.bytes != o.bytes || len(f.queues) != len(o.queues) {
		return fmt.Errorf("%+v became %+v", f, o)
	}
	for i, q := range f.queues {
		p := o.queues[i]
		if q.readers != p.readers || q.count != p.count || q.bytes != p.bytes || q.first != p.first || q.next != p.next ||
			q.firstPos != p.firstPos || q.lastPos != p.lastPos || len(q.cursors) != len(p.cursors) {
			return fmt.Errorf("queue %+v became %+v", q, p)
		}
		for id, c := range q.cursors {
			d := p.cursors[id]
			if d == nil || c.low != d.low || c.until != d.until || !slices.Equal(c.ahead, d.ahead) {
				return fmt.Errorf("cursor %+v became %+v", c, d)
			}
		}
	}
	return nil
}
