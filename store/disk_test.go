// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/mqtt"
)

// notices collects what a store tells.
type notices struct {
	mu   sync.Mutex
	list []Notice
}

func (n *notices) add(x Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, x)
}

func (n *notices) of(kind NoticeKind) (some []Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.list {
		if x.Kind == kind {
			some = append(some, x)
		}
	}
	return some
}

// openDisk opens a store in the folder "data" of fs.
func openDisk(t testing.TB, fs vfs.FS, o Options) *engine {
	t.Helper()
	o.FS = fs
	if o.Now == nil {
		o.Now = func() int64 { return 5e9 }
	}
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*engine)
}

// barrier waits until all that was proposed is done.
func wait(e *engine) {
	done := make(chan struct{})
	e.Barrier(func() { close(done) })
	<-done
}

// look looks into a machine while nobody changes it.
func look[T any](e *engine, f func(m *machine) T) T {
	e.state.Lock()
	defer e.state.Unlock()
	return f(e.machine)
}

func appliedBy(m *machine) Position { return m.applied }

func owed(t testing.TB) func(*machine) string {
	return func(m *machine) string { return everythingOwed(t, m) }
}

// history keeps what is proposed to a log, so that a machine in memory can do the same.
type history struct {
	replog
	mu      sync.Mutex
	entries []past
	t       testing.TB
}

type past struct {
	at     Position
	class  Durability
	record []byte
}

func (h *history) Propose(entries []entry) error {
	h.mu.Lock()
	for _, e := range entries {
		h.entries = append(h.entries, past{e.at, e.class, appendRecord(nil, e.command)})
	}
	h.mu.Unlock()
	return h.replog.Propose(entries)
}

// follow makes an engine that has done nothing but its recovery write a history.
func follow(t testing.TB, e *engine) *history {
	h := &history{t: t}
	h.hear(e)
	return h
}

// hear has an engine that has done nothing but its recovery write this history.
func (h *history) hear(e *engine) {
	done := make(chan struct{})
	e.submit(&barrier{func() { h.replog, e.log = e.log, h; close(done) }}) // the log is the committer's
	<-done
}

// machineAt is a machine in memory that did what came up to a position.
func (h *history) machineAt(limits Limits, groups int, first Position, now int64, last Position) *machine {
	m := newMachine(&sortedRows{}, memoryBodies{}, limits, groups)
	m.apply(first, &recovery{Now: now, Limits: limits})
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.entries {
		if p.at > last {
			break
		}
		c, err := decodeRecord(p.record)
		if err != nil {
			h.t.Fatal(err)
		}
		m.apply(p.at, c)
	}
	return m
}

func message(topic, payload string, retain bool) *mqtt.Message {
	return &mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain, ClientID: "p", Received: 1e9}
}

func claim(t testing.TB, s Store, id string) *Claim {
	t.Helper()
	done := make(chan struct{})
	c := &Claim{ClientID: id, Expiry: Never, Now: 1e9, Done: func(*Claim) { close(done) }}
	s.ProposeClaim(c)
	if <-done; c.Err != nil {
		t.Fatal(c.Err)
	}
	return c
}

func subscribe(t testing.TB, s Store, o Owner, filters ...string) {
	t.Helper()
	done := make(chan struct{})
	c := &Subscribe{Owner: o, Done: func(*Subscribe) { close(done) }}
	for _, f := range filters {
		c.Subscriptions = append(c.Subscriptions, Subscription{Filter: f, QoS: 1})
	}
	s.ProposeSubscribe(c)
	if <-done; c.Err != nil {
		t.Fatal(c.Err)
	}
}

func publish(s Store, p *Publish) *Publish {
	done := make(chan struct{})
	p.Done = func(*Publish) { close(done) }
	s.ProposePublish(p)
	<-done
	return p
}

func readAll(t testing.TB, s Store, o Owner) (payloads []string) {
	t.Helper()
	q, after := s.OpenQueue(o), make([]Position, s.Groups())
	for more := true; more; {
		var got []Delivery
		var err error
		if got, more, err = q.Read(after, 100, 1<<20, 2e9, nil); err != nil {
			t.Fatal(err)
		}
		for _, d := range got {
			payloads = append(payloads, string(d.Message.Payload))
		}
	}
	return payloads
}

func TestWhatWasDoneIsThereAfterReopening(t *testing.T) {
	for _, buffer := range []int64{4 << 10, 1 << 20} {
		t.Run(fmt.Sprint(buffer), func(t *testing.T) {
			fs := vfs.NewMem()
			e := openDisk(t, fs, Options{WriteBuffer: buffer})
			o := claim(t, e, "c").Owner
			subscribe(t, e, o, "a/#", "$share/g/b")
			var want []string
			for i := range 300 {
				payload := fmt.Sprintf("%d %s", i, strings.Repeat("x", 50))
				want = append(want, payload)
				if p := publish(e, &Publish{Message: message(fmt.Sprint("a/", i%7), payload, i%10 == 0)}); p.Err != nil || !p.Matched {
					t.Fatal(p.Err, p.Matched)
				}
			}
			for range 3 {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				e = openDisk(t, fs, Options{WriteBuffer: buffer})
				c := claim(t, e, "c")
				if !c.Present || c.Owner.ID != o.ID || len(c.Session.Subscriptions) != 2 {
					t.Fatalf("%+v", c)
				}
				if got := readAll(t, e, c.Owner); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("read %d messages, want %d", len(got), len(want))
				}
				page, _, err := e.RetainedPage("#", "", 1000, 1<<20, 2e9, nil)
				if err != nil || len(page) != 7 {
					t.Fatal(len(page), err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestOneProcessOneFolder(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("the second opening gives %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := Open(dir, Options{WriteBuffer: 1})
	if err != nil {
		t.Fatal(err)
	}
	claim(t, s, "c")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMessagesInMemoryOnlyGoWithTheProcess(t *testing.T) {
	for _, buffer := range []int64{4 << 10, 1 << 20} {
		fs := vfs.NewMem()
		e := openDisk(t, fs, Options{WriteBuffer: buffer})
		o := claim(t, e, "c").Owner
		subscribe(t, e, o, "a", "b")
		for i := range 100 {
			publish(e, &Publish{Message: message("a", fmt.Sprint("kept ", i), true)})
			publish(e, &Publish{Message: message("b", fmt.Sprint("brief ", i), true), Durability: InMemory})
		}
		if n := len(readAll(t, e, o)); n != 200 {
			t.Fatalf("%d messages before the end", n)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = openDisk(t, fs, Options{WriteBuffer: buffer})
		got := readAll(t, e, claim(t, e, "c").Owner)
		if len(got) != 100 || got[0] != "kept 0" {
			t.Fatalf("%d messages after it", len(got))
		}
		page, _, err := e.RetainedPage("#", "", 10, 1<<20, 2e9, nil)
		if err != nil || len(page) != 1 || page[0].Topic != "a" {
			t.Fatalf("retained: %v, %v", page, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// After each restart the state must be that of a machine in memory that has seen the same commands.
func TestRestartsChangeNothing(t *testing.T) {
	for seed := range uint64(12) {
		limits := testLimits(seed)
		fs := vfs.NewMem()
		o := Options{Groups: 4, WriteBuffer: 4 << 10, Limits: limits}
		e := openDisk(t, fs, o)
		first := e.last
		h := follow(t, e)
		v := newInventor(seed)
		for range 5 {
			for range 200 {
				c := v.next()
				e.submit(c)
				wait(e)
				v.learn(c)
			}
			want := h.machineAt(limits, 4, first, 5e9, e.last).hash()
			if look(e, (*machine).hash) != want {
				t.Fatalf("seed %d: another state than in memory", seed)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openDisk(t, fs, o)
			h.entries = append(h.entries, past{e.last, Sync, appendRecord(nil, &recovery{Now: 5e9, Limits: limits})})
			m := h.machineAt(limits, 4, first, 5e9, e.last)
			if look(e, (*machine).hash) != m.hash() {
				t.Fatalf("seed %d: another state after reopening", seed)
			}
			if got, want := look(e, owed(t)), everythingOwed(t, m); got != want {
				t.Fatalf("seed %d: reads give other messages after reopening:\n%s\nwant\n%s", seed, got, want)
			}
			h.hear(e)
		}
		_ = e.Close()
	}
}

// A session with a cursor finds after a restart what waits for it on the disk.
func TestCursorsSurviveRestarts(t *testing.T) {
	fs := vfs.NewMem()
	e := openDisk(t, fs, Options{WriteBuffer: 4 << 10})
	fast, slow := claim(t, e, "fast").Owner, claim(t, e, "slow").Owner
	subscribe(t, e, fast, "a/#")
	subscribe(t, e, slow, "a/#")
	var refs []Ref
	for i := range 200 {
		refs = append(refs, publish(e, &Publish{Message: message("a/b", fmt.Sprint(i), false)}).Ref)
	}
	e.ProposeAck(&Ack{Owner: slow, Refs: refs[:5]})
	e.ProposeAck(&Ack{Owner: fast, Refs: refs[:150]})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openDisk(t, fs, Options{WriteBuffer: 4 << 10})
	defer e.Close()
	for id, want := range map[string]int{"fast": 50, "slow": 195} {
		if got := readAll(t, e, claim(t, e, id).Owner); len(got) != want {
			t.Errorf("%s reads %d messages, want %d", id, len(got), want)
		}
	}
}

// everythingOwed is what all sessions would read, and all retained messages: what the mirrors make of the rows.
func everythingOwed(t testing.TB, m *machine) string {
	var b strings.Builder
	ids := slices.Sorted(maps.Keys(m.byID))
	for _, id := range ids {
		var g merge
		g.begin(m, make([]Position, m.groups), 1<<20, 1<<30, 0)
		g.addSession(m.byID[id])
		got, _ := g.read(nil, func(ref Ref) bool { _, ok := m.byID[id].inQueue[ref]; return ok })
		fmt.Fprintf(&b, "%d:", id)
		for _, d := range got {
			fmt.Fprintf(&b, " %v %s %v", d.Ref, d.Message.Payload, d.Filters)
		}
		b.WriteByte('\n')
	}
	m.retained.Match("#", func(name string, r retained) bool {
		message, err := m.bodies.Get(r.ref())
		if err != nil {
			t.Errorf("retained %s: %v", name, err)
			return false
		}
		fmt.Fprintf(&b, "retained %s %q", name, message.Payload)
		return true
	})
	return b.String()
}

// The log must not have a message again each time that a connection with a full window ends.
func TestWindowsDoNotRepeatMessagesInTheLog(t *testing.T) {
	e := openDisk(t, vfs.NewMem(), Options{})
	defer e.Close()
	o := claim(t, e, "c").Owner
	subscribe(t, e, o, "a")
	var window []Inflight
	for i := range 20 {
		m := message("a", strings.Repeat("x", 10_000), false)
		p := publish(e, &Publish{Message: m})
		window = append(window, Inflight{ID: uint16(i + 1), QoS: 1, Ref: p.Ref, Message: m})
	}
	before := e.Stats().Disk.LogWritten
	done := make(chan error)
	e.ProposeDetach(&Detach{Owner: o, Expiry: Never, Window: window, Now: 2e9, Done: func(d *Detach) { done <- d.Err }})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := e.Stats().Disk.LogWritten - before; n > 2000 {
		t.Errorf("the end of a connection took %d bytes of log", n)
	}
	if c := claim(t, e, "c"); len(c.Session.Window) != 20 || len(c.Session.Window[3].Message.Payload) != 10_000 {
		t.Errorf("the window has %d entries", len(c.Session.Window))
	}
	removed := make(chan error)
	c := claim(t, e, "c")
	for i := range window {
		window[i].Message = c.Session.Window[i].Message
	}
	e.ProposeUnsubscribe(&Unsubscribe{Owner: c.Owner, Filters: []string{"a"}})
	e.ProposeDetach(&Detach{Owner: c.Owner, Expiry: Never, Window: window, Now: 2e9, Done: func(d *Detach) { removed <- d.Err }})
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	if c := claim(t, e, "c"); len(c.Session.Window) != 20 {
		t.Errorf("the window has %d entries after the subscription went", len(c.Session.Window))
	}
}
