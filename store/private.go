// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Permissions of what the store makes.
const (
	filePerm   = 0o600
	folderPerm = 0o700
)

// private makes files and folders of the operating system's file system readable by their owner only. Others are left as
// they are.
func private(fs vfs.FS) vfs.FS {
	if fs == vfs.Default {
		return privateFS{fs}
	}
	return fs
}

type privateFS struct{ vfs.FS }

func (p privateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return onlyOwner(name)(p.FS.Create(name, category))
}

func (p privateFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return onlyOwner(name)(p.FS.OpenReadWrite(name, category, o...))
}

func (p privateFS) MkdirAll(dir string, _ os.FileMode) error { return p.FS.MkdirAll(dir, folderPerm) }

func (p privateFS) Lock(name string) (io.Closer, error) {
	c, err := p.FS.Lock(name)
	if err == nil {
		err = os.Chmod(name, filePerm)
	}
	return c, err
}

// Unwrap gives the file system below.
func (p privateFS) Unwrap() vfs.FS { return p.FS }

// onlyOwner lets nobody else read a file that was made.
func onlyOwner(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return f, err
		}
		if err := os.Chmod(name, filePerm); err != nil {
			_ = f.Close()
			return nil, err
		}
		return f, nil
	}
}
