// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/mqtt"
)

var damages = flag.Int("damages", 150, "how many times a file is damaged in each of the folders tried")

// truth is what clients brought, as the store may give it back.
type truth struct {
	payloads map[string]bool               // each is published once, and names its topic
	filters  map[SessionID]map[string]bool // ever subscribed to
}

func newTruth() *truth {
	return &truth{payloads: map[string]bool{}, filters: map[SessionID]map[string]bool{}}
}

// stamp gives a message a payload of its own.
func (w *truth) stamp(m *mqtt.Message, size int) {
	if m == nil || len(m.Payload) == 0 {
		return
	}
	m.Payload = fmt.Appendf(nil, "%s %d %s", m.Topic, len(w.payloads), strings.Repeat("x", size))
	w.payloads[string(m.Payload)] = true
}

// note stamps the messages of a command, and remembers what is subscribed to.
func (w *truth) note(c command, size int) {
	switch c := c.(type) {
	case *Publish:
		w.stamp(c.Message, size)
	case *Claim:
		if c.Will != nil {
			w.stamp(c.Will.Message, size)
		}
	case *Window:
		for _, e := range c.Entries {
			w.stamp(e.Message, size)
		}
	case *Detach:
		for _, e := range c.Window {
			w.stamp(e.Message, size)
		}
	case *Subscribe:
		for _, s := range c.Subscriptions {
			if w.filters[c.Owner.ID] == nil {
				w.filters[c.Owner.ID] = map[string]bool{}
			}
			w.filters[c.Owner.ID][s.Filter] = true
		}
	}
}

// true checks a message.
func (w *truth) check(m *mqtt.Message) error {
	if len(m.Payload) > 0 && (!w.payloads[string(m.Payload)] || !strings.HasPrefix(string(m.Payload), m.Topic+" ")) {
		return fmt.Errorf("a message to %q that nobody published: %.40q", m.Topic, m.Payload)
	}
	return nil
}

// everything reads all that a store has, as text, and checks it.
func (w *truth) everything(e *engine) (text []string, err error) {
	read := func(name string, q Queue, mine func(filter string) bool) error {
		after := make([]Position, e.Groups())
		for more := true; more; {
			var got []Delivery
			if got, more, err = q.Read(after, 50, 1<<20, 2e9, nil); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			for _, d := range got {
				if err := w.check(d.Message); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				for _, f := range d.Filters {
					if !mine(f) {
						return fmt.Errorf("%s has no filter %q", name, f)
					}
				}
				text = append(text, fmt.Sprint(name, d.Ref, d.Filters, string(d.Message.Payload)))
			}
		}
		return nil
	}
	owners, shares := look(e, ownersOf), look(e, sharesOf)
	for _, o := range slices.SortedFunc(maps.Keys(owners), func(a, b Owner) int { return cmp.Compare(a.ID, b.ID) }) {
		mine := func(f string) bool { return w.filters[o.ID][f] }
		if err := read(owners[o], e.OpenQueue(o), mine); err != nil {
			return nil, err
		}
	}
	for _, name := range shares {
		if err := read(name, e.OpenShare(name), func(f string) bool { return f == name }); err != nil {
			return nil, err
		}
	}
	page, more, err := e.RetainedPage("#", "", 1000, 1<<24, 2e9, nil)
	if err != nil || more {
		return nil, fmt.Errorf("retained: %v, %w", more, err)
	}
	for _, r := range page {
		if err := w.check(r.Message); err != nil || r.Topic != r.Message.Topic {
			return nil, fmt.Errorf("retained %q: %w", r.Topic, err)
		}
		text = append(text, fmt.Sprint("retained ", r.Topic, string(r.Message.Payload)))
	}
	list, err := e.Sessions("", 1000)
	if err != nil || len(list) != e.Stats().Sessions {
		return nil, fmt.Errorf("%d sessions are listed, %d are there: %w", len(list), e.Stats().Sessions, err)
	}
	wait(e)
	if err := look(e, (*machine).inconsistency); err != nil {
		return nil, err
	}
	return text, nil
}

// ownersOf are the client identifiers of all sessions.
func ownersOf(m *machine) map[Owner]string {
	owners := map[Owner]string{}
	for id, s := range m.byID {
		owners[Owner{id, s.epoch}] = s.clientID
	}
	return owners
}

// sharesOf are the filters of all shared subscriptions, sorted.
func sharesOf(m *machine) (names []string) {
	for name, f := range m.filters {
		if f.share {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// claims gives all sessions new owners, so that their windows are read.
func (w *truth) claims(e *engine) error {
	users := look(e, func(m *machine) map[string]string {
		users := map[string]string{}
		for _, s := range m.byID {
			users[s.clientID] = s.username
		}
		return users
	})
	for _, client := range slices.Sorted(maps.Keys(users)) {
		done := make(chan struct{})
		c := &Claim{ClientID: client, Username: users[client], Expiry: 5, Now: 3e9, Done: func(*Claim) { close(done) }}
		e.ProposeClaim(c)
		if <-done; c.Err != nil {
			return fmt.Errorf("claim of %q: %w", client, c.Err)
		}
		for _, i := range c.Session.Window {
			if i.State == Sent && i.Message == nil {
				return fmt.Errorf("claim of %q: entry %d of the window without message", client, i.ID)
			}
			if i.Message != nil {
				if err := w.check(i.Message); err != nil {
					return fmt.Errorf("claim of %q: %w", client, err)
				}
			}
		}
		for _, d := range c.Wills {
			if err := w.check(d.Message); err != nil {
				return fmt.Errorf("will of %q: %w", client, err)
			}
		}
	}
	wait(e)
	return look(e, (*machine).inconsistency)
}

// An ending is how a folder came to be as it is.
type ending string

const (
	closed ending = "closed"
	copied ending = "copied while open"
	cut    ending = "cut off"
)

// leftBy runs a store, and returns what is in its folder in the end.
func leftBy(t *testing.T, seed uint64, how ending) (map[string][]byte, *truth, Options) {
	mem := vfs.NewCrashableMem()
	o := Options{Groups: 4, WriteBuffer: 8 << 10, Limits: testLimits(seed)}
	w, v := newTruth(), newInventor(seed)
	for round := range 3 {
		e := openDisk(t, mem, o)
		for i := range 250 {
			c := v.next()
			w.note(c, 20+i%7*30)
			e.submit(c)
			wait(e)
			v.learn(c)
		}
		if round == 2 && how != closed {
			left := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
			if how == copied {
				left = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(seed, 9))})
			}
			all := contentsOf(t, left, "data")
			_ = e.Close()
			return all, w, o
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return contentsOf(t, mem, "data"), w, o
}

// wound damages a file somehow. It returns what was there before, and how.
func wound(t *testing.T, rng *rand.Rand, fs vfs.FS, path string, b []byte) string {
	b = bytes.Clone(b)
	what := ""
	switch n := rng.IntN(10); {
	case n < 5 && len(b) > 0:
		at := rng.IntN(len(b))
		b[at] ^= 1 << rng.IntN(8)
		what = fmt.Sprint("bit flipped at byte ", at)
	case n < 6 && len(b) > 0:
		at := rng.IntN(len(b))
		to := min(len(b), at+512)
		clear(b[at:to])
		what = fmt.Sprint("zeros from ", at, " to ", to)
	case n < 8 && len(b) > 0:
		b = b[:rng.IntN(len(b))]
		what = fmt.Sprint("cut to ", len(b))
	default:
		if err := fs.Remove(path); err != nil {
			t.Fatal(err)
		}
		return "removed"
	}
	put(t, fs, path, b)
	return what
}

// TestDamage damages one file of a folder after another, and wants what was kept to be told of, or there.
func TestDamage(t *testing.T) {
	most := *damages
	if testing.Short() {
		most = min(most, 25)
	}
	for i, how := range []ending{closed, copied, cut} {
		t.Run(string(how), func(t *testing.T) {
			seed := uint64(i)
			all, w, o := leftBy(t, seed, how)
			whole := wholeStore(t, unfold(t, all), o, w)
			if len(whole.told) > 0 && how == closed {
				t.Fatalf("without damage: %+v", whole.told)
			}
			paths := slices.Sorted(maps.Keys(all))
			t.Logf("%d files: %v", len(paths), paths)
			rng := rand.New(rand.NewPCG(seed, 4))
			for n := range most {
				path := paths[n%len(paths)]
				fs := unfold(t, all)
				what := fmt.Sprintf("folder %d, damage %d: %s: %s", seed, n, path, wound(t, rng, fs, path, all[path]))
				if err := afterDamage(t, fs, path, all, w, o, whole); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// errEnded says that the store ended by itself.
var errEnded = errors.New("the store ended")

// reading is what a store gave, opened once.
type reading struct {
	told []Notice
	text []string
	hash [sha256.Size]byte
}

// rowsOf is a digest of all rows but the counters, of which each opening counts on.
func rowsOf(m *machine) (sum [sha256.Size]byte) {
	m.flush()
	h := sha256.New()
	from, to := allRows()
	m.rows.Scan(from, to, func(key, value []byte) bool {
		if key[2] != kindBody && key[2] != kindMeta {
			fmt.Fprintf(h, "%q %q,", key, value)
		}
		return true
	})
	h.Sum(sum[:0])
	return sum
}

// wholeStore opens a store and reads all of it.
func wholeStore(t *testing.T, fs vfs.FS, o Options, w *truth) reading {
	r, err := readStore(fs, o, w, true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readStore(fs vfs.FS, o Options, w *truth, claims bool) (r reading, err error) {
	var told notices
	o.Notice, o.FS, o.Now = told.add, fs, func() int64 { return 5e9 }
	s, err := Open("data", o)
	if err != nil {
		return r, fmt.Errorf("Open: %w", err)
	}
	e := s.(*engine)
	defer func() {
		if e := s.Close(); err == nil {
			err = e
		}
		r.told = append(told.of(Damaged), told.of(TornTail)...)
		if failed := told.of(DiskFailed); len(failed) > 0 {
			err = fmt.Errorf("%w: %w: %+v", errEnded, cmp.Or(err, errors.New("it failed")), failed)
		}
	}()
	if r.text, err = w.everything(e); err != nil {
		return r, err
	}
	r.hash = look(e, rowsOf)
	if claims {
		err = w.claims(e)
	}
	return r, err
}

// afterDamage opens a damaged folder until nothing new is found in it.
func afterDamage(t *testing.T, fs *vfs.MemFS, path string, all map[string][]byte, w *truth, o Options, whole reading) error {
	damaged := contentsOf(t, fs, "data")
	refused := o
	refused.OnDamage, refused.FS = Refuse, fs
	s, refusal := Open("data", refused)
	if refusal == nil {
		_ = s.Close()
		fs = unfold(t, damaged)
	} else if !errors.Is(refusal, ErrDamaged) {
		return fmt.Errorf("with Refuse: %w", refusal)
	} else if err := same(damaged, contentsOf(t, fs, "data")); err != nil {
		return fmt.Errorf("refused, and changed: %w", err)
	}
	first, err := readStore(fs, o, w, false)
	if errors.Is(err, errEnded) {
		// A command met a block that opening had no need of. Nobody knows what was in it: the store ends, and the next opening mends it.
		if first, err = readStore(fs, o, w, false); err == nil && len(first.told) == 0 {
			return errors.New("it ended, and nothing is told when it opens again")
		}
	}
	if err != nil {
		return err
	}
	if len(first.told) == 0 {
		if first.hash != whole.hash || !slices.Equal(first.text, whole.text) {
			return fmt.Errorf("nothing is told, and %d things are there instead of %d", len(first.text), len(whole.text))
		}
		return nil // it may have been refused all the same, for a block that nobody needs
	}
	if refusal == nil && slices.ContainsFunc(first.told, func(n Notice) bool { return n.Kind == Damaged }) {
		return fmt.Errorf("it was not refused: %+v", first.told)
	}
	second, err := readStore(fs, o, w, true) // what could not be read while it was open is looked for now
	if err != nil {
		return fmt.Errorf("the second time: %w", err)
	}
	third, err := readStore(fs, o, w, false)
	if err != nil {
		return fmt.Errorf("the third time: %w", err)
	}
	fourth, err := readStore(fs, o, w, false)
	switch {
	case err != nil:
		return fmt.Errorf("the fourth time: %w", err)
	case !slices.Equal(first.text, second.text):
		return fmt.Errorf("%d things, and then %d; told: %+v", len(first.text), len(second.text), second.told)
	case len(fourth.told) > 0:
		return fmt.Errorf("told again and again: %+v", fourth.told)
	case third.hash != fourth.hash:
		return errors.New("the state changes when nothing is done")
	}
	if b, ok := damaged[path]; ok && !meaningless(path) && slices.ContainsFunc(first.told, func(n Notice) bool { return n.Kind == Damaged }) {
		for at, c := range contentsOf(t, fs, "data") {
			if strings.HasPrefix(at, "data/damaged/") && bytes.Contains(c, b) {
				return nil
			}
		}
		return fmt.Errorf("its bytes are not in %q; told: %+v", damagedDir, first.told)
	}
	return nil
}

// meaningless says that what is in a file is worth nothing.
func meaningless(path string) bool {
	return strings.HasSuffix(path, "/"+pidFile) || strings.HasSuffix(path, "/"+lockFile) || strings.HasSuffix(path, "/"+ballastFile) ||
		strings.HasSuffix(path, ".spare")
}

// same says how two folders differ, but for what tells who has them open.
func same(a, b map[string][]byte) error {
	for _, all := range []map[string][]byte{a, b} {
		for path := range all {
			if strings.HasSuffix(path, pidFile) || strings.HasSuffix(path, lockFile) {
				continue
			}
			x, ok := a[path]
			y, ok2 := b[path]
			if !ok || !ok2 || !bytes.Equal(x, y) {
				return fmt.Errorf("%s: %d bytes, now %d", path, len(x), len(y))
			}
		}
	}
	return nil
}
