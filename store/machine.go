// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"sync"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/topic"
)

// machine is the state behind every engine. It changes only through apply, one command after another, and is a function
// of the commands and their positions: apply reads no clock, draws no random number, and ranges over no map. What must
// survive is in rows (and bodies); the rest are mirrors of rows, rebuilt by load.
//
// One goroutine applies. Reads may run beside each other but not beside apply; the engine's lock sees to it. The index
// and the names (has, hasShare) may be read at any time.
type machine struct {
	rows   rows
	bodies bodies
	limits Limits
	groups int
	// lenient is set while a log in which something was lost is applied again.
	lenient bool
	// Found by loadAll.
	badRows  []badRow
	replaced []*filter

	applied  Position // of the last command; what is made by a command is numbered by its position
	lastFID  uint64   // the last number given to a filter
	volatile bool     // there may be messages that are kept in memory only
	shared   int64    // messages with more than one reference (rows B)

	names    sync.RWMutex // guards changes of the two maps below
	byClient map[string]*session
	filters  map[string]*filter // with a queue, by whole filter

	byID        map[SessionID]*session
	filtersByID map[uint64]*filter
	index       *topic.Index[*filter]
	retained    *topic.Tree[retained]
	expiries    expiries                 // of retained messages
	timers      timers                   // of sessions
	dueWills    map[SessionID][]*dueWill // by session, oldest first
	unhanded    []*dueWill               // found at recovery: the next Tick hands them out

	stats Stats

	keys    keys
	value   []byte // scratch for row values
	matches topic.Matches[*filter]
	lists   [][]*filter
	matched []*filter
	refs    []Ref
	entries []queued
	spare   []*queue

	// Of limit.go.
	oldest  merge
	origin  []Position // zeros, one per group
	skipped []Ref
	full    []*session // that skip the message being published
	mark    uint64     // of the last message looked at

	drops      drops
	unreadable []unreadable // found by commands: the engine proposes to give them up
}

func newMachine(rows rows, bodies bodies, limits Limits, groups int) *machine {
	return &machine{
		rows:        rows,
		bodies:      bodies,
		limits:      limits,
		groups:      groups,
		byClient:    map[string]*session{},
		filters:     map[string]*filter{},
		byID:        map[SessionID]*session{},
		filtersByID: map[uint64]*filter{},
		index:       topic.NewIndex[*filter](1),
		retained:    topic.NewTree[retained](),
		expiries:    expiries{tree: topic.NewTree[struct{}]()},
		dueWills:    map[SessionID][]*dueWill{},
	}
}

// apply carries out one command. Positions grow from one call to the next.
func (m *machine) apply(at Position, c command) {
	m.applied = at
	m.volatile = m.volatile || at.volatile()
	c.apply(m)
}

// flush writes the counters. It ends a batch: rows are whole after it.
func (m *machine) flush() {
	v := append(m.value[:0], rowVersion)
	v = appendUint(v, uint64(m.groups))
	v = appendUint(v, uint64(m.applied))
	v = appendUint(v, m.lastFID)
	v = appendInt(v, m.shared)
	v = appendInt(v, m.stats.Messages)
	v = appendInt(v, m.stats.MessageBytes)
	v = appendBool(appendLimits(v, m.limits), m.volatile)
	m.value = v
	m.rows.Set(m.keys.begin(metaGroup, kindMeta), v)
	m.rows.Set(m.keys.begin(0, kindMeta), v)
}

// hash is a digest of all rows but messages: equal logs give equal hashes.
func (m *machine) hash() (sum [sha256.Size]byte) {
	m.flush()
	h := sha256.New()
	var n []byte
	from, to := allRows()
	m.rows.Scan(from, to, func(key, value []byte) bool {
		if len(key) >= prefixLen && key[2] == kindBody {
			return true // some are in memory yet
		}
		n = appendUint(appendUint(n[:0], uint64(len(key))), uint64(len(value)))
		h.Write(n)
		h.Write(key)
		h.Write(value)
		return true
	})
	h.Sum(sum[:0])
	return sum
}

func (m *machine) topicGroup(name string) uint16 { return uint16(groupHash(name) % uint64(m.groups)) }

func (m *machine) clientGroup(clientID string) uint16 { return m.topicGroup(clientID) }

// owned finds the session that a command may change.
func (m *machine) owned(o Owner) (*session, error) {
	s := m.byID[o.ID]
	switch {
	case s == nil:
		return nil, ErrNoSession
	case m.lenient && o.Epoch > s.epoch: // its claim was lost from a damaged log
		s.epoch = o.Epoch
		m.saveSession(s)
	case s.epoch != o.Epoch:
		return nil, ErrFenced
	}
	return s, nil
}

func (m *machine) has(clientID string) bool {
	m.names.RLock()
	defer m.names.RUnlock()
	return m.byClient[clientID] != nil
}

func (m *machine) hasShare(whole string) bool {
	m.names.RLock()
	defer m.names.RUnlock()
	f := m.filters[whole]
	return f != nil && f.share
}

// addRef counts one more reference to a stored message.
func (m *machine) addRef(ref Ref) { m.setRefs(ref, m.refCount(ref), m.refCount(ref)+1) }

// release gives one reference to a message up, and frees the message with the last one.
func (m *machine) release(ref Ref, size int64) {
	if n := m.refCount(ref); n > 1 {
		m.setRefs(ref, n, n-1)
		return
	}
	m.bodies.Free(ref)
	m.stats.Messages--
	m.stats.MessageBytes -= size
}

// refCount is the number of references to a message that has one.
func (m *machine) refCount(ref Ref) uint64 {
	if m.shared == 0 {
		return 1
	}
	v, ok := m.rows.Get(m.keys.number(ref.Group, kindRefs, uint64(ref.Position)))
	if !ok {
		return 1
	}
	d := rowDecoder(v)
	return d.uint()
}

// setRefs changes a reference count. A count of one has no row, since most messages wait in one queue.
func (m *machine) setRefs(ref Ref, old, n uint64) {
	key := m.keys.number(ref.Group, kindRefs, uint64(ref.Position))
	switch m.value = appendUint(append(m.value[:0], rowVersion), n); {
	case old <= 1 && n > 1:
		m.rows.Insert(key, m.value)
		m.shared++
	case n > 1:
		m.rows.Set(key, m.value)
	case old > 1:
		m.rows.Delete(key)
		m.shared--
	}
}

// bodies keeps the stored messages themselves, apart from the rows that refer to them: a durable engine finds them in its log.
type bodies interface {
	Put(Ref, *mqtt.Message)
	// Get returns a message that was put and not freed. It may be called beside other Gets.
	Get(Ref) (*mqtt.Message, error)
	Free(Ref)
	// Reader is for one reader of many messages, which are cheapest in order of position. It is closed before the next change.
	Reader() bodyReader
}

// bodyReader reads messages one after another.
type bodyReader interface {
	Get(Ref) (*mqtt.Message, error)
	Close()
}

// memoryBodies is bodies in memory.
type memoryBodies map[Ref]*mqtt.Message

func (b memoryBodies) Put(ref Ref, m *mqtt.Message) { b[ref] = m }
func (b memoryBodies) Free(ref Ref)                 { delete(b, ref) }
func (b memoryBodies) Reader() bodyReader           { return b }
func (b memoryBodies) Close()                       {}

func (b memoryBodies) Get(ref Ref) (*mqtt.Message, error) {
	if m, ok := b[ref]; ok {
		return m, nil
	}
	return nil, errCorrupt
}
