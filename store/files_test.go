// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

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
		_, err = f.Write(bytes.Clone(b)) // with the race detector Pebble's file system spoils what it was given
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}
