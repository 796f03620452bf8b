// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import "hash/crc32"

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
	kindLoseCommand
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
	case kindLoseCommand:
		return &lose{}
	}
	return nil
}

// A record is one command in the log, whose frame around it has the position, the length and a checksum:
//
//	version u8 | kind u8 | fields
const recordVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends the record of a command.
func appendRecord(dst []byte, c command) []byte {
	return c.append(append(dst, recordVersion, byte(c.kind())))
}

// decodeRecord decodes a record. The command keeps nothing of it. Where it is not one of ours, the error is errCorrupt.
func decodeRecord(record []byte) (command, error) {
	if len(record) < 2 || record[0] != recordVersion {
		return nil, errCorrupt
	}
	c := newCommand(kind(record[1]))
	if c == nil {
		return nil, errCorrupt
	}
	d := decoder{b: record[2:]}
	c.decode(&d)
	if err := d.end(); err != nil {
		return nil, err
	}
	return c, nil
}
