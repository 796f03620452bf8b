// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// CommitBuckets are the upper bounds of DiskStats.Commits, in seconds: powers of two from 2^-14 (61 us) to 8; what took longer is in
// the last element.
const CommitBuckets = 19

// CommitBound is the upper bound of a bucket in seconds.
func CommitBound(bucket int) float64 { return float64(uint64(1)<<bucket) / (1 << 14) }

// DiskStats are measures of a durable engine. The memory engine has none.
type DiskStats struct {
	Commits        [CommitBuckets]int64 // commits by the time they took, write and fdatasync
	CommitSeconds  float64              // in all
	Records        int64                // commands written to the log
	LogWritten     int64                // bytes written to the log since start
	LogBytes       int64                // bytes of the log now
	StateBytes     int64                // bytes of the state on disk now
	Syncs          int64                // fdatasync calls
	Checkpoints    int64
	CheckpointTime time.Duration // of all checkpoints
	BufferBytes    int64         // changes in memory that are not in the state yet, about
	Full           bool          // there is no room: durable messages are refused
	Slow           bool          // a commit has not ended for a second
	Damaged        int64         // parts set aside since start
}

// measures collects DiskStats. Any goroutine reads them.
type measures struct {
	commits     [CommitBuckets]atomic.Int64
	nanoseconds atomic.Int64
	records     atomic.Int64
	logged      atomic.Int64
	syncs       atomic.Int64
	checkpoints atomic.Int64
	checkpoint  atomic.Int64 // nanoseconds
	damaged     atomic.Int64
	logBytes    atomic.Int64
}

func (m *measures) commit(records int, took time.Duration) {
	bucket := bits.Len64(uint64(took) * (1 << 14) / uint64(time.Second))
	m.commits[min(bucket, CommitBuckets-1)].Add(1)
	m.nanoseconds.Add(int64(took))
	m.records.Add(int64(records))
}

// stats gathers the measures. The engine's lock is held.
func (d *disk) stats() *DiskStats {
	s := d.measures.read()
	s.BufferBytes = d.over.active.bytes
	if d.over.frozen != nil {
		s.BufferBytes += d.over.frozen.bytes
	}
	s.Full, s.Slow = d.room.full.Load(), d.local.slowed.Load()
	if !d.engine.ended && d.db != nil {
		s.StateBytes = int64(d.db.Metrics().DiskSpaceUsage())
	}
	return &s
}

func (m *measures) read() DiskStats {
	s := DiskStats{
		CommitSeconds:  float64(m.nanoseconds.Load()) / 1e9,
		Records:        m.records.Load(),
		LogWritten:     m.logged.Load(),
		Syncs:          m.syncs.Load(),
		Checkpoints:    m.checkpoints.Load(),
		CheckpointTime: time.Duration(m.checkpoint.Load()),
		Damaged:        m.damaged.Load(),
		LogBytes:       m.logBytes.Load(),
	}
	for i := range m.commits {
		s.Commits[i] = m.commits[i].Load()
	}
	return s
}
