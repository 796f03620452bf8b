// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"encoding/binary"
	"time"
)

// StampSize is the smallest payload that can be checked.
const StampSize = 28

// stampMark begins every stamp.
const stampMark = 0x6e627631 // "nbv1"

// stamp is what a payload begins with. Integers are big-endian.
//
//	mark (4) | run (4) | publisher (4) | sequence number (8) | nanoseconds since 1970 (8)
type stamp struct {
	run       uint32
	publisher uint32
	seq       uint64
	sent      int64
}

// put writes the stamp over the beginning of a payload, if there is room.
func (s stamp) put(payload []byte) {
	if len(payload) < StampSize {
		return
	}
	binary.BigEndian.PutUint32(payload, stampMark)
	binary.BigEndian.PutUint32(payload[4:], s.run)
	binary.BigEndian.PutUint32(payload[8:], s.publisher)
	binary.BigEndian.PutUint64(payload[12:], s.seq)
	binary.BigEndian.PutUint64(payload[20:], uint64(s.sent))
}

// readStamp takes the stamp of a payload. ok is false if it has none.
func readStamp(payload []byte) (s stamp, ok bool) {
	if len(payload) < StampSize || binary.BigEndian.Uint32(payload) != stampMark {
		return s, false
	}
	return stamp{
		run:       binary.BigEndian.Uint32(payload[4:]),
		publisher: binary.BigEndian.Uint32(payload[8:]),
		seq:       binary.BigEndian.Uint64(payload[12:]),
		sent:      int64(binary.BigEndian.Uint64(payload[20:])),
	}, true
}

// age is the time since the stamp was put; none if clocks differ.
func (s stamp) age(now time.Time) time.Duration { return max(0, time.Duration(now.UnixNano()-s.sent)) }
