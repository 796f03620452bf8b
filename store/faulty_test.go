// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// faulty is a file system on which there is only so much room, and that fails where a test wants it to.
type faulty struct {
	vfs.FS
	mu   sync.Mutex
	room int64 // bytes that may still be written; negative = there is no bound
	full error // what is given when there are none
	// fail is asked before each change: create, write, sync, rename, remove. It may block.
	fail func(op, path string) error
}

func newFaulty(fs vfs.FS) *faulty { return &faulty{FS: fs, room: -1, full: syscall.ENOSPC} }

func (f *faulty) setRoom(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = n
}

func (f *faulty) setFail(fail func(op, path string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// failOn makes one kind of change of files whose path holds a word fail.
func (f *faulty) failOn(op, word string, err error) {
	f.setFail(func(o, path string) error {
		if o == op && strings.Contains(path, word) {
			return err
		}
		return nil
	})
}

func (f *faulty) ask(op, path string) error {
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
func (f *faulty) take(n int) (int, error) {
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

func (f *faulty) file(path string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f, path}, nil
}

func (f *faulty) Create(path string, k vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.ask("create", path); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(path, k)
	return f.file(path, file, err)
}

func (f *faulty) OpenReadWrite(path string, k vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	if _, err := f.FS.Stat(path); err != nil {
		if err := f.ask("create", path); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.OpenReadWrite(path, k, o...)
	return f.file(path, file, err)
}

func (f *faulty) ReuseForWrite(from, to string, k vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.ask("rename", to); err != nil {
		return nil, err
	}
	file, err := f.FS.ReuseForWrite(from, to, k)
	return f.file(to, file, err)
}

func (f *faulty) Open(path string, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(path, o...)
	return f.file(path, file, err)
}

func (f *faulty) OpenDir(path string) (vfs.File, error) {
	file, err := f.FS.OpenDir(path)
	return f.file(path, file, err)
}

func (f *faulty) Rename(from, to string) error {
	if err := f.ask("rename", to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove gives the room of a file back.
func (f *faulty) Remove(path string) error {
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

type faultyFile struct {
	vfs.File
	fs   *faulty
	path string
}

func (f *faultyFile) Write(b []byte) (int, error) {
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

func (f *faultyFile) WriteAt(b []byte, at int64) (int, error) {
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

func (f *faultyFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.fs.ask("read", f.path); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, at)
}

func (f *faultyFile) Sync() error {
	if err := f.fs.ask("sync", f.path); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) SyncData() error {
	if err := f.fs.ask("sync", f.path); err != nil {
		return err
	}
	return f.File.SyncData()
}

// contentsOf are the contents of a folder and all below, by path.
func contentsOf(t testing.TB, fs vfs.FS, dir string) map[string][]byte {
	all := map[string][]byte{}
	var walk func(path string)
	walk = func(path string) {
		names, err := fs.List(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			at := fs.PathJoin(path, name)
			info, err := fs.Stat(at)
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				walk(at)
				continue
			}
			f, err := fs.Open(at)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(f)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
			all[at] = b
		}
	}
	walk(dir)
	return all
}

// unfold makes a file system of what contentsOf has.
func unfold(t testing.TB, all map[string][]byte) *vfs.MemFS {
	fs := vfs.NewMem()
	for path, b := range all {
		if err := fs.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, fs, path, b)
	}
	return fs
}

// put writes a file anew.
func put(t testing.TB, fs vfs.FS, path string, b []byte) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}
