// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// keepBuffer is the greatest batch buffer that is kept for the next batch.
const keepBuffer = 4 << 20

// Log is an open log. It is not safe for concurrent use: one goroutine owns it.
type Log struct {
	dir     string
	o       Options
	id      uint64 // of the log, in all checksums
	opening uint64
	serial  uint64 // of the batch in hand

	segments []live // oldest first; the last one is being written
	spares   []string
	file     vfs.File
	off      int64 // where the next frame goes
	size     int64 // of the file; behind off it is stale
	wasted   bool  // emptied segments are removed
	unmarked bool  // the mark of this opening could not be written yet

	last   uint64 // position of the last record written
	synced uint64 // position of the last record synced
	dirty  bool   // something was written since the last sync
	failed error  // every later Write and Sync returns it

	batch []byte // room for a frame's head, then records
	first uint64 // positions of the batch in hand
	tail  uint64 // also without a batch: the last position
	count uint32
	seed  uint32
	start int // of the record begun, in batch
	body  int // of its bytes
	begun uint64
}

// live is a segment in use.
type live struct {
	number uint64
	last   uint64 // the last position in it, or in front of it
	bytes  int64  // of head and frames
}

// Begin begins a record in the batch in hand, and returns the buffer to append its bytes to; End takes it back. position must
// be greater than that of every record before: anything else is a broken invariant and panics.
func (l *Log) Begin(position uint64) []byte {
	if position <= l.tail {
		panic(fmt.Sprintf("wal: position %d after %d", position, l.tail))
	}
	if l.count == 0 {
		l.serial++
		l.first = position
		if cap(l.batch) < frameHead {
			l.batch = make([]byte, frameHead, 4096)
		}
		l.batch = l.batch[:frameHead]
		l.seed = seed(l.batch, l.id, l.opening, l.serial)
	}
	l.start, l.begun = len(l.batch), position
	var room [recordHead]byte
	buf := append(l.batch, room[:]...)
	buf = binary.AppendUvarint(buf, position-l.first)
	l.body = len(buf)
	return buf
}

// End ends the record that Begin began. buf is what Begin returned, with the record's bytes appended: at most MaxRecord, more panics.
func (l *Log) End(buf []byte) {
	if len(buf)-l.body > MaxRecord {
		panic(fmt.Sprintf("wal: a record of %d bytes", len(buf)-l.body))
	}
	sealRecord(buf[l.start:], l.body-l.start, l.seed)
	l.batch, l.tail = buf, l.begun
	l.count++
}

// Size is the number of bytes of the batch in hand; 0 if there is none.
func (l *Log) Size() int {
	if l.count == 0 {
		return 0
	}
	return len(l.batch)
}

// Discard lets the batch in hand go. Its positions may be used again.
func (l *Log) Discard() {
	l.count, l.tail = 0, l.last
	if cap(l.batch) > keepBuffer {
		l.batch = nil
	}
}

// Write hands the batch in hand to the file system, in one call; without a batch it does nothing. When it fails nothing of the batch
// counts, the batch stays in hand, and Write may be called again, be the reason a full disk (see NoSpace) or another. When Sync has failed
// Write returns its error.
func (l *Log) Write() error {
	if l.failed != nil {
		return l.failed
	}
	if l.count == 0 {
		return nil
	}
	if l.off >= l.o.SegmentBytes {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if l.unmarked {
		if err := l.mark(markOpen); err != nil {
			return err
		}
		l.unmarked = false
	}
	f := l.frame()
	f.serial, f.first, f.last = l.serial, l.first, l.tail
	f.length, f.count = uint64(len(l.batch)-frameHead), l.count
	f.put(l.batch)
	if err := l.put(l.batch); err != nil {
		return err
	}
	l.last = l.tail
	l.segments[len(l.segments)-1].last = l.last
	l.Discard()
	return nil
}

// frame is the head of the next frame, as far as it is the same for all.
func (l *Log) frame() frame {
	return frame{
		log: l.id, segment: l.segments[len(l.segments)-1].number, opening: l.opening,
		first: l.last, last: l.last, synced: l.synced, extent: uint64(l.size),
	}
}

// mark writes a frame without records.
func (l *Log) mark(flags uint32) error {
	var b [frameHead]byte
	f := l.frame()
	f.flags = flags
	f.put(b[:])
	return l.put(b[:])
}

// put writes a frame behind the last one.
func (l *Log) put(b []byte) error {
	n, err := l.file.WriteAt(b, l.off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	l.size = max(l.size, l.off+int64(n))
	if err != nil {
		// Whoever reads the log before this place is written again must not find the beginning of the frame. If this fails as well the
		// next frame does it; until then the worst is that records return of which nobody was told that they are kept.
		if n = min(n, frameHead); n > 0 {
			_, _ = l.file.WriteAt(make([]byte, n), l.off)
			l.dirty = true
		}
		return fmt.Errorf("wal: write: %w", err)
	}
	l.off += int64(n)
	l.segments[len(l.segments)-1].bytes = l.off
	l.dirty = true
	return nil
}

// Sync makes durable what was written (fdatasync). An error is final: nobody knows what the disk holds then, and every
// later Write and Sync returns it.
func (l *Log) Sync() error {
	if l.failed != nil {
		return l.failed
	}
	if l.dirty {
		if err := l.file.SyncData(); err != nil {
			l.failed = fmt.Errorf("wal: sync: %w", err)
			return l.failed
		}
		l.dirty = false
	}
	l.synced = l.last
	return nil
}

// Synced is the position up to which everything is synced.
func (l *Log) Synced() uint64 { return l.synced }

// Bytes is the size of all segments in use, without stale bytes and spares.
func (l *Log) Bytes() int64 {
	n := int64(0)
	for _, s := range l.segments {
		n += s.bytes
	}
	return n
}

// Close lets the batch in hand go, writes the mark of an orderly end, syncs, and closes the file. The log is of no use afterwards, whatever it returns.
func (l *Log) Close() error {
	if l.failed == ErrClosed {
		return ErrClosed
	}
	l.Discard()
	err := l.failed
	if err == nil && !l.unmarked {
		err = l.mark(markClose)
	}
	if e := l.Sync(); err == nil {
		err = e
	}
	if e := l.file.Close(); err == nil && e != nil {
		err = fmt.Errorf("wal: close: %w", e)
	}
	l.failed = ErrClosed
	return err
}
