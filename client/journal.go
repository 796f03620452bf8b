// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
)

// journal keeps messages of QoS 1 and 2, and what has become of them, in a file: Options.Directory/outbox. Methods on
// nil do nothing. Client.mu guards it, and is held while it writes.
//
// The file is a header and then records, each with its length and checksum:
//
//	header  "noctule outbox 1\n"
//	record  length of the body (uint32)  CRC-32C of the body (uint32)  body
//	body    kind (byte)  what belongs to it, integers big-endian
//
// When the file has grown to many times what it holds it is written anew beside the old one, and renamed.
type journal struct {
	dir  string
	file *os.File
	lock *os.File
	size int64
	sync bool
	log  *slog.Logger
	bad  error // of a write that could not be undone; nothing is accepted after it

	seq  uint64
	live map[uint64]*kept
	held map[uint16]bool // received messages of QoS 2 that wait for PUBREL
	id   string          // ClientID
	buf  []byte
}

// kept is a message that is not acknowledged wholly.
type kept struct {
	msg      *mqtt.Message // nil once it is received
	id       uint16        // 0 = not sent in the present session
	received bool          // PUBREC came
}

const journalHeader = "noctule outbox 1\n"

// Kinds of records.
const (
	recordClient   = 'C' // ClientID
	recordMessage  = 'M' // seq uint64, expiry int64, PUBLISH of 5.0
	recordSent     = 'S' // seq uint64, packet identifier uint16
	recordReceived = 'R' // seq uint64, packet identifier uint16
	recordDone     = 'D' // seq uint64
	recordHeld     = 'H' // packet identifier uint16
	recordReleased = 'L' // packet identifier uint16
	recordLost     = 'X' // the server has forgotten the session
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal opens the file and puts what it holds where it belongs.
func (c *Client) openJournal() error {
	j := &journal{
		dir: c.opt.Directory, sync: c.opt.Sync, log: c.opt.Logger, id: c.opt.ClientID,
		live: make(map[uint64]*kept), held: make(map[uint16]bool),
	}
	if err := j.open(); err != nil {
		j.close()
		return fmt.Errorf("client: outbox: %w", err)
	}
	c.journal = j
	for _, seq := range slices.Sorted(maps.Keys(j.live)) {
		k := j.live[seq]
		o := &outgoing{msg: k.msg, seq: seq}
		if k.msg != nil {
			o.size = int64(k.msg.Size())
		}
		if k.id == 0 {
			c.queue.push(o)
			continue
		}
		e := session.Inflight[*outgoing]{ID: k.id, State: session.Sent}
		e.Tag, e.Message = o, k.msg
		if k.received {
			e.QoS, e.State = 2, session.Received
		} else {
			e.QoS, e.Retain = k.msg.QoS, k.msg.Retain
		}
		c.resend = append(c.resend, e)
		c.next = k.id%0xFFFF + 1
	}
	c.inflight = len(c.resend)
	c.held = slices.Sorted(maps.Keys(j.held))
	return nil
}

func (j *journal) path() string { return filepath.Join(j.dir, "outbox") }

func (j *journal) open() error {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(j.path()+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	j.lock = lock
	if err := lockFile(lock); err != nil {
		return fmt.Errorf("%s is in use by another client: %w", j.dir, err)
	}
	b, err := os.ReadFile(j.path())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := j.load(b); err != nil {
		return err
	}
	return j.rewrite()
}

// load takes the records of a file. A torn end, which a crash leaves, is left out; so is everything from a damaged record
// on, but then the file is kept beside for people.
func (j *journal) load(b []byte) error {
	if len(b) < len(journalHeader) {
		return nil // it was never finished
	}
	if string(b[:len(journalHeader)]) != journalHeader {
		return fmt.Errorf("%s is not an outbox of this version", j.path())
	}
	rest := b[len(journalHeader):]
	for len(rest) >= 8 {
		n := int(binary.BigEndian.Uint32(rest))
		if n == 0 || n > len(rest)-8 {
			break
		}
		body := rest[8 : 8+n]
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(rest[4:]) {
			return j.damaged(b)
		}
		if err := j.apply(body); err != nil {
			return err
		}
		rest = rest[8+n:]
	}
	return nil
}

// damaged keeps a copy of a file that is damaged in the middle.
func (j *journal) damaged(b []byte) error {
	aside := j.path() + ".damaged"
	j.log.Error("the outbox is damaged: what was readable is used, the file is kept", "path", aside)
	return os.WriteFile(aside, b, 0o600)
}

var errRecord = errors.New("a record of the outbox is not understood")

// apply takes one record that is intact.
func (j *journal) apply(body []byte) error {
	kind, body := body[0], body[1:]
	var seq uint64
	switch kind {
	case recordMessage, recordSent, recordReceived, recordDone:
		if len(body) < 8 {
			return errRecord
		}
		seq, body = binary.BigEndian.Uint64(body), body[8:]
		j.seq = max(j.seq, seq)
	}
	var id uint16
	switch kind {
	case recordSent, recordReceived, recordHeld, recordReleased:
		if len(body) != 2 {
			return errRecord
		}
		id = binary.BigEndian.Uint16(body)
	}
	switch kind {
	case recordClient:
		if string(body) != j.id {
			return fmt.Errorf("%s belongs to the client %q", j.dir, body)
		}
	case recordMessage:
		m, err := decodeKept(body)
		if err != nil {
			return err
		}
		j.live[seq] = &kept{msg: m}
	case recordSent:
		if k := j.live[seq]; k != nil {
			k.id = id
		}
	case recordReceived:
		j.live[seq] = &kept{id: id, received: true}
	case recordDone:
		delete(j.live, seq)
	case recordHeld:
		j.held[id] = true
	case recordReleased:
		delete(j.held, id)
	case recordLost:
		j.forget()
	default:
		return errRecord
	}
	return nil
}

// forget takes back what only the lost session knew.
func (j *journal) forget() {
	clear(j.held)
	maps.DeleteFunc(j.live, func(_ uint64, k *kept) bool { return k.received })
	for _, k := range j.live {
		k.id = 0
	}
}

func decodeKept(body []byte) (*mqtt.Message, error) {
	if len(body) < 8 {
		return nil, errRecord
	}
	expiry, body := int64(binary.BigEndian.Uint64(body)), body[8:]
	h, n, err := mqtt.DecodeHeader(body, mqtt.V5)
	if err != nil || n == 0 || h.Type != mqtt.PUBLISH {
		return nil, errRecord
	}
	var p mqtt.Publish
	if err := p.Decode(h, body[n:], mqtt.V5); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	m := p.Message(0)
	m.Expiry = expiry
	return m, nil
}

// record appends a record to dst.
func record(dst []byte, kind byte, body func([]byte) []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, kind)
	dst = body(dst)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-8))
	binary.BigEndian.PutUint32(dst[at+4:], crc32.Checksum(dst[at+8:], castagnoli))
	return dst
}

func recordKept(dst []byte, seq uint64, m *mqtt.Message) []byte {
	return record(dst, recordMessage, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint64(b, seq)
		b = binary.BigEndian.AppendUint64(b, uint64(m.Expiry))
		// The identifier stands for none: it belongs to the session, not to the message.
		p := mqtt.Publish{QoS: m.QoS, Retain: m.Retain, Topic: []byte(m.Topic), ID: 1, Properties: m.Properties, Payload: m.Payload}
		return p.Append(b, mqtt.V5)
	})
}

func recordSeq(dst []byte, kind byte, seq uint64, id uint16) []byte {
	return record(dst, kind, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint64(b, seq)
		if kind != recordDone {
			b = binary.BigEndian.AppendUint16(b, id)
		}
		return b
	})
}

func recordID(dst []byte, kind byte, id uint16) []byte {
	return record(dst, kind, func(b []byte) []byte { return binary.BigEndian.AppendUint16(b, id) })
}

// append writes j.buf to the end of the file. What could only be written in part is taken back.
func (j *journal) append() error {
	if j.bad != nil {
		return j.bad
	}
	n, err := j.file.Write(j.buf)
	if err == nil && j.sync {
		if err := j.file.Sync(); err != nil { // what is on disk is not known any more: no retry
			j.bad = err
			return err
		}
	}
	if err != nil {
		if n > 0 {
			_, seek := j.file.Seek(j.size, 0)
			j.bad = errors.Join(j.file.Truncate(j.size), seek)
		}
		return err
	}
	j.size += int64(n)
	return nil
}

// note appends a record that no caller waits for. If it is lost, a message is sent again after a restart: that is told, and borne.
func (j *journal) note() {
	if err := j.append(); err != nil {
		j.log.Error("the outbox cannot be written", "err", err)
	}
}

// message keeps a message, and gives it its place.
func (j *journal) message(o *outgoing) error {
	if j == nil {
		return nil
	}
	j.compact()
	j.buf = recordKept(j.buf[:0], j.seq+1, o.msg)
	if err := j.append(); err != nil {
		return err
	}
	j.seq++
	o.seq = j.seq
	j.live[o.seq] = &kept{msg: o.msg}
	return nil
}

// sent notes the packet identifier of a message.
func (j *journal) sent(o *outgoing, id uint16) {
	if j == nil || j.live[o.seq] == nil {
		return
	}
	j.live[o.seq].id = id
	j.buf = recordSeq(j.buf[:0], recordSent, o.seq, id)
	j.note()
}

// received notes a PUBREC: from now on only PUBREL is sent [MQTT-4.3.3-7].
func (j *journal) received(o *outgoing) {
	if j == nil || j.live[o.seq] == nil || j.live[o.seq].received {
		return
	}
	k := j.live[o.seq]
	k.received, k.msg = true, nil
	j.buf = recordSeq(j.buf[:0], recordReceived, o.seq, k.id)
	j.note()
}

// done forgets a message.
func (j *journal) done(o *outgoing) {
	if j == nil || j.live[o.seq] == nil {
		return
	}
	delete(j.live, o.seq)
	j.buf = recordSeq(j.buf[:0], recordDone, o.seq, 0)
	j.note()
}

// hold notes the identifier of a received message of QoS 2, before its PUBREC is sent.
func (j *journal) hold(id uint16) {
	if j == nil {
		return
	}
	j.held[id] = true
	j.buf = recordID(j.buf[:0], recordHeld, id)
	j.note()
}

// release forgets it, before its PUBCOMP is sent.
func (j *journal) release(id uint16) {
	if j == nil {
		return
	}
	delete(j.held, id)
	j.buf = recordID(j.buf[:0], recordReleased, id)
	j.note()
}

// lost notes that the server has no session.
func (j *journal) lost() {
	if j == nil {
		return
	}
	j.forget()
	j.buf = record(j.buf[:0], recordLost, func(b []byte) []byte { return b })
	j.note()
}

// compactAt is the size from which a file is worth to be written anew, where it is at least compactTimes what it holds.
const (
	compactAt    = 1 << 20
	compactTimes = 4
)

func (j *journal) compact() {
	if j.size < compactAt || j.bad != nil {
		return
	}
	holds := int64(0)
	for _, k := range j.live {
		holds += 64
		if k.msg != nil {
			holds += int64(k.msg.Size())
		}
	}
	if j.size < compactTimes*holds {
		return
	}
	if err := j.rewrite(); err != nil {
		j.log.Error("the outbox cannot be written anew", "err", err)
	}
}

// rewrite writes what is live to a new file, which takes the place of the old one.
func (j *journal) rewrite() error {
	b := record([]byte(journalHeader), recordClient, func(b []byte) []byte { return append(b, j.id...) })
	for _, seq := range slices.Sorted(maps.Keys(j.live)) {
		k := j.live[seq]
		if k.received {
			b = recordSeq(b, recordReceived, seq, k.id)
			continue
		}
		b = recordKept(b, seq, k.msg)
		if k.id != 0 {
			b = recordSeq(b, recordSent, seq, k.id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(j.held)) {
		b = recordID(b, recordHeld, id)
	}
	f, err := os.OpenFile(j.path()+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.replace()
	}
	if err != nil {
		f.Close() // the old file goes on
		return err
	}
	j.file, j.size = f, int64(len(b))
	return nil
}

// replace puts the new file in the place of the old one, which is closed.
func (j *journal) replace() error {
	if err := os.Rename(j.path()+".new", j.path()); err != nil {
		return err
	}
	if j.file != nil {
		j.file.Close() // everything in it was written anew
	}
	syncDirectory(j.dir)
	return nil
}

// syncDirectory makes a renaming last. Some systems have no such thing.
func syncDirectory(path string) {
	if d, err := os.Open(path); err == nil {
		d.Sync()
		d.Close()
	}
}

// close lets the file go to the next client.
func (j *journal) close() {
	if j == nil {
		return
	}
	if j.file != nil {
		if err := errors.Join(j.file.Sync(), j.file.Close()); err != nil {
			j.log.Error("the outbox cannot be closed", "err", err)
		}
	}
	if j.lock != nil {
		j.lock.Close() // which unlocks it
	}
	j.bad = ErrClosed
}
