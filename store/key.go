// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "encoding/binary"

// Rows are keyed by topic group or client group first, so that a group can move as one range, then by kind:
//
//	F g filter              filter id: a filter with a queue, in its home group
//	Q g fid position        queue row: one message of a filter queue
//	C g fid sid             cursor of one reader of a queue with several
//	B g position            reference count of a message with more than one
//	A g position            message, in an engine with a disk
//	R g topic               retained message
//	S g client identifier   session
//	V g sid                 its will
//	U g sid filter          its subscription
//	W g sid id              its outbound window entry
//	I g sid id              its received QoS 2 packet identifier
//	D g sid n               its will that is due, until published
//	M                       counters of the whole machine, in group metaGroup, and once more in group 0
//
// Integers are big-endian. Each value begins with rowVersion.
const (
	kindBody     = 'A'
	kindCursor   = 'C'
	kindDue      = 'D'
	kindFilter   = 'F'
	kindMeta     = 'M'
	kindQueue    = 'Q'
	kindReceived = 'I'
	kindRefs     = 'B'
	kindRetained = 'R'
	kindSession  = 'S'
	kindSub      = 'U'
	kindWill     = 'V'
	kindWindow   = 'W'

	rowVersion = 1
	metaGroup  = 0xFFFF
)

// keys builds row keys in place; each method's result is good until the next call. The machine has one for its only
// writer, and each reader has its own.
type keys struct{ from, to []byte }

func (k *keys) begin(group uint16, kind byte) []byte {
	return append(k.from[:0], byte(group>>8), byte(group), kind)
}

func (k *keys) name(group uint16, kind byte, name string) []byte {
	k.from = append(k.begin(group, kind), name...)
	return k.from
}

func (k *keys) number(group uint16, kind byte, n uint64) []byte {
	k.from = binary.BigEndian.AppendUint64(k.begin(group, kind), n)
	return k.from
}

func (k *keys) numbers(group uint16, kind byte, n, o uint64) []byte {
	k.from = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(k.begin(group, kind), n), o)
	return k.from
}

func (k *keys) numberID(group uint16, kind byte, n uint64, id uint16) []byte {
	k.from = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(k.begin(group, kind), n), id)
	return k.from
}

func (k *keys) numberName(group uint16, kind byte, n uint64, name string) []byte {
	k.from = append(binary.BigEndian.AppendUint64(k.begin(group, kind), n), name...)
	return k.from
}

// all is the range of one kind.
func (k *keys) all(group uint16, kind byte) (from, to []byte) {
	k.from = k.begin(group, kind)
	k.to = append(k.to[:0], byte(group>>8), byte(group), kind+1)
	return k.from, k.to
}

// below is the range of the rows below one number.
func (k *keys) below(group uint16, kind byte, n uint64) (from, to []byte) {
	k.from = binary.BigEndian.AppendUint64(k.begin(group, kind), n)
	k.to = append(k.to[:0], byte(group>>8), byte(group), kind)
	k.to = binary.BigEndian.AppendUint64(k.to, n+1) // numbers are counted up from 1 and never reach the last
	return k.from, k.to
}

// queue is the range of the rows of a queue from one position to another, both inclusive.
func (k *keys) queue(group uint16, fid uint64, first, last Position) (from, to []byte) {
	k.from = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(k.begin(group, kindQueue), fid), uint64(first))
	k.to = append(k.to[:0], byte(group>>8), byte(group), kindQueue)
	k.to = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(k.to, fid), uint64(last))
	k.to = append(k.to, 0)
	return k.from, k.to
}

// names is the range of one kind behind a name.
func (k *keys) names(group uint16, kind byte, after string) (from, to []byte) {
	k.from = append(k.begin(group, kind), after...)
	if after != "" {
		k.from = append(k.from, 0)
	}
	k.to = append(k.to[:0], byte(group>>8), byte(group), kind+1)
	return k.from, k.to
}

// allRows is the range of everything.
func allRows() (from, to []byte) { return nil, []byte{0xFF, 0xFF, 0xFF} }

const prefixLen = 3 // of a key: group and kind

func keyGroup(key []byte) uint16   { return binary.BigEndian.Uint16(key) }
func keyNumber(key []byte) uint64  { return binary.BigEndian.Uint64(key[prefixLen:]) }
func keyNumber2(key []byte) uint64 { return binary.BigEndian.Uint64(key[prefixLen+8:]) }
func keyID(key []byte) uint16      { return binary.BigEndian.Uint16(key[prefixLen+8:]) }
func keyName(key []byte) string    { return string(key[prefixLen:]) }

// groupHash spreads names over groups: 64-bit FNV-1a, finished so that names which differ in their last digit only do
// not fall into neighbouring groups. It is part of the format on disk.
func groupHash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0x9FB21C651E98DF25
	return h ^ h>>28
}
