// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	manifestPrefix = "MANIFEST-"
	copySuffix     = ".copy"
	markerPrefix   = "marker.manifest."
	formatPrefix   = "marker.format-version."
)

// A list is what is known of the live tables of a folder.
type list struct {
	name   string   // of the MANIFEST
	known  bool     // tables is what is live
	tables []*table // sorted by smallest
	damage []Damage // of the MANIFEST, its copy, the markers
}

// A table is a live table, as the MANIFEST has it.
type table struct {
	number   uint64
	level    int
	size     int64
	smallest []byte // user key, inclusive
	end      []byte // user key, exclusive
	oldest   uint64 // least sequence number
	newest   uint64 // greatest sequence number of anything in it
	foreign  string // why it cannot be understood, or ""
}

func (t *table) name() string { return fmt.Sprintf("%06d.sst", t.number) }

func (t *table) damage(from, to []byte, why string) Damage {
	return Damage{File: t.name(), Why: why, Lost: true, From: slices.Clone(from), To: slices.Clone(to)}
}

// missing says why a table cannot be read as a whole, or "".
func (t *table) missing(fs vfs.FS, dir string) string {
	info, err := fs.Stat(fs.PathJoin(dir, t.name()))
	switch {
	case t.foreign != "":
		return t.foreign
	case err != nil:
		return err.Error()
	case info.Size() != t.size:
		return fmt.Sprintf("has %d bytes instead of %d", info.Size(), t.size)
	}
	return ""
}

func (l *list) report() Report {
	r := Report{Manifest: l.known, Tables: len(l.tables), Damage: l.damage}
	for _, t := range l.tables {
		r.Bytes += t.size
	}
	return r
}

func (l *list) note(file, why string, harmless bool) {
	l.damage = append(l.damage, Damage{File: file, Why: why, Harmless: harmless})
}

// unknown gives up: it is not known what is live.
func (l *list) unknown(why string) *list {
	l.known, l.tables = false, nil
	l.damage = append(l.damage, Damage{File: l.name, Why: "the live tables are not known: " + why, Lost: true})
	return l
}

// readList reads which tables of a folder are live. The error is that the folder cannot be listed.
func readList(fs vfs.FS, dir string) (*list, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	l := &list{name: manifestPrefix + "*"}
	if !l.locate(names) {
		return l.unknown("there is no MANIFEST"), nil
	}
	var c chain
	for i, suffix := range [...]string{"", copySuffix} {
		name := l.name + suffix
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			l.note(name, err.Error(), i == 1)
			continue
		}
		defer f.Close()
		c.copies[i].file = f
	}
	v := version{live: map[uint64]*table{}}
	for {
		record, ok := c.next()
		if !ok {
			break
		}
		if err := v.apply(record); err != nil {
			return l.unknown(err.Error()), nil
		}
	}
	for i, suffix := range [...]string{"", copySuffix} {
		if why := c.copies[i].bad; why != "" {
			l.note(l.name+suffix, why, i == 1)
		}
	}
	if c.torn() {
		return l.unknown("a record is damaged, and there are others behind it"), nil
	}
	if v.comparer == "" {
		return l.unknown("no record is whole"), nil
	}
	if v.comparer != comparer.Name {
		return l.unknown(fmt.Sprintf("the order of keys is %q", v.comparer)), nil
	}
	l.known = true
	for _, t := range v.live {
		l.tables = append(l.tables, t)
	}
	slices.SortFunc(l.tables, func(a, b *table) int {
		return cmp.Or(bytes.Compare(a.smallest, b.smallest), cmp.Compare(a.number, b.number))
	})
	return l, nil
}

// locate finds the name of the MANIFEST: what the marker says, or else the one with the greatest number. Pebble numbers its files upwards,
// above all that are in the folder, and a new MANIFEST begins with all that was in the one before.
func (l *list) locate(names []string) bool {
	var format bool
	var newest, marked uint64
	for _, name := range names {
		format = format || strings.HasPrefix(name, formatPrefix)
		if rest, ok := strings.CutPrefix(name, markerPrefix); ok {
			// marker.manifest.000003.MANIFEST-000042
			count, target, _ := strings.Cut(rest, ".")
			if n, err := strconv.ParseUint(count, 10, 64); err == nil && n >= marked && strings.HasPrefix(target, manifestPrefix) {
				marked, l.name = n, target
			}
		}
	}
	if !format {
		l.note(formatPrefix+"*", "is missing", false)
	}
	if l.name != manifestPrefix+"*" {
		return true
	}
	l.note(markerPrefix+"*", "is missing", false)
	for _, name := range names {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(name, copySuffix), manifestPrefix)
		if n, err := strconv.ParseUint(rest, 10, 64); ok && err == nil && n >= newest {
			newest, l.name = n, manifestPrefix+rest
		}
	}
	return l.name != manifestPrefix+"*"
}
