// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// MostListed is how many queues, and how many sessions, an Inventory names.
const MostListed = 10

// Inventory is what a store keeps, and who has most of it.
type Inventory struct {
	Position Position       `json:"position"` // of the last command
	Contents Contents       `json:"contents"`
	Queues   []QueueInfo    `json:"queues"`   // the longest first, at most MostListed
	Sessions []SessionUsage `json:"sessions"` // those with most messages first, at most MostListed
}

// QueueInfo is the queue of one filter, which all persistent sessions with that filter share.
type QueueInfo struct {
	Filter   string `json:"filter"` // whole, with $share and share name
	Messages int    `json:"messages"`
	Bytes    int64  `json:"bytes"`
	Readers  int    `json:"readers"` // sessions; for a shared subscription, its members
}

// SessionUsage is how much one session has.
type SessionUsage struct {
	ClientID      string `json:"client_id"`
	Attached      bool   `json:"attached"`
	Subscriptions int    `json:"subscriptions"`
	Messages      int64  `json:"messages"` // that it is owed; where filters overlap, more than it will get
	Bytes         int64  `json:"bytes"`
	Inflight      int    `json:"inflight"` // in its stored window
}

// inventory counts. It goes through all sessions and filters, but no messages.
func (m *machine) inventory() Inventory {
	i := Inventory{Position: m.applied, Contents: m.contents(), Queues: []QueueInfo{}, Sessions: []SessionUsage{}}
	queues := top[QueueInfo]{worse: func(a, b QueueInfo) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Filter, b.Filter))
	}}
	for _, f := range m.filters {
		queues.add(QueueInfo{f.name, f.count, f.bytes, f.readers})
	}
	sessions := top[SessionUsage]{worse: func(a, b SessionUsage) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(b.Inflight, a.Inflight),
			cmp.Compare(b.Subscriptions, a.Subscriptions), strings.Compare(a.ClientID, b.ClientID))
	}}
	for _, s := range m.byID {
		owed := s.owed()
		sessions.add(SessionUsage{s.clientID, s.attached, len(s.subs), owed.messages, owed.bytes, len(s.window)})
	}
	i.Queues = append(i.Queues, queues.list...)
	i.Sessions = append(i.Sessions, sessions.list...)
	return i
}

// top keeps the MostListed best of what is added, best first.
type top[T any] struct {
	worse func(a, b T) int // positive: a is behind b
	list  []T
}

func (t *top[T]) add(x T) {
	at, _ := slices.BinarySearchFunc(t.list, x, t.worse)
	if at == MostListed {
		return
	}
	t.list = slices.Insert(t.list, at, x)
	t.list = t.list[:min(len(t.list), MostListed)]
}

// Inspector is a Store that can say what it keeps. Both engines are one.
type Inspector interface {
	// Inventory goes through all sessions and filters, a microsecond or so for each, and holds up commands meanwhile, but not other reads.
	Inventory() (Inventory, error)
}

var _ Inspector = (*engine)(nil)

// Inventory implements Inspector.
func (e *engine) Inventory() (Inventory, error) {
	e.state.RLock()
	defer e.state.RUnlock()
	if e.ended {
		return Inventory{}, ErrClosed
	}
	return e.machine.inventory(), nil
}

// KindUsage is how much of the state rows of one kind take.
type KindUsage struct {
	Kind  string `json:"kind"` // such as session, or message
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"` // of keys and values, before compression
}

// StatReport is what a data folder holds.
type StatReport struct {
	Format int `json:"format"`
	Groups int `json:"groups"`
	// Checkpoint is the position up to which the state has everything; the log has what came after.
	Checkpoint Position    `json:"checkpoint"`
	LogRecords int         `json:"log_records"` // behind the checkpoint
	LogBytes   int64       `json:"log_bytes"`   // of the files, with those kept to be written again
	StateBytes int64       `json:"state_bytes"` // of the files
	AsideBytes int64       `json:"aside_bytes"` // of what is in the folder "damaged"
	Kinds      []KindUsage `json:"kinds"`       // of the state, as of the checkpoint
	Inventory
}

// Stat says what is in a data folder that no broker has open (ErrInUse), and changes nothing there. It reads all of the state. A damaged
// folder is refused (ErrDamaged): Verify says more. ErrNoStore: there is none in it.
func Stat(dir string, fs vfs.FS) (StatReport, error) {
	f, err := openFolder(fs, dir, nil)
	if err != nil {
		return StatReport{}, fmt.Errorf("store: %s: %w", dir, err)
	}
	defer f.close()
	r, err := f.stat()
	if err != nil {
		return StatReport{}, fmt.Errorf("store: %s: %w", dir, err)
	}
	return r, nil
}

func (f *folder) stat() (r StatReport, err error) {
	if err := f.sound(); err != nil {
		return r, err
	}
	if err := f.settle(); err != nil {
		return r, err
	}
	r = StatReport{
		Format: formatVersion, Groups: f.groups, Checkpoint: f.checkpoint, LogRecords: f.log.Records,
		LogBytes: f.size(logDir), StateBytes: f.size(f.state), AsideBytes: f.size(damagedDir),
		Inventory: f.machine.inventory(),
	}
	r.Kinds, err = f.kinds()
	return r, err
}

// kinds adds up the rows of the state by kind, the largest first.
func (f *folder) kinds() ([]KindUsage, error) {
	iter, err := f.db.NewIter(&pebble.IterOptions{})
	if err != nil {
		return nil, err
	}
	defer iter.Close()
	var by [256]KindUsage
	for ok := iter.First(); ok; ok = iter.Next() {
		if key := iter.Key(); len(key) >= prefixLen {
			by[key[2]].Rows++
			by[key[2]].Bytes += int64(len(key) + len(iter.Value()))
		}
	}
	list := []KindUsage{}
	for kind, u := range by {
		if u.Rows > 0 {
			u.Kind = cmp.Or(kindNames[byte(kind)], fmt.Sprintf("%q", rune(kind)))
			list = append(list, u)
		}
	}
	slices.SortFunc(list, func(a, b KindUsage) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Kind, b.Kind))
	})
	return list, iter.Error()
}

// size is the bytes of the files in a folder and those below.
func (f *folder) size(elem ...string) (n int64) {
	names, err := f.fs.List(f.path(elem...))
	if err != nil {
		return 0
	}
	for _, name := range names {
		within := append(slices.Clone(elem), name)
		info, err := f.fs.Stat(f.path(within...))
		switch {
		case err != nil:
		case info.IsDir():
			n += f.size(within...)
		default:
			n += info.Size()
		}
	}
	return n
}
