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
	mostPart    = 8 << 20
	lookForRoom = 500 * time.Millisecond // between two looks whether there is room again
)

// room knows whether the disk is full. A file of bytes that mean nothing, in six equal parts, is given up when it becomes so, and
// spare segments of the log with it. What cannot be refused (acknowledgements, the ends of sessions, wills) is written where
// they were: the log may use it all; a checkpoint leaves the last part to the log, and has four, which is the write buffer; compactions
// leave two, and while there is a checkpoint what that may need. A checkpoint lets go of log, and compactions of what was deleted: so a
// disk that our own messages have filled has room again when they are gone. As soon as the file can be made again, and two parts beside it,
// the disk is no longer full.
//
// A new store begins with two parts, and makes the rest after its first checkpoint: many never come to one.
type room struct {
	fs     vfs.FS
	path   string
	part   int64
	notice func(Notice)
	full   atomic.Bool
	// writing says that there is a checkpoint.
	writing atomic.Bool

	cause atomic.Pointer[error]
	whole atomic.Bool // the file has all its parts

	mu     sync.Mutex // guards the following; look holds it while it writes files, so on a full disk nobody else waits for it
	looked time.Time
	wake   func() // called when the disk becomes full; nil before there is anybody to look for room
}

func newRoom(fs vfs.FS, dir string, writeBuffer int64, notice func(Notice)) *room {
	return &room{fs: fs, path: fs.PathJoin(dir, ballastFile), part: min(writeBuffer/4, mostPart), notice: notice}
}

// size is that of the file.
func (r *room) size() int64 { return 6 * r.part }

// spare says, while the disk is full, whether the state may write so many bytes.
func (r *room) spare(compaction bool, bytes int) bool {
	left := r.part
	switch {
	case compaction && r.writing.Load():
		left = 5 * r.part
	case compaction:
		left = 2 * r.part
	}
	usage, err := r.fs.GetDiskUsage(r.fs.PathDir(r.path))
	return err == nil && usage.AvailBytes > uint64(left)+uint64(bytes)
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
	if info, err := r.fs.Stat(r.path); err == nil && info.Size() >= 2*r.part && info.Size() <= r.size() {
		r.whole.Store(info.Size() == r.size())
		return
	}
	if err := r.fill(r.path, 2*r.part); err != nil {
		r.lost(err)
	}
}

// complete makes the rest of the file after a checkpoint. Nobody has to wait for it.
func (r *room) complete() {
	if r.whole.Load() || r.full.Load() {
		return
	}
	rest := r.path + ".rest"
	if err := r.fill(rest, r.size()); err != nil {
		return // a later checkpoint tries again: there are two parts still
	}
	if r.mu.TryLock() { // if not, it is full
		defer r.mu.Unlock()
		if !r.full.Load() {
			r.whole.Store(r.fs.Rename(rest, r.path) == nil)
		}
	}
	if !r.whole.Load() {
		_ = r.fs.Remove(rest)
	}
}

// err is what a command gets for which there is no room.
func (r *room) err() error {
	return fmt.Errorf("%w: %w", ErrFull, *r.cause.Load())
}

// lost notes that there was no room for something.
func (r *room) lost(err error) {
	r.cause.Store(&err)
	if r.full.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full.Swap(true) {
		return
	}
	r.looked = time.Now()
	r.whole.Store(false)
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
	if usage, err := r.fs.GetDiskUsage(r.fs.PathDir(r.path)); err == nil && usage.AvailBytes < uint64(r.size()+2*r.part) {
		return lookForRoom
	}
	beside := r.path + ".beside"
	err := r.fill(r.path, r.size())
	if err == nil {
		err = r.fill(beside, 2*r.part)
	}
	_ = r.fs.Remove(beside)
	if err != nil {
		_ = r.fs.Remove(r.path)
		return lookForRoom
	}
	r.whole.Store(true)
	r.full.Store(false)
	r.notice(Notice{Kind: Room, Text: "there is room on the disk again"})
	return 0
}

// fill writes a file of a size. Its bytes are not zero: some file systems keep no room for zeros.
func (r *room) fill(path string, size int64) error {
	f, err := r.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for i := range block {
		block[i] = byte(i*7 + i>>8)
	}
	for left := size; left > 0 && err == nil; left -= int64(len(block)) {
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
