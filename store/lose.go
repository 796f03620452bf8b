// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"slices"
)

// lose gives up messages that cannot be read any more: a part of the disk is damaged. Each reader that meets one gives it up
// for itself. As with expire, no owner is needed.
type lose struct {
	Session  SessionID // the reader, from its own queue and its window, or
	Share    string    // a shared subscription, or
	Retained string    // a topic name
	Refs     []Ref

	Err error
}

func (l *lose) apply(m *machine) {
	for _, ref := range l.Refs {
		switch {
		case l.Retained != "":
			if r, ok := m.retained.Get(l.Retained); ok && r.ref() == ref {
				m.drop(Dropped{Cause: Unreadable, Ref: ref, Topic: l.Retained, Size: int64(r.size)}, nil)
				m.unretain(l.Retained)
			}
		case l.Share != "":
			if m.ackShared(l.Share, ref) {
				m.drop(Dropped{Cause: Unreadable, Filter: l.Share, Readers: 1, Ref: ref}, nil)
			}
		default:
			if s := m.byID[l.Session]; s != nil {
				m.loseOf(s, ref)
			}
		}
	}
}

// loseOf takes a message from a session's queue and window.
func (m *machine) loseOf(s *session, ref Ref) {
	d := Dropped{Cause: Unreadable, Filter: m.filterOf(s, ref), ClientID: s.clientID, Readers: 1, Ref: ref}
	m.refs = append(m.refs[:0], ref)
	had := m.ack(s, m.refs) > 0
	for _, h := range m.windowOf(s) {
		if h.State != Sent || h.Ref != ref {
			continue
		}
		if had = true; h.Share != "" {
			d.Filter = h.Share
			m.ackShared(h.Share, ref)
		}
		m.unhold(s, h)
	}
	if had {
		m.drop(d, nil)
	}
}

// unreadable is a message of a session that could not be read.
type unreadable struct {
	session SessionID
	client  string
	ref     Ref
	err     error
}

// giveUp tells of messages that could not be read, and proposes to give them up.
func (e *engine) giveUp(of string, l *lose, err error) {
	if len(l.Refs) == 0 {
		return
	}
	if e.disk != nil {
		for _, ref := range l.Refs {
			e.disk.unreadable(of, ref, err)
		}
	}
	l.Refs = slices.Clone(l.Refs)
	e.submit(l)
}

// giveUpFound does it for what commands met.
func (e *engine) giveUpFound() {
	found := e.machine.unreadable // the committer's own
	e.machine.unreadable = nil
	for _, u := range found {
		e.giveUp(fmt.Sprintf("client %q", u.client), &lose{Session: u.session, Refs: []Ref{u.ref}}, u.err)
	}
}

// unreadable tells, once, of a message that cannot be read.
func (d *disk) unreadable(of string, ref Ref, err error) {
	if d.suspect.add(fmt.Sprintf("%v of %s", ref, of)) {
		d.notice(Notice{Kind: Damaged, File: stateDir, Err: err,
			Text: fmt.Sprintf("the message at position %d of group %d, for %s, cannot be read and is given up", ref.Position, ref.Group, of)})
	}
}

func (l *lose) kind() kind     { return kindLoseCommand }
func (l *lose) reset()         { l.Err = nil }
func (l *lose) fail(err error) { l.Err = err }
func (l *lose) failed() bool   { return l.Err != nil }
func (l *lose) finish()        {}
func (l *lose) weight() int64  { return 0 }

func (l *lose) append(dst []byte) []byte {
	dst = appendString(appendUint(dst, uint64(l.Session)), l.Share)
	return appendRefs(appendString(dst, l.Retained), l.Refs)
}

func (l *lose) decode(d *decoder) {
	l.Session, l.Share, l.Retained, l.Refs = SessionID(d.uint()), d.string(), d.string(), d.refs()
}
