// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"fmt"
	"slices"
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

// repair makes on disk true what recovery has found. It can be interrupted anywhere: the next recovery finds the rest.
func (r *recovery) repair() error {
	for _, name := range r.making {
		if err := r.o.FS.Remove(r.path(name)); err != nil {
			return err
		}
	}
	for _, f := range r.files {
		if f.rewrite && !f.drop {
			if err := r.asideDamaged(f); err != nil {
				return err
			}
			if err := r.rewrite(f); err != nil {
				return err
			}
		}
	}
	changed := false
	for _, f := range slices.Backward(r.files) {
		if f.cut || f.drop {
			changed = true
			if err := r.cut(f); err != nil {
				return err
			}
		}
	}
	r.files = slices.DeleteFunc(r.files, func(f *found) bool { return f.drop })
	if changed {
		return syncDir(r.o.FS, r.dir)
	}
	return nil
}

// asideDamaged keeps a copy of a segment that holds damage. One that is good in itself, and follows a lost one, needs none.
func (r *recovery) asideDamaged(f *found) error {
	kept := ""
	for i := range r.rec.Damage {
		d := &r.rec.Damage[i]
		if d.File != f.name || d.Torn {
			continue
		}
		if kept == "" {
			var err error
			if kept, err = r.aside(f, 0); err != nil {
				return err
			}
		}
		d.Kept = kept
	}
	return nil
}

// cut removes what is behind the end of the log from a segment, or the segment, and keeps a copy if there is room for one.
func (r *recovery) cut(f *found) error {
	for i := range r.rec.Damage {
		d := &r.rec.Damage[i]
		if d.File != f.name || !d.Torn || f.rewrite {
			continue
		}
		kept, err := r.aside(f, d.Offset)
		if err != nil && !NoSpace(err) {
			return err
		}
		d.Kept = kept
	}
	if f.drop {
		return r.o.FS.Remove(r.path(f.name))
	}
	if f.rewrite {
		return nil
	}
	return r.cutInPlace(f)
}

// cutInPlace makes sure that no frame behind the end is ever found again, and shortens the last frame to its good records. The mark of
// this opening follows.
func (r *recovery) cutInPlace(f *found) error {
	file, size, err := openWrite(r.o.FS, r.path(f.name))
	if err != nil {
		return err
	}
	defer file.Close()
	var offsets []int64
	r.last, r.opening = 0, 0
	r.search(&reader{file: file, size: size}, f.number, f.end, func(at int64, _ *frame) bool {
		offsets = append(offsets, at)
		return false
	})
	for _, at := range offsets {
		if _, err := file.WriteAt(make([]byte, len(frameMagic)), at); err != nil {
			return err
		}
	}
	if f.trim != nil {
		if _, err := file.WriteAt(f.trim, f.trimAt); err != nil {
			return err
		}
	}
	return file.SyncData()
}

// aside copies a segment, from an offset on, to the folder for damaged things, and says where it is. One that cannot be opened is moved there.
func (r *recovery) aside(f *found, offset int64) (kept string, err error) {
	fs := r.o.FS
	if err := fs.MkdirAll(r.o.Aside, 0o700); err != nil {
		return "", err
	}
	if err := syncDir(fs, fs.PathDir(r.o.Aside)); err != nil {
		return "", err
	}
	names, err := fs.List(r.o.Aside)
	if err != nil {
		return "", err
	}
	name := ""
	for n := 1; name == "" || slices.Contains(names, name); n++ {
		name = fmt.Sprintf("%s.%d", f.name, n)
	}
	kept = fs.PathJoin(r.o.Aside, name)
	if f.err != nil {
		err = fs.Rename(r.path(f.name), kept)
	} else {
		err = r.copyTo(kept, f, []piece{{offset: offset, length: f.size - offset}})
	}
	if err != nil {
		return "", err
	}
	return kept, syncDir(fs, r.o.Aside)
}

// rewrite replaces a segment by what is good in it.
func (r *recovery) rewrite(f *found) error {
	opening := f.started
	if f.good {
		opening = f.head.opening
	}
	head := segment{log: r.id, number: f.number, opening: opening, before: f.before}
	b := make([]byte, segmentHead, segmentHead+2*frameHead)
	head.put(b)
	pieces := []piece{{head: b}}
	if f.lead > 0 {
		pieces = append(pieces, piece{head: r.lostMark(f, opening, f.lead)})
	}
	pieces = append(pieces, f.keep...)
	if f.fill > 0 {
		pieces = append(pieces, piece{head: r.lostMark(f, max(opening, f.opening), f.fill)})
	}
	making := r.path(fileName(f.number, endMaking))
	if err := r.copyTo(making, f, pieces); err != nil {
		return err
	}
	if err := r.o.FS.Rename(making, r.path(f.name)); err != nil {
		return err
	}
	f.size, f.end = 0, 0
	for _, p := range pieces {
		f.size += int64(len(p.head)) + p.length
	}
	f.end = f.size
	return syncDir(r.o.FS, r.dir)
}

// lostMark is the frame that says that what is missing up to a position was set aside.
func (r *recovery) lostMark(f *found, opening, last uint64) []byte {
	b := make([]byte, frameHead)
	h := frame{log: r.id, segment: f.number, opening: opening, first: last, last: last, flags: markLost}
	h.put(b)
	return b
}

// copyTo writes pieces of a segment to a file, and syncs it.
func (r *recovery) copyTo(path string, f *found, pieces []piece) error {
	to, _, err := openWrite(r.o.FS, path)
	if err != nil {
		return err
	}
	defer to.Close()
	rd := &reader{}
	if f.err == nil {
		if rd, err = openReader(r.o.FS, r.path(f.name)); err != nil {
			return err
		}
		defer rd.close()
	}
	at := int64(0)
	write := func(b []byte) error {
		n, err := to.WriteAt(b, at)
		at += int64(n)
		return err
	}
	for _, p := range pieces {
		if err := write(p.head); err != nil {
			return err
		}
		for done := int64(0); done < p.length; {
			b := rd.bytes(p.offset+done, min(window, p.length-done))
			if len(b) == 0 {
				return fmt.Errorf("%s has become shorter", f.name)
			}
			if err := write(b); err != nil {
				return err
			}
			done += int64(len(b))
		}
	}
	return to.Sync()
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
