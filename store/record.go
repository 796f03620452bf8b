// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"hash/crc32"
)

// command is what the machine applies. The exported command types are commands, and so are recovery and expire.
//
// reset clears the results, so that a caller may use a command again; fail sets Err; finish calls Done; weight is the
// bytes of its messages, for back-pressure.
type command interface {
	kind() kind
	apply(*machine)
	reset()
	fail(error)
	failed() bool
	finish()
	weight() int64
	append(dst []byte) []byte
	decode(*decoder)
}

// kind names a command in the log. The numbers are part of the format on disk: a command whose meaning or encoding
// changes gets a new one.
type kind byte

const (
	kindClaimCommand kind = iota + 1
	kindDropCommand
	kindDetachCommand
	kindSubscribeCommand
	kindUnsubscribeCommand
	kindPublishCommand
	kindReleaseCommand
	kindWindowCommand
	kindAckCommand
	kindTickCommand
	kindRecoveryCommand
	kindExpireCommand
)

func newCommand(k kind) command {
	switch k {
	case kindClaimCommand:
		return &Claim{}
	case kindDropCommand:
		return &Drop{}
	case kindDetachCommand:
		return &Detach{}
	case kindSubscribeCommand:
		return &Subscribe{}
	case kindUnsubscribeCommand:
		return &Unsubscribe{}
	case kindPublishCommand:
		return &Publish{}
	case kindReleaseCommand:
		return &Release{}
	case kindWindowCommand:
		return &Window{}
	case kindAckCommand:
		return &Ack{}
	case kindTickCommand:
		return &Tick{}
	case kindRecoveryCommand:
		return &recovery{}
	case kindExpireCommand:
		return &expire{}
	}
	return nil
}

// A record is one command in the log:
//
//	checksum u32 | length u32 | version u8 | kind u8 | fields
//
// big-endian; the checksum (CRC-32C) and the length cover all that follows the length.
const (
	recordVersion = 1
	recordHeader  = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends the record of a command.
func appendRecord(dst []byte, c command) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, recordVersion, byte(c.kind()))
	dst = c.append(dst)
	body := dst[at+recordHeader:]
	binary.BigEndian.PutUint32(dst[at:], crc32.Checksum(body, castagnoli))
	binary.BigEndian.PutUint32(dst[at+4:], uint32(len(body)))
	return dst
}

// decodeRecord takes the first record off b. The command keeps nothing of b. Where the record is not whole, or not one
// of ours, the error is errCorrupt.
func decodeRecord(b []byte) (c command, rest []byte, err error) {
	if len(b) < recordHeader {
		return nil, nil, errCorrupt
	}
	n := binary.BigEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-recordHeader) {
		return nil, nil, errCorrupt
	}
	body := b[recordHeader : recordHeader+int(n)]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b) {
		return nil, nil, errCorrupt
	}
	if c, err = decodeCommand(body); err != nil {
		return nil, nil, err
	}
	return c, b[recordHeader+int(n):], nil
}

// decodeCommand decodes a record without its header.
func decodeCommand(body []byte) (command, error) {
	if len(body) < 2 || body[0] != recordVersion {
		return nil, errCorrupt
	}
	c := newCommand(kind(body[1]))
	if c == nil {
		return nil, errCorrupt
	}
	d := decoder{b: body[2:]}
	c.decode(&d)
	if err := d.end(); err != nil {
		return nil, err
	}
	return c, nil
}
