// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

// A backup is a zstd file: what is said of it in a skippable frame, which zstd's own tools pass over, and then frames with
// the rows of the state and a trailer.
//
//	file     0x184D2A5E u32 | length u32 | head | zstd(row... | 0 | trailer)
//	head     magic "NOCTBAK\0" | crc u32 of what follows | version | format of the state | groups | position | created,
//	         varint Unix nanoseconds | length of program | program
//	row      length of key | key | length of value | value | crc u32 of key and value
//	trailer  rows u64 | bytes of keys and values u64 | SHA-256 of the head, the rows and the 0
//
// Numbers are uvarints where nothing else is said; those of fixed size are little-endian in the frame around the head, as zstd has
// them, and big-endian elsewhere. Checksums are CRC-32C.
const (
	backupFrame   = 0x184D2A5E
	backupMagic   = "NOCTBAK\x00"
	backupVersion = 1

	mostBackupHead = 4 << 10
	mostBackupKey  = 1 << 20 // a key is a topic name and some bytes
	mostBackupRow  = 1 << 30
	backupWindow   = 4 << 20 // of zstd; reading needs twice as much
	backupTrailer  = 16 + sha256.Size
)

// ErrBackup is what reading a backup gives that is cut short, damaged, or none. The error's text says what.
var ErrBackup = errors.New("store: not a whole backup")

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	Format   int      `json:"format"` // of the state
	Groups   int      `json:"groups"`
	Position Position `json:"position"` // of the last command in it
	Created  int64    `json:"created"`  // Unix nanoseconds
	Program  string   `json:"program"`  // that made it, with its version
	// What follows is known when all of it was read or written.
	Rows  uint64 `json:"rows"`
	Bytes uint64 `json:"bytes"` // of keys and values
}

func (i *BackupInfo) append(dst []byte) []byte {
	dst = append(append(dst, backupMagic...), 0, 0, 0, 0)
	body := len(dst)
	dst = appendUint(appendUint(dst, backupVersion), uint64(i.Format))
	dst = appendUint(appendUint(dst, uint64(i.Groups)), uint64(i.Position))
	dst = appendString(appendInt(dst, i.Created), i.Program)
	binary.BigEndian.PutUint32(dst[body-4:], crc32.Checksum(dst[body:], castagnoli))
	return dst
}

// take decodes a head.
func (i *BackupInfo) take(head []byte) error {
	const body = len(backupMagic) + 4
	if len(head) < body || string(head[:len(backupMagic)]) != backupMagic {
		return fmt.Errorf("%w: it does not begin as one", ErrBackup)
	}
	if binary.BigEndian.Uint32(head[body-4:]) != crc32.Checksum(head[body:], castagnoli) {
		return fmt.Errorf("%w: its head is damaged", ErrBackup)
	}
	d := decoder{b: head[body:]}
	if v := d.uint(); v != backupVersion {
		return fmt.Errorf("the backup has format %d; this program knows format %d", v, backupVersion)
	}
	format, groups := d.uint(), d.uint()
	i.Position, i.Created, i.Program = Position(d.uint()), d.int(), d.string()
	if err := d.end(); err != nil || groups == 0 || groups > mostGroups || format > math.MaxInt32 {
		return fmt.Errorf("%w: its head makes no sense", ErrBackup)
	}
	i.Format, i.Groups = int(format), int(groups)
	if i.Format != formatVersion {
		return fmt.Errorf("the backup is of a store of format %d; this program knows format %d", i.Format, formatVersion)
	}
	return nil
}

// backupWriter writes a backup. It belongs to one goroutine.
type backupWriter struct {
	z    *zstd.Encoder
	sum  hash.Hash
	buf  []byte
	info *BackupInfo
}

// newBackupWriter writes the head.
func newBackupWriter(w io.Writer, info *BackupInfo) (*backupWriter, error) {
	head := info.append(nil)
	frame := binary.LittleEndian.AppendUint32(nil, backupFrame)
	frame = append(binary.LittleEndian.AppendUint32(frame, uint32(len(head))), head...)
	if _, err := w.Write(frame); err != nil {
		return nil, err
	}
	// Alone it starts no goroutine: one that is not ended is just forgotten.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(backupWindow))
	if err != nil {
		return nil, err
	}
	b := &backupWriter{z: z, sum: sha256.New(), info: info}
	b.sum.Write(head)
	return b, nil
}

// row adds a row, and writes when there is enough of them.
func (b *backupWriter) row(key, value []byte) error {
	b.keep(key, value)
	if len(b.buf) >= backupChunk {
		return b.flush()
	}
	return nil
}

// keep adds a row, to be written with flush.
func (b *backupWriter) keep(key, value []byte) {
	b.buf = append(appendUint(b.buf, uint64(len(key))), key...)
	b.buf = append(appendUint(b.buf, uint64(len(value))), value...)
	b.buf = binary.BigEndian.AppendUint32(b.buf, rowChecksum(key, value))
	b.info.Rows++
	b.info.Bytes += uint64(len(key) + len(value))
}

func (b *backupWriter) flush() error {
	b.sum.Write(b.buf)
	_, err := b.z.Write(b.buf)
	if b.buf = b.buf[:0]; cap(b.buf) > 4*backupChunk {
		b.buf = nil
	}
	return err
}

// end writes the trailer. Without it nobody takes the file for a backup.
func (b *backupWriter) end() error {
	b.buf = append(b.buf, 0)
	if err := b.flush(); err != nil {
		return err
	}
	b.buf = binary.BigEndian.AppendUint64(b.buf, b.info.Rows)
	b.buf = binary.BigEndian.AppendUint64(b.buf, b.info.Bytes)
	b.buf = b.sum.Sum(b.buf)
	if err := b.flush(); err != nil {
		return err
	}
	return b.z.Close()
}

// readBackup reads a backup from beginning to end, and gives its rows to row, which may keep nothing of them. What it gave is
// to be forgotten if it returns an error: ErrBackup, or that of row.
func readBackup(r io.Reader, head func(BackupInfo) error, row func(key, value []byte) error) (info BackupInfo, err error) {
	b, err := newBackupReader(r, &info)
	if err != nil {
		return info, err
	}
	defer b.z.Close()
	if err := head(info); err != nil {
		return info, err
	}
	for {
		more, err := b.next()
		if err != nil {
			return info, err
		}
		if !more {
			return info, b.end()
		}
		if err := row(b.key.Bytes(), b.value.Bytes()); err != nil {
			return info, err
		}
	}
}

// backupReader reads a backup.
type backupReader struct {
	z          *zstd.Decoder
	in         *bufio.Reader // of what is decompressed
	sum        hash.Hash
	info       *BackupInfo
	key, value bytes.Buffer
	scratch    []byte
}

func newBackupReader(r io.Reader, info *BackupInfo) (*backupReader, error) {
	var frame [8]byte
	if _, err := io.ReadFull(r, frame[:]); err != nil {
		return nil, backupFault(err)
	}
	length := binary.LittleEndian.Uint32(frame[4:])
	if binary.LittleEndian.Uint32(frame[:]) != backupFrame || length > mostBackupHead {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrBackup)
	}
	head := make([]byte, length)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, backupFault(err)
	}
	if err := info.take(head); err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(2*backupWindow))
	if err != nil {
		return nil, err
	}
	b := &backupReader{z: z, in: bufio.NewReaderSize(z, 64<<10), sum: sha256.New(), info: info}
	b.sum.Write(head)
	return b, nil
}

// backupFault is an error of reading.
func backupFault(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut short", ErrBackup)
	}
	return fmt.Errorf("%w: %w", ErrBackup, err)
}

// next reads a row; false says that there are no more.
func (b *backupReader) next() (more bool, err error) {
	if err := b.field(&b.key, mostBackupKey); err != nil || b.key.Len() == 0 {
		return false, err
	}
	if err := b.field(&b.value, mostBackupRow); err != nil {
		return false, err
	}
	var sum [4]byte
	if _, err := io.ReadFull(b.in, sum[:]); err != nil {
		return false, backupFault(err)
	}
	b.sum.Write(sum[:])
	if binary.BigEndian.Uint32(sum[:]) != rowChecksum(b.key.Bytes(), b.value.Bytes()) {
		return false, fmt.Errorf("%w: row %d is damaged", ErrBackup, b.info.Rows+1)
	}
	b.info.Rows++
	b.info.Bytes += uint64(b.key.Len() + b.value.Len())
	return true, nil
}

// field reads a length and as many bytes. Room is made for those that are there, not for those that are promised.
func (b *backupReader) field(into *bytes.Buffer, most uint64) error {
	into.Reset()
	n, err := binary.ReadUvarint(b.in)
	if err != nil {
		return backupFault(err)
	}
	if n > most {
		return fmt.Errorf("%w: row %d is damaged", ErrBackup, b.info.Rows+1)
	}
	if _, err := io.CopyN(into, b.in, int64(n)); err != nil {
		return backupFault(err)
	}
	b.scratch = appendUint(b.scratch[:0], n)
	b.sum.Write(b.scratch)
	b.sum.Write(into.Bytes())
	return nil
}

// end checks the trailer, and that nothing follows.
func (b *backupReader) end() error {
	var trailer [backupTrailer]byte
	if _, err := io.ReadFull(b.in, trailer[:]); err != nil {
		return backupFault(err)
	}
	if binary.BigEndian.Uint64(trailer[:]) != b.info.Rows || binary.BigEndian.Uint64(trailer[8:]) != b.info.Bytes ||
		!bytes.Equal(trailer[16:], b.sum.Sum(nil)) {
		return fmt.Errorf("%w: its checksum is wrong", ErrBackup)
	}
	switch _, err := b.in.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: something follows its end", ErrBackup)
	case err != io.EOF: // as it is: another end is that of a cut file
		return backupFault(err)
	}
	return nil
}
