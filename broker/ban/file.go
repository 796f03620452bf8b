// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package ban

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

// Names of the file in the data directory, and of that for lines which could not be read. A line each is a Ban as JSON.
const (
	FileName    = "bans.jsonl"
	DamagedName = "bans.damaged.jsonl"
)

const (
	maxFile   = 64 << 20
	saveDelay = time.Second // so that many bans of a Flapping are written at once
)

// file is where a list is kept. Its methods may be called on nil, which is nowhere.
type file struct {
	dir string
	log *slog.Logger

	writing sync.Mutex // one write at a time; taken before the list's

	mu      sync.Mutex // guards the following
	later   *time.Timer
	pending sync.WaitGroup
	closed  bool
}

// Open reads the list of a data directory; a directory without one has an empty list. Lines that cannot be read are set aside, in a file of
// their own, and told: the bans that they held are not in force.
func Open(dir string, now func() time.Time, log *slog.Logger) (*List, error) {
	l := New(now)
	path := filepath.Join(dir, FileName)
	text, err := readAll(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bans: %w", err)
	}
	var damaged [][]byte
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var b Ban
		if json.Unmarshal(line, &b) != nil || b.check() != nil {
			damaged = append(damaged, bytes.Clone(line))
			continue
		}
		if b.Ended(now()) {
			continue
		}
		if err := l.put(b); err != nil {
			return nil, fmt.Errorf("bans: %s: %w; remove some lines", path, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("bans: %s: %w; remove that line", path, err)
	}
	l.file = &file{dir: dir, log: log}
	if len(damaged) > 0 {
		aside := filepath.Join(dir, DamagedName)
		if err := appendTo(aside, damaged); err != nil {
			return nil, fmt.Errorf("bans: set lines of %s aside: %w", path, err)
		}
		log.Error("some bans cannot be read and are not in force", "file", path, "lines", len(damaged), "set_aside_in", aside)
		return l, l.file.save(l)
	}
	return l, nil
}

func readAll(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

func appendTo(path string, lines [][]byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(bytes.Join(lines, []byte("\n")), '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

// save writes the list: a temporary file, synced, renamed over the old one.
func (f *file) save(l *List) error {
	if f == nil {
		return nil
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	for _, b := range l.All() {
		if err := lines.Encode(&b); err != nil {
			return fmt.Errorf("bans: %w", err)
		}
	}
	if err := replace(filepath.Join(f.dir, FileName), text.Bytes()); err != nil {
		return fmt.Errorf("bans: in force, but not on disk: %w", err)
	}
	return nil
}

func replace(path string, text []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+FileName+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails, as it should, once it is renamed
	_, err = temp.Write(text)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// saveLater has the list written soon.
func (f *file) saveLater(l *List) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.later != nil || f.closed {
		return
	}
	f.pending.Add(1)
	f.later = time.AfterFunc(saveDelay, func() {
		f.mu.Lock()
		f.later = nil
		f.mu.Unlock()
		f.saveOrComplain(l)
		f.pending.Done()
	})
}

func (f *file) saveOrComplain(l *List) {
	if err := f.save(l); err != nil {
		f.log.Error("bans cannot be written", "err", err)
	}
}

// Close writes what is still to be written.
func (l *List) Close() {
	f := l.file
	if f == nil {
		return
	}
	f.mu.Lock()
	f.closed = true
	stopped := f.later != nil && f.later.Stop()
	f.mu.Unlock()
	if stopped {
		f.saveOrComplain(l)
		f.pending.Done()
	}
	f.pending.Wait()
}
