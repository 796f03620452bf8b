// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var errReadOnly = errors.New("store: the folder is only read")

// readOnly is a file system on which nothing can be changed. read is told how many bytes were read, on any goroutine.
type readOnly struct {
	vfs.FS
	read func(n int)
}

func (readOnly) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errReadOnly }
func (readOnly) Link(string, string) error                              { return errReadOnly }
func (readOnly) MkdirAll(string, os.FileMode) error                     { return errReadOnly }
func (readOnly) Remove(string) error                                    { return errReadOnly }
func (readOnly) RemoveAll(string) error                                 { return errReadOnly }
func (readOnly) Rename(string, string) error                            { return errReadOnly }

func (readOnly) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errReadOnly
}

func (readOnly) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errReadOnly
}

// Lock makes no file: whoever reads has the lock of the whole folder.
func (readOnly) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (r readOnly) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := r.FS.Open(name, o...)
	if err != nil {
		return nil, err
	}
	return readFile{f, r.read}, nil
}

// Unwrap gives the file system below.
func (r readOnly) Unwrap() vfs.FS { return r.FS }

// readFile counts what is read of it.
type readFile struct {
	vfs.File
	read func(n int)
}

func (f readFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.read(n)
	return n, err
}

func (f readFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(b, at)
	f.read(n)
	return n, err
}
