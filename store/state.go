// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/noctule/noctule/store/salvage"
	"github.com/noctule/noctule/store/wal"
)

// stateOptions are how the state is opened. Its own log is off: ours is before it, and each checkpoint is one batch, which
// is there whole or not at all after its flush.
func (d *disk) stateOptions() *pebble.Options {
	d.below = newPatient(d.fs, d.room, d.stateFailed)
	o := salvage.Options(d.below, d.stateTrouble)
	o.DisableWAL = true
	o.CacheSize = stateCache
	o.MaxOpenFiles = 256
	o.Logger = stateLog{d}
	o.L0StopWritesThreshold = mostSublevels
	o.L0CompactionThreshold = 8 // checkpoints are few and large; filling a queue takes a fifth less CPU so (5.4 to 4.1 us a message)
	o.LBaseMaxBytes = 256 << 20
	o.Experimental.CompactionScheduler = newCompactions(&d.suspect)
	o.MemTableStopWritesThreshold = mostMemTables
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most looks for a second reference to a message find none
	}
	return o
}

// stateFailed ends the store, if it runs, when something cannot be written to the state.
func (d *disk) stateFailed(err error) {
	if d.below.waits.Load() {
		d.fail(fmt.Errorf("writing the state: %w", err))
	}
}

// stateTrouble tells what Pebble cannot read, once for each text. The next opening looks at all of the state.
func (d *disk) stateTrouble(err error) {
	if errors.Is(err, ErrFull) {
		return // a compaction for which there is no room
	}
	select {
	case <-d.below.stuck: // this is what follows from it
		return
	default:
	}
	if !d.below.shut.Load() && d.suspect.add(err.Error()) {
		d.notice(Notice{Kind: Damaged, File: stateDir, Err: err,
			Text: "a part of the state cannot be read; the next start moves it aside: " + err.Error()})
	}
}

// suspect is what was found damaged while the store was open.
type suspect struct {
	mu    sync.Mutex
	texts map[string]struct{}
}

// mostSuspects bounds what is told of one opening.
const mostSuspects = 1000

// add reports whether a text is new, and to be told.
func (s *suspect) add(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.texts[text]; ok || len(s.texts) >= mostSuspects {
		return false
	}
	if s.texts == nil {
		s.texts = map[string]struct{}{}
	}
	s.texts[text] = struct{}{}
	return true
}

func (s *suspect) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.texts) > 0
}

// clear forgets what a repair has mended.
func (s *suspect) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = nil
}

// stateLog is what Pebble says.
type stateLog struct{ d *disk }

func (stateLog) Infof(string, ...any) {}

func (l stateLog) Errorf(format string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok && errors.Is(err, ErrFull) {
			return
		}
	}
	l.d.stateTrouble(fmt.Errorf(format, args...))
}

// Fatalf ends the store. Where it follows from a change that failed, which is known, Pebble goes on to return the error: it
// cannot change anything any more. Anything else is a fault of Pebble, and its goroutine goes no further.
func (l stateLog) Fatalf(format string, args ...any) {
	select {
	case <-l.d.below.stuck:
		return
	default:
	}
	l.d.fatal.Store(true)
	l.d.below.give(fmt.Errorf(format, args...))
	runtime.Goexit()
}

const (
	stateNext = "state.next"
	// stateCache is for blocks of the state that were read.
	stateCache = 16 << 20
	// mostSublevels is how far compactions may fall behind before Pebble holds checkpoints up: so far that it does not
	// come to it where compactions are impossible, because something is damaged or the disk is full.
	mostSublevels = 1000
	// mostMemTables is so many that Pebble never holds up who commits until a flush has ended: one that fails is tried
	// again for ever, and who is held up inside Pebble cannot be told. Whoever commits calls flush before the next batch instead.
	mostMemTables = 1 << 20
	// closeState waits so long for goroutines that a failing disk holds up.
	longestClose = 5 * time.Second
)

// unsound is what is wrong with a state that is to be repaired.
type unsound struct{ error }

func (u unsound) Unwrap() error { return u.error }

// openState opens the state and makes the machine of it. What is damaged is replaced by what can be read of it.
func (d *disk) openState(fresh bool) error {
	if err := d.finishRepair(); err != nil {
		return err
	}
	if d.exists(repairFile) {
		if err := d.recheck(); err != nil {
			return err
		}
	}
	if !fresh && !d.exists(stateDir) {
		err := d.damaged(&Notice{File: stateDir, Text: "the folder state is missing: what was in it is lost, the log is applied to nothing"}, nil)
		if err != nil {
			return err
		}
		fresh = true
	}
	return d.loadState(fresh)
}

// loadState opens the state as it is.
func (d *disk) loadState(fresh bool) error {
	if !fresh {
		report, err := salvage.CheckManifest(d.fs, d.path(stateDir))
		if err != nil {
			return unsound{err}
		}
		if !report.Sound() {
			return unsound{errors.New("its list of files, or one of them, is damaged")}
		}
	}
	if err := d.openPebble(fresh); err != nil {
		return err
	}
	d.fault = nil
	d.over = newOverlay(d.db, func(err error) { d.fault = cmp.Or(d.fault, err) })
	d.machine = newMachine(d.over, overlaid{d.over}, d.o.Limits, d.o.Groups)
	bad, err := d.machine.loadAll()
	if d.fault != nil {
		return unsound{d.fault}
	}
	if err != nil {
		return err
	}
	d.over.flushed = d.machine.applied
	return d.setRowsAside(bad)
}

// openPebble opens Pebble; only for reading, if there is no room for more.
func (d *disk) openPebble(fresh bool) error {
	o := d.stateOptions()
	o.ErrorIfNotExists = !fresh
	d.readOnly = false
	var err error
	if d.db, err = d.openAt(stateDir, o); err == nil {
		return nil
	}
	var c couldNot
	if !errors.As(err, &c) {
		if fresh {
			return err
		}
		return unsound{err}
	}
	if fresh || !wal.NoSpace(err) {
		return err
	}
	o = d.stateOptions()
	o.FS, o.ReadOnly = readOnly{d.fs, func(int) {}}, true
	if d.db, err = d.openAt(stateDir, o); err != nil {
		return unsound{err}
	}
	d.readOnly = true
	return nil
}

// couldNot is why Pebble could not be opened, where it is not the state that is wrong.
type couldNot struct{ error }

func (c couldNot) Unwrap() error { return c.error }

// openAt opens Pebble in a folder.
func (d *disk) openAt(name string, o *pebble.Options) (*pebble.DB, error) {
	below := d.below
	below.opens.Store(true)
	db, err := pebble.Open(d.path(name), o)
	select {
	case <-below.stuck:
	default:
		below.opens.Store(false)
		return db, err
	}
	below.shut.Store(true)
	below.ends.Store(true)
	below.opens.Store(false)
	if db != nil {
		_ = db.Close() // nothing was written
	}
	return nil, couldNot{fmt.Errorf("opening the state: %w", below.cause)}
}

// setRowsAside keeps rows that make no sense, and were left out, in a file.
func (d *disk) setRowsAside(bad []badRow) error {
	if len(bad) == 0 {
		return nil
	}
	kept, err := "", error(nil)
	var text strings.Builder
	for _, b := range bad {
		fmt.Fprintf(&text, "%s\n\tkey %x\n\tvalue %x\n", b, b.key, b.value)
	}
	n := Notice{File: stateDir, Text: fmt.Sprintf("%d rows make no sense and are left out; the first: %s", len(bad), bad[0])}
	return d.damaged(&n, func() error {
		if kept, err = d.aside("rows.txt"); err != nil {
			return err
		}
		n.Kept = kept
		return d.write(kept, text.String())
	})
}

// closeState closes Pebble. If it failed, nothing more is written by whatever of it is still there; where the disk keeps it from
// ending, the error says so, and the folder must not be given to anybody else.
func (d *disk) closeState() error {
	db := d.db
	if db == nil {
		return nil
	}
	d.db = nil
	d.below.waits.Store(false)
	d.below.ends.Store(true)
	select {
	case <-d.below.stuck:
		d.below.shut.Store(true)
		if d.fatal.Load() {
			return nil // it waits for ever for the goroutine that met the error
		}
	default:
		return db.Close()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = db.Close() // what went wrong is known
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(longestClose):
		return errHangs
	}
}

// turn begins a checkpoint when enough has changed. The engine's lock is held.
func (d *disk) turn() {
	d.held.Store(d.over.active.bytes)
	if d.writing != nil || d.broken.Load() || d.readOnly && d.room.full.Load() {
		return
	}
	logged := d.local.measures.logged.Load() - d.loggedAt
	if d.over.active.bytes >= d.o.WriteBuffer || logged >= 4*d.o.WriteBuffer || d.over.active.span(d.machine.applied) > mostSpan {
		d.begin()
		return
	}
	if d.room.full.Load() && logged > 0 && time.Since(d.relieved) >= reliefPause {
		d.relieved = time.Now()
		d.begin()
	}
}

// reliefPause is the time from one checkpoint on a full disk to the next: they let go of log, and of what was deleted.
const reliefPause = time.Second

// rest is what the committer does while it has nothing to commit. It says how long it may rest.
func (e *engine) rest() time.Duration {
	wait := e.log.Tend()
	if e.disk != nil && e.disk.room.full.Load() {
		e.state.Lock()
		defer e.state.Unlock()
		e.disk.turn()
	}
	return wait
}

// mostSpan bounds the positions of one layer, for each of which it may need some bytes.
const mostSpan = 8 << 20

// begin freezes what has changed and has it written out. The engine's lock is held.
func (d *disk) begin() {
	d.loggedAt = d.measures.logged.Load()
	if d.readOnly && !d.reopen() {
		return
	}
	d.held.Store(0)
	d.writing = make(chan struct{})
	d.room.writing.Store(true)
	go d.checkpoint(d.over.freeze(d.machine.applied))
}

// reopen opens a state for writing that was open for reading. It reports whether it is.
func (d *disk) reopen() bool {
	d.copying.end()
	err := d.closeState()
	if err == nil {
		err = d.openPebble(false)
	}
	if err != nil {
		d.fail(fmt.Errorf("opening the state again: %w", err))
		return false
	}
	d.over.db = d.db
	d.below.waits.Store(true)
	return !d.readOnly
}

// checkpoint writes a frozen layer to the state; then the log before it is not needed.
func (d *disk) checkpoint(l *layer) {
	start := time.Now()
	err := d.writeOut(l)
	d.room.writing.Store(false)
	if err == nil {
		d.room.complete()
	}
	d.engine.state.Lock()
	defer d.engine.state.Unlock()
	close(d.writing)
	if err != nil {
		return // what failed has told; nothing is written any more, and d.writing says so
	}
	d.writing = nil
	d.over.thaw()
	d.local.cut.Store(uint64(l.applied) + 1)
	d.measures.checkpoints.Add(1)
	d.measures.checkpoint.Add(int64(time.Since(start)))
	d.engine.poke()
}

// writeOut writes a layer to the state.
func (d *disk) writeOut(l *layer) error {
	b := d.db.NewBatch()
	defer b.Close()
	if err := l.writeTo(b, d.machine.topicGroup); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	return d.flush(d.db)
}

// flush waits until what was committed is on disk, or never will be.
func (d *disk) flush(db *pebble.DB) error {
	flushed, err := db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-d.below.stuck:
		return d.below.cause
	}
}

// pause holds the committer up while the disk takes changes more slowly than they come; not while there is no room for
// them.
func (d *disk) pause() {
	for !d.room.full.Load() {
		d.engine.state.RLock()
		writing := d.writing
		d.engine.state.RUnlock()
		if writing == nil || d.held.Load() < 2*d.o.WriteBuffer {
			return
		}
		select {
		case <-writing:
			return
		case <-time.After(lookForRoom):
		}
	}
}

// fail ends the store: what the disk holds is not known any more.
func (d *disk) fail(err error) {
	d.failing.Do(func() {
		d.broken.Store(true)
		d.notice(Notice{Kind: DiskFailed, Text: "the disk failed: nothing is acknowledged any more", Err: err})
	})
}
