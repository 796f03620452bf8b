// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/noctule/noctule/store/salvage"
)

// repairFile says that a part of the state could not be read while it was open.
const repairFile = "REPAIR"

// repairBatch is how many bytes of rows a repair writes at once.
const repairBatch = 4 << 20

// repair makes a new state of what can be read of a damaged one, which is moved aside. Killed in the middle, it begins anew
// at the next opening, or is finished then.
func (d *disk) repair(cause error) error {
	if d.o.OnDamage == Refuse {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, stateDir, cause)
	}
	kept, err := d.aside(stateDir)
	if err != nil {
		return err
	}
	report, err := d.readable()
	if err != nil {
		return fmt.Errorf("repairing the state: %w", err)
	}
	d.lostParts = true
	d.notice(Notice{Kind: Damaged, File: stateDir, Kept: kept, Err: cause,
		Text: fmt.Sprintf("the state is damaged: it is moved aside, and made anew of the %d rows that can be read", report.Rows)})
	for _, damage := range report.Damage {
		if !damage.Harmless {
			d.notice(Notice{Kind: Damaged, File: d.fs.PathJoin(stateDir, damage.File), Kept: kept, Text: damageText(&damage)})
		}
	}
	if err := d.fs.Rename(d.path(stateDir), d.path(kept)); err != nil {
		return err
	}
	if err := d.syncDir(d.path(damagedDir)); err != nil {
		return err
	}
	d.suspect.clear()
	return d.finishRepair()
}

// recheck looks at all of a state of which a part could not be read while it was open, and repairs it.
func (d *disk) recheck() error {
	report, err := salvage.Check(d.fs, d.path(stateDir))
	if err != nil {
		return err
	}
	if !report.Sound() {
		if err := d.repair(errors.New("a part of it could not be read while it was open")); err != nil {
			return err
		}
	}
	if err := d.fs.Remove(d.path(repairFile)); err != nil {
		return err
	}
	return d.syncDir(d.dir)
}

// inspect refuses a folder in which anything is damaged, and changes nothing.
func (d *disk) inspect() error {
	f := &folder{dir: d.dir, state: stateDir, groups: d.o.Groups, fs: readOnly{d.fs, func(int) {}}}
	defer f.close()
	if !f.exists(stateDir) && f.exists(stateNext) {
		f.state = stateNext
	}
	v := verification{folder: f}
	if err := v.run(); err != nil {
		return err
	}
	for _, x := range v.report.Findings {
		if x.Severity == SeverityDamage {
			return fmt.Errorf("%w: %s: %s", ErrDamaged, x.File, x.Text)
		}
	}
	return nil
}

func damageText(damage *salvage.Damage) string {
	if !damage.Lost {
		return damage.Why
	}
	to := "the end"
	if damage.To != nil {
		to = describeKey(damage.To)
	}
	return fmt.Sprintf("%s; rows may be missing from %s to before %s", damage.Why, describeKey(damage.From), to)
}

// readable writes what can be read of the state to a new one beside it.
func (d *disk) readable() (*salvage.Report, error) {
	next := d.path(stateNext)
	if err := d.fs.RemoveAll(next); err != nil {
		return nil, err
	}
	db, err := d.openAt(stateNext, d.stateOptions())
	if err != nil {
		return nil, err
	}
	b := db.NewBatch()
	write := func(least int) error {
		if b.Len() < least || b.Empty() {
			return nil
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return err
		}
		b.Reset()
		return d.flush(db)
	}
	report, err := salvage.Read(d.fs, d.path(stateDir), func(key, value []byte) error {
		if _, err := openRow(key, value); err != nil {
			return nil // loading notices what it lacks
		}
		if err := b.Set(bytes.Clone(key), bytes.Clone(value), nil); err != nil {
			return err
		}
		return write(repairBatch)
	})
	if err == nil {
		err = write(0)
	}
	_ = b.Close()
	d.db = db
	if e := d.closeState(); err == nil {
		err = e
	}
	return &report, err
}

// finishRepair puts a state that was made anew in the place of the one that was moved aside, or removes the beginning of
// one.
func (d *disk) finishRepair() error {
	if !d.exists(stateNext) {
		return nil
	}
	if d.exists(stateDir) {
		return d.fs.RemoveAll(d.path(stateNext))
	}
	if err := d.fs.Rename(d.path(stateNext), d.path(stateDir)); err != nil {
		return err
	}
	d.lostParts = true
	return d.syncDir(d.dir)
}
