// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package ban

import (
	"errors"
	"sync"
	"time"
)

// FlappingPolicy says who connects too often.
type FlappingPolicy struct {
	Connects int // granted connects of one client identifier within Window; 0 or less is never too often
	Window   time.Duration
	For      time.Duration // how long the ban lasts
}

// maxFlapping is how many client identifiers are counted.
const maxFlapping = 100_000

// Flapping bans clients that connect again and again. It counts granted connects only, so nobody who cannot log in as a client gets that
// one banned. Safe for use by several goroutines.
type Flapping struct {
	list *List

	mu     sync.Mutex
	counts map[string]*window
}

// window counts connects since its beginning.
type window struct {
	began time.Time
	n     int
}

// NewFlapping bans on a list.
func NewFlapping(l *List) *Flapping { return &Flapping{list: l, counts: map[string]*window{}} }

// Connected counts a granted connect. It reports whether the client is banned from now on; an error says that it should be and there was
// no room.
func (f *Flapping) Connected(p FlappingPolicy, client string) (banned bool, err error) {
	if p.Connects <= 0 {
		return false, nil
	}
	now := f.list.now()
	if !f.count(p, client, now) {
		return false, nil
	}
	b := Ban{Kind: Client, Value: client, Made: now.Round(0).UTC(), Until: now.Add(p.For).Round(0).UTC(), Reason: "it connected too often", By: "flapping"}
	if b.check() != nil { // an identifier that the file could not hold
		return false, errors.New("the client identifier has control characters")
	}
	return true, f.list.addLater(b)
}

// count reports whether it is too many.
func (f *Flapping) count(p FlappingPolicy, client string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.counts[client]
	if w == nil {
		f.makeRoom()
		w = &window{began: now}
		f.counts[client] = w
	}
	if now.Sub(w.began) > p.Window {
		*w = window{began: now}
	}
	if w.n++; w.n <= p.Connects {
		return false
	}
	delete(f.counts, client)
	return true
}

// makeRoom drops the oldest of a few windows, picked as the map likes, where there are too many.
func (f *Flapping) makeRoom() {
	if len(f.counts) < maxFlapping {
		return
	}
	oldest, n := "", 0
	for client, w := range f.counts {
		if o := f.counts[oldest]; o == nil || w.began.Before(o.began) {
			oldest = client
		}
		if n++; n == 16 {
			break
		}
	}
	delete(f.counts, oldest)
}
