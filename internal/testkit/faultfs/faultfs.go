// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package faultfs is a file system for tests that is full, slow or broken where a test wants it to be. It owns no goroutine, and is told
// all faults: nothing in it is left to chance.
package faultfs

import (
	"errors"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrSkip has a sync succeed that does nothing.
var ErrSkip = errors.New("skip")

// FS is a file system on which there is only so much room, and that fails where a test wants it to. Any goroutine uses it.
type FS struct {
	vfs.FS
	mu   sync.Mutex // guards the following; held while nothing blocks
	room int64      // bytes that may still be written; negative = there is no bound
	full error
	fail func(op, path string) error
}

// New makes one that has room and does not fail.
func New(fs vfs.FS) *FS { return &FS{FS: fs, room: -1, full: syscall.ENOSPC} }

// SetRoom sets how many bytes may still be written; negative = there is no bound.
func (f *FS) SetRoom(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = n
}

// SetFull sets what is given when there is no room; ENOSPC at first.
func (f *FS) SetFull(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = err
}

// SetFail sets what is asked before each change, without a lock: create, write, sync, rename, remove, and read. It may block. With ErrSkip a sync
// does nothing.
func (f *FS) SetFail(fail func(op, path string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// FailOn makes one kind of change of files whose path holds a word fail.
func (f *FS) FailOn(op, word string, err error) {
	f.SetFail(func(o, path string) error {
		if o == op && strings.Contains(path, word) {
			return err
		}
		return nil
	})
}

// GetDiskUsage tells how much may still be written.
func (f *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const total = 1 << 40
	u := vfs.DiskUsage{TotalBytes: total, AvailBytes: total}
	if f.room >= 0 {
		u.AvailBytes = uint64(f.room)
	}
	u.UsedBytes = total - u.AvailBytes
	return u, nil
}

func (f *FS) ask(op, path string) error {
	f.mu.Lock()
	fail, room, full := f.fail, f.room, f.full
	f.mu.Unlock()
	if fail != nil {
		if err := fail(op, path); err != nil {
			return err
		}
	}
	if room == 0 && (op == "create" || op == "rename") {
		return full
	}
	return nil
}

// take is how many of n bytes have room.
func (f *FS) take(n int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.room < 0 || int64(n) <= f.room {
		f.room -= int64(min(n, max(n, 0)))
		if f.room < -1 {
			f.room = -1
		}
		return n, nil
	}
	n = int(f.room)
	f.room = 0
	return n, f.full
}

// sync carries out a sync.
func (f *FS) sync(path string, do func() error) error {
	switch err := f.ask("sync", path); err {
	case nil:
		return do()
	case ErrSkip:
		return nil
	default:
		return err
	}
}

func (f *FS) wrap(path string, inner vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &file{inner, f, path}, nil
}

// Create makes a file.
func (f *FS) Create(path string, k vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.ask("create", path); err != nil {
		return nil, err
	}
	inner, err := f.FS.Create(path, k)
	return f.wrap(path, inner, err)
}

// OpenReadWrite opens a file, or makes it.
func (f *FS) OpenReadWrite(path string, k vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	if _, err := f.FS.Stat(path); err != nil {
		if err := f.ask("create", path); err != nil {
			return nil, err
		}
	}
	inner, err := f.FS.OpenReadWrite(path, k, o...)
	return f.wrap(path, inner, err)
}

// ReuseForWrite renames a file and opens it.
func (f *FS) ReuseForWrite(from, to string, k vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.ask("rename", to); err != nil {
		return nil, err
	}
	inner, err := f.FS.ReuseForWrite(from, to, k)
	return f.wrap(to, inner, err)
}

// Open opens a file.
func (f *FS) Open(path string, o ...vfs.OpenOption) (vfs.File, error) {
	inner, err := f.FS.Open(path, o...)
	return f.wrap(path, inner, err)
}

// OpenDir opens a folder, to sync it.
func (f *FS) OpenDir(path string) (vfs.File, error) {
	inner, err := f.FS.OpenDir(path)
	return f.wrap(path, inner, err)
}

// Rename renames a file.
func (f *FS) Rename(from, to string) error {
	if err := f.ask("rename", to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove gives the room of a file back.
func (f *FS) Remove(path string) error {
	if err := f.ask("remove", path); err != nil {
		return err
	}
	size := int64(0)
	if info, err := f.FS.Stat(path); err == nil {
		size = info.Size()
	}
	err := f.FS.Remove(path)
	if err == nil {
		f.mu.Lock()
		if f.room >= 0 {
			f.room += size
		}
		f.mu.Unlock()
	}
	return err
}

type file struct {
	vfs.File
	fs   *FS
	path string
}

// Write writes as much as there is room for.
func (f *file) Write(b []byte) (int, error) {
	if err := f.fs.ask("write", f.path); err != nil {
		return 0, err
	}
	n, full := f.fs.take(len(b))
	n, err := f.File.Write(b[:n])
	if err == nil {
		err = full
	}
	return n, err
}

// WriteAt writes as much as there is room for.
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	if err := f.fs.ask("write", f.path); err != nil {
		return 0, err
	}
	info, err := f.File.Stat()
	if err != nil {
		return 0, err
	}
	grows := int(min(max(at+int64(len(b))-info.Size(), 0), int64(len(b))))
	got, full := f.fs.take(grows)
	n, err := f.File.WriteAt(b[:len(b)-grows+got], at)
	if err == nil {
		err = full
	}
	return n, err
}

// ReadAt reads.
func (f *file) ReadAt(b []byte, at int64) (int, error) {
	if err := f.fs.ask("read", f.path); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, at)
}

// Sync syncs.
func (f *file) Sync() error {
	return f.fs.sync(f.path, f.File.Sync)
}

// SyncData syncs.
func (f *file) SyncData() error {
	return f.fs.sync(f.path, f.File.SyncData)
}
