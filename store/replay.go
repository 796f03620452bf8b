// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/noctule/noctule/store/wal"
)

// replay opens the log and applies what the state does not have yet.
func (d *disk) replay(fresh bool) error {
	if !fresh && !d.exists(logDir) {
		err := d.damaged(&Notice{File: logDir, Text: fmt.Sprintf("the folder log is missing: what came after position %d is lost", d.machine.applied)}, nil)
		if err != nil {
			return err
		}
	}
	if err := d.makeFolder(d.path(logDir)); err != nil {
		return err
	}
	d.machine.lenient = true
	o := wal.Options{FS: d.fs, SegmentBytes: 2 * d.o.WriteBuffer, Refuse: d.o.OnDamage == Refuse, Aside: d.path(damagedDir)}
	log, found, err := wal.Open(d.path(logDir), o, uint64(d.machine.applied)+1, d.again)
	d.machine.lenient = false
	d.machine.unreadable = nil // who claims the session next meets it
	if d.fault != nil {
		if log != nil {
			_ = log.Close() // it is read again
		}
		return unsound{d.fault}
	}
	if err != nil {
		return err
	}
	d.log = log
	for _, damage := range found.Damage {
		d.tell(damage)
	}
	if !d.lostParts {
		return nil
	}
	if err := d.recount(); err != nil {
		_ = d.log.Close() // likewise
		d.log = nil
		return err
	}
	return nil
}

// again applies a record of the log once more.
func (d *disk) again(position uint64, record []byte) error {
	c, err := decodeRecord(record)
	if err != nil {
		return fmt.Errorf("not a record of this format: %w", err)
	}
	d.machine.apply(Position(position), c)
	if d.fault != nil {
		return wal.ErrStop
	}
	if d.over.active.bytes < d.o.WriteBuffer || d.readOnly {
		return nil
	}
	if err := d.checkpointNow(); err != nil {
		return fmt.Errorf("%w: %w", wal.ErrStop, err)
	}
	return nil
}

// checkpointNow writes out what has changed; there is no engine yet, or no more.
func (d *disk) checkpointNow() error {
	if d.readOnly {
		return d.room.err()
	}
	d.machine.flush()
	if err := d.writeOut(d.over.freeze(d.machine.applied)); err != nil {
		return err
	}
	d.over.thaw()
	return nil
}

// tell makes a notice of what was wrong with the log.
func (d *disk) tell(damage wal.Damage) {
	n := Notice{Kind: Damaged, File: d.fs.PathJoin(logDir, damage.File), Kept: damage.Kept}
	if damage.Torn {
		n.Kind = TornTail
		n.Text = "the end of the log was not whole and is cut: " + logDamageText(&damage)
		d.notice(n)
		return
	}
	d.lostParts = true
	n.Text = "the log is damaged: " + logDamageText(&damage)
	d.notice(n)
}

// start begins to take commands, the first of which says that all connections are gone.
func (d *disk) start() (*engine, error) {
	d.local = newLocal(d.log, d.room, d.notice, d.fail, &d.broken, d.measures)
	d.local.close = d.close
	e := newEngine(d.machine, d.local, d.o)
	e.disk, d.engine = d, e
	d.over.fault = func(err error) {
		d.suspect.add(err.Error())
		d.fail(fmt.Errorf("reading the state: %w", err))
	}
	d.room.begin(e.poke)
	d.below.waits.Store(true)
	go e.run()
	done := make(chan error, 1)
	r := &recovery{Now: d.o.Now(), Limits: d.o.Limits}
	r.Done = func() { done <- r.Err }
	e.submit(r)
	if err := <-done; err != nil {
		_ = e.Close() // the error that matters is the first
		return nil, err
	}
	return e, nil
}

// close ends all that is below the engine. It runs on the committer, which has nothing more to do. On a full disk it leaves
// to the log what is not in the state.
func (d *disk) close() error {
	err := d.lastCheckpoint()
	d.engine.state.Lock()
	d.engine.ended = true
	d.engine.state.Unlock()
	if e := d.closeAll(); err == nil {
		err = e
	}
	if d.broken.Load() {
		return fmt.Errorf("%w: it was closed as it is", ErrFailed)
	}
	return err
}

// lastCheckpoint writes out what has changed, so that the next opening is fast. Without room it does not.
func (d *disk) lastCheckpoint() error {
	if !d.lastBegun() || d.broken.Load() || d.readOnly || d.room.full.Load() || d.over.active.rows.blocks == nil {
		return nil
	}
	d.below.waits.Store(false)
	d.engine.state.Lock()
	defer d.engine.state.Unlock()
	if err := d.checkpointNow(); err != nil && !wal.NoSpace(err) {
		return fmt.Errorf("writing the state: %w", err)
	} else if err != nil {
		return nil
	}
	if err := d.log.Cut(uint64(d.machine.applied) + 1); err != nil && !wal.NoSpace(err) {
		return err
	}
	return nil
}

// lastBegun waits for the checkpoint on its way, if there is one, and reports whether another may follow. What waits for
// room gives up.
func (d *disk) lastBegun() bool {
	d.engine.state.RLock()
	writing := d.writing
	d.engine.state.RUnlock()
	if writing == nil {
		return true
	}
	for broken := time.Duration(0); ; {
		if d.room.full.Load() || d.broken.Load() {
			d.below.waits.Store(false)
		}
		select {
		case <-writing:
			d.engine.state.RLock()
			defer d.engine.state.RUnlock()
			return d.writing == nil
		case <-time.After(breath):
		}
		if d.broken.Load() {
			if broken += breath; broken > longestClose {
				return false
			}
		}
	}
}

var errHangs = errors.New("store: the disk does not answer; the folder stays locked until this process ends")

// closeAll lets go of what is open. A full disk is no reason not to.
func (d *disk) closeAll() error {
	var first error
	note := func(err error) {
		if first == nil && !wal.NoSpace(err) {
			first = err
		}
	}
	if d.log != nil {
		note(d.log.Close())
		d.log = nil
	}
	d.copying.close()
	err := d.closeState()
	note(err)
	if d.lock == nil || errors.Is(err, errHangs) {
		return first
	}
	if d.suspect.any() {
		note(d.write(repairFile, "the state is to be checked\n"))
	}
	if err := d.fs.Remove(d.path(pidFile)); !os.IsNotExist(err) {
		note(err)
	}
	note(d.lock.Close())
	d.lock = nil
	return first
}
