// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var powerCuts = flag.Int("powercuts", 400, "how many power cuts are tried")

// cutter is a file system whose power is cut at one of its syncs: a copy of what a disk may hold then is kept.
type cutter struct {
	vfs.FS
	mem     *vfs.MemFS
	percent int // of what is not synced that is kept
	rng     *rand.Rand
	control bool // syncs do nothing: the test must notice

	mu    sync.Mutex
	left  int // syncs until the cut
	after *vfs.MemFS
	acked func() Position
	upTo  Position // what had been acknowledged when the power was cut
}

func (c *cutter) sync(f func() error) error {
	c.mu.Lock()
	if c.left--; c.left == 0 {
		c.cut()
	}
	c.mu.Unlock()
	if c.control {
		return nil
	}
	return f()
}

// cut keeps a copy. mu is held.
func (c *cutter) cut() {
	if c.after == nil {
		c.upTo = c.acked()
		c.after = c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.percent, RNG: c.rng})
	}
}

func (c *cutter) Create(name string, k vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, k)
	return cutFile{f, c}, err
}

func (c *cutter) OpenReadWrite(name string, k vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.FS.OpenReadWrite(name, k, o...)
	return cutFile{f, c}, err
}

func (c *cutter) ReuseForWrite(from, to string, k vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.ReuseForWrite(from, to, k)
	return cutFile{f, c}, err
}

func (c *cutter) OpenDir(name string) (vfs.File, error) {
	f, err := c.FS.OpenDir(name)
	return cutFile{f, c}, err
}

type cutFile struct {
	vfs.File
	c *cutter
}

func (f cutFile) Sync() error     { return f.c.sync(f.File.Sync) }
func (f cutFile) SyncData() error { return f.c.sync(f.File.SyncData) }

// acknowledged is the highest position whose Done has been called; what was only to be written may be lost.
type acknowledged struct {
	mu   sync.Mutex
	upTo Position
}

func (a *acknowledged) read() Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.upTo
}

// cutPower runs a store, cuts its power, opens what is left, and says what is wrong with it.
func cutPower(t *testing.T, seed uint64, control bool) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	limits := testLimits(seed)
	mem := vfs.NewCrashableMem()
	var acked acknowledged
	fs := &cutter{FS: mem, mem: mem, percent: rng.IntN(101), rng: rand.New(rand.NewPCG(seed, 5)), control: control, acked: acked.read,
		left: 1 + rng.IntN(120)}
	o := Options{Groups: 4, WriteBuffer: 4 << 10, Limits: limits}
	e := openDisk(t, fs, o)
	first := e.last
	h := follow(t, e)
	v := newInventor(seed)
	for range 100 + rng.IntN(300) {
		commands := make([]command, 1+rng.IntN(4))
		for i := range commands {
			commands[i] = v.next()
			e.submit(commands[i])
		}
		if rng.IntN(3) == 0 {
			wait(e)
			acked.mu.Lock()
			acked.upTo = h.syncedBy(e.last)
			acked.mu.Unlock()
			for _, c := range commands {
				v.learn(c)
			}
		}
	}
	wait(e)
	fs.mu.Lock()
	fs.cut()
	fs.mu.Unlock()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return h.explains(fs.after, o, first, fs.upTo)
}

// syncedBy is the position of the last command at or before last that had to be on disk before its Done.
func (h *history) syncedBy(last Position) (at Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.entries {
		if p.at <= last && p.class == Sync {
			at = p.at
		}
	}
	return at
}

// explains opens what a power cut left, and checks that it is what the history made up to some position, which is not before upTo.
func (h *history) explains(fs *vfs.MemFS, o Options, first, upTo Position) error {
	var told notices
	o.Notice, o.FS, o.Now = told.add, fs, func() int64 { return 5e9 }
	s, err := Open("data", o)
	if err != nil {
		return err
	}
	defer s.Close()
	e := s.(*engine)
	if d := told.of(Damaged); len(d) > 0 {
		return fmt.Errorf("taken for damage: %+v", d)
	}
	last := e.last - 2 // before recovery
	if last < upTo {
		return fmt.Errorf("what is kept ends at %d, and %d was acknowledged", last, upTo)
	}
	if last < first {
		return nil // the power went before the store had been opened once
	}
	m := h.machineAt(o.Limits, o.Groups, first, 5e9, last)
	m.apply(e.last, &recovery{Now: 5e9, Limits: o.Limits})
	if look(e, (*machine).hash) != m.hash() {
		return fmt.Errorf("the state at %d is not what the commands make", last)
	}
	if got, want := look(e, owed(h.t)), everythingOwed(h.t, m); got != want {
		return fmt.Errorf("reads at %d give\n%s\nwant\n%s", last, got, want)
	}
	return nil
}

func TestPowerCutsLoseNothingAcknowledged(t *testing.T) {
	for seed := range uint64(*powerCuts) {
		if err := cutPower(t, seed, false); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// Without syncs the same test must fail, or it would prove nothing.
func TestPowerCutsWithoutSyncLoseSomething(t *testing.T) {
	for seed := range uint64(50) {
		if err := cutPower(t, seed, true); err != nil {
			return
		}
	}
	t.Fatal("nothing was lost without a single sync")
}
