// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is what is in a folder: bytes by file name.
type disk map[string][]byte

func load(t testing.TB, fs vfs.FS, dir string) disk {
	t.Helper()
	d := disk{}
	ns, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range ns {
		f, err := fs.Open(path.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err == nil && !info.IsDir() {
			d[name], err = io.ReadAll(f)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	return d
}

// mem is a file system with the disk as folder, all of it synced.
func (d disk) mem(t testing.TB) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewMem()
	if err := mem.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range d {
		f, err := mem.Create(path.Join(folder, name), category)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(slices.Clone(b)); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	return mem
}

func (d disk) clone() disk {
	c := disk{}
	for name, b := range d {
		c[name] = slices.Clone(b)
	}
	return c
}

func (d disk) segments() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(d)), func(n string) bool { return n == newestFile })
}

// covered says whether the loss of a position is reported.
func covered(ds []Damage, position uint64) bool {
	return slices.ContainsFunc(ds, func(d Damage) bool {
		return d.First > 0 && d.First <= position && (position <= d.Last || d.Last == 0)
	})
}

// sameRecovery holds Check to what Open finds.
func sameRecovery(t testing.TB, checked, opened Recovery) {
	t.Helper()
	opened.Damage = slices.Clone(opened.Damage)
	for i := range opened.Damage {
		opened.Damage[i].Kept = ""
	}
	if !reflect.DeepEqual(checked, opened) {
		t.Fatalf("Check finds\n%+v\nand Open\n%+v", checked, opened)
	}
}

// recoverDisk opens a damaged log and holds it to its word: what it replays is what was written, what is not replayed is reported, what is damaged
// is kept, nothing changes when damage is refused, the log goes on, and the next time there is nothing to report.
// maybe is what was never synced: a beginning of it may be replayed, and nobody needs to report that the rest is not.
func recoverDisk(t testing.TB, d disk, o Options, want, maybe []entry) (Recovery, []entry) {
	t.Helper()
	mem := d.mem(t)
	o.FS, o.Refuse = mem, true
	l, refused, _, err := tryOpen(o, 0)
	if err != nil {
		if !errors.Is(err, ErrDamaged) || len(refused.Damage) == 0 {
			t.Fatalf("refused with %v, %+v", err, refused.Damage)
		}
		if !maps.EqualFunc(d, load(t, mem, folder), slices.Equal) {
			t.Fatal("Refuse changed the disk")
		}
	} else {
		_ = l.file.Close()
		mem = d.mem(t)
	}
	o.FS, o.Refuse = mem, false
	checked, e := Check(folder, o, 0, nil)
	if e != nil || !maps.EqualFunc(d, load(t, mem, folder), slices.Equal) {
		t.Fatalf("Check gives %v, or has changed the disk", e)
	}
	l, rec, got := open(t, o, 0)
	sameRecovery(t, checked, rec)
	if hard := slices.ContainsFunc(rec.Damage, func(d Damage) bool { return !d.Torn }); hard != (err != nil) {
		t.Fatalf("refused: %v; set aside: %+v", err, rec.Damage)
	}
	at := 0
	for _, e := range want {
		if at < len(got) && got[at] == e {
			at++
		} else if !covered(rec.Damage, e.position) {
			t.Fatalf("position %d is lost without a word: %+v", e.position, rec.Damage)
		}
	}
	if len(got)-at > len(maybe) || !slices.Equal(got[at:], maybe[:len(got)-at]) {
		t.Fatalf("record %d (position %d) was never written", at, got[at].position)
	}
	for _, d := range rec.Damage {
		if d.Why == "missing" {
			continue
		}
		if _, err := mem.Stat(d.Kept); err != nil || d.Why == "" {
			t.Fatalf("%+v is not kept: %v", d, err)
		}
	}
	more := entries(max(rec.Last, 1<<20), 3, 50)
	write(t, l, more...)
	closeLog(t, l)
	l, again, all := open(t, o, 0)
	wantEntries(t, all, append(slices.Clone(got), more...))
	if len(again.Damage) != 0 || !again.Clean {
		t.Fatalf("after %+v, again: %+v", rec.Damage, again.Damage)
	}
	closeLog(t, l)
	return rec, got
}

// written makes a log of batches in small segments, some of them recycled, each batch synced; and what is in it.
func written(t testing.TB, o Options, recycle, closed bool) (disk, []entry) {
	t.Helper()
	mem := vfs.NewMem()
	o.FS = mem
	l, _, _ := open(t, o, 0)
	position := uint64(0)
	if recycle {
		for range 12 {
			es := entries(position, 6, 60)
			position = es[5].position
			write(t, l, es...)
		}
		if err := l.Cut(position + 1); err != nil {
			t.Fatal(err)
		}
	}
	var want []entry
	spares := len(l.spares)
	for i := range 9 {
		es := entries(position, 1+i%4, 60)
		position = es[len(es)-1].position
		write(t, l, es...)
		sync(t, l)
		want = append(want, es...)
	}
	if recycle {
		// What was there before is in the first segment.
		_, _, all := open(t, Options{FS: load(t, mem, folder).mem(t), SegmentBytes: o.SegmentBytes}, 0)
		want = all
	}
	if len(l.segments) < 2 || recycle && len(l.spares) == spares {
		t.Fatalf("%d segments", len(l.segments))
	}
	if closed {
		closeLog(t, l)
	} else {
		_ = l.file.Close()
	}
	return load(t, mem, folder), want
}

var small = Options{SegmentBytes: 700}

func TestFlippedBits(t *testing.T) {
	for _, recycle := range []bool{false, true} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("recycle=%v/closed=%v", recycle, closed), func(t *testing.T) {
				d, want := written(t, small, recycle, closed)
				damaged, torn, fine := 0, 0, 0
				for _, name := range d.segments() {
					if strings.HasSuffix(name, endSpare) {
						continue
					}
					for at := range d[name] {
						c := d.clone()
						c[name][at] ^= 1 << (at % 8)
						rec, got := recoverDisk(t, c, small, want, nil)
						switch {
						case len(rec.Damage) == 0:
							fine++
						case rec.Damage[0].Torn:
							torn++
						default:
							damaged++
						}
						if len(want)-len(got) > 6 {
							t.Fatalf("a bit of %s at %d cost %d records: %+v", name, at, len(want)-len(got), rec.Damage)
						}
						if closed && len(got) < len(want) && (len(rec.Damage) == 0 || rec.Damage[0].Torn) {
							t.Fatalf("a bit of %s at %d: of a closed log, only %+v", name, at, rec.Damage)
						}
						if len(rec.Damage) == 0 && len(got) != len(want) {
							t.Fatal("lost without a word")
						}
					}
				}
				t.Logf("%d damaged, %d torn, %d of no effect", damaged, torn, fine)
				if damaged < 1000 || torn == 0 || !recycle && fine > 0 {
					t.Fatal("that is not what was to be expected")
				}
			})
		}
	}
}

// A flipped bit of a record costs that record and no other, and its bytes are handed out.
func TestDamagedRecordIsNamed(t *testing.T) {
	mem := vfs.NewMem()
	l, _, _ := open(t, Options{FS: mem}, 0)
	want := []entry{{1, "one"}, {2, "two"}, {5, "five"}, {6, "six"}}
	write(t, l, want...)
	sync(t, l)
	write(t, l, entry{7, "seven"})
	d := load(t, mem, folder)
	b := d[fileName(1, endSegment)]
	at := strings.Index(string(b), "five")
	b[at+1] ^= 0x20
	rec, got := recoverDisk(t, d, Options{}, append(want, entry{7, "seven"}), nil)
	wantEntries(t, got, []entry{{1, "one"}, {2, "two"}, {6, "six"}, {7, "seven"}})
	if len(rec.Damage) != 1 || rec.Damage[0].First != 5 || rec.Damage[0].Last != 5 || string(rec.Damage[0].Record) != "fIve" {
		t.Fatalf("%+v", rec.Damage)
	}
}

// A power cut may leave any part of the last frame.
func TestTornAtEveryByte(t *testing.T) {
	for _, recycle := range []bool{false, true} {
		d, want := written(t, small, recycle, false)
		mem := d.mem(t)
		o := small
		o.FS, o.SegmentBytes = mem, 1<<20
		l, _, _ := open(t, o, 0)
		synced := load(t, mem, folder)
		name, from := fileName(l.segments[len(l.segments)-1].number, endSegment), int(l.off)
		last := entries(l.last, 5, 30)
		write(t, l, last...)
		to := int(l.off)
		whole := load(t, mem, folder)[name]
		prefixes := map[int]bool{}
		for n := from; n <= to; n++ {
			c := synced.clone()
			if n > len(c[name]) {
				c[name] = append(c[name], make([]byte, n-len(c[name]))...)
			}
			copy(c[name], whole[:n])
			rec, got := recoverDisk(t, c, o, want, last)
			if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
				t.Fatalf("cut at %d of %d to %d: something synced is lost", n, from, to)
			}
			for i, e := range got[len(want):] {
				if e != last[i] {
					t.Fatalf("cut at %d: %v was never written", n, e)
				}
			}
			prefixes[len(got)-len(want)] = true
			for _, d := range rec.Damage {
				if !d.Torn {
					t.Fatalf("cut at %d: %+v", n, rec.Damage)
				}
			}
			if reported := len(rec.Damage) > 0; reported != (n > from && n < to) && !recycle {
				t.Fatalf("cut at %d of %d to %d: %+v", n, from, to, rec.Damage)
			}
		}
		if len(prefixes) != 6 {
			t.Fatalf("prefixes of the last batch: %v", prefixes)
		}
	}
}

// Blocks of unsynced frames may reach the disk in any order. A frame in front of which one is missing is no proof.
func TestUnsyncedFramesOutOfOrder(t *testing.T) {
	mem := vfs.NewMem()
	o := Options{FS: mem}
	l, _, _ := open(t, o, 0)
	write(t, l, entry{1, "kept"})
	sync(t, l)
	from := l.off
	write(t, l, entry{2, "lost"})
	to := l.off
	write(t, l, entry{3, "left"}, entry{4, "over"})
	d := load(t, mem, folder)
	clear(d[fileName(1, endSegment)][from:to])
	rec, got := recoverDisk(t, d, o, []entry{{1, "kept"}, {2, "lost"}, {3, "left"}, {4, "over"}}, nil)
	wantEntries(t, got, []entry{{1, "kept"}})
	if len(rec.Damage) != 1 || !rec.Damage[0].Torn {
		t.Fatalf("%+v", rec.Damage)
	}

	// What is written in its place is of the same length: what was left over must not follow it.
	mem = d.mem(t)
	o.FS = mem
	l, _, _ = open(t, o, 0)
	l.off -= frameHead // where the mark of the opening stands, so that the next frame ends where the left over begins
	write(t, l, entry{2, "next"})
	if l.off != to {
		t.Fatalf("ends at %d, not %d", l.off, to)
	}
	sync(t, l)
	_, _, got = open(t, o, 0)
	wantEntries(t, got, []entry{{1, "kept"}, {2, "next"}})
}

// A cut is for ever: not even damage to what was written in its place brings back what was behind it.
func TestLeftoversStayDead(t *testing.T) {
	mem := vfs.NewMem()
	o := Options{FS: mem}
	l, _, _ := open(t, o, 0)
	write(t, l, entry{1, "kept"})
	sync(t, l)
	from := l.off
	write(t, l, entry{2, strings.Repeat("lost", 100)})
	to := l.off
	write(t, l, entry{3, "left over"})
	d := load(t, mem, folder)
	name := fileName(1, endSegment)
	clear(d[name][from:to])
	o.FS = d.mem(t)
	l, _, _ = open(t, o, 0)
	write(t, l, entry{2, "next"})
	l.o.SegmentBytes = 1
	write(t, l, entry{3, "and next"})
	sync(t, l)
	d = load(t, o.FS, folder)
	clear(d[name][from:to])
	rec, got := recoverDisk(t, d, o, []entry{{1, "kept"}, {2, "next"}, {3, "and next"}}, nil)
	wantEntries(t, got, []entry{{1, "kept"}, {3, "and next"}})
	if len(rec.Damage) != 1 || rec.Damage[0].First != 2 || rec.Damage[0].Last != 2 {
		t.Fatalf("%+v", rec.Damage)
	}
}

// What was there when the log was opened has been synced then, though nothing was written since.
func TestOpeningSpeaksForWhatIsInFront(t *testing.T) {
	mem := vfs.NewMem()
	o := Options{FS: mem}
	l, _, _ := open(t, o, 0)
	at := l.off + frameHead
	write(t, l, entry{1, "one"}, entry{2, "two"})
	open(t, o, 0)
	d := load(t, mem, folder)
	d[fileName(1, endSegment)][at] ^= 1
	rec, got := recoverDisk(t, d, o, []entry{{1, "one"}, {2, "two"}}, nil)
	wantEntries(t, got, []entry{{2, "two"}})
	if len(rec.Damage) != 1 || rec.Damage[0].Torn {
		t.Fatalf("%+v", rec.Damage)
	}
}

func TestMissingSegment(t *testing.T) {
	d, want := written(t, small, false, true)
	segments := d.segments()
	if len(segments) < 3 {
		t.Fatal(segments)
	}
	for i, name := range segments[:len(segments)-1] {
		c := d.clone()
		delete(c, name)
		if i == 0 {
			// Nobody misses the first one but who asks for its records.
			_, rec, _ := open(t, Options{FS: c.mem(t)}, 0)
			wantClean(t, rec)
			o := Options{FS: c.mem(t)}
			l, rec, _ := open(t, o, 1)
			if len(rec.Damage) != 1 || rec.Damage[0].First != 1 || rec.Damage[0].Last < 2 {
				t.Fatalf("%+v", rec.Damage)
			}
			closeLog(t, l)
			_, rec, _ = open(t, o, 1)
			wantClean(t, rec)
			continue
		}
		rec, got := recoverDisk(t, c, small, want, nil)
		if len(rec.Damage) != 1 || rec.Damage[0].File != name || rec.Damage[0].Last == 0 || len(got) == len(want) {
			t.Fatalf("%s is missing: %+v", name, rec.Damage)
		}
	}
}

// Whole segments that are empty, zero or nonsense cost no more than themselves.
func TestLostSegment(t *testing.T) {
	for _, recycle := range []bool{false, true} {
		d, want := written(t, small, recycle, true)
		for _, spoil := range []func([]byte) []byte{
			func([]byte) []byte { return nil },
			func(b []byte) []byte { return make([]byte, len(b)) },
			func(b []byte) []byte { return []byte(strings.Repeat(frameMagic, len(b)/4)) },
			func(b []byte) []byte { return b[:len(b)/2] },
			func(b []byte) []byte { clear(b[:segmentHead+frameHead]); return b },
		} {
			segments := slices.DeleteFunc(d.segments(), func(name string) bool { return strings.HasSuffix(name, endSpare) })
			for _, name := range segments[:len(segments)-1] { // for the last one nobody can speak
				c := d.clone()
				c[name] = spoil(c[name])
				recoverDisk(t, c, small, want, nil)
			}
		}
	}
}

// unreadable fails to open or to read some files.
type unreadable struct {
	vfs.FS
	open string // file that cannot be opened
	read string // file of which one block cannot be read
	at   int64  // where that block is
}

type badFile struct {
	vfs.File
	at int64
}

func (f badFile) ReadAt(b []byte, offset int64) (int, error) {
	if offset < f.at+block && offset+int64(len(b)) > f.at {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(b, offset)
}

func (u *unreadable) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if path.Base(name) == u.open && path.Dir(name) == folder {
		return nil, syscall.EACCES
	}
	f, err := u.FS.Open(name, opts...)
	if err == nil && path.Base(name) == u.read && path.Dir(name) == folder {
		f = badFile{f, u.at}
	}
	return f, err
}

func TestUnreadableSegment(t *testing.T) {
	o := Options{SegmentBytes: 3 * block}
	d, want := written(t, Options{SegmentBytes: 700}, false, true)
	mem := d.mem(t)
	o.FS = mem
	l, rec, _ := open(t, o, 0)
	more := entries(rec.Last, 300, 60)
	for batch := range slices.Chunk(more, 10) {
		write(t, l, batch...)
		sync(t, l)
	}
	closeLog(t, l)
	want = append(want, more...)
	d = load(t, mem, folder)
	s := d.segments()
	for _, u := range []unreadable{
		{open: s[0]}, {open: s[2]}, {read: s[2]}, {read: s[4]}, {read: s[4], at: block}, {read: s[4], at: 2 * block},
		{read: s[len(s)-1]}, {read: s[len(s)-1], at: block},
	} {
		u.FS = d.mem(t)
		o := o
		o.FS = &u
		l, rec, got := open(t, o, 0)
		if len(rec.Damage) == 0 || rec.Damage[0].Torn || rec.Damage[0].Kept == "" || len(got) == len(want) {
			t.Fatalf("%+v: %+v", u, rec.Damage)
		}
		for _, e := range want {
			if !slices.Contains(got, e) && !covered(rec.Damage, e.position) {
				t.Fatalf("position %d is lost without a word: %+v", e.position, rec.Damage)
			}
		}
		closeLog(t, l)
		o.FS = u.FS // the disk is whole again
		_, rec, again := open(t, o, 0)
		wantClean(t, rec)
		wantEntries(t, again, got)
	}
}

func TestReplayRefusesARecord(t *testing.T) {
	d, want := written(t, small, false, true)
	odd := func(p uint64) bool { return p%3 == 0 }
	mem := d.mem(t)
	o := small
	o.FS = mem
	var got []entry
	l, rec, err := Open(folder, o, 0, func(p uint64, b []byte) error {
		if odd(p) {
			return errors.New("odd")
		}
		got = append(got, entry{p, string(b)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, e := range want {
		if odd(e.position) {
			if d := rec.Damage[refused]; d.First != e.position || string(d.Record) != e.body || d.Why != "odd" || d.Kept == "" {
				t.Fatalf("%+v", d)
			}
			refused++
		}
	}
	if refused == 0 || refused != len(rec.Damage) {
		t.Fatalf("%d damages, want %d", len(rec.Damage), refused)
	}
	closeLog(t, l)
	_, rec, again := open(t, o, 0)
	wantClean(t, rec)
	wantEntries(t, again, got)
}

func TestStop(t *testing.T) {
	d, _ := written(t, small, false, true)
	o := small
	mem := d.mem(t)
	o.FS = mem
	_, _, err := Open(folder, o, 0, func(p uint64, _ []byte) error { return fmt.Errorf("at %d: %w", p, ErrStop) })
	if !errors.Is(err, ErrStop) || !strings.Contains(err.Error(), "at ") {
		t.Fatal(err)
	}
	if !maps.EqualFunc(d, load(t, mem, folder), slices.Equal) {
		t.Fatal("a stopped Open changed the disk")
	}
}

func TestUnknownFormatIsNoDamage(t *testing.T) {
	d, _ := written(t, small, false, true)
	b := d[fileName(2, endSegment)]
	le.PutUint32(b[12:], version+1)
	resum(b)
	mem := d.mem(t)
	_, _, _, err := tryOpen(Options{FS: mem}, 0)
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "format 2") {
		t.Fatal(err)
	}
	if !maps.EqualFunc(d, load(t, mem, folder), slices.Equal) {
		t.Fatal("the disk was changed")
	}
}

// What a client sends is no frame, even where the log is searched for frames.
func TestForgedFrameInARecord(t *testing.T) {
	forged := func(id uint64) string {
		body := make([]byte, 0, 200)
		body = append(body, make([]byte, frameHead+recordHead)...)
		body = append(body, 0)
		body = append(body, "forged"...)
		sealRecord(body[frameHead:], recordHead+1, seed(make([]byte, 24), id, 1, 9))
		h := frame{log: id, segment: 1, opening: 1, serial: 9, first: 2, last: 2, synced: 1, length: uint64(len(body) - frameHead), count: 1}
		h.put(body)
		return string(body)
	}
	for _, known := range []bool{false, true} {
		mem := vfs.NewMem()
		o := Options{FS: mem}
		l, _, _ := open(t, o, 0)
		id := l.id
		if !known {
			id++
		}
		from := l.off
		write(t, l, entry{1, forged(id)})
		sync(t, l)
		write(t, l, entry{3, "after"})
		closeLog(t, l)
		d := load(t, mem, folder)
		d[fileName(1, endSegment)][from+10] ^= 1
		_, _, got := open(t, Options{FS: d.mem(t)}, 0)
		// Who knows the number of the log could forge: the test would notice.
		if found := slices.Contains(got, entry{2, "forged"}); found != known {
			t.Fatalf("known %v: replayed %v", known, got)
		}
	}
}
