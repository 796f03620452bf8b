// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// NewMemory returns a store that keeps everything in memory: the twin of the durable engine, with the same machine and
// the same queue in front of it. It has one goroutine, which Close ends.
func NewMemory(o Options) Store { return newMemory(o, noLog{}) }

func newMemory(o Options, log replog) *engine {
	o = o.withDefaults()
	m := newMachine(&sortedRows{}, memoryBodies{}, o.Limits, o.Groups)
	e := newEngine(m, log, o)
	go e.run()
	return e
}

// noLog commits at once.
type noLog struct{}

func (noLog) Propose([]entry) error { return nil }
func (noLog) Tend() time.Duration   { return 0 }
func (noLog) Close() error          { return nil }
