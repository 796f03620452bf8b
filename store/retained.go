// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"
	"strings"

	"github.com/noctule/noctule/mqtt"
)

// retained is the mirror of a retained message's row.
type retained struct {
	name   string
	ref    Ref
	size   int64
	expiry int64 // Unix nanoseconds, 0 = never
	timer  timer
}

// due is the first nanosecond at which the message has expired, 0 if it never does.
func (r *retained) due() int64 {
	if r.expiry == 0 || r.expiry == math.MaxInt64 {
		return 0
	}
	return r.expiry + 1
}

// retainable checks the limits for a message with the RETAIN flag.
func (m *machine) retainable(msg *mqtt.Message) error {
	if len(msg.Payload) == 0 {
		return nil
	}
	n, size := m.stats.Retained, m.stats.RetainedBytes+messageSize(msg)
	if old, ok := m.retained.Get(msg.Topic); ok {
		size -= old.size
	} else {
		n++
	}
	l := &m.limits
	if l.MaxRetained > 0 && n > l.MaxRetained && n > m.stats.Retained ||
		l.MaxRetainedBytes > 0 && size > l.MaxRetainedBytes ||
		l.MaxRetainedPerWrite > 0 && len(msg.Payload) > l.MaxRetainedPerWrite {
		return ErrFull
	}
	return nil
}

// retain makes a stored message the retained one of its topic.
func (m *machine) retain(ref Ref, msg *mqtt.Message, size int64) {
	r, ok := m.retained.Get(msg.Topic)
	if ok {
		m.stats.RetainedBytes -= r.size
		m.release(r.ref, r.size)
	} else {
		r = &retained{name: strings.Clone(msg.Topic)} // the message's own shares memory with its payload
		r.timer = timer{retained: r, place: -1}
		m.retained.Set(r.name, r)
		m.stats.Retained++
	}
	r.ref, r.size, r.expiry = ref, size, msg.Expiry
	m.stats.RetainedBytes += size
	m.timers.set(&r.timer, r.due())
	v := appendUint(append(m.value[:0], rowVersion), uint64(ref.Position))
	m.value = appendInt(appendInt(v, size), r.expiry)
	m.rows.Set(m.keys.name(ref.Group, kindRetained, r.name), m.value)
}

func decodeRetained(group uint16, key, value []byte) (*retained, error) {
	d := rowDecoder(value)
	r := &retained{name: keyName(key), ref: Ref{group, Position(d.uint())}, size: d.int(), expiry: d.int()}
	r.timer = timer{retained: r, place: -1}
	return r, d.end()
}

// unretain removes a retained message.
func (m *machine) unretain(r *retained) {
	m.retained.Delete(r.name)
	m.timers.remove(&r.timer)
	m.rows.Delete(m.keys.name(r.ref.Group, kindRetained, r.name))
	m.stats.Retained--
	m.stats.RetainedBytes -= r.size
	m.release(r.ref, r.size)
}
