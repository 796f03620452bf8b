// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "bytes"

// recovery is the first command after a store was opened: the connections that had sessions are gone, as on a network
// failure, wills that were handed out may not have been published, what was kept in memory only is gone, and there may be
// other limits than before.
type recovery struct {
	Now    int64
	Limits Limits

	Done func()
	Err  error
}

func (r *recovery) apply(m *machine) {
	if m.volatile {
		m.forgetMessages(func(ref Ref) bool { return ref.Position.volatile() })
		m.volatile = false
	}
	for g := range m.groups {
		var attached []*session
		from, to := m.keys.all(uint16(g), kindSession)
		m.rows.Scan(from, to, func(key, _ []byte) bool {
			if s := m.byClient[keyName(key)]; s != nil && s.attached {
				attached = append(attached, s)
			}
			return true
		})
		for _, s := range attached {
			m.recoverSession(s, r.Now)
		}
	}
	m.recoverWills()
	m.setLimits(r.Limits)
}

func (m *machine) recoverSession(s *session, now int64) {
	if s.expiry == 0 {
		_, due := m.endSession(s, now)
		m.handLater(due)
		return
	}
	m.detach(s, s.expiry, now)
}

// forgetMessages removes what refers to messages that are gone.
func (m *machine) forgetMessages(gone func(Ref) bool) {
	for g := range m.groups {
		group := uint16(g)
		for _, key := range m.referring(group, kindWindow, gone) {
			s := m.byID[SessionID(keyNumber(key))]
			if s == nil {
				continue
			}
			if h := s.window[keyID(key)]; h != nil && h.State == Sent {
				m.unhold(s, h)
			}
		}
		for _, key := range m.referring(group, kindQueue, gone) {
			m.removeRow(group, keyNumber(key), Position(keyNumber2(key)))
		}
		for _, key := range m.referring(group, kindRetained, gone) {
			m.unretain(keyName(key))
		}
	}
}

// referring are the keys of the rows of a kind that refer to messages which are gone.
func (m *machine) referring(group uint16, kind byte, gone func(Ref) bool) (found [][]byte) {
	from, to := m.keys.all(group, kind)
	m.rows.Scan(bytes.Clone(from), bytes.Clone(to), func(key, value []byte) bool {
		if ref, ok := refIn(group, kind, key, value); ok && gone(ref) {
			found = append(found, bytes.Clone(key))
		}
		return true
	})
	return found
}

// refIn is the message that a row refers to.
func refIn(group uint16, kind byte, key, value []byte) (Ref, bool) {
	switch kind {
	case kindQueue:
		return Ref{group, Position(keyNumber2(key))}, true
	case kindWindow:
		h, err := decodeHeld(value)
		return h.Ref, err == nil && h.Ref != (Ref{})
	case kindRetained:
		r, err := decodeRetained(group, value)
		return r.ref(), err == nil
	}
	return Ref{}, false
}

// removeRow removes one row of a queue.
func (m *machine) removeRow(group uint16, fid uint64, at Position) {
	f := m.filtersByID[fid]
	if f == nil {
		return
	}
	if q := f.part(group); q != nil {
		m.scan(q, at, at, 1)
		for _, e := range m.entries {
			q.forgo(0, e)
		}
		m.removeRows(q)
	}
}

func appendLimits(dst []byte, l Limits) []byte {
	dst = appendInt(appendInt(dst, int64(l.MaxQueueMessages)), l.MaxQueueBytes)
	dst = appendInt(appendInt(dst, int64(l.MaxSessionMessages)), l.MaxSessionBytes)
	dst = append(dst, byte(l.Policy))
	dst = appendInt(appendInt(dst, int64(l.MaxRetained)), l.MaxRetainedBytes)
	return appendInt(appendInt(dst, int64(l.MaxSessions)), int64(l.MaxRetainedPerWrite))
}

func (d *decoder) limits() Limits {
	return Limits{
		MaxQueueMessages:    int(d.int()),
		MaxQueueBytes:       d.int(),
		MaxSessionMessages:  int(d.int()),
		MaxSessionBytes:     d.int(),
		Policy:              QueuePolicy(d.byte()),
		MaxRetained:         int(d.int()),
		MaxRetainedBytes:    d.int(),
		MaxSessions:         int(d.int()),
		MaxRetainedPerWrite: int(d.int()),
	}
}
