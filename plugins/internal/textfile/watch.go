// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package textfile

import (
	"os"
	"sync"
	"time"
)

// Interval is how often a Watcher looks. A change is acted on when two looks saw the same, so within twice of it.
const Interval = 2 * time.Second

// A Watcher calls a function when a file has changed. It looks instead of being notified: that sees changes through
// symbolic links, bind mounts and network file systems too, and costs one stat in two seconds.
type Watcher struct {
	quit chan struct{}
	done sync.WaitGroup
}

// Watch begins to watch path. changed is called on the watcher's goroutine, once for each change, and not before the
// file has rested for an Interval, so that a file being written is not read by half. That the file is gone is no change.
// f is what is known already: a file that was replaced since it was read counts as changed.
func Watch(f *File, changed func()) *Watcher {
	w := &Watcher{quit: make(chan struct{})}
	w.done.Go(func() { w.run(f, changed) })
	return w
}

func (w *Watcher) run(f *File, changed func()) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	acted, seen := f.info, f.info
	for {
		select {
		case <-w.quit:
			return
		case <-tick.C:
		}
		now, err := os.Stat(f.Path)
		if err != nil {
			continue
		}
		rested := seen != nil && same(seen, now)
		seen = now
		if rested && (acted == nil || !same(acted, now)) {
			acted = now
			changed()
		}
	}
}

// Stop ends the watch and waits for a call of changed that is under way.
func (w *Watcher) Stop() {
	close(w.quit)
	w.done.Wait()
}
