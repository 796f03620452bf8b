// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// newestFile has the number of the newest segment, so that it is missed when it is missing: of all others the next one
// speaks. It is written when the segment is there, and lowered before segments behind the end of the log are removed.
// Without it, or with a damaged one, nothing is missed and nothing else is wrong.
const newestFile = "newest"

func newestText(number uint64) string {
	text := fmt.Sprintf("%016x\n", number)
	return text + fmt.Sprintf("%08x\n", crc32.Checksum([]byte(text), castagnoli))
}

// readNewest is the number in a folder's newestFile; 0 if there is none to be read.
func readNewest(fs vfs.FS, dir string) (number uint64) {
	f, err := fs.Open(fs.PathJoin(dir, newestFile))
	if err != nil {
		return 0
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscanf(string(text), "%x", &number); err != nil || newestText(number) != string(text) {
		return 0
	}
	return number
}

// writeNewest writes newestFile. It can do without, where there is no room.
func writeNewest(fs vfs.FS, dir string, number uint64) error {
	if readNewest(fs, dir) == number {
		return nil
	}
	next := fs.PathJoin(dir, newestFile+endMaking)
	err := func() error {
		f, _, err := openWrite(fs, next)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte(newestText(number)), 0); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return fs.Rename(next, fs.PathJoin(dir, newestFile))
	}()
	if NoSpace(err) {
		return nil
	}
	if err == nil {
		err = syncDir(fs, dir)
	}
	if err != nil {
		return fmt.Errorf("wal: note the newest segment: %w", err)
	}
	return nil
}

// missed notes that the newest segment is not there.
func (r *recovery) missed() {
	number := uint64(0)
	if n := len(r.files); n > 0 {
		number = r.files[n-1].number
	}
	if newest := readNewest(r.o.FS, r.dir); newest > number {
		r.damage(Damage{File: fileName(newest, endSegment), First: r.last + 1, Why: "missing: it was the newest"})
	}
}
