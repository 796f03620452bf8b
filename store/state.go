// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/noctule/noctule/store/salvage"
)

// stateOptions are how the state is opened. Its own log is off: ours is before it, and each checkpoint is one batch, which
// is there whole or not at all after its flush.
func (d *disk) stateOptions() *pebble.Options {
	o := salvage.Options(patient{d.fs, d.room}, d.stateTrouble)
	o.DisableWAL = true
	o.CacheSize = stateCache
	o.MaxOpenFiles = 256
	o.Logger = stateLog{d}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most looks for a second reference to a message find none
	}
	return o
}

// stateTrouble tells what goes wrong in the background. What matters comes to whoever waits for it as an error, too.
func (d *disk) stateTrouble(err error) {
	d.notice(Notice{Kind: Damaged, File: stateDir, Text: "the state: " + err.Error(), Err: err})
}

// stateLog is what Pebble says. An error that it calls fatal ends the store, and the goroutine that met it goes no further.
type stateLog struct{ d *disk }

func (stateLog) Infof(string, ...any) {}

func (l stateLog) Errorf(format string, args ...any) { l.d.stateTrouble(fmt.Errorf(format, args...)) }

func (l stateLog) Fatalf(format string, args ...any) {
	l.d.fail(fmt.Errorf("the state: "+format, args...))
	select {}
}

const (
	stateNext = "state.next"
	// stateCache is for blocks of the state that were read.
	stateCache = 16 << 20
)

// openState opens the state and makes the machine of it. What is damaged is replaced by what can be read of it.
func (d *disk) openState(fresh bool) error {
	if err := d.finishRepair(); err != nil {
		return err
	}
	if !fresh && !d.exists(stateDir) {
		err := d.damaged(Notice{File: stateDir, Text: "the folder state is missing: what was in it is lost, the log is applied to nothing"},
			func() error { return nil })
		if err != nil {
			return err
		}
		fresh = true
	}
	cause := d.loadState(fresh)
	if cause == nil {
		return nil
	}
	if d.closeState(); fresh {
		return cause
	}
	if err := d.repair(cause); err != nil {
		return err
	}
	return d.loadState(false)
}

// loadState opens the state as it is.
func (d *disk) loadState(fresh bool) error {
	if !fresh {
		report, err := salvage.CheckManifest(d.fs, d.path(stateDir))
		if err != nil {
			return err
		}
		if !report.Sound() {
			return errors.New("its list of files, or one of them, is damaged")
		}
	}
	o := d.stateOptions()
	o.ErrorIfNotExists = !fresh
	db, err := pebble.Open(d.path(stateDir), o)
	if err != nil {
		return err
	}
	d.db = db
	d.fault = nil
	d.over = newOverlay(db, func(err error) { d.fault = err })
	d.machine = newMachine(d.over, overlaid{d.over}, d.o.Limits, d.o.Groups)
	bad, err := d.machine.loadAll()
	if err = cmp.Or(d.fault, err); err != nil {
		return err
	}
	d.over.flushed = d.machine.applied
	return d.setRowsAside(bad)
}

// setRowsAside removes rows that make no sense from the state, and keeps them in a file.
func (d *disk) setRowsAside(bad []badRow) error {
	if len(bad) == 0 {
		return nil
	}
	kept := d.aside("rows.txt")
	var text strings.Builder
	for _, b := range bad {
		fmt.Fprintf(&text, "%s\n\tkey %x\n\tvalue %x\n", b, b.key, b.value)
	}
	first := bad[0].String()
	return d.damaged(Notice{File: stateDir, Kept: kept, Text: fmt.Sprintf("%d rows make no sense and are left out; the first: %s", len(bad), first)},
		func() error {
			for _, b := range bad {
				d.over.Delete(b.key)
			}
			return d.write(kept, text.String())
		})
}

// aside is the name of something new among what was set aside; its folder is there.
func (d *disk) aside(name string) string {
	stamp := time.Unix(0, d.o.Now()).UTC().Format("20060102T150405.000000000Z")
	return d.fs.PathJoin(damagedDir, stamp+"-"+name)
}

func (d *disk) exists(name string) bool {
	_, err := d.fs.Stat(d.path(name))
	return err == nil
}

func (d *disk) closeState() {
	if d.db != nil {
		_ = d.db.Close() // it was only read from
		d.db = nil
	}
}

// turn begins a checkpoint when enough has changed. The engine's lock is held.
func (d *disk) turn() {
	l := d.local.measures.logged.Load() - d.loggedAt
	if d.writing == nil && (d.over.active.bytes >= d.o.WriteBuffer || l >= 4*d.o.WriteBuffer) {
		d.begin()
	}
}

// begin freezes what has changed and has it written out. The engine's lock is held.
func (d *disk) begin() {
	d.loggedAt = d.measures.logged.Load()
	d.writing = make(chan struct{})
	go d.checkpoint(d.over.freeze(d.machine.applied))
}

// checkpoint writes a frozen layer to the state; then the log before it is not needed.
func (d *disk) checkpoint(l *layer) {
	start := time.Now()
	err := d.writeOut(l)
	if err != nil {
		d.fail(fmt.Errorf("writing the state: %w", err))
	}
	d.engine.state.Lock()
	defer d.engine.state.Unlock()
	if err == nil {
		d.over.thaw()
		d.local.cut.Store(uint64(l.applied) + 1)
		d.measures.checkpoints.Add(1)
		d.measures.checkpoint.Add(int64(time.Since(start)))
	}
	close(d.writing)
	if err == nil {
		d.writing = nil // else nothing is written any more
	}
	d.engine.poke()
}

func (d *disk) writeOut(l *layer) error {
	b := d.db.NewBatch()
	defer b.Close()
	if err := l.writeTo(b, d.machine.topicGroup); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	return d.db.Flush()
}

// pause holds the committer up while the disk takes changes more slowly than they come.
func (d *disk) pause() {
	d.engine.state.RLock()
	writing, bytes := d.writing, d.over.active.bytes
	d.engine.state.RUnlock()
	if writing != nil && bytes >= 2*d.o.WriteBuffer && !d.room.full.Load() {
		<-writing
	}
}

// fail ends the store: what the disk holds is not known any more.
func (d *disk) fail(err error) {
	d.failing.Do(func() {
		d.broken.Store(true)
		d.notice(Notice{Kind: DiskFailed, Text: "the disk failed: nothing is acknowledged any more", Err: err})
	})
}
