// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package textfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Write puts lines in the place of the file that f was read from: a temporary file beside it, synced, renamed over it.
// A new file is for its owner alone (0600); an existing one keeps its owner, and its mode but for the rights of others.
// It fails if the file has changed since it was read. Symbolic links are followed.
func (f *File) Write(lines []string) error {
	path, err := filepath.EvalSymlinks(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		path = f.Path
	} else if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails, as it should, once it is renamed
	defer temp.Close()           // closed twice on the good way, which does no harm
	if _, err := temp.WriteString(joined(lines)); err != nil {
		return err
	}
	if err := f.inherit(temp); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	if err := f.unchanged(path); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func joined(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// inherit gives temp the owner and mode of the file that it replaces.
func (f *File) inherit(temp *os.File) error {
	if f.info == nil {
		return nil
	}
	if err := keepOwner(temp, f.info); err != nil {
		return fmt.Errorf("keep the owner of %s: %w", f.Path, err)
	}
	return temp.Chmod(f.info.Mode().Perm() &^ 0o007)
}

// unchanged is an error if path is no longer what was read.
func (f *File) unchanged(path string) error {
	info, err := os.Stat(path)
	switch {
	case f.info == nil && errors.Is(err, fs.ErrNotExist):
		return nil
	case f.info == nil && err == nil, f.info != nil && errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case same(f.info, info):
		return nil
	}
	return &Error{Path: f.Path, Text: "it was changed by somebody else at the same time; try again"}
}

// same reports whether two looks at a file saw the same.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
