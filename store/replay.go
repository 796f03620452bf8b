// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"os"

	"github.com/noctule/noctule/store/wal"
)

// replay opens the log and applies what the state does not have yet.
func (d *disk) replay(fresh bool) error {
	if !fresh && !d.exists(logDir) {
		err := d.damaged(Notice{File: logDir, Text: fmt.Sprintf("the folder log is missing: what came after position %d is lost", d.machine.applied)},
			func() error { return nil })
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
	if err != nil {
		return err
	}
	d.log = log
	for _, damage := range found.Damage {
		d.tell(damage)
	}
	if d.fault != nil {
		return d.fault
	}
	if d.lostParts {
		return d.recount()
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
	if d.over.active.bytes < d.o.WriteBuffer {
		return nil
	}
	if err := d.checkpointNow(); err != nil {
		return fmt.Errorf("%w: %w", wal.ErrStop, err)
	}
	return nil
}

// checkpointNow writes out what has changed; there is no engine yet, or no more.
func (d *disk) checkpointNow() error {
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
	what := fmt.Sprintf("%d bytes at %d", damage.Length, damage.Offset)
	if damage.First != 0 {
		what += fmt.Sprintf(", positions %d to %d", damage.First, damage.Last)
	}
	if damage.Torn {
		n.Kind = TornTail
		n.Text = "the end of the log was not whole and is cut: " + what + ": " + damage.Why
		d.notice(n)
		return
	}
	d.lostParts = true
	n.Text = "the log is damaged: " + what + ": " + damage.Why
	if c, err := decodeRecord(damage.Record); err == nil {
		n.Text += "; it seems to have been " + describe(c)
	}
	d.notice(n)
}

// start begins to take commands, the first of which says that all connections are gone.
func (d *disk) start() (*engine, error) {
	d.local = newLocal(d.log, d.room, d.notice, d.fail, &d.broken, d.measures)
	d.local.close = d.close
	e := newEngine(d.machine, d.local, d.o)
	e.disk, d.engine = d, e
	d.over.fault = func(err error) { d.fail(fmt.Errorf("reading the state: %w", err)) }
	go e.run()
	done := make(chan error, 1)
	r := &recovery{Now: d.o.Now(), Limits: d.o.Limits}
	r.Done = func() { done <- r.Err }
	e.submit(r)
	if err := <-done; err != nil {
		_ = e.Close() // the error that matters is the first
		d.lock = nil
		return nil, err
	}
	return e, nil
}

// close ends all that is below the engine. It runs on the committer, which has nothing more to do.
func (d *disk) close() error {
	err := d.lastCheckpoint()
	d.engine.state.Lock()
	d.engine.ended = true
	d.engine.state.Unlock()
	if d.broken.Load() { // what goes on below may hang
		return fmt.Errorf("%w: it was closed as it is", ErrFailed)
	}
	if e := d.log.Close(); err == nil {
		err = e
	}
	d.log = nil
	if d.engine.disk.room.full.Load() && d.writing != nil {
		d.db = nil // it waits for room, and cannot be closed; the log has all
	}
	if e := d.closeAll(); err == nil {
		err = e
	}
	return err
}

// lastCheckpoint writes out what has changed, so that the next opening is fast.
func (d *disk) lastCheckpoint() error {
	d.engine.state.Lock()
	for d.writing != nil && !d.room.full.Load() && !d.broken.Load() {
		writing := d.writing
		d.engine.state.Unlock()
		<-writing
		d.engine.state.Lock()
	}
	defer d.engine.state.Unlock()
	if d.writing != nil || d.broken.Load() || d.over.active.rows.blocks == nil {
		return nil
	}
	if err := d.checkpointNow(); err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	return d.log.Cut(uint64(d.machine.applied) + 1)
}

// closeAll lets go of what is open.
func (d *disk) closeAll() error {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	if d.log != nil {
		note(d.log.Close())
		d.log = nil
	}
	d.copying.close()
	if d.db != nil {
		note(d.db.Close())
		d.db = nil
	}
	if d.lock != nil {
		if err := d.fs.Remove(d.path(pidFile)); !os.IsNotExist(err) {
			note(err)
		}
		note(d.lock.Close())
		d.lock = nil
	}
	return first
}
