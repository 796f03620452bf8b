// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/wal"
)

const (
	ballastFile = "BALLAST"
	mostBallast = 8 << 20
	lookForRoom = 500 * time.Millisecond // between two looks whether there is room again
)

// room knows whether the disk is full. A file of bytes that mean nothing is given up when it becomes so: what cannot be
// refused (acknowledgements, the ends of sessions, checkpoints that make room) is written where it was. As soon as the file
// can be made again, and as much beside it, the disk is no longer full.
type room struct {
	fs     vfs.FS
	path   string
	size   int64
	notice func(Notice)
	full   atomic.Bool

	mu     sync.Mutex // guards the following
	cause  error
	looked time.Time
}

func newRoom(fs vfs.FS, dir string, size int64, notice func(Notice)) *room {
	return &room{fs: fs, path: fs.PathJoin(dir, ballastFile), size: min(size, mostBallast), notice: notice}
}

// open makes the file, if it is not there.
func (r *room) open() {
	if info, err := r.fs.Stat(r.path); err == nil && info.Size() == r.size {
		return
	}
	if err := r.fill(r.path); err != nil {
		r.lost(err)
	}
}

// err is what a command gets for which there is no room.
func (r *room) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Errorf("%w: %w", ErrFull, r.cause)
}

// lost notes that there was no room for something.
func (r *room) lost(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cause = err
	if r.full.Swap(true) {
		return
	}
	r.looked = time.Now()
	_ = r.fs.Remove(r.path)
	r.notice(Notice{Kind: DiskFull, Err: err,
		Text: "no room on the disk: messages that must be kept are refused until there is"})
}

// look finds out whether there is room again. It says after how long to look again, 0 = there is.
func (r *room) look() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if left := lookForRoom - time.Since(r.looked); left > 0 {
		return left
	}
	r.looked = time.Now()
	if usage, err := r.fs.GetDiskUsage(r.fs.PathDir(r.path)); err == nil && usage.AvailBytes < uint64(2*r.size) {
		return lookForRoom
	}
	beside := r.path + ".beside"
	err := r.fill(r.path)
	if err == nil {
		err = r.fill(beside)
	}
	_ = r.fs.Remove(beside)
	if err != nil {
		_ = r.fs.Remove(r.path)
		return lookForRoom
	}
	r.full.Store(false)
	r.notice(Notice{Kind: Room, Text: "there is room on the disk again"})
	return 0
}

// fill writes a file of the ballast's size. Its bytes are not zero: some file systems keep no room for zeros.
func (r *room) fill(path string) error {
	f, err := r.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for i := range block {
		block[i] = byte(i*7 + i>>8)
	}
	for left := r.size; left > 0 && err == nil; left -= int64(len(block)) {
		_, err = f.Write(block[:min(left, int64(len(block)))])
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = r.fs.Remove(path)
	}
	return err
}

// patient is the file system of the state: what finds no room there waits for it, since Pebble would not.
type patient struct {
	vfs.FS
	room *room
}

// retry calls f until there is room for it.
func (p patient) retry(f func() error) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, lookForRoom) {
		err := f()
		if err == nil || !wal.NoSpace(err) {
			return err
		}
		p.room.lost(err)
		time.Sleep(pause)
	}
}

func (p patient) Create(name string, category vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = p.retry(func() error { file, err = p.FS.Create(name, category); return err })
	return patientFile{file, p}, err
}

func (p patient) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (file vfs.File, err error) {
	err = p.retry(func() error { file, err = p.FS.OpenReadWrite(name, category, opts...); return err })
	return patientFile{file, p}, err
}

func (p patient) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = p.retry(func() error { file, err = p.FS.ReuseForWrite(from, to, category); return err })
	return patientFile{file, p}, err
}

func (p patient) Link(from, to string) error {
	return p.retry(func() error { return p.FS.Link(from, to) })
}

func (p patient) Rename(from, to string) error {
	return p.retry(func() error { return p.FS.Rename(from, to) })
}

// Unwrap gives the file system below.
func (p patient) Unwrap() vfs.FS { return p.FS }

// patientFile is a file of a patient file system.
type patientFile struct {
	vfs.File
	fs patient
}

func (f patientFile) Write(b []byte) (n int, err error) {
	err = f.fs.retry(func() error {
		some, err := f.File.Write(b[n:])
		n += some
		return err
	})
	return n, err
}

func (f patientFile) WriteAt(b []byte, at int64) (n int, err error) {
	err = f.fs.retry(func() error {
		some, err := f.File.WriteAt(b[n:], at+int64(n))
		n += some
		return err
	})
	return n, err
}
