// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/wal"
)

// Names that a restore makes in the folder.
const (
	restoringDir  = "restoring"       // a store that is being made of a backup
	restoredDir   = "restored"        // the same when it is whole, until its parts are in their places
	beforeRestore = "before-restore-" // and a time: what was in the folder before
	lostAndFound  = "lost+found"      // a folder that is a disk of its own has it
)

// errRestoring refuses a folder in which some parts may be those of before.
var errRestoring = errors.New("a restore was cut short; do it again, with --force")

// ErrNotEmpty refuses to restore into a folder with something in it.
var ErrNotEmpty = errors.New("store: the folder is not empty")

// RestoreOptions are how a backup is restored. Zero values will do.
type RestoreOptions struct {
	Force    bool             // moves what is in the folder aside, in the folder, instead of refusing it
	Progress func(BackupInfo) // told now and then how many rows and bytes were read; nil = nobody is told
	Now      func() int64     // nil = the clock
	FS       vfs.FS           // nil = the operating system's
}

// RestoreReport is what was restored.
type RestoreReport struct {
	Backup   BackupInfo `json:"backup"`
	Contents Contents   `json:"contents"`
	Moved    string     `json:"moved,omitempty"` // name of the folder, in the folder, with what was there before
}

// Restore makes a data folder of a backup: all that was kept then, at the same position. The folder has to be absent or empty
// (ErrNotEmpty), and no broker may have it open (ErrInUse).
//
// The store is made in a folder in the folder, and read again as Verify does, before it takes its place. So a backup that is not whole
// (ErrBackup), a full disk or a kill leave the folder as it was, but for the very last step: if that is cut short the store
// refuses to open until the restore is done again, with Force. When it returns without error
// all is synced.
func Restore(r io.Reader, dir string, o RestoreOptions) (RestoreReport, error) {
	if o.Progress == nil {
		o.Progress = func(BackupInfo) {}
	}
	options := Options{FS: o.FS, Now: o.Now}.withDefaults()
	d := &disk{fs: private(options.FS), dir: dir, o: options, measures: &measures{}, notice: func(Notice) {}}
	d.room = newRoom(d.fs, d.path(restoringDir), 0, d.notice)
	x := &restoring{disk: d, options: o}
	err := x.run(r)
	if err != nil {
		x.undo()
		return x.report, fmt.Errorf("store: restoring to %s: %w", dir, err)
	}
	return x.report, nil
}

// CheckBackup reads a backup from beginning to end, and keeps nothing. The error is ErrBackup if it is not whole. It does not look at
// what the rows say; Restore does.
func CheckBackup(r io.Reader, progress func(BackupInfo)) (BackupInfo, error) {
	var seen BackupInfo
	head := func(info BackupInfo) error { seen = info; return nil }
	return readBackup(r, head, func(key, value []byte) error {
		seen.Rows, seen.Bytes = seen.Rows+1, seen.Bytes+uint64(len(key)+len(value))
		if progress != nil && seen.Rows%4096 == 0 {
			progress(seen)
		}
		return nil
	})
}

// restoring is one run of Restore.
type restoring struct {
	*disk
	options RestoreOptions
	report  RestoreReport
	begun   bool
	made    bool // the folder was not there
	locked  bool // its LOCK was not there
}

func (x *restoring) run(r io.Reader) error {
	if err := x.build(r); err != nil {
		return err
	}
	if err := x.check(); err != nil {
		return err
	}
	return x.install()
}

// begin takes the folder, when it is known that the backup is one.
func (x *restoring) begin(info BackupInfo) error {
	x.o.Groups = info.Groups
	_, err := x.fs.Stat(x.dir)
	x.made = err != nil
	x.locked = !x.exists(lockFile)
	if err := x.takeFolder(); err != nil {
		return err
	}
	x.begun = true
	old, err := x.occupants()
	if err != nil {
		return err
	}
	if len(old) > 0 && !x.options.Force {
		return fmt.Errorf("%w: there is %s", ErrNotEmpty, old[0])
	}
	if err := x.fs.RemoveAll(x.path(restoringDir)); err != nil {
		return err
	}
	return x.makeFolder(x.path(restoringDir))
}

// occupants are the names of what is in the folder.
func (x *restoring) occupants() ([]string, error) {
	names, err := x.fs.List(x.dir)
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(name string) bool {
		return name == lockFile || name == pidFile || name == restoringDir || name == lostAndFound || strings.HasPrefix(name, beforeRestore)
	})
	return names, err
}

// build makes a state and an empty log of the rows.
func (x *restoring) build(r io.Reader) error {
	err := x.buildState(r)
	if e := x.closeState(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return x.newLog()
}

func (x *restoring) buildState(r io.Reader) (err error) {
	var b *pebble.Batch
	x.report.Backup, err = readBackup(r, func(info BackupInfo) error {
		if err := x.begin(info); err != nil {
			return err
		}
		x.report.Backup = info
		o := x.stateOptions()
		o.ErrorIfExists = true
		if x.db, err = x.openAt(x.fs.PathJoin(restoringDir, stateDir), o); err == nil {
			b = x.db.NewBatch()
		}
		return err
	}, func(key, value []byte) error {
		if err := setRow(b, key, value); err != nil {
			return err
		}
		x.report.Backup.Rows, x.report.Backup.Bytes = x.report.Backup.Rows+1, x.report.Backup.Bytes+uint64(len(key)+len(value))
		if b.Len() < repairBatch {
			return nil
		}
		x.options.Progress(x.report.Backup)
		if err := b.Commit(pebble.NoSync); err != nil {
			return err
		}
		b.Reset()
		return x.flush(x.db)
	})
	if b == nil {
		return err
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	_ = b.Close()
	if err == nil {
		err = x.flush(x.db)
	}
	return err
}

func (x *restoring) newLog() error {
	o := wal.Options{FS: x.fs, SegmentBytes: 2 * x.o.WriteBuffer}
	log, _, err := wal.Open(x.path(restoringDir, logDir), o, 0, func(uint64, []byte) error { return nil })
	if err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	made := disk{fs: x.fs, dir: x.path(restoringDir), o: x.o}
	return made.writeFormat()
}

// check reads what was made.
func (x *restoring) check() error {
	f, err := openFolder(x.fs, x.path(restoringDir), nil)
	if err != nil {
		return err
	}
	defer f.close()
	v := verification{folder: f}
	if err := v.run(); err != nil {
		return err
	}
	for _, found := range v.report.Findings {
		if found.Severity == SeverityDamage {
			return fmt.Errorf("%w: its rows do not agree: %s", ErrBackup, found.Text)
		}
	}
	if v.machine.applied != x.report.Backup.Position {
		return fmt.Errorf("%w: it says that it is of position %d, and is of %d", ErrBackup, x.report.Backup.Position, v.machine.applied)
	}
	x.report.Contents = v.report.Contents
	return nil
}

// install puts what was made in its place, and what was there aside. As long as the folder restoredDir is there nobody opens
// the store.
func (x *restoring) install() error {
	old, err := x.occupants()
	if err != nil {
		return err
	}
	if len(old) > 0 {
		x.report.Moved = beforeRestore + time.Unix(0, x.o.Now()).UTC().Format("20060102T150405.000000000Z")
		if err := x.makeFolder(x.path(x.report.Moved)); err != nil {
			return err
		}
	}
	if slices.Contains(old, restoredDir) { // of a restore that was cut short here
		if err := x.move(restoredDir, x.fs.PathJoin(x.report.Moved, restoredDir)); err != nil {
			return err
		}
		old = slices.DeleteFunc(old, func(name string) bool { return name == restoredDir })
	}
	if err := x.move(restoringDir, restoredDir); err != nil {
		return err
	}
	if err := x.syncDir(x.dir); err != nil {
		return err
	}
	for _, name := range old {
		if err := x.move(name, x.fs.PathJoin(x.report.Moved, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{stateDir, logDir, formatFile} {
		if err := x.move(x.fs.PathJoin(restoredDir, name), name); err != nil {
			return err
		}
	}
	if x.report.Moved != "" {
		if err := x.syncDir(x.path(x.report.Moved)); err != nil {
			return err
		}
	}
	if err := x.syncDir(x.dir); err != nil {
		return err
	}
	if err := x.fs.RemoveAll(x.path(restoredDir)); err != nil {
		return err
	}
	if err := x.syncDir(x.dir); err != nil {
		return err
	}
	return x.closeAll()
}

func (x *restoring) move(from, to string) error { return x.fs.Rename(x.path(from), x.path(to)) }

// undo removes what a restore that failed has made beside what was there.
func (x *restoring) undo() {
	if !x.begun {
		return
	}
	_ = x.fs.RemoveAll(x.path(restoringDir)) // the next restore does it, too
	_ = x.closeAll()
	if x.locked {
		_ = x.fs.Remove(x.path(lockFile))
	}
	if x.made {
		_ = x.fs.Remove(x.dir) // if anything else is in it, it stays
	}
}
