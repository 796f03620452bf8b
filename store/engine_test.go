// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// testLog is a log that a test holds up and breaks. It keeps the records.
type testLog struct {
	mu      sync.Mutex // held by the test to hold up a commit
	fail    error
	records [][]byte
	batches []int
	next    Position
	t       *testing.T
}

func (l *testLog) Propose(entries []entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.batches = append(l.batches, len(entries))
	for _, e := range entries {
		if e.at != l.next.following(Sync) {
			l.t.Errorf("proposed position %d after %d", e.at, l.next)
		}
		l.next = e.at
		l.records = append(l.records, appendRecord(nil, e.command))
	}
	return nil
}

func (l *testLog) Tend() time.Duration { return 0 }

func (l *testLog) Close() error { return errors.New("closing the log") }

func publishOne(e *engine, done func(*Publish)) {
	e.ProposePublish(&Publish{Message: &mqtt.Message{Topic: "t", QoS: 1, Payload: []byte("12345")}, Done: done})
}

// heldLog blocks in Propose until a token comes; inside synctest this shows who waits for a commit.
type heldLog struct{ tokens chan error }

func (l heldLog) Propose([]entry) error { return <-l.tokens }
func (l heldLog) Tend() time.Duration   { return 0 }
func (l heldLog) Close() error          { return nil }

func TestNothingIsDoneBeforeItIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := heldLog{make(chan error)}
		e := newMemory(Options{}, log)
		var done []error
		note := func(p *Publish) { done = append(done, p.Err) }
		publishOne(e, note)
		synctest.Wait()
		publishOne(e, note)
		publishOne(e, note)
		synctest.Wait()
		if n, bytes := e.Pending(); len(done) > 0 || n != 3 || bytes != 18 {
			t.Fatalf("%v done, %d pending, %d bytes", done, n, bytes)
		}
		log.tokens <- nil
		synctest.Wait()
		if len(done) != 1 || done[0] != nil {
			t.Fatalf("%v done", done)
		}
		log.tokens <- errors.New("broken")
		synctest.Wait()
		if n, bytes := e.Pending(); len(done) != 3 || done[1] == nil || done[2] == nil || n != 0 || bytes != 0 {
			t.Fatalf("%v done, %d pending, %d bytes", done, n, bytes)
		}
		publishOne(e, note)
		log.tokens <- nil
		synctest.Wait()
		if len(done) != 4 || done[3] != nil || e.Stats().Commits != 3 {
			t.Fatalf("%v done, %+v", done, e.Stats())
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPublishIsRefusedBeyondTheBounds(t *testing.T) {
	for _, o := range []Options{{MaxPending: 2}, {MaxPendingBytes: 13}} {
		synctest.Test(t, func(t *testing.T) {
			log := heldLog{make(chan error)}
			e := newMemory(o, log)
			var order []string
			for i := range 3 {
				publishOne(e, func(p *Publish) { order = append(order, fmt.Sprint(i, p.Err)) })
			}
			e.ProposeTick(&Tick{Done: func(k *Tick) { order = append(order, fmt.Sprint("tick ", k.Err)) }})
			synctest.Wait()
			if len(order) > 0 {
				t.Fatal("Done before the commit, or out of order")
			}
			close(log.tokens)
			synctest.Wait()
			want := []string{"0 <nil>", "1 <nil>", "2 " + ErrFull.Error(), "tick <nil>"}
			if !slices.Equal(order, want) {
				t.Fatalf("got %q, want %q", order, want)
			}
			if n, bytes := e.Pending(); n != 0 || bytes != 0 {
				t.Fatalf("%d pending, %d bytes", n, bytes)
			}
			publishOne(e, func(p *Publish) { order = append(order, fmt.Sprint(p.Err)) })
			synctest.Wait()
			if order[4] != "<nil>" {
				t.Fatal(order[4])
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestTheLogRebuildsTheState(t *testing.T) {
	log := &testLog{t: t}
	e := newMemory(Options{Groups: 4}, log)
	v := newInventor(3)
	for range 800 {
		c := v.next()
		e.submit(c)
		done := make(chan struct{})
		e.Barrier(func() { close(done) })
		<-done
		v.learn(c)
	}
	if err := e.Close(); err == nil {
		t.Fatal("the log's error was lost")
	}
	if len(log.records) != 800 || len(log.batches) < 2 {
		t.Fatalf("%d records in %d batches", len(log.records), len(log.batches))
	}
	m := testMachine(Limits{})
	for i, r := range log.records {
		c, err := decodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		m.apply(Position(2*i+2), c)
	}
	if m.hash() != look(e, (*machine).hash) {
		t.Fatal("replaying the log gives another state")
	}
}

func TestWaitingCommandsAreCommittedTogether(t *testing.T) {
	log := &testLog{t: t}
	log.mu.Lock()
	e := newMemory(Options{}, log)
	for range 100 {
		publishOne(e, nil)
	}
	log.mu.Unlock()
	_ = e.Close() // the test log gives an error
	if len(log.batches) > 3 || log.next != 200 {
		t.Fatalf("batches of %v", log.batches)
	}
}

func TestRecoveryDetachesAndHandsWillsOutAgain(t *testing.T) {
	m := testMachine(Limits{})
	will := &mqtt.Message{Topic: "w", Payload: []byte("gone"), QoS: 1}
	claim := func(at Position, id string, delay, expiry uint32) *Claim {
		c := &Claim{ClientID: id, Expiry: expiry, Will: &Will{Message: will, Delay: delay}, Now: 1e9}
		m.apply(at, c)
		return c
	}
	a := claim(1, "attached", 5, 60)
	claim(2, "brief", 50, 10)
	handed := claim(3, "handed", 0, 60)
	claim(4, "never", 0, Never)
	m.apply(5, &Detach{Owner: handed.Owner, Expiry: 60, KeepWill: true, Now: 1e9})
	first := &Tick{Now: 1e9}
	m.apply(6, first)
	if len(first.Wills) != 1 || m.nextDue() != 61e9 {
		t.Fatalf("%d wills, next at %d", len(first.Wills), m.nextDue())
	}
	m.flush()
	again := newMachine(m.rows, m.bodies, m.limits, m.groups)
	if err := again.load(); err != nil {
		t.Fatal(err)
	}
	m = again
	m.apply(7, &recovery{Now: 100e9})
	if m.stats.Attached != 0 {
		t.Fatalf("%d attached", m.stats.Attached)
	}
	var got []string
	for _, now := range []int64{100e9, 105e9, 110e9, 160e9} {
		tick := &Tick{Now: now}
		m.apply(m.applied+1, tick)
		for _, w := range tick.Wills {
			got = append(got, fmt.Sprint(now/1e9, " will ", w.ClientID))
		}
		for _, e := range tick.Ended {
			got = append(got, fmt.Sprint(now/1e9, " end ", e.ClientID))
		}
	}
	want := []string{"100 will handed", "100 will never", "105 will attached", "110 will brief", "110 end brief", "160 end attached"}
	slices.Sort(got)
	slices.Sort(want)
	// The session "handed" was detached before, and its time ran on.
	want = append(want, "100 end handed")
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if _, err := m.owned(a.Owner); err != ErrNoSession {
		t.Fatal(err)
	}
}

func TestLoadRefusesWhatItCannotRead(t *testing.T) {
	v := newInventor(5)
	m := testMachine(Limits{})
	for at := Position(1); at < 400; at++ {
		c := v.next()
		m.apply(at, c)
		v.learn(c)
	}
	m.flush()
	if err := newMachine(m.rows, m.bodies, Limits{}, 5).load(); !errors.Is(err, errGroups) {
		t.Fatalf("another number of groups: %v", err)
	}
	seen := map[byte]bool{}
	from, to := allRows()
	var all [][]byte
	m.rows.Scan(from, to, func(key, _ []byte) bool {
		all = append(all, slices.Clone(key))
		return true
	})
	for _, key := range all {
		kind := key[2]
		if seen[kind] || kind == kindReceived || kind == kindRefs { // these two are not decoded by load
			continue
		}
		seen[kind] = true
		value, _ := m.rows.Get(key)
		value = slices.Clone(value)
		m.rows.Set(key, []byte{rowVersion + 1, 0})
		if err := newMachine(m.rows, m.bodies, Limits{}, 4).load(); !errors.Is(err, errCorrupt) {
			t.Errorf("row %q of a version that is not known: %v", key, err)
		}
		m.rows.Set(key, value)
	}
	if len(seen) < 8 {
		t.Fatalf("only rows of kinds %v", seen)
	}
	m.rows.Delete(m.keys.begin(metaGroup, kindMeta))
	m.rows.Delete(m.keys.begin(0, kindMeta))
	if err := newMachine(m.rows, m.bodies, Limits{}, 4).load(); !errors.Is(err, errCorrupt) {
		t.Fatalf("rows without counters: %v", err)
	}
}
