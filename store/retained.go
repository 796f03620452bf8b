// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/topic"
)

// retained is the mirror of a retained message's row, apart from its topic: that is the name in the tree. There may be
// many millions, so it is small and has no pointer.
type retained struct {
	position Position
	expiry   int64 // Unix nanoseconds, 0 = never
	size     uint32
	group    uint16
}

func (r retained) ref() Ref { return Ref{r.group, r.position} }

// due is the first nanosecond at which the message has expired, 0 if it never does.
func (r retained) due() int64 {
	if r.expiry == 0 || r.expiry == math.MaxInt64 {
		return 0
	}
	return max(r.expiry, 0) + 1
}

// retainable checks the limits for a message with the RETAIN flag.
func (m *machine) retainable(msg *mqtt.Message) error {
	if len(msg.Payload) == 0 {
		return nil
	}
	n, size := m.stats.Retained, m.stats.RetainedBytes+messageSize(msg)
	if old, ok := m.retained.Get(msg.Topic); ok {
		size -= int64(old.size)
	} else {
		n++
	}
	l := &m.limits
	if l.MaxRetained > 0 && n > l.MaxRetained && n > m.stats.Retained ||
		l.MaxRetainedBytes > 0 && size > l.MaxRetainedBytes ||
		l.MaxRetainedPerWrite > 0 && len(msg.Payload) > l.MaxRetainedPerWrite ||
		messageSize(msg) > math.MaxUint32 { // no packet is so long
		return ErrFull
	}
	return nil
}

// retain makes a stored message the retained one of its topic.
func (m *machine) retain(ref Ref, msg *mqtt.Message, size int64) {
	r := retained{position: ref.Position, expiry: msg.Expiry, size: uint32(size), group: ref.Group}
	old, had := m.retained.Set(msg.Topic, r)
	if had {
		m.giveUp(msg.Topic, old)
	}
	m.holdRetained(msg.Topic, r)
	v := appendUint(append(m.value[:0], rowVersion), uint64(ref.Position))
	m.value = appendInt(appendInt(v, size), r.expiry)
	m.rows.Set(m.keys.name(ref.Group, kindRetained, msg.Topic), m.value)
}

// unretain removes the retained message of a topic, if there is one.
func (m *machine) unretain(name string) {
	if old, had := m.retained.Delete(name); had {
		m.rows.Delete(m.keys.name(old.group, kindRetained, name))
		m.giveUp(name, old)
	}
}

// holdRetained counts a message that the tree has now, and awaits its expiry.
func (m *machine) holdRetained(name string, r retained) {
	m.stats.Retained++
	m.stats.RetainedBytes += int64(r.size)
	m.expiries.add(r.due(), name)
}

// giveUp is the opposite, for one that the tree has no more.
func (m *machine) giveUp(name string, r retained) {
	m.stats.Retained--
	m.stats.RetainedBytes -= int64(r.size)
	m.expiries.remove(r.due(), name)
	m.release(r.ref(), int64(r.size))
}

func (m *machine) loadRetained(group uint16) error {
	return m.each(group, kindRetained, 1, func(key, value []byte) error {
		r, err := decodeRetained(group, value)
		if err != nil {
			return err
		}
		name := keyName(key)
		m.retained.Set(name, r)
		m.holdRetained(name, r)
		return nil
	})
}

func decodeRetained(group uint16, value []byte) (retained, error) {
	d := rowDecoder(value)
	position, size, expiry := d.uint(), d.int(), d.int()
	if size < 0 || size > math.MaxUint32 {
		d.fault()
	}
	return retained{Position(position), expiry, uint32(size), group}, d.end()
}

// expiries are the times at which retained messages expire, in order of time and topic. Most retained messages have
// none, and are not here.
type expiries struct {
	tree  *topic.Tree[struct{}] // by due in dueLen bytes, and topic
	first int64                 // 0 if there is none
	key   []byte
}

// dueLen is how many bytes a time has in expiries: seven bits in each, and one that is set in all, so that they have the
// order of the times in a tree too, where a slash would come first.
const dueLen = 9

func (e *expiries) entry(due int64, name string) string {
	e.key = e.key[:0]
	for shift := 7 * (dueLen - 1); shift >= 0; shift -= 7 {
		e.key = append(e.key, 0x80|byte(due>>shift))
	}
	e.key = append(e.key, name...)
	return string(e.key)
}

// add notes the expiry of a topic's message; 0 is none.
func (e *expiries) add(due int64, name string) {
	if due == 0 {
		return
	}
	if e.first == 0 || due < e.first {
		e.first = due
	}
	e.tree.Set(e.entry(due, name), struct{}{})
}

func (e *expiries) remove(due int64, name string) {
	if due == 0 {
		return
	}
	e.tree.Delete(e.entry(due, name))
	if due == e.first {
		e.first, _ = e.next()
	}
}

// next is the earliest expiry and its topic; the time is 0 if there is none.
func (e *expiries) next() (due int64, name string) {
	key, _, ok := e.tree.First()
	if !ok {
		return 0, ""
	}
	for i := range dueLen {
		due = due<<7 | int64(key[i]&0x7F)
	}
	return due, key[dueLen:]
}
