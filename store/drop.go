// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"

	"github.com/noctule/noctule/mqtt"
)

// DropCause says why a message is not delivered.
type DropCause byte

// Causes. The first four are those of queue limits with the policies that drop.
const (
	FilterOldest  DropCause = iota // pushed out of a filter's full queue by a newer one
	FilterNewest                   // did not enter a filter's full queue
	SessionOldest                  // pushed out by a newer one: too much was owed to the session
	SessionNewest                  // too much was owed to the session already
	Rejected                       // refused with ErrFull because a queue was full, or too much was held
	Expired                        // the message's expiry passed while it was queued, or retained
	Unreadable                     // a part of the disk is damaged, and the message was in it
	dropCauses
)

// DropCauses is the number of causes.
const DropCauses = int(dropCauses)

var causes = [...]string{FilterOldest: "filter-oldest", FilterNewest: "filter-newest", SessionOldest: "session-oldest",
	SessionNewest: "session-newest", Rejected: "rejected", Expired: "expired",
	Unreadable: "unreadable"}

// String is the word of the cause, such as filter-oldest.
func (c DropCause) String() string {
	if int(c) < len(causes) {
		return causes[c]
	}
	return fmt.Sprintf("cause %d", byte(c))
}

// Dropped tells of one message that a reader, or several, will not get from its queue.
type Dropped struct {
	Cause     DropCause
	Filter    string // of the queue, whole; "" for a retained message
	ClientID  string // the one reader that misses it; "" if several do, or the members of a shared subscription
	Readers   int    // how many miss it; 1 for a shared subscription, 0 where it was rejected or only retained
	Ref       Ref    // zero if it was never stored
	Topic     string
	Publisher string // client identifier
	Size      int64  // bytes of topic, properties and payload
	Time      int64  // Unix nanoseconds, when it was noticed
}

// MaxDropReports is how many drops of one batch of commands are reported; beyond that they are only counted. It bounds what
// a batch reads to name the topics, too.
const MaxDropReports = 1000

// drops are what the machine reports, until the engine passes it on.
type drops struct {
	tell func(Dropped) // nil = nobody is told
	now  func() int64
	list []Dropped
}

// pass tells of what was collected. The committer calls it, with no lock held.
func (d *drops) pass() {
	if len(d.list) == 0 {
		return
	}
	now := d.now()
	for _, e := range d.list {
		if e.Time == 0 {
			e.Time = now
		}
		d.tell(e)
	}
	clear(d.list)
	d.list = d.list[:0]
}

// reports says whether one more drop is to be reported.
func (d *drops) reports() bool { return d.tell != nil && len(d.list) < MaxDropReports }

// add reports a drop of a message. nil is one that cannot be read.
func (d *drops) add(e Dropped, message *mqtt.Message) {
	if !d.reports() {
		return
	}
	if message != nil {
		e.Topic, e.Publisher, e.Size = message.Topic, message.ClientID, messageSize(message)
	}
	d.list = append(d.list, e)
}

// drop counts a drop, and reports it. The message is looked up if it is not given and still stored.
func (m *machine) drop(e Dropped, message *mqtt.Message) {
	n := int64(max(e.Readers, 1))
	m.stats.Drops[e.Cause] += n
	if e.Cause == Expired {
		m.stats.Expired += n
	} else {
		m.stats.Dropped += n
	}
	if message == nil {
		message = m.reported(e.Ref)
	}
	m.drops.add(e, message)
}

// reported returns a stored message if a drop of it is to be reported, and nil if not or if it cannot be read.
func (m *machine) reported(ref Ref) *mqtt.Message {
	if ref == (Ref{}) || !m.drops.reports() {
		return nil
	}
	message, err := m.bodies.Get(ref)
	if err != nil {
		return nil // the report is made without it
	}
	return message
}

// dropRetained reports that a retained message expired. It is about to be removed.
func (m *machine) dropRetained(name string, now int64) {
	if r, ok := m.retained.Get(name); ok {
		m.drop(Dropped{Cause: Expired, Ref: r.ref(), Topic: name, Size: int64(r.size), Time: now}, nil)
	}
}

// filterOf finds a filter of a session in whose queue a message is.
func (m *machine) filterOf(s *session, ref Ref) string {
	if !m.drops.reports() {
		return ""
	}
	for _, sub := range s.subs {
		if sub.f == nil || sub.f.share {
			continue
		}
		if _, ok := m.sizeIn(sub.f, ref); ok {
			return sub.Filter
		}
	}
	return ""
}

// onlyMember is the client identifier of the one session that reads a filter, "" if there are several.
func (f *filter) onlyMember() string {
	if len(f.members) == 1 {
		return f.members[0].s.clientID
	}
	return ""
}

// onlyReader is the client identifier of the one session that is owed a message of q, "" if there are several.
func (m *machine) onlyReader(q *queue, seq uint64) (clientID string) {
	if !m.drops.reports() {
		return ""
	}
	n := 0
	for _, sub := range q.f.members {
		if c := q.cursors[sub.s.id]; c == nil || c.until == 0 && !c.acked(seq) {
			n, clientID = n+1, sub.s.clientID
		}
		if n > 1 {
			return ""
		}
	}
	for _, c := range q.lowest {
		if c.until != 0 && !c.acked(seq) {
			n, clientID = n+1, c.s.clientID
		}
	}
	if n > 1 {
		return ""
	}
	return clientID
}
