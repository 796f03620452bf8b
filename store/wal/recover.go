// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"bytes"
	"errors"
)

// recovery reads a log. Until repair nothing is changed on disk.
type recovery struct {
	dir    string
	o      Options
	from   uint64
	replay func(uint64, []byte) error

	id     uint64
	files  []*found
	spares []string
	making []string // left behind by a repair that was interrupted

	last    uint64 // position reached
	opening uint64 // of the last good frame
	synced  uint64 // highest that a frame speaks for
	newest  uint64 // highest opening seen anywhere
	rec     Recovery

	// The segment being read.
	i    int
	f    *found
	rd   *reader
	room [24]byte // for seed
}

func (r *recovery) path(name string) string { return r.o.FS.PathJoin(r.dir, name) }

// walk replays the segments, and marks what is to be done with each.
func (r *recovery) walk() error {
	for i, f := range r.files {
		r.i, r.f = i, f
		f.before, f.started = r.last, r.opening
		ends, err := r.read()
		f.last, f.opening = r.last, r.opening
		if err != nil {
			return err
		}
		if ends {
			f.cut = true
			r.dropBehind(i)
			break
		}
	}
	r.missed()
	r.rec.Last = r.last
	r.rec.Clean = r.rec.Clean && len(r.rec.Damage) == 0
	return nil
}

// dropBehind gives up the segments behind the end of the log.
func (r *recovery) dropBehind(i int) {
	for _, f := range r.files[i+1:] {
		f.drop = true
		if rd, err := openReader(r.o.FS, r.path(f.name)); err == nil {
			if !f.stale && !rd.zero(0) {
				r.damage(Damage{File: f.name, Length: f.size, Torn: true, Why: "it is behind the end of the log"})
			}
			rd.close()
		}
	}
}

func (r *recovery) damage(d Damage) {
	if d.Last < d.First {
		d.Last = 0
	}
	r.rec.Damage = append(r.rec.Damage, d)
}

// next is the segment behind the one being read, nil if there is none.
func (r *recovery) next() *found {
	if r.i+1 < len(r.files) {
		return r.files[r.i+1]
	}
	return nil
}

// read replays one segment; true says that the log ends in it.
func (r *recovery) read() (ends bool, err error) {
	f := r.f
	if f.err == nil {
		r.rd, f.err = openReader(r.o.FS, r.path(f.name))
	}
	if f.err != nil {
		f.rewrite = true
		r.lost(Damage{File: f.name, Length: f.size, Why: f.err.Error()})
		return false, nil
	}
	defer r.rd.close()
	offset := r.head()
	for {
		h, ok := r.frameAt(offset)
		if !ok {
			resume, ends := r.gap(offset)
			if resume < 0 {
				return ends, nil
			}
			offset = resume
			continue
		}
		if ends, err := r.frame(offset, h); ends || err != nil {
			return ends, err
		}
		offset += frameHead + int64(h.length)
	}
}

// head judges the head of the segment, and says where its frames begin: 0 if that must be searched.
func (r *recovery) head() int64 {
	f := r.f
	f.good = f.good && f.head.before >= r.last
	f.end = segmentHead
	hole := r.i > 0 && f.number > r.files[r.i-1].number+1
	if f.good {
		r.opening, f.extent = max(r.opening, f.head.opening), f.head.extent
		first := r.last + 1
		if r.i == 0 {
			first, hole = r.from, r.from > 0 && f.head.before >= r.from
		}
		if f.head.before > r.last && (hole || r.i > 0) {
			r.damage(Damage{File: fileName(f.number-1, endSegment), First: first, Last: f.head.before, Why: "missing"})
			f.rewrite, f.before, f.lead = true, first-1, f.head.before
		} else {
			f.before = f.head.before
		}
		r.last = f.head.before
		return segmentHead
	}
	if hole {
		r.damage(Damage{File: fileName(f.number-1, endSegment), First: r.last + 1, Why: "missing"})
		f.rewrite = true
	}
	if _, ok := r.frameAt(segmentHead); !ok {
		return 0
	}
	f.rewrite = true
	r.damage(Damage{File: f.name, Length: segmentHead, Why: "bad head"})
	return segmentHead
}

// frameAt is the head of the frame at an offset, if it is one that may come next.
func (r *recovery) frameAt(offset int64) (h frame, ok bool) {
	return h, h.take(r.rd.bytes(offset, frameHead)) && r.follows(&h, r.f.number, r.opening, r.last)
}

// follows says whether a frame may come behind an opening and a position.
func (r *recovery) follows(h *frame, number, opening, last uint64) bool {
	return h.log == r.id && h.segment == number && h.opening >= opening && (h.first > last || h.count == 0 && h.last >= last)
}

// frame replays the frame at an offset; true says that the log ends in it.
func (r *recovery) frame(offset int64, h frame) (ends bool, err error) {
	f := r.f
	h.length = min(h.length, uint64(1)<<62)
	data := r.rd.bytes(offset+frameHead, int64(h.length))
	earlier := r.opening
	r.opening, r.synced, r.newest = max(r.opening, h.opening), max(r.synced, h.synced), max(r.newest, h.opening)
	var good []piece // offsets in the frame
	sum, count, proved := seed(r.room[:], r.id, h.opening, h.serial), uint32(0), false
	for at := int64(0); at < int64(h.length); {
		delta, body, size, ok := recordAt(data[min(at, int64(len(data))):], sum)
		position := h.first + delta
		placed := size > 0 && position > r.last && position <= h.last
		if !ok || !placed {
			if proved = proved || r.proof(offset+frameHead+int64(len(data))); !proved {
				if count == 0 {
					r.opening = earlier
				}
				r.trim(offset, at, h, count)
				return true, nil
			}
			f.rewrite = true
			d := Damage{File: f.name, Offset: offset + frameHead + at, First: r.last + 1, Why: "bad checksum"}
			if placed {
				d.First, d.Last, d.Record, d.Length = position, position, bytes.Clone(body), int64(size)
				r.last = position
			} else {
				d.Length, d.Last = r.nextRecord(data, at, sum, &h)
			}
			at += d.Length
			r.damage(d)
			continue
		}
		kept, err := r.deliver(offset+frameHead+at, position, body, int64(size))
		if err != nil {
			return false, err
		}
		if kept {
			good = append(good, piece{offset: at, length: int64(size)})
			count++
		}
		at += int64(size)
	}
	r.last = max(r.last, h.last)
	r.rec.Clean = h.flags&markClose != 0
	f.extent = h.extent
	f.end = offset + frameHead + int64(h.length)
	r.keep(offset, h, good, count)
	return false, nil
}

// keep notes what is good in a frame.
func (r *recovery) keep(offset int64, h frame, good []piece, count uint32) {
	if count == h.count {
		r.f.add(piece{offset: offset, length: frameHead + int64(h.length)})
		return
	}
	h.count, h.length = count, 0
	for _, p := range good {
		h.length += uint64(p.length)
	}
	if count == 0 {
		h.flags, h.first = markLost, h.last
	}
	head := make([]byte, frameHead)
	h.put(head)
	r.f.add(piece{head: head})
	for _, p := range good {
		r.f.add(piece{offset: offset + frameHead + p.offset, length: p.length})
	}
}

// trim ends the log inside a frame, behind its first records, which are good.
func (r *recovery) trim(offset, length int64, h frame, count uint32) {
	f := r.f
	f.end = offset
	lost := Damage{File: f.name, First: r.last + 1, Last: h.last, Torn: true, Why: "torn frame"}
	if length > 0 {
		h.count, h.length, h.last = count, uint64(length), r.last
		f.trim, f.trimAt = make([]byte, frameHead), offset
		h.put(f.trim)
		f.add(piece{head: f.trim})
		f.add(piece{offset: offset + frameHead, length: length})
		f.end = offset + frameHead + length
	}
	lost.Offset, lost.Length = f.end, r.rd.size-f.end
	r.rec.Clean = false
	r.damage(lost)
}

// nextRecord searches data, behind bad bytes at an offset, for a good record; it gives the length of what is bad, and the last position that may be in it.
func (r *recovery) nextRecord(data []byte, at int64, sum uint32, h *frame) (int64, uint64) {
	for i := at + 1; i < int64(len(data)); i++ {
		delta, _, _, ok := recordAt(data[i:], sum)
		if position := h.first + delta; ok && position > r.last && position <= h.last {
			return i - at, position - 1
		}
	}
	return int64(h.length) - at, h.last
}

// deliver replays a record; false says that it was refused.
func (r *recovery) deliver(offset int64, position uint64, body []byte, size int64) (kept bool, err error) {
	r.last = position
	if position < r.from {
		return true, nil
	}
	err = r.replay(position, body)
	if errors.Is(err, ErrStop) {
		return false, err
	}
	if err != nil {
		r.f.rewrite = true
		r.damage(Damage{
			File: r.f.name, Offset: offset, Length: size, First: position, Last: position, Why: err.Error(), Record: bytes.Clone(body),
		})
		return false, nil
	}
	r.rec.Records++
	r.rec.Bytes += int64(len(body))
	return true, nil
}

// gap judges bytes at an offset that are not the next frame, and says where to go on: -1 if nowhere in this segment, and then whether the log ends here.
func (r *recovery) gap(offset int64) (resume int64, ends bool) {
	f, next := r.f, r.next()
	if offset > 0 && next != nil && next.good && next.head.before <= r.last {
		return -1, false
	}
	resume, h := r.ahead(offset, func(int64, *frame) bool { return true })
	written := resume >= 0 || r.written(offset)
	if r.proof(offset) {
		if offset > 0 && !written && (next == nil || !next.good || next.number > f.number+1) {
			return -1, false // it ends in order; what is wrong is told where the next one is read
		}
		f.rewrite = true
		d := Damage{File: f.name, Offset: offset, Why: "unreadable bytes"}
		if r.rd.err != nil {
			d.Why = r.rd.err.Error()
		}
		if resume < 0 {
			d.Length = r.rd.size - offset
			r.lost(d)
			return -1, false
		}
		d.Length, d.First, d.Last = resume-offset, r.last+1, h.last
		if h.count > 0 {
			d.Last = h.first - 1
		}
		if d.Last < d.First {
			d.First = 0
		}
		r.damage(d)
		return resume, false
	}
	f.drop = offset == 0
	if !written {
		return -1, false
	}
	r.rec.Clean = false
	r.damage(Damage{File: f.name, Offset: offset, Length: r.rd.size - offset, First: r.last + 1, Torn: true, Why: "torn frame"})
	return -1, true
}

// lost reports damage that reaches to the end of the segment. The next one knows which positions were in front of it.
func (r *recovery) lost(d Damage) {
	d.First = r.last + 1
	if next := r.next(); next != nil && next.good && next.head.before >= r.last {
		d.Last = next.head.before
		if d.Last < d.First {
			d.First = 0
		}
		r.last, r.f.fill = next.head.before, next.head.before
	}
	r.damage(d)
}

// written says whether there are bytes at the offset, behind the last good frame, that are not just stale.
func (r *recovery) written(offset int64) bool {
	if r.rd.err != nil {
		return true
	}
	if offset == 0 {
		return !r.f.stale && !r.rd.zero(0)
	}
	var h frame
	b := r.rd.bytes(offset, frameHead)
	if h.take(b) && h.log == r.id && (h.segment < r.f.number || h.opening < r.opening) {
		return !r.rd.zero(max(offset, int64(r.f.extent)))
	}
	if bytes.HasPrefix(b, []byte(frameMagic)) || len(b) >= 16 && le.Uint64(b[8:]) == r.id {
		return true
	}
	return !r.rd.zero(max(offset, int64(min(r.f.extent, 1<<62))))
}

// proof says whether anything behind an offset of the segment being read shows that later positions than the one reached had been
// synced: then what cannot be read here is damage.
func (r *recovery) proof(offset int64) bool {
	if r.rd.err != nil || r.synced > r.last {
		return true
	}
	for _, f := range r.files[r.i+1:] {
		if f.good {
			return true // what is in front of a segment is synced before it begins
		}
	}
	shows := func(_ int64, h *frame) bool { return h.synced > r.last || h.opening > r.opening }
	if at, h := r.ahead(offset, shows); at >= 0 {
		r.synced = max(r.synced, h.synced)
		return true
	}
	if r.rd.err != nil {
		return true // what the disk cannot read may be proof
	}
	for _, f := range r.files[r.i+1:] {
		rd, err := openReader(r.o.FS, r.path(f.name))
		if err != nil {
			continue
		}
		at, h := r.search(rd, f.number, 0, shows)
		rd.close()
		if at >= 0 {
			r.synced = max(r.synced, h.synced)
			return true
		}
	}
	return false
}

// ahead searches the segment being read, without moving the window on it.
func (r *recovery) ahead(offset int64, ok func(int64, *frame) bool) (int64, frame) {
	rd := &reader{file: r.rd.file, size: r.rd.size}
	at, h := r.search(rd, r.f.number, offset, ok)
	if r.rd.err == nil {
		r.rd.err = rd.err
	}
	return at, h
}

// search is the first frame at or behind an offset that may follow and that ok accepts; -1 if there is none.
func (r *recovery) search(rd *reader, number uint64, offset int64, ok func(int64, *frame) bool) (int64, frame) {
	var h frame
	opening, last := r.opening, r.last
	for at := rd.find(offset, frameMagic); at >= 0; at = rd.find(at, frameMagic) {
		if !h.take(rd.ahead(at, frameHead)) || !r.follows(&h, number, opening, last) {
			at++
			continue
		}
		r.newest = max(r.newest, h.opening)
		if ok(at, &h) {
			return at, h
		}
		opening, last = h.opening, h.last
		at += frameHead // its records hold no frame
		if int64(h.length) > 0 && h.length < uint64(rd.size) {
			at += int64(h.length)
		}
	}
	return -1, frame{}
}
