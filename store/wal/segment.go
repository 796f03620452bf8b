// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// category names our writes in the statistics of the file system.
const category = vfs.WriteCategoryUnspecified

// Endings of file names.
const (
	endSegment = ".log"
	endSpare   = ".spare"
	endMaking  = ".making" // a segment being rewritten
)

func fileName(number uint64, end string) string { return fmt.Sprintf("%016x%s", number, end) }

// numberOf is the number in a file name with that ending.
func numberOf(name, end string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, end)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil && fileName(n, end) == name
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

// openWrite opens a file for reading and writing, and creates it when it is not there, for the owner only.
func openWrite(fs vfs.FS, path string) (file vfs.File, size int64, err error) {
	if file, err = fs.OpenReadWrite(path, category); err != nil {
		return nil, 0, err
	}
	// The file systems of tests know no permissions.
	if f, ok := file.(interface{ Chmod(os.FileMode) error }); ok {
		err = f.Chmod(0o600)
	}
	var info vfs.FileInfo
	if err == nil {
		info, err = file.Stat()
	}
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func (l *Log) path(name string) string { return l.o.FS.PathJoin(l.dir, name) }

// rotate ends the segment being written and begins the next one. When it fails the log goes on being written where it was.
func (l *Log) rotate() error {
	if err := l.Sync(); err != nil {
		return err
	}
	old := l.file
	if err := l.begin(l.segments[len(l.segments)-1].number + 1); err != nil {
		return err
	}
	_ = old.Close() // it is synced: there is nothing to lose
	return nil
}

// begin makes a segment, from a spare if there is one, and goes on there.
func (l *Log) begin(number uint64) error {
	name := fileName(number, endSegment)
	if n := len(l.spares); n > 0 {
		spare := l.spares[n-1]
		l.spares = l.spares[:n-1]
		// One that somebody has removed is no loss.
		if err := l.o.FS.Rename(l.path(spare), l.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wal: take spare %s: %w", spare, err)
		}
	}
	file, size, err := openWrite(l.o.FS, l.path(name))
	if err != nil {
		return fmt.Errorf("wal: begin %s: %w", name, err)
	}
	var b [segmentHead]byte
	head := segment{log: l.id, number: number, opening: l.opening, before: l.last, extent: uint64(size)}
	head.put(b[:])
	if _, err := file.WriteAt(b[:], 0); err != nil {
		_ = file.Close()
		_ = l.o.FS.Remove(l.path(name)) // if it stays it is taken over as it is, next time
		return fmt.Errorf("wal: begin %s: %w", name, err)
	}
	// Without its name on disk nothing in the segment counts.
	if err := syncDir(l.o.FS, l.dir); err != nil {
		_ = file.Close()
		l.failed = fmt.Errorf("wal: sync folder: %w", err)
		return l.failed
	}
	if err := writeNewest(l.o.FS, l.dir, number); err != nil {
		_ = file.Close() // if it stays it is taken over, next time
		return err
	}
	l.file, l.off, l.size, l.dirty = file, segmentHead, max(size, segmentHead), true
	l.segments = append(l.segments, live{number: number, last: l.last, bytes: segmentHead})
	return nil
}

// Cut lets go of the segments in which all positions are below the given one: the first few become spares, the others are
// removed. The segment being written stays. An error leaves the log as good as it was; the rest may be cut later.
func (l *Log) Cut(below uint64) error {
	for len(l.segments) > 1 && l.segments[0].last < below {
		s := l.segments[0]
		if err := l.empty(s); err != nil {
			return fmt.Errorf("wal: cut %s: %w", fileName(s.number, endSegment), err)
		}
		l.segments = append(l.segments[:0], l.segments[1:]...)
		// One by one: a power cut must not leave a hole, which would look like a lost segment.
		if err := syncDir(l.o.FS, l.dir); err != nil {
			return fmt.Errorf("wal: cut: %w", err)
		}
	}
	return nil
}

// empty makes a spare of a segment, or removes it. One that a large record has made much longer than usual is no spare.
func (l *Log) empty(s live) error {
	name := l.path(fileName(s.number, endSegment))
	spare := fileName(s.number, endSpare)
	if l.wasted || len(l.spares) >= l.o.Spare || s.bytes > 2*l.o.SegmentBytes || slices.Contains(l.spares, spare) {
		return l.o.FS.Remove(name)
	}
	if err := l.o.FS.Rename(name, l.path(spare)); err != nil {
		return err
	}
	l.spares = append(l.spares, spare)
	return nil
}

// Rotate ends the segment being written, if there is anything in it, so that Cut may let go of it. No batch may be in hand.
func (l *Log) Rotate() error {
	if l.failed != nil || l.off == segmentHead || l.unmarked {
		return l.failed
	}
	return l.rotate()
}

// KeepSpares says whether emptied segments are kept for being written again. If not, those that are there are removed.
func (l *Log) KeepSpares(keep bool) {
	if l.wasted = !keep; keep {
		return
	}
	for _, spare := range l.spares {
		_ = l.o.FS.Remove(l.path(spare)) // if it stays, the next opening has it
	}
	l.spares = l.spares[:0]
}
