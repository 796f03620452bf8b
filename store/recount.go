// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// recount makes the state agree with itself after something was lost: messages that nothing refers to go, and so does what
// refers to messages that are gone; references are counted anew. It goes through all rows.
func (d *disk) recount() error {
	if err := d.checkpointNow(); err != nil { // so that all messages are rows
		return err
	}
	m := d.machine
	refs := m.references()
	if d.fault != nil {
		return unsound{d.fault}
	}
	lost, err := d.matchBodies(refs)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		d.notice(Notice{Kind: Damaged, File: stateDir, Text: fmt.Sprintf("%d messages are lost; the first: position %d", len(lost), lost[0].Position)})
		for _, ref := range lost {
			delete(refs, ref)
		}
		m.forgetMessages(func(ref Ref) bool { _, ok := refs[ref]; return !ok })
	}
	if m.count(refs); d.fault != nil {
		return unsound{d.fault}
	}
	return d.checkpointNow()
}

// reference is what rows say of a message.
type reference struct {
	count uint64
	size  int64
}

// references gathers what rows refer to.
func (m *machine) references() map[Ref]reference {
	refs := map[Ref]reference{}
	add := func(ref Ref, size int64) {
		r := refs[ref]
		refs[ref] = reference{r.count + 1, size}
	}
	for _, f := range m.filtersByID {
		for _, q := range f.queues {
			from, to := m.keys.queue(q.group, f.id, q.firstPos, q.lastPos)
			m.rows.Scan(bytes.Clone(from), bytes.Clone(to), func(key, value []byte) bool {
				e := mustQueued(key, value)
				add(Ref{q.group, e.pos}, e.size)
				return true
			})
		}
	}
	for _, s := range m.byID {
		for _, h := range s.window {
			if h.State == Sent && h.Ref != (Ref{}) {
				add(h.Ref, h.size)
			}
		}
	}
	for g := range m.groups {
		from, to := m.keys.all(uint16(g), kindRetained)
		m.rows.Scan(bytes.Clone(from), bytes.Clone(to), func(_, value []byte) bool {
			if r, err := decodeRetained(uint16(g), value); err == nil {
				add(r.ref(), int64(r.size))
			}
			return true
		})
	}
	return refs
}

// matchBodies removes the messages that nothing refers to, and returns the references without message, in order.
func (d *disk) matchBodies(refs map[Ref]reference) (lost []Ref, err error) {
	there := make(map[Ref]struct{}, len(refs))
	var orphans [][]byte
	var k keys
	for g := range d.machine.groups {
		from, to := k.all(uint16(g), kindBody)
		err := d.over.scan(bytes.Clone(from), bytes.Clone(to), func(key, value []byte) bool {
			ref := Ref{uint16(g), Position(keyNumber(key))}
			_, wanted := refs[ref]
			if _, err := decodeBody(value); wanted && err == nil {
				there[ref] = struct{}{}
			} else {
				orphans = append(orphans, bytes.Clone(key))
			}
			return true
		})
		if err != nil {
			return nil, unsound{err}
		}
	}
	for _, key := range orphans {
		d.over.Delete(key)
	}
	for ref := range refs {
		if _, ok := there[ref]; !ok && !ref.Position.volatile() {
			lost = append(lost, ref)
		}
	}
	slices.SortFunc(lost, func(a, b Ref) int { return cmp.Compare(a.Position, b.Position) })
	return lost, nil
}

// count writes reference counts and totals as they are.
func (m *machine) count(refs map[Ref]reference) {
	for g := range m.groups {
		var keys [][]byte
		from, to := m.keys.all(uint16(g), kindRefs)
		m.rows.Scan(bytes.Clone(from), bytes.Clone(to), func(key, _ []byte) bool {
			keys = append(keys, bytes.Clone(key))
			return true
		})
		for _, key := range keys {
			m.rows.Delete(key)
		}
	}
	m.shared, m.stats.Messages, m.stats.MessageBytes = 0, 0, 0
	for ref, r := range refs {
		m.stats.Messages++
		m.stats.MessageBytes += r.size
		if r.count > 1 {
			m.setRefs(ref, 1, r.count)
		}
	}
}
