// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/noctule/noctule/topic"
)

func (e *engine) Groups() int { return e.machine.groups }

func (e *engine) GroupOf(topic string) int { return int(e.machine.topicGroup(topic)) }

func (e *engine) ProposeClaim(c *Claim)             { e.submit(c) }
func (e *engine) ProposeDrop(d *Drop)               { e.submit(d) }
func (e *engine) ProposeDetach(d *Detach)           { e.submit(d) }
func (e *engine) ProposeSubscribe(s *Subscribe)     { e.submit(s) }
func (e *engine) ProposeUnsubscribe(u *Unsubscribe) { e.submit(u) }
func (e *engine) ProposePublish(p *Publish)         { e.submit(p) }
func (e *engine) ProposeRelease(r *Release)         { e.submit(r) }
func (e *engine) ProposeWindow(w *Window)           { e.submit(w) }
func (e *engine) ProposeAck(a *Ack)                 { e.submit(a) }
func (e *engine) ProposeTick(t *Tick)               { e.submit(t) }

func (e *engine) Matches(topic []byte) bool     { return e.machine.index.Any(topic) }
func (e *engine) Has(clientID string) bool      { return e.machine.has(clientID) }
func (e *engine) HasShare(filter string) bool   { return e.machine.hasShare(filter) }
func (e *engine) NextDue() int64                { return e.nextDue.Load() }
func (e *engine) OpenQueue(o Owner) Queue       { return &sessionQueue{e: e, owner: o} }
func (e *engine) OpenShare(filter string) Queue { return &shareQueue{e: e, filter: filter} }

func (e *engine) Pending() (commands int, bytes int64) {
	return int(e.pendingCommands.Load()), e.pendingBytes.Load()
}

// One look at the retained messages passes so many names, and reads so many messages from a disk perhaps, before the
// committer gets a turn.
const (
	retainedSteps  = 4096
	retainedBodies = 16
)

func (e *engine) RetainedPage(filter, after string, most, mostBytes int, now int64, dst []Retained) ([]Retained, bool, error) {
	g := gathering{filter: filter, after: after, most: most, mostBytes: mostBytes, now: now, dst: dst}
	for more := true; more; {
		var err error
		if more, err = e.gather(&g); err != nil {
			return g.dst, false, err
		}
		for _, r := range g.unreadable {
			e.giveUp(fmt.Sprintf("topic %q", r.Name), &lose{Retained: r.Name, Refs: []Ref{r.Value.ref()}}, g.err)
		}
		g.unreadable = g.unreadable[:0]
	}
	return g.dst, g.full, nil
}

// gathering is a RetainedPage on its way.
type gathering struct {
	filter, after   string
	most, mostBytes int
	now             int64
	given           int
	full            bool // there is more than the page takes
	dst             []Retained
	entries         []topic.Entry[retained]
	unreadable      []topic.Entry[retained]
	err             error // why
}

// gather goes on for some steps. It reports whether the page can still grow.
func (e *engine) gather(g *gathering) (more bool, err error) {
	e.state.RLock()
	defer e.state.RUnlock()
	if e.ended {
		return false, ErrClosed
	}
	n := min(g.most-g.given, retainedBodies)
	g.entries, g.after, more = e.machine.retained.Scan(g.filter, g.after, n, retainedSteps, g.entries[:0])
	for _, r := range g.entries {
		if r.Value.expiry != 0 && g.now > r.Value.expiry {
			continue
		}
		message, err := e.machine.bodies.Get(r.Value.ref())
		if err != nil {
			g.unreadable, g.err = append(g.unreadable, r), err
			continue
		}
		if g.full = g.given > 0 && len(message.Payload) > g.mostBytes; g.full {
			return false, nil
		}
		g.mostBytes -= len(message.Payload)
		g.given++
		g.dst = append(g.dst, Retained{Topic: r.Name, Message: message})
	}
	g.full = more && g.given >= g.most
	return more && !g.full, nil
}

func (e *engine) Sessions(after string, most int) ([]SessionInfo, error) {
	e.state.RLock()
	defer e.state.RUnlock()
	if e.ended {
		return nil, ErrClosed
	}
	var list []SessionInfo
	var k keys
	for g := range e.machine.groups {
		n := 0
		from, to := k.names(uint16(g), kindSession, after)
		e.machine.rows.Scan(from, to, func(key, _ []byte) bool {
			if n++; n > most {
				return false
			}
			list = append(list, e.machine.byClient[keyName(key)].info())
			return true
		})
	}
	slices.SortFunc(list, func(a, b SessionInfo) int { return cmp.Compare(a.ClientID, b.ClientID) })
	return list[:min(most, len(list))], nil
}

func (s *session) info() SessionInfo {
	return SessionInfo{
		ClientID:      s.clientID,
		Username:      s.username,
		ID:            s.id,
		Created:       s.created,
		Attached:      s.attached,
		ExpiresAt:     s.expires,
		Subscriptions: len(s.subs),
		Queued:        s.owed().messages,
	}
}

func (e *engine) Stats() Stats {
	e.state.RLock()
	defer e.state.RUnlock()
	s := e.machine.stats
	s.Commits = e.commits.Load()
	if e.disk != nil {
		s.Disk = e.disk.stats()
	}
	e.admission.stats(&s)
	return s
}
