// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/noctule/noctule/store/salvage"
)

// repairBatch is how many bytes of rows a repair writes at once.
const repairBatch = 4 << 20

// repair makes a new state of what can be read of a damaged one, which is moved aside. Killed in the middle, it begins anew
// at the next opening, or is finished then.
func (d *disk) repair(cause error) error {
	kept := d.aside(stateDir)
	if d.o.OnDamage == Refuse {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, stateDir, cause)
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
	if err := d.makeFolder(d.path(damagedDir)); err != nil {
		return err
	}
	if err := d.fs.Rename(d.path(stateDir), d.path(kept)); err != nil {
		return err
	}
	return d.finishRepair()
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
	db, err := pebble.Open(next, d.stateOptions())
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
		return nil
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
	if err == nil {
		err = db.Flush()
	}
	_ = b.Close()
	if e := db.Close(); err == nil {
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
