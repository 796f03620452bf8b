// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

// Contents are counts of what is kept at one position.
type Contents struct {
	Sessions      int   `json:"sessions"`
	Subscriptions int   `json:"subscriptions"`
	Filters       int   `json:"filters"` // with a queue
	Messages      int64 `json:"messages"`
	MessageBytes  int64 `json:"message_bytes"`
	Retained      int   `json:"retained"`
	RetainedBytes int64 `json:"retained_bytes"`
	Wills         int   `json:"wills"`    // of sessions, and those that are due and not published
	Inflight      int   `json:"inflight"` // entries of sessions' stored windows
}

func (m *machine) contents() Contents {
	c := Contents{
		Sessions:      m.stats.Sessions,
		Subscriptions: m.stats.Subscriptions,
		Filters:       len(m.filters),
		Messages:      m.stats.Messages,
		MessageBytes:  m.stats.MessageBytes,
		Retained:      m.stats.Retained,
		RetainedBytes: m.stats.RetainedBytes,
	}
	for _, s := range m.byID {
		if s.will != nil {
			c.Wills++
		}
		c.Inflight += len(s.window)
	}
	for _, due := range m.dueWills {
		c.Wills += len(due)
	}
	return c
}

// count counts a row, where there is no machine.
func (c *Contents) count(kind byte, value []byte) {
	switch kind {
	case kindSession:
		c.Sessions++
	case kindSub:
		c.Subscriptions++
	case kindFilter:
		c.Filters++
	case kindBody:
		if m, err := decodeBody(value); err == nil {
			c.Messages++
			c.MessageBytes += messageSize(m)
		}
	case kindRetained:
		if r, err := decodeRetained(0, value); err == nil {
			c.Retained++
			c.RetainedBytes += int64(r.size)
		}
	case kindWill, kindDue:
		c.Wills++
	case kindWindow:
		c.Inflight++
	}
}
