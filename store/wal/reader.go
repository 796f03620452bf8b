// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	window = 256 << 10 // bytes read at once
	block  = 4096      // bytes given up at once where the disk cannot read
)

// reader reads a file through a window that grows to what is asked for, never beyond the file. What the disk cannot read is zero, and remembered.
type reader struct {
	file   vfs.File
	size   int64
	err    error // the first error of reading
	buf    []byte
	offset int64 // of buf in the file
}

func openReader(fs vfs.FS, path string) (*reader, error) {
	file, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("it is a folder")
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &reader{file: file, size: info.Size()}, nil
}

func (r *reader) close() { _ = r.file.Close() }

// bytes are n bytes at an offset, or what there is of them. They are lent until the next call.
func (r *reader) bytes(offset, n int64) []byte {
	n = min(n, r.size-offset)
	if n <= 0 {
		return nil
	}
	if offset < r.offset || offset+n > r.offset+int64(len(r.buf)) {
		r.load(offset, min(max(n, window), r.size-offset))
	}
	at := offset - r.offset
	return r.buf[at : at+n]
}

func (r *reader) load(offset, n int64) {
	if int64(cap(r.buf)) < n || int64(cap(r.buf)) > keepBuffer && n <= window {
		r.buf = make([]byte, n)
	}
	r.buf, r.offset = r.buf[:n], offset
	if err := readFull(r.file, r.buf, offset); err == nil {
		return
	}
	for at := 0; at < len(r.buf); at += block {
		b := r.buf[at:min(at+block, len(r.buf))]
		if err := readFull(r.file, b, offset+int64(at)); err != nil {
			clear(b)
			if r.err == nil {
				r.err = fmt.Errorf("read at %d: %w", offset+int64(at), err)
			}
		}
	}
}

func readFull(f vfs.File, b []byte, offset int64) error {
	n, err := f.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// ahead is what the window shows from an offset on: at least n bytes, or all that there are.
func (r *reader) ahead(offset, n int64) []byte {
	if offset >= r.offset && offset+n <= r.offset+int64(len(r.buf)) {
		return r.buf[offset-r.offset:]
	}
	return r.bytes(offset, window)
}

// find is the offset of the next place, at or behind from, where the words stand; -1 if there is none.
func (r *reader) find(from int64, words string) int64 {
	for from < r.size {
		b := r.ahead(from, int64(len(words)))
		if i := bytes.Index(b, []byte(words)); i >= 0 {
			return from + int64(i)
		}
		if from+int64(len(b)) >= r.size {
			break
		}
		from += int64(len(b) - len(words) + 1)
	}
	return -1
}

// zero says whether there is nothing but zeros from an offset on.
func (r *reader) zero(from int64) bool {
	for from < r.size {
		b := r.ahead(from, 1)
		for _, c := range b {
			if c != 0 {
				return false
			}
		}
		from += int64(len(b))
	}
	return true
}
