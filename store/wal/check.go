// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import "fmt"

// Check reads the log in a folder as Open does, and changes nothing: neither in it, nor beside it. What Open would set aside or
// cut is in the Recovery, with Kept empty. The folder may be one from which can only be read; no Log may have it open.
//
// from and replay are as for Open. A nil replay takes every record as it is.
func Check(dir string, o Options, from uint64, replay func(position uint64, record []byte) error) (Recovery, error) {
	if replay == nil {
		replay = func(uint64, []byte) error { return nil }
	}
	o.fill(dir)
	if _, err := o.FS.Stat(dir); err != nil {
		return Recovery{}, fmt.Errorf("wal: %w", err)
	}
	r := &recovery{dir: dir, o: o, from: from, replay: replay}
	if err := r.survey(); err != nil {
		return r.rec, err
	}
	err := r.walk()
	return r.rec, err
}
