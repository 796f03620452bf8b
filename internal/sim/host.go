// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/internal/testkit/faultfs"
	"github.com/noctule/noctule/internal/testkit/memnet"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/verify"
)

// A host is a machine with a disk, on which one life of the broker follows another.
type host struct {
	*plan
	disk   *vfs.MemFS // as the last life left it
	number int        // of the last life
	began  time.Time
	old    sync.WaitGroup

	mu       sync.Mutex // guards the following
	life     *life
	net      *rand.Rand
	troubles []error
	hits     map[string]int
}

func newHost(p *plan) *host {
	return &host{plan: p, disk: vfs.NewCrashableMem(), began: time.Now(), net: rand.New(rand.NewPCG(p.Seed, 2)), hits: map[string]int{}}
}

// wrong notes what no client can see.
func (h *host) wrong(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.troubles) < 10 {
		h.troubles = append(h.troubles, fmt.Errorf(format, args...))
	}
}

// hit counts a fault that came to pass.
func (h *host) hit(fault string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hits[fault]++
}

func (h *host) trouble() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.troubles...)
}

func (h *host) tell(format string, args ...any) {
	if h.Trace != nil {
		fmt.Fprintf(h.Trace, "%.6f\tHOST\t%s\n", time.Since(h.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// Start implements verify.Host.
func (h *host) Start() (verify.Process, error) {
	h.number++
	f := h.fate(h.number)
	h.tell("%v", f)
	for _, change := range f.opens {
		h.openAndCut(f, change)
	}
	l, err := h.start(f)
	if err != nil {
		return nil, fmt.Errorf("life %d: %w", f.number, err)
	}
	h.mu.Lock()
	h.life = l
	h.mu.Unlock()
	return l, nil
}

// openAndCut opens the store, while the power is cut at one of the changes that this makes.
func (h *host) openAndCut(f *fate, change int) {
	fs := faultfs.New(h.disk)
	after := (*vfs.MemFS)(nil)
	var mu sync.Mutex
	fs.SetFail(func(op, path string) error {
		if op == "read" {
			return nil
		}
		mu.Lock()
		if change--; change == 0 {
			after = h.cut(h.disk, f)
			h.hit("cut while opening")
		}
		mu.Unlock()
		if op == "sync" {
			if !ofState(path) {
				time.Sleep(f.syncing / 2)
			}
			return h.skip()
		}
		return nil
	})
	s, err := h.open(fs, f, func(store.Notice) {})
	if err != nil {
		h.wrong("life %d: open, to be cut: %w", f.number, err)
		return
	}
	mu.Lock()
	if after == nil {
		change = -1
		after = h.cut(h.disk, f)
	}
	mu.Unlock()
	if err := s.Close(); err != nil {
		h.wrong("life %d: close: %w", f.number, err)
	}
	h.disk = after
}

// ofState says whether a file is Pebble's.
func ofState(path string) bool { return strings.Contains(path, "/state") }

// open opens the store of a file system.
func (h *host) open(fs vfs.FS, f *fate, heard func(store.Notice)) (store.Store, error) {
	return store.Open(folder, store.Options{Limits: broker.DefaultStoreLimits(), WriteBuffer: h.writeBuffer, FS: fs, Notice: func(n store.Notice) {
		switch n.Kind {
		case store.DiskFull:
			h.hit("full disk")
		case store.TornTail:
			h.hit("torn tail")
		}
		h.tell("notice %d: %s %s %v", n.Kind, n.Text, n.File, n.Err)
		if n.Kind == store.Damaged {
			h.wrong("life %d: taken for damage: %s %s", f.number, n.Text, n.File)
		}
		heard(n)
	}})
}

// cut is what a disk holds after a power cut, or after the end of a process.
func (h *host) cut(disk *vfs.MemFS, f *fate) *vfs.MemFS {
	return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: f.keep, RNG: f.rng})
}

// skip is what the control answers a sync.
func (h *host) skip() error {
	if h.Forgetful {
		return faultfs.ErrSkip
	}
	return nil
}

// Dial implements verify.Host.
func (h *host) Dial(ctx context.Context) (net.Conn, error) {
	h.mu.Lock()
	l, latency := h.life, time.Duration(20_000+h.net.IntN(2_000_000))
	h.mu.Unlock()
	c, err := l.net.Dial(ctx)
	if err != nil {
		time.Sleep(latency)
		return nil, err
	}
	c.(*memnet.Conn).SetLatency(latency)
	return c, nil
}

// Play implements verify.Host.
func (h *host) Play(working bool) {
	if working {
		h.life.work()
	}
}
