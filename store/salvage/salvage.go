// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package salvage reads what can be read out of a damaged folder of Pebble, and never gives anything wrong.
//
// Pebble answers a read from the newest version of a row, over several tables. If a part of a table is lost, a newer version or a
// deletion may have been in it: what older tables hold for the same keys is then no longer certain. So each row is given
// only if nothing that is lost can be newer than it. All others are left out, and the range of keys in which rows may be missing is
// reported. A reader of the result may act on what it gets; it must only not conclude from the absence of a row inside
// of a lost range.
//
// # What is believed
//
// Everything that is read is under a CRC-32C: the records of the MANIFEST, and the blocks, the metaindex and the footer of a
// table (format Pebblev7, see Options). A row is as certain as that. What has no checksum is the fact that a file is there at all,
// and under which name.
//
//   - Which tables are live, at which level, with which bounds and sequence numbers, is known from the MANIFEST alone: tables that a
//     compaction has replaced may still lie about and would bring back what was deleted, and nothing in a table tells. Therefore Mirror keeps
//     a copy of it beside it, and what is damaged in one is taken from the other. If both are damaged at the same place, no
//     row is given.
//   - A version is newer than all of what a lost part may have held if its sequence number is greater than the greatest of that table, or
//     if it comes from a table of a level above: that is how Pebble itself orders them. (Sequence numbers at the bottom are
//     zeroed, and two levels never hold versions of one key the other way round.)
//   - A table that the MANIFEST names and that is not there, or of which not even the footer, the metaindex or the range deletions
//     can be read, is lost over the whole of its bounds.
//
// What this cannot see is a folder that is older as a whole: if the MANIFEST and its copy have both lost the same last records and
// nothing else, they read as they did when these had not been written yet. Who keeps a log beside the state sees it there, as a
// piece of the log that is missing.
//
// # What a flipped bit costs
//
// Measured with 100 MiB of rows of 267 bytes (41 MB in 15 tables):
//
//	data block (99.7 % of the bytes)         20 to 180 rows: its range of keys, some kilobytes
//	lower index block (0.3 %)                about 1 200 rows in a table of a lower level; up to 2.5 % of all in one of level 0
//	top index, footer, or, if the table has
//	range deletions, they or the metaindex   the bounds of the table: 4 MiB at a lower level, but up to a fifth of all
//	(0.01 %)                                 rows older than it in level 0, whose tables span many keys
//	properties, filter, MANIFEST, its copy   nothing
//
// So it pays to have few tables in level 0, and no range deletions that are not needed.
//
// All functions are for one goroutine and start none. They hold about 100 KiB for each table of level 0 and for each other level, and
// the largest row of each twice, whatever the size of the folder. Nothing of the folder is changed. A gigabyte takes about a second, if the
// disk gives it (BenchmarkRead).
package salvage

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Damage is one damaged or missing file, or a part of it.
type Damage struct {
	File string // name in the folder
	Why  string // what is wrong, one line
	// Lost says that rows may be missing: some of those with From <= key < To. A nil From or To is an open end.
	Lost     bool
	From, To []byte
	// Harmless says that nothing depends on what is damaged: the folder may be opened as it is.
	Harmless bool
}

// Report is the result of reading a folder.
type Report struct {
	Manifest bool     // it is known which tables are live. If not, everything is lost, and Damage says so.
	Tables   int      // live tables
	Bytes    int64    // of them, as the MANIFEST has it
	Rows     int      // rows given, or found by Check
	Damage   []Damage // in no certain order; adjacent ranges of one file are joined
}

// Sound says that the folder may be opened as it is.
func (r *Report) Sound() bool {
	for i := range r.Damage {
		if !r.Damage[i].Harmless {
			return false
		}
	}
	return true
}

// MayLack says that a row with this key may be missing from what was read.
func (r *Report) MayLack(key []byte) bool {
	for i := range r.Damage {
		if d := &r.Damage[i]; d.Lost && bytes.Compare(key, d.From) >= 0 && (d.To == nil || bytes.Compare(key, d.To) < 0) {
			return true
		}
	}
	return false
}

// Read calls yield for each live row that is certain, in the order of keys. Key and value are lent until yield returns. An
// error of yield ends the reading and is returned. Otherwise the only error is that the folder cannot be listed: what cannot be
// read is in the report, whether the disk refuses to read it (EIO) or its checksum is wrong.
func Read(fs vfs.FS, dir string, yield func(key, value []byte) error) (Report, error) {
	return read(fs, dir, false, yield)
}

// Check reads all of a folder like Read, and in addition the blocks that hold no rows (filters, properties, copies). There
// is damage in the report if and only if something under a checksum is damaged, or a live table, a MANIFEST, its copy or a marker is missing or has
// the wrong size. (The files OPTIONS have no checksum; Pebble may refuse to open a folder for them, and Read does not need them.) It
// takes as long as Read.
func Check(fs vfs.FS, dir string) (Report, error) {
	return read(fs, dir, true, func(_, _ []byte) error { return nil })
}

// CheckManifest looks at the list of live files only, and whether they are there with the right sizes: some milliseconds.
//
// It has to be called before each pebble.Open of an existing folder, and the folder must not be opened unless the report
// is Sound: Pebble takes a damaged record of the MANIFEST for the end of it, opens an older state without saying so, and
// deletes what that state does not know. A missing marker it takes for a new folder.
func CheckManifest(fs vfs.FS, dir string) (Report, error) {
	l, err := readList(fs, dir)
	if err != nil {
		return Report{}, err
	}
	r := l.report()
	for _, t := range l.tables {
		if why := t.missing(fs, dir); why != "" {
			r.Damage = append(r.Damage, t.damage(t.smallest, t.end, why))
		}
	}
	return r, nil
}

func read(fs vfs.FS, dir string, thorough bool, yield func(key, value []byte) error) (Report, error) {
	l, err := readList(fs, dir)
	if err != nil {
		return Report{}, err
	}
	m := &merge{fs: fs, dir: dir, thorough: thorough, left: l.tables, lost: map[*table]ranges{}, report: l.report()}
	defer m.close()
	err = m.run(yield)
	return m.report, err
}
