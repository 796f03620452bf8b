// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "slices"

// strip takes the messages out of window entries that are stored anyway, so that the log does not have them again each time a
// connection ends. The committer calls it before a batch is made safe: nobody else changes the machine meanwhile. In a batch
// with an Unsubscribe, which may take messages out of queues before their window entry is stored, all are left in.
func (e *engine) strip(batch []entry) {
	for _, s := range batch {
		if _, ok := s.command.(*Unsubscribe); ok {
			return
		}
	}
	e.state.RLock() // a checkpoint may end
	defer e.state.RUnlock()
	for _, s := range batch {
		switch c := s.command.(type) {
		case *Window:
			c.Entries = e.machine.strip(c.Owner, c.Entries)
		case *Detach:
			c.Window = e.machine.strip(c.Owner, c.Window)
		}
	}
}

// strip returns the entries without the messages that are stored; the caller's own are not changed.
func (m *machine) strip(o Owner, entries []Inflight) []Inflight {
	s, err := m.owned(o)
	if err != nil {
		return entries
	}
	own := false
	for i := range entries {
		if !m.stored(s, &entries[i]) {
			continue
		}
		if !own {
			entries, own = slices.Clone(entries), true
		}
		entries[i].Message = nil
	}
	return entries
}

// stored says that the message of a window entry is kept without it.
func (m *machine) stored(s *session, e *Inflight) bool {
	if e.Message == nil || e.Ref == (Ref{}) {
		return false
	}
	if h := s.window[e.ID]; h != nil && h.State == Sent && h.Ref == e.Ref {
		return true
	}
	_, ok := m.waiting(s, e.Ref, e.Share)
	return ok
}
