// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage

import (
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Mirror is a file system that keeps a copy beside each MANIFEST that is created through it: MANIFEST-000042.copy. A MANIFEST is
// small and written rarely, but without it all of a folder is lost, see the package comment.
//
// The copy is written when the MANIFEST has been synced, and synced itself before the Sync returns: it never holds what
// the MANIFEST did not, and lags by one record at most, after a power cut. Copies of what has been removed go when the next one is made.
func Mirror(fs vfs.FS) vfs.FS { return mirror{fs} }

type mirror struct{ vfs.FS }

// Unwrap is the file system below.
func (m mirror) Unwrap() vfs.FS { return m.FS }

func (m mirror) isManifest(name string) bool {
	base := m.PathBase(name)
	return strings.HasPrefix(base, manifestPrefix) && !strings.HasSuffix(base, copySuffix)
}

// Create creates a file, and a copy beside it if it is a MANIFEST.
func (m mirror) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := m.FS.Create(name, category)
	if err != nil || !m.isManifest(name) {
		return f, err
	}
	if err = m.sweep(m.PathDir(name)); err == nil {
		var c vfs.File
		if c, err = m.FS.Create(name+copySuffix, category); err == nil {
			return &mirrored{File: f, copy: c}, nil
		}
	}
	_ = f.Close() // the first error counts
	return nil, err
}

// sweep removes copies whose MANIFEST is gone.
func (m mirror) sweep(dir string) error {
	names, err := m.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		of, ok := strings.CutSuffix(name, copySuffix)
		if ok && m.isManifest(of) && !slices.Contains(names, of) {
			if err := m.FS.Remove(m.PathJoin(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// mirrored is a MANIFEST with its copy.
type mirrored struct {
	vfs.File
	copy    vfs.File
	pending []byte // written to File, and not to copy
}

// Write writes to the file, and keeps the bytes for the copy.
func (f *mirrored) Write(p []byte) (int, error) {
	at := len(f.pending)
	f.pending = append(f.pending, p...) // first: a Write may change the bytes given
	n, err := f.File.Write(p)
	f.pending = f.pending[:at+n]
	return n, err
}

// Sync syncs the file, and then writes and syncs the copy.
func (f *mirrored) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	return f.follow()
}

// SyncData is Sync.
func (f *mirrored) SyncData() error { return f.Sync() }

func (f *mirrored) follow() error {
	if _, err := f.copy.Write(f.pending); err != nil {
		return err
	}
	f.pending = f.pending[:0]
	return f.copy.Sync()
}

// Close closes both.
func (f *mirrored) Close() error {
	err := f.copy.Close()
	if e := f.File.Close(); e != nil {
		return e
	}
	return err
}
