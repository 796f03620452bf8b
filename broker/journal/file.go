// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Names of the files: the one that is written, and the one before it. A line each is a Drop as JSON.
const (
	FileName    = "drops.jsonl"
	OldFileName = "drops.old.jsonl"
)

const (
	mostInFile  = 4 << 20 // bytes of a file before a new one is begun
	mostWaiting = Most    // entries that wait for a slow disk; what is more is counted
)

// NotWritten is the cause of an entry, in the file only, that counts drops which the file lacks because it could not be written.
const NotWritten = "not_written"

// file appends entries to a file, on a goroutine of its own. Its methods may be called on nil, which is no file.
type file struct {
	dir    string
	log    *slog.Logger
	settle func() bool // has the journal make entries of its counts; false: there are none
	signal chan struct{}
	closed chan struct{} // says to end
	ended  chan struct{}

	mu      sync.Mutex // guards the following
	waiting []Drop
	lost    int64 // since the last entry that was written

	f      *os.File // the goroutine's own, as the rest
	size   int64
	failed bool
}

func startFile(dir string, log *slog.Logger, settle func() bool) *file {
	f := &file{dir: dir, log: log, settle: settle, signal: make(chan struct{}, 1), closed: make(chan struct{}), ended: make(chan struct{})}
	go f.run()
	return f
}

// add queues an entry.
func (f *file) add(d Drop) {
	if f == nil {
		return
	}
	f.mu.Lock()
	if len(f.waiting) < mostWaiting {
		f.waiting = append(f.waiting, d)
	} else {
		f.lost += max(1, d.Count)
	}
	f.mu.Unlock()
	f.wake()
}

func (f *file) wake() {
	if f == nil {
		return
	}
	select {
	case f.signal <- struct{}{}:
	default:
	}
}

func (f *file) close() {
	if f == nil {
		return
	}
	close(f.closed)
	<-f.ended
}

// run writes what waits, at most once in a while, so that a flood is written in large parts.
func (f *file) run() {
	defer close(f.ended)
	const while = time.Second
	timer := time.NewTimer(while)
	defer timer.Stop()
	for {
		select {
		case <-f.signal:
		case <-f.closed:
			f.write()
			if f.f != nil {
				f.f.Close() // each write was checked
			}
			return
		}
		f.write()
		timer.Reset(while)
		select {
		case <-timer.C:
		case <-f.closed:
			continue
		}
		if f.settle() {
			f.wake()
		}
	}
}

// write appends all that waits.
func (f *file) write() {
	f.mu.Lock()
	drops, lost := f.waiting, f.lost
	f.waiting, f.lost = nil, 0
	f.mu.Unlock()
	if len(drops) == 0 && lost == 0 {
		return
	}
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	if lost > 0 {
		lines.Encode(Drop{Time: time.Now(), Cause: NotWritten, Count: lost}) //nolint:errcheck // a buffer takes everything
	}
	missed := lost
	for i := range drops {
		lines.Encode(&drops[i]) //nolint:errcheck // likewise
		missed += max(1, drops[i].Count)
	}
	if err := f.append(b.Bytes()); err != nil {
		if !f.failed {
			f.failed = true
			f.log.Warn("dropped messages cannot be listed in their file", "err", err)
		}
		f.mu.Lock()
		f.lost += missed
		f.mu.Unlock()
		return
	}
	f.failed = false
}

// append writes to the file, beginning a new one when it is full.
func (f *file) append(b []byte) error {
	if f.f != nil && f.size+int64(len(b)) > mostInFile {
		f.f.Close() // each write was checked
		f.f = nil
		if err := os.Rename(f.path(FileName), f.path(OldFileName)); err != nil {
			return err
		}
	}
	if f.f == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	n, err := f.f.Write(b)
	f.size += int64(n)
	if err != nil { // what is half a line now is ended at the next opening
		f.f.Close() // err matters more
		f.f = nil
	}
	return err
}

func (f *file) path(name string) string { return filepath.Join(f.dir, name) }

// open opens the file for appending, behind a whole line.
func (f *file) open() error {
	opened, err := os.OpenFile(f.path(FileName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := endLine(opened)
	if err != nil {
		opened.Close() // err matters more
		return err
	}
	f.f, f.size = opened, size
	return nil
}

// endLine ends a line that a crash cut off, and gives the file's size.
func endLine(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	var end [1]byte
	if _, err := f.ReadAt(end[:], info.Size()-1); err != nil || end[0] == '\n' {
		return info.Size(), err
	}
	n, err := f.WriteString("\n")
	return info.Size() + int64(n), err
}

// Read gives the entries in the files of a folder that a query chooses, the oldest first. Lines that were cut off are passed over.
// A folder without such files has no entries.
func Read(dir string, q Query) ([]Drop, error) {
	var out []Drop
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	for _, name := range []string{OldFileName, FileName} {
		var err error
		if out, err = readFile(filepath.Join(dir, name), &q, out); err != nil {
			return nil, err
		}
	}
	return last(out, q.Limit), nil
}

func readFile(path string, q *Query, out []Drop) ([]Drop, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	defer f.Close() // it is only read
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var d Drop
		if json.Unmarshal(lines.Bytes(), &d) == nil && q.Wants(&d) {
			out = append(out, d)
		}
	}
	if err := lines.Err(); err != nil {
		return out, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}
