// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/salvage"
	"github.com/noctule/noctule/store/wal"
)

// ErrNoStore is what reading a folder gives in which there is no store.
var ErrNoStore = errors.New("store: there is no store in it")

// folder is a data folder that is read and not changed: neither the files in it, nor their number. While it is read its
// LOCK is held, so that no broker begins to change it. All of it belongs to one goroutine.
type folder struct {
	fs     vfs.FS
	dir    string
	lock   io.Closer
	bytes  atomic.Int64 // read so far
	groups int          // as FORMAT has it; 0 = it cannot be read
	state  string       // name of the folder of the state
	making bool         // a store was begun to be made there, and no more

	// From load on.
	db         *pebble.DB
	over       *overlay
	machine    *machine
	fault      error // of a read of the state
	bad        []badRow
	checkpoint Position // up to which the state has everything
	log        wal.Recovery
}

// openFolder takes a folder for reading. progress is told, on the caller's goroutine or one of the state, how many bytes were
// read so far.
func openFolder(fs vfs.FS, dir string, progress func(int64)) (*folder, error) {
	if fs == nil {
		fs = vfs.Default
	}
	f := &folder{dir: dir, state: stateDir}
	f.fs = readOnly{fs, func(n int) {
		if all := f.bytes.Add(int64(n)); progress != nil {
			progress(all)
		}
	}}
	err := f.take(fs)
	if err == nil {
		err = f.readFormat()
	}
	if err != nil {
		f.close()
		return nil, err
	}
	if !f.exists(stateDir) && f.exists(stateNext) {
		f.state = stateNext // a repair of which the last step is missing: the next opening takes it
	}
	return f, nil
}

func (f *folder) path(elem ...string) string {
	return f.fs.PathJoin(append([]string{f.dir}, elem...)...)
}

func (f *folder) exists(name string) bool {
	_, err := f.fs.Stat(f.path(name))
	return err == nil
}

// take locks the folder, where there is a LOCK: without one nobody has ever opened it, or it is a copy. On a file system
// from which can only be read nobody can have it open.
func (f *folder) take(fs vfs.FS) error {
	if _, err := f.fs.Stat(f.dir); err != nil {
		return err
	}
	if !f.exists(lockFile) {
		return nil
	}
	lock, err := fs.Lock(f.path(lockFile))
	switch {
	case err == nil:
		f.lock = lock
		return nil
	case errors.Is(err, syscall.EROFS):
		return nil
	case errors.Is(err, os.ErrPermission):
		return err
	}
	if pid, e := f.readAll(pidFile); e == nil {
		return fmt.Errorf("%w by process %s", ErrInUse, strings.TrimSpace(string(pid)))
	}
	return fmt.Errorf("%w: %w", ErrInUse, err)
}

func (f *folder) readAll(name string) ([]byte, error) {
	file, err := f.fs.Open(f.path(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// readFormat finds out what the folder is. Where FORMAT is missing or damaged groups is 0: the state knows, too.
func (f *folder) readFormat() error {
	if f.exists(restoredDir) {
		return errRestoring
	}
	text, err := f.readAll(formatFile)
	if errors.Is(err, os.ErrNotExist) {
		for _, name := range []string{stateDir, stateNext, logDir} {
			if f.exists(name) {
				return nil
			}
		}
		return ErrNoStore
	}
	if err != nil {
		return err
	}
	version, groups, making, ok := parseFormat(string(text))
	if !ok {
		return nil
	}
	if version != formatVersion {
		return fmt.Errorf("format %d; this program knows format %d", version, formatVersion)
	}
	f.groups, f.making = groups, making
	return nil
}

// load makes the machine that the next opening would make: of the state, which has to be sound, and the log. Rows that
// make no sense are in bad. What is wrong with the log is in log.
func (f *folder) load() error {
	o := salvage.Options(f.fs, func(error) {}) // what matters comes to whoever reads, too
	o.ReadOnly, o.DisableWAL, o.CacheSize, o.MaxOpenFiles = true, true, stateCache, 256
	db, err := pebble.Open(f.path(f.state), o)
	if err != nil {
		return err
	}
	f.db = db
	f.over = newOverlay(db, func(err error) { f.fault = cmp.Or(f.fault, err) })
	f.machine = newMachine(f.over, overlaid{f.over}, Limits{}, f.groupsOfState())
	if f.bad, err = f.machine.loadAll(); cmp.Or(f.fault, err) != nil {
		return cmp.Or(f.fault, err)
	}
	f.checkpoint = f.machine.applied
	f.over.flushed = f.checkpoint
	return f.replay()
}

// groupsOfState is the number of groups, from FORMAT or else from the counters.
func (f *folder) groupsOfState() int {
	if f.groups == 0 {
		if v, err := f.over.fromDB((&keys{}).begin(metaGroup, kindMeta)); err == nil {
			d := rowDecoder(v)
			f.groups = int(min(d.uint(), mostGroups))
		}
	}
	if f.groups == 0 {
		f.groups = defaultGroups
	}
	return f.groups
}

// replay applies the log to the machine, in memory.
func (f *folder) replay() (err error) {
	if !f.exists(logDir) {
		return nil
	}
	f.machine.lenient = true
	f.log, err = wal.Check(f.path(logDir), wal.Options{FS: f.fs}, uint64(f.checkpoint)+1, func(at uint64, record []byte) error {
		c, err := decodeRecord(record)
		if err != nil {
			return fmt.Errorf("not a record of this format: %w", err)
		}
		f.machine.apply(Position(at), c)
		return nil
	})
	f.machine.lenient = false
	if err = cmp.Or(err, f.fault); err != nil {
		return err
	}
	f.machine.flush()
	return f.fault
}

// settle removes, in memory, what refers to messages that were kept in memory only: they went with the process that had
// them, and the next opening does the same.
func (f *folder) settle() error {
	if f.machine.volatile {
		f.machine.forgetMessages(func(ref Ref) bool { return ref.Position.volatile() })
		f.machine.volatile = false
	}
	return f.fault
}

// sound loads the folder, and refuses one in which anything is damaged.
func (f *folder) sound() error {
	if f.making {
		return ErrNoStore
	}
	report, err := salvage.CheckManifest(f.fs, f.path(f.state))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !report.Sound() {
		return fmt.Errorf("%w: %s", ErrDamaged, f.state)
	}
	if err := f.load(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(f.bad) > 0 {
		return fmt.Errorf("%w: %s", ErrDamaged, f.bad[0])
	}
	if !f.exists(logDir) {
		return fmt.Errorf("%w: the folder log is missing", ErrDamaged)
	}
	for _, d := range f.log.Damage {
		if !d.Torn {
			return fmt.Errorf("%w: %s", ErrDamaged, f.fs.PathJoin(logDir, d.File))
		}
	}
	return nil
}

func (f *folder) close() {
	if f.db != nil {
		_ = f.db.Close() // it was only read from
	}
	if f.lock != nil {
		_ = f.lock.Close()
	}
}

// stored calls f for the row of each message, of the state and of the log.
func (f *folder) stored(each func(key, value []byte) error) error {
	var k keys
	for g := range f.machine.groups {
		from, to := k.all(uint16(g), kindBody)
		var failed error
		err := f.over.scan(bytes.Clone(from), bytes.Clone(to), func(key, value []byte) bool {
			failed = each(key, value)
			return failed == nil
		})
		if err = cmp.Or(err, failed); err != nil {
			return err
		}
	}
	l := f.over.active
	var buf []byte
	for i, m := range l.bodies {
		if m == nil {
			continue
		}
		buf = appendBody(buf[:0], m)
		at := uint64(l.first) + 2*uint64(i)
		if err := each(k.number(f.machine.topicGroup(m.Topic), kindBody, at), buf); err != nil {
			return err
		}
	}
	return nil
}

// aside lists what was moved aside.
func (f *folder) aside() []Aside {
	names, err := f.fs.List(f.path(damagedDir))
	if err != nil {
		return []Aside{}
	}
	slices.Sort(names)
	list := make([]Aside, 0, len(names))
	for _, name := range names {
		info, err := f.fs.Stat(f.path(damagedDir, name))
		switch {
		case err != nil:
		case info.IsDir():
			list = append(list, Aside{name, f.size(damagedDir, name)})
		default:
			list = append(list, Aside{name, info.Size()})
		}
	}
	return list
}

// rows calls f for all rows but those of messages.
func (f *folder) rows(each func(key, value []byte) error) error {
	var failed error
	from, to := allRows()
	err := f.over.scan(from, to, func(key, value []byte) bool {
		if len(key) < prefixLen || key[2] != kindBody {
			failed = each(key, value)
		}
		return failed == nil
	})
	return cmp.Or(err, failed)
}
