// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	version      = 1
	segmentMagic = "NOCTWAL\x00"
	frameMagic   = "NWf1"

	segmentHead = 64 // bytes of a segment's head
	frameHead   = 88 // bytes of a frame's head
	recordHead  = 12 // bytes of a record's head in front of the position
)

// Flags of a mark.
const (
	markOpen  = 1 << iota // the log was opened here
	markClose             // the log was closed here
	markLost              // positions up to last were lost and set aside
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// segment is the head of a segment.
type segment struct {
	log, number, opening uint64
	before               uint64 // last position in front of it
	extent               uint64 // size of the file when it was made a segment
}

func (s *segment) put(b []byte) {
	copy(b, segmentMagic)
	le.PutUint32(b[12:], version)
	for i, v := range [...]uint64{s.log, s.number, s.opening, s.before, s.extent, 0} {
		le.PutUint64(b[16+8*i:], v)
	}
	le.PutUint32(b[8:], crc32.Checksum(b[12:segmentHead], castagnoli))
}

// take decodes the head of a segment; false says that it is none. The error is ErrFormat.
func (s *segment) take(b []byte) (bool, error) {
	if len(b) < segmentHead || string(b[:8]) != segmentMagic || le.Uint32(b[8:]) != crc32.Checksum(b[12:segmentHead], castagnoli) {
		return false, nil
	}
	if v := le.Uint32(b[12:]); v != version {
		return false, fmt.Errorf("%w: format %d, this program reads %d", ErrFormat, v, version)
	}
	for i, p := range [...]*uint64{&s.log, &s.number, &s.opening, &s.before, &s.extent} {
		*p = le.Uint64(b[16+8*i:])
	}
	return true, nil
}

// frame is the head of a frame.
type frame struct {
	log, segment, opening, serial uint64
	first, last, synced           uint64 // positions
	extent, length                uint64 // bytes
	count, flags                  uint32
}

func (f *frame) put(b []byte) {
	copy(b, frameMagic)
	for i, v := range [...]uint64{f.log, f.segment, f.opening, f.serial, f.first, f.last, f.synced, f.extent, f.length} {
		le.PutUint64(b[8+8*i:], v)
	}
	le.PutUint32(b[80:], f.count)
	le.PutUint32(b[84:], f.flags)
	le.PutUint32(b[4:], crc32.Checksum(b[8:frameHead], castagnoli))
}

// take decodes the head of a frame; false says that it is none.
func (f *frame) take(b []byte) bool {
	if len(b) < frameHead || string(b[:4]) != frameMagic || le.Uint32(b[4:]) != crc32.Checksum(b[8:frameHead], castagnoli) {
		return false
	}
	for i, p := range [...]*uint64{&f.log, &f.segment, &f.opening, &f.serial, &f.first, &f.last, &f.synced, &f.extent, &f.length} {
		*p = le.Uint64(b[8+8*i:])
	}
	f.count, f.flags = le.Uint32(b[80:]), le.Uint32(b[84:])
	return f.first <= f.last
}

// seed begins the checksums of the records of a batch. It writes to the first 24 bytes of room.
func seed(room []byte, log, opening, serial uint64) uint32 {
	le.PutUint64(room[0:], log)
	le.PutUint64(room[8:], opening)
	le.PutUint64(room[16:], serial)
	return crc32.Checksum(room[:24], castagnoli)
}

// sealRecord completes the head of the record b, whose body begins at byte body.
func sealRecord(b []byte, body int, seed uint32) {
	le.PutUint32(b[8:], uint32(len(b)-body))
	head := crc32.Update(seed, castagnoli, b[8:body])
	le.PutUint32(b[0:], head)
	le.PutUint32(b[4:], crc32.Update(head, castagnoli, b[body:]))
}

// recordAt decodes the record at the beginning of b. size is what its head says, 0 if the head is no good or reaches beyond b;
// good says that the body, too, is what was written.
func recordAt(b []byte, seed uint32) (delta uint64, body []byte, size int, good bool) {
	if len(b) <= recordHead {
		return 0, nil, 0, false
	}
	delta, n := binary.Uvarint(b[recordHead:min(len(b), recordHead+binary.MaxVarintLen64)])
	if n <= 0 {
		return 0, nil, 0, false
	}
	start, length := recordHead+n, le.Uint32(b[8:])
	head := crc32.Update(seed, castagnoli, b[8:start])
	if head != le.Uint32(b) || uint64(length) > uint64(len(b)-start) {
		return 0, nil, 0, false
	}
	body = b[start : start+int(length)]
	return delta, body, start + int(length), le.Uint32(b[4:]) == crc32.Update(head, castagnoli, body)
}
