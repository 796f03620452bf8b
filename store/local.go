// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/store/wal"
)

// slowCommit is how long a commit may take before somebody is told.
const slowCommit = time.Second

// local is a replog on this disk: one write and, where a class asks for it, one fdatasync for all that waits.
//
// Its goroutine is the committer's. cut and the measures are for others.
type local struct {
	wal    *wal.Log
	room   *room
	notice func(Notice)
	fail   func(error)  // told that the disk failed
	broken *atomic.Bool // it has
	close  func() error

	owed     []entry   // a recovery that is not written for want of room: it goes in front of whatever is written next
	unsynced time.Time // since when something is written and not synced; zero = nothing is
	cut      atomic.Uint64
	scarce   bool // spare segments were given up for want of room
	slow     *time.Timer
	slowed   atomic.Bool

	measures *measures
}

func newLocal(log *wal.Log, r *room, notice func(Notice), fail func(error), broken *atomic.Bool, m *measures) *local {
	l := &local{wal: log, room: r, notice: notice, fail: fail, broken: broken, measures: m}
	l.slow = time.AfterFunc(time.Hour, l.tellSlow)
	l.slow.Stop()
	return l
}

// Propose writes the entries, and syncs if one of them asks for it.
func (l *local) Propose(entries []entry) error {
	if l.broken.Load() {
		return ErrFailed
	}
	if l.room.full.Load() {
		l.room.look()
	}
	sync, refused := false, l.room.full.Load()
	n := 0
	for _, e := range l.owed {
		l.wal.End(appendRecord(l.wal.Begin(uint64(e.at)), e.command))
		sync = true
	}
	for _, e := range entries {
		if e.class == InMemory {
			continue
		}
		if refused && e.grows {
			l.wal.Discard()
			return l.room.err()
		}
		l.wal.End(appendRecord(l.wal.Begin(uint64(e.at)), e.command))
		sync = sync || e.class == Sync
		n++
	}
	if n == 0 {
		l.wal.Discard()
		return l.due()
	}
	start := time.Now()
	l.slow.Reset(slowCommit)
	err := l.write(sync, start)
	l.slow.Stop()
	if l.slowed.Swap(false) {
		l.notice(Notice{Kind: SlowDiskEnd, Text: fmt.Sprintf("the disk has taken a commit after %s", time.Since(start).Round(time.Millisecond))})
	}
	if err == nil && l.broken.Load() {
		return ErrFailed // the disk failed elsewhere meanwhile: what this sync is worth nobody knows
	}
	if err == nil {
		l.owed = nil
		l.measures.commit(n, time.Since(start))
		l.shorten()
		l.measures.logBytes.Store(l.wal.Bytes())
		return nil
	}
	if _, ok := entries[0].command.(*recovery); ok && errors.Is(err, ErrFull) {
		l.owed = slices.Clone(entries)
		return nil // what is there can be read, and the next opening would begin with another recovery
	}
	return err
}

func (l *local) write(sync bool, now time.Time) error {
	size := l.wal.Size()
	if err := l.wal.Write(); err != nil {
		l.wal.Discard()
		if wal.NoSpace(err) {
			l.room.lost(err)
			return l.room.err()
		}
		return l.failed(fmt.Errorf("writing the log: %w", err))
	}
	l.measures.logged.Add(int64(size))
	if sync || !l.unsynced.IsZero() && now.Sub(l.unsynced) >= SyncInterval {
		return l.sync()
	}
	if l.unsynced.IsZero() {
		l.unsynced = now
	}
	return nil
}

// due syncs what has waited long enough for it.
func (l *local) due() error {
	if l.unsynced.IsZero() || time.Since(l.unsynced) < SyncInterval {
		return nil
	}
	return l.sync()
}

func (l *local) sync() error {
	l.unsynced = time.Time{}
	l.measures.syncs.Add(1)
	if err := l.wal.Sync(); err != nil {
		return l.failed(fmt.Errorf("syncing the log: %w", err))
	}
	return nil
}

func (l *local) failed(err error) error {
	l.fail(err)
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

func (l *local) tellSlow() {
	l.slowed.Store(true)
	l.notice(Notice{Kind: SlowDisk, Text: "the disk has not taken a commit for " + slowCommit.String()})
}

// Tend syncs what is due, looks for room, and lets go of log that is in the state.
func (l *local) Tend() time.Duration {
	l.shorten()
	var wait time.Duration
	if l.room.full.Load() {
		wait = l.room.look()
	}
	if l.unsynced.IsZero() {
		return wait
	}
	if left := SyncInterval - time.Since(l.unsynced); left > 0 {
		if wait == 0 || left < wait {
			return left
		}
		return wait
	}
	_ = l.due() // a failure is told, and the next Propose has it
	return wait
}

// shorten cuts what a checkpoint made needless.
func (l *local) shorten() {
	full := l.room.full.Load()
	if full != l.scarce {
		l.scarce = full
		l.wal.KeepSpares(!full)
	}
	below := l.cut.Swap(0)
	if below == 0 {
		return
	}
	var err error
	if full {
		err = l.wal.Rotate() // the segment being written can be let go of, too
	}
	if err == nil || wal.NoSpace(err) {
		err = l.wal.Cut(below)
	}
	if err != nil && !wal.NoSpace(err) {
		l.fail(fmt.Errorf("shortening the log: %w", err))
	}
}

// Close closes the log, and what is below.
func (l *local) Close() error {
	l.slow.Stop()
	return l.close()
}
