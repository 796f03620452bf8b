// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"fmt"
	"strings"
)

// Open opens the log in a folder, which it creates (0700) when needed, and replays it: replay is called, in order, with every good record at a
// position of from or greater. from is the first position that the caller does not have yet: if the log begins behind it,
// that is damage. 0 takes whatever there is. The record is lent for the call.
//
// A record for which replay returns an error is damage: it is set aside, and replaying goes on; unless it is ErrStop, with which Open
// then returns. Nothing on disk is changed before everything is replayed. What was replayed is synced when Open returns.
// On an error the Log is nil; the Recovery says what was found so far.
func Open(dir string, o Options, from uint64, replay func(position uint64, record []byte) error) (*Log, Recovery, error) {
	o.fill(dir)
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, Recovery{}, fmt.Errorf("wal: %w", err)
	}
	r := &recovery{dir: dir, o: o, from: from, replay: replay}
	if err := r.survey(); err != nil {
		return nil, r.rec, err
	}
	if err := r.walk(); err != nil {
		return nil, r.rec, err
	}
	if o.Refuse {
		if err := r.refuse(); err != nil {
			return nil, r.rec, err
		}
	}
	if err := r.repair(); err != nil {
		return nil, r.rec, fmt.Errorf("wal: repair: %w", err)
	}
	l, err := r.open()
	return l, r.rec, err
}

// refuse is ErrDamaged with the damage in words, nil if there is none.
func (r *recovery) refuse() error {
	var words []string
	for _, d := range r.rec.Damage {
		if !d.Torn {
			words = append(words, fmt.Sprintf("%s at byte %d: %s (positions %d to %d)", d.File, d.Offset, d.Why, d.First, d.Last))
		}
	}
	if words == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDamaged, strings.Join(words, "; "))
}

// open makes the log of what recovery has left, ready for writing.
func (r *recovery) open() (*Log, error) {
	l := &Log{dir: r.dir, o: r.o, id: r.id, opening: r.newest + 1, last: r.rec.Last, synced: 0, tail: r.rec.Last}
	for _, name := range r.spares {
		if len(l.spares) < r.o.Spare {
			l.spares = append(l.spares, name)
		} else if err := r.o.FS.Remove(r.path(name)); err != nil {
			return nil, fmt.Errorf("wal: remove spare: %w", err)
		}
	}
	for _, f := range r.files {
		l.segments = append(l.segments, live{number: f.number, last: f.last, bytes: f.end})
	}
	if err := l.resume(r.files); err != nil {
		if l.file != nil {
			_ = l.file.Close()
		}
		return nil, err
	}
	return l, nil
}

// resume goes on behind the last frame, marks the opening there, and syncs.
func (l *Log) resume(files []*found) (err error) {
	if n := len(files); n > 0 {
		f := files[n-1]
		if l.file, l.size, err = openWrite(l.o.FS, l.path(f.name)); err != nil {
			return fmt.Errorf("wal: open %s: %w", f.name, err)
		}
		l.off = f.end
	} else {
		number := uint64(1)
		for _, name := range l.spares {
			n, _ := numberOf(name, endSpare)
			number = max(number, n+1)
		}
		if err = syncDir(l.o.FS, l.o.FS.PathDir(l.dir)); err == nil {
			err = l.begin(number)
		}
		if err != nil {
			return err
		}
	}
	if err = l.mark(markOpen); err != nil {
		if !NoSpace(err) {
			return err
		}
		l.unmarked = true // the first write makes up for it: opening must be possible on a full disk
	}
	l.dirty = true // what was replayed may have been written and never synced
	if err = l.Sync(); err != nil {
		return err
	}
	if err = syncDir(l.o.FS, l.dir); err != nil {
		return fmt.Errorf("wal: sync folder: %w", err)
	}
	return nil
}
