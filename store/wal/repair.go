// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"fmt"
	"slices"
)

// repair makes on disk true what recovery has found. It can be interrupted anywhere: the next recovery finds the rest. The
// names of the files are synced with those of the opening.
func (r *recovery) repair() error {
	if err := r.lowerNewest(); err != nil {
		return err
	}
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
	for _, f := range slices.Backward(r.files) {
		if f.cut || f.drop {
			if err := r.cut(f); err != nil {
				return err
			}
		}
	}
	r.files = slices.DeleteFunc(r.files, func(f *found) bool { return f.drop })
	return nil
}

// lowerNewest makes sure that what is dropped is not missed.
func (r *recovery) lowerNewest() error {
	number := uint64(0)
	for _, f := range r.files {
		if !f.drop {
			number = f.number
		}
	}
	if number == 0 || readNewest(r.o.FS, r.dir) <= number {
		return nil
	}
	return writeNewest(r.o.FS, r.dir, number)
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
	f.size = 0
	for _, p := range pieces {
		f.size += int64(len(p.head)) + p.length
	}
	f.end = f.size
	return nil
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
