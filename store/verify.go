// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/store/salvage"
	"github.com/noctule/noctule/store/wal"
)

// Severity says how bad a Finding is.
type Severity string

// Severities, worst first.
const (
	SeverityDamage Severity = "damage" // something that was kept cannot be read, or contradicts itself
	SeverityTorn   Severity = "torn"   // the end of the log, as a power cut leaves it: nobody was told that it is kept
	SeverityOrphan Severity = "orphan" // something is kept that nothing refers to
	SeverityNote   Severity = "note"   // good to know
)

// Finding is one thing that Verify noticed.
type Finding struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"` // relative to the folder
	Text     string   `json:"text"` // one line
}

// Aside is something that was moved aside when damage was found.
type Aside struct {
	Name  string `json:"name"` // in the folder "damaged"
	Bytes int64  `json:"bytes"`
}

// VerifyOptions are how a folder is verified.
type VerifyOptions struct {
	FS vfs.FS // nil = the operating system's
	// Progress is told how many bytes were read so far, often, and not always on the caller's goroutine; nil = nobody is told.
	Progress func(read int64)
}

// VerifyReport is what Verify found.
type VerifyReport struct {
	Sound    bool      `json:"sound"` // there is no damage
	Findings []Finding `json:"findings"`
	Contents Contents  `json:"contents"`
	// Checkpoint is the position up to which the state has everything, Position that of the log: what was kept last.
	Checkpoint Position `json:"checkpoint"`
	Position   Position `json:"position"`
	LogRecords int      `json:"log_records"` // behind the checkpoint
	Rows       int      `json:"rows"`        // of the state
	Aside      []Aside  `json:"aside"`
	Read       int64    `json:"read"` // bytes
}

// mostFindings is how many rows of one sort are named one by one.
const mostFindings = 20

// Verify reads all of a data folder that no broker has open (ErrInUse), and says what is wrong with it: every block and every row
// of the state, every record of the log, and whether what they say of each other agrees. It changes nothing on disk. It takes
// the memory that a broker would, and reads the state about three times.
//
// An error says that the folder could not be judged. ErrNoStore: there is none in it.
func Verify(dir string, o VerifyOptions) (VerifyReport, error) {
	f, err := openFolder(o.FS, dir, o.Progress)
	if err != nil {
		return VerifyReport{}, fmt.Errorf("store: verifying %s: %w", dir, err)
	}
	defer f.close()
	v := verification{folder: f, report: VerifyReport{Findings: []Finding{}, Aside: f.aside()}}
	if err := v.run(); err != nil {
		return VerifyReport{}, fmt.Errorf("store: verifying %s: %w", dir, err)
	}
	v.report.Sound = !slices.ContainsFunc(v.report.Findings, func(x Finding) bool { return x.Severity == SeverityDamage })
	v.report.Read = f.bytes.Load()
	return v.report, nil
}

// verification is one run of Verify.
type verification struct {
	*folder
	report VerifyReport
}

func (v *verification) find(s Severity, file, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{s, file, fmt.Sprintf(format, args...)})
}

func (v *verification) run() error {
	switch {
	case v.making:
		v.find(SeverityNote, formatFile, "a store was being made here, and nothing is kept yet")
		return nil
	case v.groups == 0:
		v.find(SeverityDamage, formatFile, "it is missing or cannot be read; opening the store writes it anew")
	}
	if !v.exists(logDir) {
		v.find(SeverityDamage, logDir, "the folder is missing: what came after the last checkpoint is lost")
	}
	sound, err := v.blocks()
	if err != nil {
		return err
	}
	if sound {
		if err := v.load(); err != nil {
			v.find(SeverityDamage, v.state, "%v", err)
			return nil
		}
		return v.judge()
	}
	v.find(SeverityNote, v.state, "what rows say of each other is not checked, for the state is damaged; opening the store keeps what can be read")
	return v.logAlone()
}

// blocks checks the state block by block. Where it is damaged the rows that can be read are counted.
func (v *verification) blocks() (sound bool, err error) {
	switch {
	case !v.exists(v.state):
		v.find(SeverityDamage, stateDir, "the folder is missing: what was in it is lost")
		return false, nil
	case v.state == stateNext:
		v.find(SeverityNote, stateNext, "a repair was cut short; the next opening of the store ends it")
	}
	report, err := salvage.Check(v.fs, v.path(v.state))
	if err != nil {
		return false, err
	}
	v.report.Rows = report.Rows
	for i := range report.Damage {
		d := &report.Damage[i]
		file := v.fs.PathJoin(v.state, d.File)
		if d.Harmless {
			v.find(SeverityNote, file, "%s; nothing depends on it", d.Why)
		} else {
			v.find(SeverityDamage, file, "%s", damageText(d))
		}
	}
	if report.Sound() {
		return true, nil
	}
	_, err = salvage.Read(v.fs, v.path(v.state), func(key, stored []byte) error {
		if value, err := openRow(key, stored); err != nil {
			v.find(SeverityDamage, v.state, "%s: its checksum is wrong", describeKey(key))
		} else if len(key) >= prefixLen {
			v.report.Contents.count(key[2], value)
		}
		return nil
	})
	return false, err
}

// logAlone reads the log, of which it is not known where it goes on.
func (v *verification) logAlone() (err error) {
	if !v.exists(logDir) {
		return nil
	}
	v.log, err = wal.Check(v.path(logDir), wal.Options{FS: v.fs}, 0, func(_ uint64, record []byte) error {
		_, err := decodeRecord(record)
		return err
	})
	v.readLog()
	return err
}

// readLog reports what was wrong with the log; true says that nothing is damaged.
func (v *verification) readLog() (whole bool) {
	whole = true
	v.report.LogRecords, v.report.Position = v.log.Records, Position(v.log.Last)
	for i := range v.log.Damage {
		d := &v.log.Damage[i]
		severity := SeverityDamage
		if d.Torn {
			severity = SeverityTorn
		}
		whole = whole && d.Torn
		v.find(severity, v.fs.PathJoin(logDir, d.File), "%s", logDamageText(d))
	}
	return whole
}

// judge looks at what was loaded.
func (v *verification) judge() error {
	whole := v.readLog()
	v.report.Position, v.report.Checkpoint = max(v.report.Position, v.machine.applied), v.checkpoint
	for i, b := range v.bad {
		if i == mostFindings {
			v.find(SeverityDamage, v.state, "and %d more rows that make no sense", len(v.bad)-i)
			break
		}
		v.find(SeverityDamage, v.state, "%s", b)
	}
	if err := v.settle(); err != nil {
		return err
	}
	if !whole || len(v.bad) > 0 || !v.exists(logDir) {
		v.report.Contents = v.machine.contents()
		v.find(SeverityNote, v.state, "whether references and messages agree is not checked, for something is lost; opening the store makes them agree")
		return nil
	}
	err := v.agree()
	v.report.Contents = v.machine.contents()
	return err
}

// agree checks that references and messages, and what is counted of them, agree.
func (v *verification) agree() error {
	m := v.machine
	refs := m.references()
	var size int64
	several := 0
	for _, r := range refs {
		size += r.size
		if r.count > 1 {
			several++
		}
	}
	if m.stats.Messages != int64(len(refs)) || m.stats.MessageBytes != size {
		v.find(SeverityDamage, v.state, "%d messages of %d bytes are counted, and %d of %d bytes are referred to",
			m.stats.Messages, m.stats.MessageBytes, len(refs), size)
	}
	if err := v.counted(refs, several); err != nil {
		return err
	}
	if err := v.bodies(refs); err != nil {
		return err
	}
	lost := make([]Ref, 0, len(refs))
	for ref := range refs {
		lost = append(lost, ref)
	}
	slices.SortFunc(lost, func(a, b Ref) int { return cmp.Compare(a.Position, b.Position) })
	for i, ref := range lost {
		if i == mostFindings {
			v.find(SeverityDamage, v.state, "and %d more messages that are missing", len(lost)-i)
			break
		}
		v.find(SeverityDamage, v.state, "message %d of group %d is missing, and %d rows refer to it", ref.Position, ref.Group, refs[ref].count)
	}
	return nil
}

// counted compares the stored reference counts with those there are.
func (v *verification) counted(refs map[Ref]reference, several int) error {
	wrong, rows := 0, 0
	for g := range v.machine.groups {
		from, to := v.machine.keys.all(uint16(g), kindRefs)
		err := v.over.scan(bytes.Clone(from), bytes.Clone(to), func(key, value []byte) bool {
			rows++
			d := rowDecoder(value)
			n := d.uint()
			if len(key) != prefixLen+8 || d.end() != nil || n < 2 || refs[Ref{uint16(g), Position(keyNumber(key))}].count != n {
				wrong++
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if wrong > 0 || rows != several || int64(rows) != v.machine.shared {
		v.find(SeverityDamage, v.state, "of %d reference counts %d are wrong; there should be %d, and %d are counted", rows, wrong, several, v.machine.shared)
	}
	return nil
}

// bodies reads all messages, and takes those that it finds out of refs.
func (v *verification) bodies(refs map[Ref]reference) error {
	orphans := 0
	var first Ref
	meet := func(ref Ref, size int64, err error) {
		r, wanted := refs[ref]
		switch {
		case err != nil:
			v.find(SeverityDamage, v.state, "message %d of group %d does not decode", ref.Position, ref.Group)
		case !wanted:
			if orphans++; orphans == 1 {
				first = ref
			}
		case r.size != size:
			v.find(SeverityDamage, v.state, "message %d of group %d has %d bytes instead of %d", ref.Position, ref.Group, size, r.size)
		}
		delete(refs, ref)
	}
	err := v.stored(func(key, value []byte) error {
		m, err := decodeBody(value)
		if err != nil || len(key) != prefixLen+8 {
			meet(Ref{}, 0, errCorrupt)
			return nil
		}
		meet(Ref{keyGroup(key), Position(keyNumber(key))}, messageSize(m), nil)
		return nil
	})
	if orphans > 0 {
		v.find(SeverityOrphan, v.state, "nothing refers to %d messages; the first: position %d of group %d", orphans, first.Position, first.Group)
	}
	return err
}
