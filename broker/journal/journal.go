// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package journal remembers which messages were dropped: the last ones in memory and, where it has a folder, more of them in a
// file there. Nothing is left out silently: beyond a rate, drops are counted by cause, and the counts are entries.
//
// A Journal may be used from any goroutine. Noting a drop costs a lock and copies short strings; the file is written by one
// goroutine of its own, which Close ends.
package journal

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/noctule/noctule/topic"
)

// Bounds of a journal.
const (
	Most          = 10_000 // entries in memory
	MostPerSecond = 1_000  // entries of one second; what is more is counted
)

// A Drop is a message that somebody does not get, or, with Count above 0 and a cause alone, that many of them.
type Drop struct {
	Seq       uint64    `json:"seq"` // grows by one with each entry
	Time      time.Time `json:"time"`
	Cause     string    `json:"cause"`
	Client    string    `json:"client,omitempty"`    // who misses it; empty if it is nobody in particular
	Readers   int       `json:"readers,omitempty"`   // how many miss it, where it is more than one
	Topic     string    `json:"topic,omitempty"`     // name
	Filter    string    `json:"filter,omitempty"`    // of the queue that it was in, whole
	Ref       string    `json:"ref,omitempty"`       // where it was stored: topic group and position
	QoS       byte      `json:"qos,omitempty"`       // where it is known
	Size      int64     `json:"size,omitempty"`      // bytes of topic, properties and payload
	Publisher string    `json:"publisher,omitempty"` // client identifier
	Count     int64     `json:"count,omitempty"`     // so many drops of this cause are not listed one by one
}

// Options are what a Journal is made of.
type Options struct {
	// Dir is the folder of the file; empty means none.
	Dir string
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Logger is told once that the file cannot be written. Nil discards.
	Logger *slog.Logger
}

// Journal is the memory of what was dropped.
type Journal struct {
	now func() time.Time

	mu      sync.Mutex // guards the following
	ring    []Drop     // grows up to Most, then goes round
	seq     uint64     // of the last entry
	second  int64      // the one that is counted
	noted   int        // entries of that second
	skipped map[string]int64
	file    *file // nil if there is none
	closing sync.Once
}

// New makes a journal.
func New(o Options) *Journal {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	j := &Journal{now: o.Now, skipped: map[string]int64{}}
	if o.Dir != "" {
		j.file = startFile(o.Dir, o.Logger, j.settle)
	}
	return j
}

// Note makes an entry of what describe returns, which is asked only if the entry is not one too many for this second. Time, Cause
// and Seq are filled in. The strings are kept: they must not be parts of longer ones.
func (j *Journal) Note(cause string, describe func() Drop) {
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.turn(now)
	if j.noted >= MostPerSecond {
		j.skipped[cause]++
		j.file.wake()
		return
	}
	j.noted++
	d := describe()
	d.Time, d.Cause = now, cause
	j.put(d)
}

// turn begins a new second, if there is one, with the counts of the one before. mu is held.
func (j *Journal) turn(now time.Time) {
	if now.Unix() == j.second {
		return
	}
	j.second, j.noted = now.Unix(), 0
	for _, cause := range slices.Sorted(maps.Keys(j.skipped)) {
		j.put(Drop{Time: now, Cause: cause, Count: j.skipped[cause]})
	}
	clear(j.skipped)
}

// settle makes entries of counts whose second is over; it says whether counts remain.
func (j *Journal) settle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.turn(j.now())
	return len(j.skipped) > 0
}

// put adds an entry. mu is held.
func (j *Journal) put(d Drop) {
	j.seq++
	d.Seq = j.seq
	if len(j.ring) < Most {
		j.ring = append(j.ring, d)
	} else {
		j.ring[(j.seq-1)%Most] = d
	}
	j.file.add(d)
}

// Query chooses entries. Zero values choose all.
type Query struct {
	Client string    // who misses the message
	Topic  string    // a topic filter that its name matches
	Cause  string    // the word
	Since  time.Time // not before
	After  uint64    // with a greater Seq
	Limit  int       // the last so many; 0 means all
}

// Wants says whether an entry is chosen, Limit aside. A count belongs to no client and no topic.
func (q *Query) Wants(d *Drop) bool {
	return (q.Client == "" || q.Client == d.Client) && (q.Cause == "" || q.Cause == d.Cause) &&
		(q.Topic == "" || d.Topic != "" && topic.Match(q.Topic, d.Topic)) && !d.Time.Before(q.Since) && (q.After == 0 || d.Seq > q.After)
}

// Drops gives the entries in memory that a query chooses, the oldest first.
func (j *Journal) Drops(q Query) []Drop {
	j.settle()
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Drop
	for i := range j.ring {
		if q.Wants(&j.ring[i]) {
			out = append(out, j.ring[i])
		}
	}
	slices.SortFunc(out, func(a, b Drop) int { return cmp.Compare(a.Seq, b.Seq) })
	return last(out, q.Limit)
}

func last(drops []Drop, limit int) []Drop {
	if limit > 0 && len(drops) > limit {
		return drops[len(drops)-limit:]
	}
	return drops
}

// Close writes what is not written yet, and ends the goroutine. What is noted afterwards is in memory only. It may be called more
// than once.
func (j *Journal) Close() {
	j.closing.Do(func() {
		j.mu.Lock()
		j.second = 0 // whatever it is, it is over
		j.turn(j.now())
		j.mu.Unlock()
		j.file.close()
	})
}
