// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	errKind      = errors.New("a row of an unknown kind")
	errElsewhere = errors.New("a row whose value is in another block")
)

// A gap is a part of a table that is lost: it may have held any version of any key in it, up to the newest of its table.
type gap struct {
	*table
	from, to []byte
}

// A merge goes through all tables at once in the order of keys. A table is opened when the merge comes to its smallest key,
// and closed when it is at its end.
type merge struct {
	fs       vfs.FS
	dir      string
	thorough bool
	left     []*table // not open yet, by smallest key
	open     []*scanner
	rows     []*scanner // heap of those that stand at a row: smallest key first, newest version of it first
	gaps     []gap      // that reach beyond the keys done
	key      []byte     // being looked at
	lost     map[*table]ranges
	report   Report
}

func (m *merge) run(yield func(key, value []byte) error) error {
	for {
		for len(m.left) > 0 && (len(m.rows) == 0 || bytes.Compare(m.left[0].smallest, m.rows[0].key) <= 0) {
			m.openNext()
		}
		if len(m.rows) == 0 {
			return nil
		}
		m.key = append(m.key[:0], m.rows[0].key...)
		if m.certain() {
			m.report.Rows++
			if err := yield(m.key, m.rows[0].value); err != nil {
				return err
			}
		}
		for len(m.rows) > 0 && bytes.Equal(m.rows[0].key, m.key) {
			m.rows[0].next()
			m.settle()
		}
	}
}

// certain says whether the newest version of the key is a row, and is certainly the newest.
func (m *merge) certain() bool {
	s := m.rows[0]
	switch pebble.InternalKeyKind(s.kind()) {
	case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete:
	case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, pebble.InternalKeyKindDeleteSized:
		return false
	default:
		m.lose(s.table, m.key, after(m.key), errKind)
		return false
	}
	for _, o := range m.open {
		if o.deleted(m.key) > s.seq() {
			return false
		}
	}
	if len(m.gaps) > 0 && m.suspect(s) {
		return false
	}
	if s.elsewhere {
		m.lose(s.table, m.key, after(m.key), errElsewhere)
		return false
	}
	return true
}

// suspect says whether something that is lost may be newer than the row at which a scanner stands.
func (m *merge) suspect(s *scanner) bool {
	m.gaps = slices.DeleteFunc(m.gaps, func(g gap) bool { return bytes.Compare(g.to, m.key) <= 0 })
	for _, g := range m.gaps {
		if bytes.Compare(g.from, m.key) <= 0 && g.newest >= s.seq() && g.level <= s.level {
			return true
		}
	}
	return false
}

// mostRanges bounds the ranges that one table may add to a report, after which the last one is widened.
const mostRanges = 256

// ranges says where in the report a table stands.
type ranges struct {
	n    int
	last int // index of the last range
}

// lose takes note of a part of a table that cannot be read.
func (m *merge) lose(t *table, from, to []byte, err error) {
	if bytes.Compare(to, t.end) > 0 {
		to = t.end
	}
	if bytes.Compare(from, to) >= 0 {
		return // behind its last key
	}
	d := t.damage(from, to, err.Error())
	m.gaps = append(m.gaps, gap{table: t, from: d.From, to: d.To})
	known := m.lost[t]
	if known.n > 0 {
		last := &m.report.Damage[known.last]
		touch := bytes.Compare(last.From, d.From) <= 0 && bytes.Compare(d.From, last.To) <= 0
		if known.n == mostRanges || touch {
			if bytes.Compare(d.From, last.From) < 0 {
				last.From = d.From
			}
			if bytes.Compare(d.To, last.To) > 0 {
				last.To = d.To
			}
			return
		}
	}
	m.lost[t] = ranges{n: known.n + 1, last: len(m.report.Damage)}
	m.report.Damage = append(m.report.Damage, d)
}

// openNext opens the table with the smallest key of those left.
func (m *merge) openNext() {
	t := m.left[0]
	m.left = m.left[1:]
	if m.thorough {
		m.checkMeta(t)
	}
	s, ok := open(t, m.fs, m.dir, m.lose)
	if !ok {
		return
	}
	m.open = append(m.open, s)
	if s.key != nil {
		m.rows = append(m.rows, s)
		m.up(len(m.rows) - 1)
	}
}

// checkMeta looks at what a table has besides rows. What the scanner finds, too, is left to it.
func (m *merge) checkMeta(t *table) {
	bad := func(why string) { m.report.Damage = append(m.report.Damage, Damage{File: t.name(), Why: why}) }
	f, err := m.fs.Open(m.fs.PathJoin(m.dir, t.name()))
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > t.size {
		bad(fmt.Sprintf("has %d bytes instead of %d", info.Size(), t.size))
	}
	b := blocks{file: f, size: t.size}
	b.pool.Init(2)
	defer b.pool.Release()
	defer func() {
		if err := asError(recover()); err != nil {
			bad(err.Error())
		}
	}()
	if b.init() == nil {
		b.checkMeta(func(name string, err error) { bad(name + ": " + err.Error()) })
	}
}

// settle puts the first scanner, which has gone on, where it belongs, and closes what is at its end.
func (m *merge) settle() {
	if m.rows[0].key == nil {
		last := len(m.rows) - 1
		m.rows[0] = m.rows[last]
		m.rows = m.rows[:last]
		m.open = slices.DeleteFunc(m.open, func(s *scanner) bool {
			if s.done() {
				s.close()
				return true
			}
			return false
		})
	}
	m.down()
}

func (m *merge) close() {
	for _, s := range m.open {
		s.close()
	}
}

// before is the order of the heap.
func (m *merge) before(i, j int) bool {
	a, b := m.rows[i], m.rows[j]
	if c := bytes.Compare(a.key, b.key); c != 0 {
		return c < 0
	}
	return a.seq() > b.seq()
}

func (m *merge) up(i int) {
	for i > 0 && m.before(i, (i-1)/2) {
		m.rows[i], m.rows[(i-1)/2] = m.rows[(i-1)/2], m.rows[i]
		i = (i - 1) / 2
	}
}

func (m *merge) down() {
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(m.rows); c++ {
			if m.before(c, least) {
				least = c
			}
		}
		if least == i {
			return
		}
		m.rows[i], m.rows[least] = m.rows[least], m.rows[i]
		i = least
	}
}
