// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

// Options are the choices of a store. Zero values choose the defaults. All of them are fixed when it is opened.
type Options struct {
	Limits Limits
	// Groups is the number of topic groups; default 16, at most 1024. It is part of what is stored.
	Groups int
	// MaxPending and MaxPendingBytes bound the commands proposed and not done. Beyond them a Publish gets ErrFull; callers
	// that look at Pending stop reading from their publishers long before. Defaults: 1 000 000 and 256 MiB.
	MaxPending      int
	MaxPendingBytes int64
}

const (
	defaultGroups          = 16
	mostGroups             = 1024
	defaultMaxPending      = 1_000_000
	defaultMaxPendingBytes = 256 << 20
)

func (o Options) withDefaults() Options {
	if o.Groups <= 0 {
		o.Groups = defaultGroups
	}
	o.Groups = min(o.Groups, mostGroups)
	if o.MaxPending <= 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.MaxPendingBytes <= 0 {
		o.MaxPendingBytes = defaultMaxPendingBytes
	}
	return o
}

// NewMemory returns a store that keeps everything in memory: the twin of the durable engine, with the same machine and
// the same queue in front of it. It has one goroutine, which Close ends.
func NewMemory(o Options) Store { return newMemory(o, noLog{}) }

func newMemory(o Options, log replog) *engine {
	o = o.withDefaults()
	m := newMachine(&sortedRows{}, memoryBodies{}, o.Limits, o.Groups)
	return startEngine(m, log, o.MaxPending, o.MaxPendingBytes)
}

// noLog commits at once.
type noLog struct{}

func (noLog) Propose(Position, []command) error { return nil }
func (noLog) Close() error                      { return nil }
