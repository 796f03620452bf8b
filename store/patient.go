// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/wal"
)

// breath is how long a change that cannot be made takes, so that who tries again and again, as Pebble does, does not keep
// the processor busy.
const breath = 10 * time.Millisecond

var errShut = errors.New("store: the state is closed")

// patient is the file system of the state. While the store runs, what finds no room waits for it, since Pebble would not; but a
// compaction fails after a while, for what it has written may be the very room that is missing.
// What fails in another way, or finds no room while nobody is to wait, is told to trouble, once, and whoever waits for
// Pebble learns it from stuck. From then on, and once it is shut, nothing is changed through it any more, whichever
// goroutines of Pebble are left: all changes fail. While Pebble is being opened, which it would never end, they seem to
// succeed instead.
type patient struct {
	vfs.FS
	room    *room
	trouble func(error)
	opens   atomic.Bool
	waits   atomic.Bool
	shut    atomic.Bool
	ends    atomic.Bool   // Pebble is being closed, and tries nothing again
	stuck   chan struct{} // closed when something has failed
	once    sync.Once
	cause   error // after stuck
}

func newPatient(fs vfs.FS, r *room, trouble func(error)) *patient {
	return &patient{FS: fs, room: r, trouble: trouble, stuck: make(chan struct{})}
}

// give makes known that something failed for good.
func (p *patient) give(err error) {
	p.once.Do(func() {
		p.cause = err
		close(p.stuck)
		p.trouble(err)
	})
}

// over says that nothing is changed any more. done is what a change gives then.
func (p *patient) over() (over bool, done error) {
	select {
	case <-p.stuck:
		done = p.cause
	default:
		if !p.shut.Load() {
			return false, nil
		}
		done = errShut
	}
	switch {
	case p.opens.Load():
		return true, nil
	case !p.ends.Load():
		time.Sleep(breath)
	}
	return true, done
}

// retry calls f, which writes so many bytes, until it has room for what it does, or nobody waits any more.
func (p *patient) retry(k vfs.DiskWriteCategory, bytes int, f func() error) error {
	for pause := breath; ; pause = min(2*pause, lookForRoom) {
		if over, err := p.over(); over {
			return err
		}
		if p.waits.Load() && p.room.full.Load() && !p.room.spare(isCompaction(k), bytes) {
			time.Sleep(pause)
			if isCompaction(k) && pause == lookForRoom { // what it has written so far is removed, and it begins anew
				return p.room.err()
			}
			continue
		}
		err := f()
		switch {
		case err == nil:
			return nil
		case wal.NoSpace(err):
			p.room.lost(err)
		case errors.Is(err, os.ErrNotExist):
			return err
		}
		if !wal.NoSpace(err) || !p.waits.Load() {
			p.give(err)
			continue
		}
		time.Sleep(pause)
	}
}

// isCompaction tells by the category of a file whether a compaction writes it.
func isCompaction(k vfs.DiskWriteCategory) bool { return k == "pebble-compaction" }

// file makes a patient file of one that was opened.
func (p *patient) file(k vfs.DiskWriteCategory, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := p.retry(k, 0, func() (err error) { file, err = open(); return err })
	if err != nil {
		return nil, err
	}
	if file == nil { // it is over, and Pebble is being opened
		file, err = vfs.NewMem().Create("nothing", vfs.WriteCategoryUnspecified)
	}
	return patientFile{file, p, k}, err
}

// manifestMarker begins the name of the file by which Pebble says which MANIFEST counts.
const manifestMarker = "marker.manifest."

// Create makes a file. Pebble makes a MANIFEST, then the marker that names it, and only then syncs the folder. A power cut that keeps the
// later name and not the earlier one would leave a state without a list of its files: so the folder is synced between them, too.
func (p *patient) Create(name string, k vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(p.PathBase(name), manifestMarker) {
		dir, err := p.OpenDir(p.PathDir(name))
		if err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
		if err != nil {
			return nil, err
		}
	}
	return p.file(k, func() (vfs.File, error) { return p.FS.Create(name, k) })
}

func (p *patient) OpenReadWrite(name string, k vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return p.file(k, func() (vfs.File, error) { return p.FS.OpenReadWrite(name, k, o...) })
}

func (p *patient) ReuseForWrite(from, to string, k vfs.DiskWriteCategory) (vfs.File, error) {
	return p.file(k, func() (vfs.File, error) { return p.FS.ReuseForWrite(from, to, k) })
}

func (p *patient) OpenDir(name string) (vfs.File, error) {
	f, err := p.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return patientFile{f, p, vfs.WriteCategoryUnspecified}, nil
}

func (p *patient) Link(from, to string) error {
	return p.retry(vfs.WriteCategoryUnspecified, 0, func() error { return p.FS.Link(from, to) })
}

func (p *patient) Rename(from, to string) error {
	return p.retry(vfs.WriteCategoryUnspecified, 0, func() error { return p.FS.Rename(from, to) })
}

// Remove is not worth a failure: what is left over is removed at the next opening.
func (p *patient) Remove(name string) error {
	if over, err := p.over(); over {
		return err
	}
	return p.FS.Remove(name)
}

// Lock locks nothing: the whole folder is.
func (p *patient) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap gives the file system below.
func (p *patient) Unwrap() vfs.FS { return p.FS }

// patientFile is a file of a patient file system.
type patientFile struct {
	vfs.File
	fs       *patient
	category vfs.DiskWriteCategory
}

func (f patientFile) Write(b []byte) (n int, err error) {
	err = f.fs.retry(f.category, len(b), func() error {
		some, err := f.File.Write(b[n:])
		n += some
		return err
	})
	if err == nil {
		n = len(b)
	}
	return n, err
}

func (f patientFile) WriteAt(b []byte, at int64) (n int, err error) {
	err = f.fs.retry(f.category, len(b), func() error {
		some, err := f.File.WriteAt(b[n:], at+int64(n))
		n += some
		return err
	})
	if err == nil {
		n = len(b)
	}
	return n, err
}

func (f patientFile) Sync() error     { return f.sync(f.File.Sync) }
func (f patientFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f patientFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() error { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// sync is not tried again, whatever the error: nobody knows what the disk holds then.
func (f patientFile) sync(call func() error) error {
	if over, err := f.fs.over(); over {
		return err
	}
	if err := call(); err != nil {
		f.fs.give(err)
		_, err = f.fs.over()
		return err
	}
	return nil
}
