// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package wal is the segment log of the durable store: records with growing positions, appended in batches to files, read again
// when the log is opened. It knows nothing of what a record means, and nothing of who waits for it.
//
// A Log belongs to one goroutine; nothing in it may be called by two at once, and it starts none of its own. It copies
// what it keeps: the bytes that it hands out (the buffer of Begin, the record given to replay) are lent until the next call.
//
// # Format
//
// Format 1. All integers are little-endian, all checksums CRC-32C (Castagnoli). A folder holds segments, named by their number in
// 16 hexadecimal digits (0000000000000001.log), a note of the newest (newest), and spares (.spare): emptied segments, to be renamed and written again. Numbers grow;
// they need not be dense. A segment is a head and then frames without gaps:
//
//		segment  magic "NOCTWAL\0" | crc u32 of what follows | version u32 | log u64 | segment u64 | opening u64
//		         | before u64 | extent u64 | 0 u64
//		frame    magic "NWf1" | crc u32 of what follows in the head | log u64 | segment u64 | opening u64 | serial u64
//		         | first u64 | last u64 | synced u64 | extent u64 | length u64 | count u32 | flags u32 | records
//		record   head crc u32 | crc u32 | length u32 | position - first, uvarint | bytes
//
//	  - log is a random number, drawn when the log is created. It is part of every checksum, so that bytes which a stranger had
//	    stored can never be taken for a frame, wherever a search meets them.
//	  - opening counts the times that the log was opened, serial the batches since. Together they name a batch once in the
//	    life of the log. The checksums of a record begin with log, opening and serial; the head's goes on over length and
//	    position, the record's own goes on from there over its bytes. So neither stale bytes of a recycled segment nor those of a
//	    batch whose writing failed can be taken for records of another frame.
//	  - before is the last position in front of the segment: it is synced when the segment begins. A segment that is missing shows there.
//	  - first and last are positions of a frame's records, length and count their bytes and number. A frame without records is a mark:
//	    flag 1, the log was opened here and everything before is synced; flag 2, it was closed here in order; flag 4, what is
//	    missing up to position last was set aside.
//	  - synced is the last position that was synced when the frame was written.
//	  - extent is the size of the file when the frame was written: bytes behind the frame and in front of the extent are stale.
//
// # Torn or damaged
//
// What has been synced and cannot be read is damage; what was being written when the power went is a torn tail, and nobody was told that it is
// kept. At bytes that are no frame, or at a record whose checksum is wrong, the rest of the log is searched for proof: a
// frame or a segment that says that later positions had been synced, or that the log was opened since. With proof, what is damaged is set aside and
// reading goes on at the next good record. Without, the log ends here and the rest is cut. The last frame of a log that was not
// closed has nobody to speak for it: damage to it is taken for a torn tail.
package wal

import (
	"errors"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Errors of Open.
var (
	// ErrStop, returned by replay (or wrapped in what it returns), ends Open.
	ErrStop = errors.New("wal: stopped")
	// ErrDamaged refuses to open a damaged log, with Options.Refuse. The error's text names the damage.
	ErrDamaged = errors.New("wal: damaged")
	// ErrFormat refuses to open a log that another version of this program wrote. Nothing is changed.
	ErrFormat = errors.New("wal: unknown format")
	// ErrClosed is what a Log gives after Close.
	ErrClosed = errors.New("wal: closed")
)

// MaxRecord is the greatest size of one record, in bytes.
const MaxRecord = 1 << 30

// Options are the choices of a log. Zero values choose the defaults, except for FS.
type Options struct {
	// FS holds the files. It must not be nil.
	FS vfs.FS
	// SegmentBytes is the size at which a segment is ended and a new one begins; default 64 MiB. A segment is longer by what
	// is left of the last batch.
	SegmentBytes int64
	// Spare is the number of emptied segments that are kept for being written again; default 2, negative for none.
	Spare int
	// Refuse makes Open fail with ErrDamaged when anything is damaged, and change nothing. A torn tail is not damage.
	Refuse bool
	// Aside is the folder for copies of what is cut or damaged; default "damaged" in the log's own. It is created (0700) when needed.
	Aside string
}

func (o *Options) fill(dir string) {
	if o.Aside == "" {
		o.Aside = o.FS.PathJoin(dir, "damaged")
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.Spare == 0 {
		o.Spare = 2
	}
}

// Damage is something that Open could not read, or that replay refused.
type Damage struct {
	File           string // the segment's file name
	Offset, Length int64  // the bytes concerned; a length of 0 is unknown
	First, Last    uint64 // positions that are or may be lost; 0 if unknown or none
	Torn           bool   // a torn tail: never synced, cut
	Kept           string // where a copy is; empty if there is none
	Why            string
	Record         []byte // the damaged record if its length was readable, nil otherwise
}

// Recovery is what Open found.
type Recovery struct {
	Last    uint64 // the last position of the log; 0 if it is empty
	Records int    // records that were replayed
	Bytes   int64  // their bytes
	Damage  []Damage
	Clean   bool // the log was closed in order and nothing is damaged
}

// NoSpace reports whether err says that the file system is full or not writable now: it may pass.
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) || diskFull(err)
}
