// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/wal"
)

// The names in a data folder.
const (
	formatFile = "FORMAT"
	lockFile   = "LOCK"
	pidFile    = "PID"
	logDir     = "log"
	stateDir   = "state"
	damagedDir = "damaged"

	formatVersion = 1
)

// disk is what stands below a durable engine: the folder with the log, which alone is synced for each commit, and the
// state, to which changes are written at checkpoints.
type disk struct {
	fs     vfs.FS
	dir    string
	o      Options
	notice func(Notice)

	lock     io.Closer
	log      *wal.Log
	local    *local
	room     *room
	below    *patient // of db
	db       *pebble.DB
	readOnly bool // there was no room to open the state but for reading
	over     *overlay
	machine  *machine
	engine   *engine

	fault     error         // of a read of the state
	writing   chan struct{} // closed when the checkpoint on its way has ended; nil = there is none. Under the engine's lock.
	loggedAt  int64         // bytes of log written at the last checkpoint
	failing   sync.Once
	broken    atomic.Bool
	measures  *measures
	copying   copying
	lostParts bool // something was damaged: what rows say of each other is not to be trusted
	noFormat  bool // FORMAT is to be written anew

	held     atomic.Int64 // bytes of the active layer, as of the last batch
	relieved time.Time    // when a checkpoint was begun because the disk is full. Under the engine's lock.

	fatal   atomic.Bool // it cannot be closed any more
	suspect suspect
}

// Open opens the durable store in a folder, or makes one there. What was committed before is there again: the log is
// applied to the state, and all connections are counted as gone. The store has one goroutine, and another one during a
// checkpoint; Close ends them. Only one process has a folder open at a time (ErrInUse).
//
// What is damaged is set aside in the folder "damaged" and told to Options.Notice, unless Options.OnDamage is Refuse.
func Open(dir string, o Options) (Store, error) {
	o = o.withDefaults()
	d := &disk{fs: private(o.FS), dir: dir, o: o, measures: &measures{}}
	d.notice = func(n Notice) {
		if n.Kind == Damaged {
			d.measures.damaged.Add(1)
		}
		o.Notice(n)
	}
	e, err := d.open()
	if err != nil {
		d.closeAll()
		return nil, fmt.Errorf("store: opening %s: %w", dir, err)
	}
	return e, nil
}

func (d *disk) path(elem ...string) string {
	return d.fs.PathJoin(append([]string{d.dir}, elem...)...)
}

func (d *disk) open() (*engine, error) {
	if err := d.takeFolder(); err != nil {
		return nil, err
	}
	fresh, err := d.checkFormat()
	if err != nil {
		return nil, err
	}
	if d.o.OnDamage == Refuse && !fresh {
		if err := d.inspect(); err != nil {
			return nil, err
		}
	}
	d.fitDisk()
	d.room = newRoom(d.fs, d.dir, d.o.WriteBuffer, d.notice)
	d.room.open()
	if err := d.restore(fresh); err != nil {
		return nil, err
	}
	if fresh || d.noFormat {
		if err := d.writeFormat(); err != nil {
			return nil, err
		}
	}
	return d.start()
}

// fitDisk makes the write buffer, and with it the log and the reserve, small on a small disk.
func (d *disk) fitDisk() {
	if usage, err := d.fs.GetDiskUsage(d.dir); err == nil {
		d.o.WriteBuffer = min(d.o.WriteBuffer, max(int64(usage.TotalBytes/32), smallWriteBuffer))
	}
}

// restore makes the machine of the state and the log. Some of what is damaged in the state is met only when the log is
// applied, or all is counted.
func (d *disk) restore(fresh bool) error {
	err := d.openState(fresh)
	if err == nil {
		err = d.replay(fresh)
	}
	var cause unsound
	if !errors.As(err, &cause) {
		return err
	}
	if err := d.closeState(); err != nil {
		return err
	}
	if err := d.repair(cause); err != nil {
		return err
	}
	if err := d.loadState(false); err != nil {
		return err
	}
	return d.replay(false)
}

// takeFolder makes the folder, and makes it this process's.
func (d *disk) takeFolder() error {
	if err := d.makeFolder(d.dir); err != nil {
		return err
	}
	lock, err := d.fs.Lock(d.path(lockFile))
	if err != nil {
		if pid, e := d.read(pidFile); e == nil {
			return fmt.Errorf("%w by process %s: %w", ErrInUse, strings.TrimSpace(string(pid)), err)
		}
		return fmt.Errorf("%w, or cannot be locked: %w", ErrInUse, err)
	}
	d.lock = lock
	if err := d.write(pidFile, strconv.Itoa(os.Getpid())+"\n"); err != nil && !wal.NoSpace(err) { // it is for people only
		return err
	}
	return nil
}

// makeFolder makes a folder, and those above it, so that a power cut leaves them there.
func (d *disk) makeFolder(path string) error {
	var made []string
	for at := path; ; at = d.fs.PathDir(at) {
		if _, err := d.fs.Stat(at); err == nil || at == d.fs.PathDir(at) {
			break
		}
		made = append(made, at)
	}
	if err := d.fs.MkdirAll(path, folderPerm); err != nil {
		return err
	}
	for _, at := range made {
		if err := d.syncDir(d.fs.PathDir(at)); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) read(name string) ([]byte, error) {
	f, err := d.fs.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// write replaces a file, whole or not at all.
func (d *disk) write(name, text string) error {
	next := d.path(name + ".next")
	f, err := d.fs.Create(next, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(text))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = d.fs.Rename(next, d.path(name))
	}
	if err != nil {
		return err
	}
	return d.syncDir(d.dir)
}

func (d *disk) syncDir(path string) error {
	f, err := d.fs.OpenDir(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// The file FORMAT says what the folder is. The line formatNew is there until all of a new store is; the last line has the
// CRC-32C of those before.
const (
	formatText = "noctule store\nformat %d\ngroups %d\n"
	formatNew  = "being made\n"
	formatSum  = "checksum %08x\n"
)

// appendFormat makes the text of FORMAT.
func appendFormat(groups int, making bool) string {
	text := fmt.Sprintf(formatText, formatVersion, groups)
	if making {
		text += formatNew
	}
	return text + fmt.Sprintf(formatSum, crc32.Checksum([]byte(text), castagnoli))
}

// parseFormat reads FORMAT. ok says that it is what was written.
func parseFormat(text string) (version, groups int, making, ok bool) {
	i := strings.LastIndex(strings.TrimSuffix(text, "\n"), "\n") + 1
	if text[i:] != fmt.Sprintf(formatSum, crc32.Checksum([]byte(text[:i]), castagnoli)) {
		return 0, 0, false, false
	}
	n, err := fmt.Sscanf(text, formatText, &version, &groups)
	return version, groups, strings.HasSuffix(text[:i], formatNew), n == 2 && err == nil
}

func (d *disk) writeFormat() error { return d.write(formatFile, appendFormat(d.o.Groups, false)) }

// checkFormat finds out whether the folder is new, and whether this program can read it.
func (d *disk) checkFormat() (fresh bool, err error) {
	if d.exists(restoredDir) {
		return false, errRestoring
	}
	text, err := d.read(formatFile)
	if errors.Is(err, os.ErrNotExist) {
		return d.withoutFormat()
	}
	if err != nil {
		return false, d.formatDamaged("the file FORMAT cannot be read", err)
	}
	version, groups, making, ok := parseFormat(string(text))
	switch {
	case !ok:
		return false, d.formatDamaged("the file FORMAT is damaged", nil)
	case version != formatVersion:
		return false, fmt.Errorf("format %d; this program knows format %d", version, formatVersion)
	case making: // it was cut short: nobody has been promised anything
		return true, d.makeReady()
	case groups != d.o.Groups:
		return false, fmt.Errorf("%w from %d to %d", errGroups, groups, d.o.Groups)
	}
	return false, nil
}

// formatDamaged sets FORMAT aside. It is written anew when the state has confirmed what was in it.
func (d *disk) formatDamaged(what string, cause error) error {
	d.noFormat = true
	n := Notice{File: formatFile, Text: what + ": it is written anew", Err: cause}
	return d.damaged(&n, func() (err error) { n.Kept, err = d.setAside(formatFile); return err })
}

// withoutFormat decides what a folder without FORMAT is: new, or damaged if there is anything of a store in it.
func (d *disk) withoutFormat() (fresh bool, err error) {
	for _, name := range []string{stateDir, stateNext, logDir} {
		if d.exists(name) {
			d.noFormat = true
			return false, d.damaged(&Notice{File: formatFile, Text: "the file FORMAT is missing: it is written anew"}, nil)
		}
	}
	return true, d.makeReady()
}

// makeReady begins to make a store where there is none, or only a beginning.
func (d *disk) makeReady() error {
	if err := d.write(formatFile, appendFormat(d.o.Groups, true)); err != nil {
		return err
	}
	for _, name := range []string{stateDir, stateNext, logDir} {
		if err := d.fs.RemoveAll(d.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// damaged mends damage, unless nil, and tells of it, or refuses to.
func (d *disk) damaged(n *Notice, mend func() error) error {
	n.Kind = Damaged
	if d.o.OnDamage == Refuse {
		return fmt.Errorf("%w: %s: %s", ErrDamaged, n.File, n.Text)
	}
	d.lostParts = true
	if mend != nil {
		if err := mend(); err != nil {
			return err
		}
	}
	d.notice(*n)
	return nil
}

// setAside moves a file or folder to those that are damaged, and says where it is.
func (d *disk) setAside(name string) (kept string, err error) {
	if kept, err = d.aside(name); err != nil {
		return "", err
	}
	if err := d.fs.Rename(d.path(name), d.path(kept)); err != nil {
		return "", err
	}
	if err := d.syncDir(d.path(damagedDir)); err != nil {
		return "", err
	}
	return kept, d.syncDir(d.dir)
}

// aside is a new name among what was set aside.
func (d *disk) aside(name string) (string, error) {
	if err := d.makeFolder(d.path(damagedDir)); err != nil {
		return "", err
	}
	stamp := time.Unix(0, d.o.Now()).UTC().Format("20060102T150405.000000000Z")
	kept := d.fs.PathJoin(damagedDir, stamp+"-"+name)
	for n := 2; d.exists(kept); n++ {
		kept = d.fs.PathJoin(damagedDir, fmt.Sprintf("%s-%d-%s", stamp, n, name))
	}
	return kept, nil
}

func (d *disk) exists(name string) bool {
	_, err := d.fs.Stat(d.path(name))
	return err == nil
}
