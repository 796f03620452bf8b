// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Backuper is a Store of which a backup can be made while it works. The durable engine is one; that in memory gives ErrNoBackup.
type Backuper interface {
	// Backup writes all that the store keeps, as it was at one position: everything that was done before the call is in it. The store goes
	// on meanwhile; the call needs a few megabytes, begins a checkpoint and waits for its end, and blocks as w does. Only one is made at a
	// time: another gets ErrBackupRuns. A backup that ended with an error is none, whatever was written.
	Backup(ctx context.Context, w io.Writer, o BackupOptions) (BackupInfo, error)
}

// Errors of Backup.
var (
	ErrNoBackup   = errors.New("store: it keeps everything in memory: there is nothing to make a backup of")
	ErrBackupRuns = errors.New("store: a backup is being made")
)

// BackupOptions are how a backup is made. Zero values will do.
type BackupOptions struct {
	Program  string           // written into the backup: who made it
	Progress func(BackupInfo) // told now and then, on the caller's goroutine, how many rows and bytes there are; nil = nobody is told
	Now      func() int64     // nil = the clock
	FS       vfs.FS           // of a folder; nil = the operating system's
}

func (o BackupOptions) withDefaults() BackupOptions {
	if o.Progress == nil {
		o.Progress = func(BackupInfo) {}
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixNano() }
	}
	return o
}

// backupChunk is how many bytes of rows are read, and written, at once.
const backupChunk = 1 << 20

var _ Backuper = (*engine)(nil)

// Backup implements Backuper.
func (e *engine) Backup(ctx context.Context, w io.Writer, o BackupOptions) (BackupInfo, error) {
	if e.disk == nil {
		return BackupInfo{}, ErrNoBackup
	}
	info, err := e.disk.backup(ctx, w, o.withDefaults())
	if err != nil {
		return info, fmt.Errorf("store: backup: %w", err)
	}
	return info, nil
}

// copying is what a backup reads from. The state can be closed while there is one: it ends with an error then. A backup never holds
// the lock while it writes.
type copying struct {
	mu      sync.RWMutex // held shared to read from the state
	running sync.Mutex   // of a backup
	from    *pebble.Snapshot
	closed  bool
}

// begin takes a snapshot of the state.
func (c *copying) begin(db *pebble.DB) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.from = db.NewSnapshot()
	}
}

// end lets go of the snapshot.
func (c *copying) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from != nil {
		_ = c.from.Close() // it was only read from
		c.from = nil
	}
}

// close ends a backup, because the state is closed next.
func (c *copying) close() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// read calls f with the snapshot, which stays as long.
func (c *copying) read(f func(*pebble.Snapshot) error) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.from == nil {
		return ErrClosed
	}
	return f(c.from)
}

func (d *disk) backup(ctx context.Context, w io.Writer, o BackupOptions) (info BackupInfo, err error) {
	if !d.copying.running.TryLock() {
		return info, ErrBackupRuns
	}
	defer d.copying.running.Unlock()
	if err := d.settle(ctx); err != nil {
		return info, err
	}
	defer d.copying.end()
	info = BackupInfo{Format: formatVersion, Groups: d.o.Groups, Created: o.Now(), Program: o.Program}
	if err := d.copying.read(func(s *pebble.Snapshot) (err error) { info.Position, err = positionOf(s); return err }); err != nil {
		return info, err
	}
	b, err := newBackupWriter(w, &info)
	if err != nil {
		return info, err
	}
	for next := []byte(nil); ; {
		if err := ctx.Err(); err != nil {
			return info, err
		}
		more := false
		err := d.copying.read(func(s *pebble.Snapshot) (err error) { next, more, err = b.gather(s, next); return err })
		if err == nil {
			err = b.flush()
		}
		if err != nil {
			return info, err
		}
		o.Progress(info)
		if !more {
			return info, b.end()
		}
	}
}

// settle waits until the state has all that was applied before, and takes a snapshot of it. Each checkpoint is one batch with its
// position in it: whichever is the last one then, the snapshot is what was true at one position.
func (d *disk) settle(ctx context.Context) error {
	e := d.engine
	e.state.Lock()
	defer e.state.Unlock()
	for need := d.machine.applied; ; {
		switch {
		case e.ended:
			return ErrClosed
		case d.broken.Load():
			return ErrFailed
		case d.over.flushed >= need:
			d.copying.begin(d.db)
			return nil
		case d.room.full.Load():
			return d.room.err()
		case d.writing == nil:
			d.machine.flush()
			if d.begin(); d.writing == nil && !d.broken.Load() { // the state could only be opened for reading
				return d.room.err()
			}
		}
		writing := d.writing
		e.state.Unlock()
		select {
		case <-writing:
		case <-ctx.Done():
		}
		e.state.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// positionOf is the position that a snapshot has reached; 0 if nothing was written yet.
func positionOf(s *pebble.Snapshot) (Position, error) {
	key := (&keys{}).begin(metaGroup, kindMeta)
	stored, closer, err := s.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	value, err := openRow(key, stored)
	if err != nil {
		return 0, err
	}
	d := rowDecoder(value)
	d.uint() // groups
	at := Position(d.uint())
	return at, d.err
}

// gather takes rows from a key on, as many as are written at once. more says that there are others, from next on.
func (b *backupWriter) gather(s *pebble.Snapshot, from []byte) (next []byte, more bool, err error) {
	iter, err := s.NewIter(&pebble.IterOptions{LowerBound: from})
	if err != nil {
		return nil, false, err
	}
	defer iter.Close()
	taken := 0
	for ok := iter.First(); ok; ok = iter.Next() {
		if taken >= backupChunk {
			return bytes.Clone(iter.Key()), true, nil
		}
		value, err := openRow(iter.Key(), iter.Value())
		if err != nil {
			return nil, false, err
		}
		taken += len(iter.Key()) + len(value) + rowOverhead
		b.keep(iter.Key(), value)
	}
	return nil, false, iter.Error()
}

// BackupFolder makes a backup of a data folder that no broker has open (ErrInUse), and changes nothing there. A damaged one is
// refused (ErrDamaged). ErrNoStore: there is none in it.
func BackupFolder(ctx context.Context, dir string, w io.Writer, o BackupOptions) (BackupInfo, error) {
	o = o.withDefaults()
	f, err := openFolder(o.FS, dir, nil)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("store: backup of %s: %w", dir, err)
	}
	defer f.close()
	info, err := f.backup(ctx, w, o)
	if err != nil {
		return info, fmt.Errorf("store: backup of %s: %w", dir, err)
	}
	return info, nil
}

func (f *folder) backup(ctx context.Context, w io.Writer, o BackupOptions) (info BackupInfo, err error) {
	if err := f.sound(); err != nil {
		return info, err
	}
	info = BackupInfo{Format: formatVersion, Groups: f.groups, Position: f.machine.applied, Created: o.Now(), Program: o.Program}
	b, err := newBackupWriter(w, &info)
	if err != nil {
		return info, err
	}
	row := func(key, value []byte) error {
		if len(b.buf) == 0 {
			o.Progress(info)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return b.row(key, value)
	}
	if err := f.rows(row); err != nil {
		return info, err
	}
	if err := f.stored(row); err != nil {
		return info, err
	}
	return info, b.end()
}
