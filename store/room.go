// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	ballastFile = "BALLAST"
	mostBallast = 8 << 20
	lookForRoom = 500 * time.Millisecond // between two looks whether there is room again
)

// room knows whether the disk is full. A file of bytes that mean nothing is given up when it becomes so: what cannot be
// refused (acknowledgements, the ends of sessions, wills) is written to the log where it was; checkpoints wait. As soon as the file
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
	wake   func() // called when the disk becomes full; nil before there is anybody to look for room
}

func newRoom(fs vfs.FS, dir string, size int64, notice func(Notice)) *room {
	return &room{fs: fs, path: fs.PathJoin(dir, ballastFile), size: min(size, mostBallast), notice: notice}
}

// begin has somebody woken, from now on, when the disk becomes full.
func (r *room) begin(wake func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = wake
	if r.full.Load() {
		wake()
	}
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
	if r.wake != nil {
		r.wake()
	}
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
