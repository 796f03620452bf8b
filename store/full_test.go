// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/internal/testkit/faultfs"
)

// kept fills a store with messages for a session, and returns what is to be there.
type kept struct {
	t     *testing.T
	s     Store
	owner Owner
	want  map[string]bool // payloads that were acknowledged and not taken
	n     int
}

func newKept(t *testing.T, s Store) *kept {
	k := &kept{t: t, s: s, want: map[string]bool{}, owner: claim(t, s, "c").Owner}
	subscribe(t, s, k.owner, "#")
	return k
}

// publish publishes a message, and says what became of it.
func (k *kept) publish() error {
	k.n++
	payload := fmt.Sprint(k.n, " ", strings.Repeat("x", 100+k.n%50))
	p := publish(k.s, &Publish{Message: message("a", payload, false)})
	if p.Err == nil {
		k.want[payload] = true
	}
	return p.Err
}

// ack acknowledges some of what waits.
func (k *kept) ack(most int) error {
	q, after := k.s.OpenQueue(k.owner), make([]Position, k.s.Groups())
	got, _, err := q.Read(after, most, 1<<20, 2e9, nil)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	a := &Ack{Owner: k.owner, Done: func(*Ack) { close(done) }}
	for _, d := range got {
		a.Refs = append(a.Refs, d.Ref)
		delete(k.want, string(d.Message.Payload)) // gone, or perhaps given again
	}
	k.s.ProposeAck(a)
	<-done
	return a.Err
}

// check opens what a file system has, and wants all there that was acknowledged.
func (k *kept) check(fs vfs.FS, o Options) {
	k.t.Helper()
	var told notices
	o.Notice = told.add
	e := openDisk(k.t, fs, o)
	got := map[string]bool{}
	for _, p := range readAll(k.t, e, claim(k.t, e, "c").Owner) {
		got[p] = true
	}
	for p := range k.want {
		if !got[p] {
			k.t.Errorf("%.5q is lost", p)
		}
	}
	if d := told.of(Damaged); len(d) > 0 {
		k.t.Errorf("damaged: %+v", d)
	}
	if err := e.Close(); err != nil {
		k.t.Error(err)
	}
}

// A full disk refuses publishes, goes on with the rest, and is as ever when there is room again.
func TestFullDisk(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		for _, room := range []int64{0, 1, 77, 3000, 20000, 70000} {
			t.Run(fmt.Sprint(full, " ", room), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { fullDisk(t, full, room) })
			})
		}
	}
}

func fullDisk(t *testing.T, full error, room int64) {
	mem := vfs.NewCrashableMem()
	fs := faultfs.New(mem)
	fs.SetFull(full)
	var told notices
	o := Options{WriteBuffer: 16 << 10, Notice: told.add}
	e := openDisk(t, fs, o)
	k := newKept(t, e)
	for range 50 {
		if err := k.publish(); err != nil {
			t.Fatal(err)
		}
	}
	fs.SetRoom(room)
	refused := 0
	for i := 0; refused < 20; i++ {
		if err := k.publish(); errors.Is(err, ErrFull) {
			refused++
		} else if err != nil || i > 5000 {
			t.Fatal(i, err)
		}
	}
	if n := len(told.of(DiskFull)); n != 1 {
		t.Fatalf("told %d times that it is full", n)
	}
	if p := publish(e, &Publish{Message: message("a", "brief", false), Durability: InMemory}); p.Err != nil {
		t.Fatal("in memory only: ", p.Err)
	}
	for range 10 { // into what the ballast was
		if err := k.ack(3); err != nil {
			t.Fatal(err)
		}
	}
	o.Notice = nil
	k.check(mem.CrashClone(vfs.CrashCloneCfg{}), o)
	fs.SetRoom(-1)
	time.Sleep(3 * time.Second)
	if n := len(told.of(Room)); n != 1 {
		t.Fatalf("told %d times that there is room", n)
	}
	for range 200 {
		if err := k.publish(); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.ack(100); err != nil {
		t.Fatal(err)
	}
	k.check(mem.CrashClone(vfs.CrashCloneCfg{}), o)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(told.of(DiskFull)) + len(told.of(Room)) + len(told.of(DiskFailed)); n != 2 {
		t.Fatalf("told %+v", told.list)
	}
	if e.disk.stats().Checkpoints == 0 {
		t.Fatal("no checkpoint")
	}
	k.check(mem, o)
}

// On a disk that stays full until the end nothing blocks, and nothing is lost.
func TestDiskStaysFull(t *testing.T) {
	for _, room := range []int64{0, 100, 5000, 30000} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { diskStaysFull(t, room) })
		})
	}
}

func diskStaysFull(t *testing.T, room int64) {
	mem := vfs.NewCrashableMem()
	fs := faultfs.New(mem)
	var told notices
	o := Options{WriteBuffer: 16 << 10, Notice: told.add}
	e := openDisk(t, fs, o)
	k := newKept(t, e)
	for range 400 {
		if err := k.publish(); err != nil {
			t.Fatal(err)
		}
	}
	fs.SetRoom(room)
	waiting := make(chan error, 1)
	go func() { // acknowledges until the ballast is used up, and then waits
		for {
			if err := k.ack(1); err != nil {
				waiting <- err
				return
			}
			for range 3 {
				_ = k.publish()
			}
		}
	}()
	time.Sleep(time.Minute)
	synctest.Wait()
	select {
	case err := <-waiting:
		t.Fatal("the disk is full, and a command fails: ", err)
	default:
	}
	after := make([]Position, e.Groups())
	if _, _, err := e.OpenQueue(k.owner).Read(after, 10, 1000, 2e9, nil); err != nil {
		t.Fatal(err)
	}
	if b := e.disk.stats().BufferBytes; b > 64*o.WriteBuffer {
		t.Fatalf("%d bytes in memory", b)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err == nil {
		t.Fatal("acknowledged without room")
	}
	left := mem.CrashClone(vfs.CrashCloneCfg{})
	o.Notice = nil
	k.check(left, o)

	// The next start has no room either, and not even the ballast.
	again := faultfs.New(mem)
	_ = mem.Remove("data/" + ballastFile)
	again.SetRoom(0)
	var later notices
	o.Notice = later.add
	e = openDisk(t, again, o)
	q := e.OpenQueue(Owner{k.owner.ID, k.owner.Epoch})
	got, _, err := q.Read(make([]Position, e.Groups()), 1000, 1<<20, 2e9, nil)
	if err != nil || len(got) < len(k.want) {
		t.Fatalf("%d messages of %d, %v", len(got), len(k.want), err)
	}
	p := &Publish{Message: message("a", "no", false)}
	if publish(e, p); !errors.Is(p.Err, ErrFull) || len(later.of(DiskFull)) != 1 {
		t.Fatalf("%v, %+v", p.Err, later.list)
	}
	k.s = e
	again.SetRoom(-1)
	time.Sleep(3 * time.Second)
	k.owner = claim(t, e, "c").Owner
	for range 300 {
		if err := k.publish(); err != nil {
			t.Fatal(err)
		}
	}
	if len(later.of(Room)) != 1 || e.disk.stats().Checkpoints == 0 {
		t.Fatalf("%+v", later.list)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	k.check(mem, o)
}

// A disk that is full from the beginning, or while a store is closed.
func TestFullAtTheEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for room := int64(0); room < 100<<10; room += 1 + room/3 {
			mem := vfs.NewMem()
			fs := faultfs.New(mem)
			fs.SetRoom(room)
			s, err := Open("data", Options{FS: fs, WriteBuffer: 64 << 10})
			if err == nil {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			} else if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("with room for %d bytes: %v", room, err)
			}
			e := openDisk(t, mem, Options{WriteBuffer: 64 << 10})
			k := newKept(t, e)
			for range 20 {
				if err := k.publish(); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openDisk(t, fs, Options{WriteBuffer: 64 << 10})
			_ = e.Close()
			fs.SetRoom(-1)
			e = openDisk(t, fs, Options{WriteBuffer: 64 << 10})
			k.s, k.owner = e, claim(t, e, "c").Owner
			for range 300 {
				if err := k.publish(); err != nil {
					t.Fatal(err)
				}
			}
			fs.SetRoom(room)
			if err := e.Close(); err != nil {
				t.Fatalf("with room for %d bytes: %v", room, err)
			}
			k.check(mem, Options{WriteBuffer: 64 << 10})
		}
	})
}

// A full disk refuses sessions and subscriptions that are new; sessions that are there go on, and may be left.
func TestFullDiskRefusesWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New(vfs.NewCrashableMem())
		e := openDisk(t, fs, Options{WriteBuffer: 16 << 10})
		k := newKept(t, e)
		fs.SetRoom(1000)
		for i := 0; !errors.Is(k.publish(), ErrFull); i++ {
			if i > 5000 {
				t.Fatal("it does not become full")
			}
		}
		create := func(id string) error {
			done := make(chan error)
			e.ProposeClaim(&Claim{ClientID: id, Expiry: Never, Now: 1e9, Done: func(c *Claim) { done <- c.Err }})
			return <-done
		}
		add := func(filters ...string) error {
			done := make(chan error)
			s := &Subscribe{Owner: k.owner, Done: func(s *Subscribe) { done <- s.Err }}
			for _, f := range filters {
				s.Subscriptions = append(s.Subscriptions, Subscription{Filter: f, QoS: 1})
			}
			e.ProposeSubscribe(s)
			return <-done
		}
		for range 1000 { // more than what the ballast was
			if err := create("new"); !errors.Is(err, ErrFull) {
				t.Fatal("a session: ", err)
			}
			if err := add("#", "new"); !errors.Is(err, ErrFull) {
				t.Fatal("a subscription: ", err)
			}
		}
		if k.owner = claim(t, e, "c").Owner; k.owner == (Owner{}) {
			t.Fatal("a session that was there")
		}
		if err := add("#"); err != nil {
			t.Fatal("a subscription that was there: ", err)
		}
		if err := k.ack(3); err != nil {
			t.Fatal(err)
		}
		fs.SetRoom(-1)
		time.Sleep(3 * time.Second)
		if err := errors.Join(create("new"), add("new"), k.publish()); err != nil {
			t.Fatal("with room again: ", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A disk that our own messages have filled has room again once they are gone, without anybody's help.
func TestDrainedDiskHasRoomAgain(t *testing.T) {
	for _, room := range []int64{16 << 20} {
		for _, size := range []int{2000, 30_000} {
			if testing.Short() && size < 10_000 {
				continue
			}
			t.Run(fmt.Sprint(room, " ", size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { drainedDisk(t, room, size) })
			})
		}
	}
}

func drainedDisk(t *testing.T, room int64, size int) {
	mem := vfs.NewCrashableMem()
	fs := faultfs.New(mem)
	fs.SetRoom(room)
	var told notices
	o := Options{WriteBuffer: 1 << 20, Notice: told.add}
	e := openDisk(t, fs, o)
	owner := claim(t, e, "c").Owner
	subscribe(t, e, owner, "#")
	r := rand.NewChaCha8([32]byte{2})
	for round := range 3 {
		var kept []Ref
		for i, refused := 0, 0; refused < 10; i++ {
			p := &Publish{Message: message(fmt.Sprint("t/", i%7), noise(r, size), false)}
			if publish(e, p); p.Err == nil {
				kept = append(kept, p.Ref)
				continue
			}
			if refused++; !errors.Is(p.Err, ErrFull) {
				t.Fatal(p.Err)
			}
			time.Sleep(3 * time.Second) // what can be let go of is, now
		}
		if len(kept)*size < int(room)/8 {
			t.Errorf("round %d: full with %d messages of %d bytes", round, len(kept), size)
		}
		q, after := e.OpenQueue(owner), make([]Position, e.Groups())
		for more := true; more; {
			var got []Delivery
			var err error
			if got, more, err = q.Read(after, 50, 1<<20, 2e9, nil); err != nil {
				t.Fatal(err)
			}
			refs := make([]Ref, len(got))
			for i, d := range got {
				refs[i] = d.Ref
			}
			done := make(chan error, 1)
			e.ProposeAck(&Ack{Owner: owner, Refs: refs, Done: func(a *Ack) { done <- a.Err }})
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		p := &Publish{Message: message("t/0", "room", false)}
		if publish(e, p); p.Err != nil {
			t.Fatalf("round %d: drained of %d messages, and after a minute: %v", round, len(kept), p.Err)
		}
	}
	if n := len(told.of(DiskFailed)); n > 0 {
		t.Errorf("%+v", told.list)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
