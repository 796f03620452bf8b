// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package salvage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// comparer is the order of keys: that of bytes. It is part of the format on disk.
var comparer = pebble.DefaultComparer

const (
	tableBytes = 4 << 20
	blockBytes = 8 << 10
	indexBytes = 1 << 10 // lower index blocks: what hangs on one of them, and on the top one, is about as little as can be
)

// Fatal is what Pebble panics with, having Options, where it would end the process: after a failed sync of the MANIFEST, mostly. Nothing that the
// instance says after that may be trusted.
type Fatal struct{ Text string }

// Error is the text of Pebble.
func (f *Fatal) Error() string { return "pebble: " + f.Text }

// Options are how Pebble must be opened for this package to understand the folder, and for little to be lost with a
// damaged part: a table format in which all is under checksums, small tables and blocks, no values outside of tables, the MANIFEST
// kept twice. Cache, memtables, compactions and the WAL are the caller's; what is set here is part of the format on disk.
//
// Failed is called for errors in the background and for corruption that Pebble meets, on its goroutines; it must not block nor
// call Pebble. With a *Fatal it is called right before the panic, which ends the process if it is on a goroutine of Pebble.
func Options(fs vfs.FS, failed func(error)) *pebble.Options {
	o := &pebble.Options{
		FS:                  Mirror(fs),
		Comparer:            comparer,
		FormatMajorVersion:  pebble.FormatValueSeparation, // the first with tables of format Pebblev7
		MaxManifestFileSize: 4 << 20,
		Logger:              logger{failed},
		EventListener: &pebble.EventListener{
			BackgroundError: failed,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { failed(i.Details) },
		},
	}
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy { return pebble.ValueSeparationPolicy{} }
	for i := range o.Levels {
		o.Levels[i].BlockSize = blockBytes
		o.Levels[i].IndexBlockSize = indexBytes
		o.TargetFileSizes[i] = tableBytes
	}
	return o
}

// logger keeps Pebble silent.
type logger struct{ failed func(error) }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) { l.failed(fmt.Errorf("pebble: "+format, args...)) }

func (l logger) Fatalf(format string, args ...any) {
	f := &Fatal{Text: fmt.Sprintf(format, args...)}
	l.failed(f)
	panic(f)
}
