// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
)

// kind is what a message was published for.
type kind uint16

const (
	kindData kind = 1 + iota
	kindRetained
	kindProbe
	kindWill
	kindExpiring
)

// A token is the identity of a message; it stands at the head of the payload.
type token struct {
	kind   kind
	number uint16 // of the stream, topic, filter or client
	seq    uint64 // from 1
}

// The head of a payload: magic, run, kind, number, sequence, size, checksum of all but itself.
const (
	headSize = 32
	magic    = "NVfy"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// payload makes the payload of a token, at least headSize bytes, always the same for the same run, token and size.
func payload(run uint64, t token, size int) []byte {
	p := make([]byte, max(size, headSize))
	copy(p, magic)
	binary.BigEndian.PutUint64(p[4:], run)
	binary.BigEndian.PutUint16(p[12:], uint16(t.kind))
	binary.BigEndian.PutUint16(p[14:], t.number)
	binary.BigEndian.PutUint64(p[16:], t.seq)
	binary.BigEndian.PutUint32(p[24:], uint32(len(p)))
	x := mix(run ^ uint64(t.kind)<<48 ^ uint64(t.number)<<32 ^ t.seq)
	for i := headSize; i < len(p); i++ {
		if i%8 == 0 {
			x = mix(x)
		}
		p[i] = byte(x >> (i % 8 * 8))
	}
	binary.BigEndian.PutUint32(p[28:], checksum(p))
	return p
}

// checksum covers all but its own four bytes.
func checksum(p []byte) uint32 {
	return crc32.Update(crc32.Checksum(p[:28], castagnoli), castagnoli, p[headSize:])
}

// mix scatters the bits of a number.
func mix(x uint64) uint64 {
	x = (x ^ 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	return bits.RotateLeft64(x, 31) * 0x94d049bb133111eb
}

var (
	errDamaged = errors.New("the payload is damaged")
	errForeign = errors.New("the message is of another run")
)

// parse reads the token of a payload and checks every byte.
func parse(run uint64, p []byte) (token, error) {
	if len(p) < headSize || string(p[:4]) != magic || int(binary.BigEndian.Uint32(p[24:])) != len(p) ||
		binary.BigEndian.Uint32(p[28:]) != checksum(p) {
		return token{}, errDamaged
	}
	if binary.BigEndian.Uint64(p[4:]) != run {
		return token{}, errForeign
	}
	return token{
		kind: kind(binary.BigEndian.Uint16(p[12:])), number: binary.BigEndian.Uint16(p[14:]), seq: binary.BigEndian.Uint64(p[16:]),
	}, nil
}

// sizeOf is the size of a stream's message: most are small, one in a hundred is up to limit bytes.
func sizeOf(run uint64, t token, limit int) int {
	x := mix(mix(run^t.seq) ^ uint64(t.number))
	dice, rest := x%100, int(x>>8&0xffffff)
	switch {
	case dice < 75:
		return min(limit, headSize+rest%256)
	case dice < 99:
		return min(limit, headSize+rest%4096)
	}
	return headSize + rest%max(1, limit-headSize)
}
