// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"crypto/sha256"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watch asks to be told of changes in the directories of the files: whoever renews a certificate renames a new file, or a
// symbolic link, over the old.
func (r *Reloader) watch() {
	w, err := fsnotify.NewWatcher()
	for _, file := range []string{r.opts.CertFile, r.opts.KeyFile, r.opts.ClientCAFile, r.opts.ClientCRLFile} {
		if err == nil && file != "" {
			err = w.Add(filepath.Dir(file))
		}
	}
	if err != nil {
		r.opts.Logger.Warn("cannot watch TLS files, will look at them now and then", "err", err, "every", r.opts.Poll)
		if w != nil {
			w.Close() // an unused watcher
		}
		return
	}
	r.watcher = w
}

// follow is the Reloader's goroutine.
func (r *Reloader) follow() {
	defer close(r.ended)
	var events chan fsnotify.Event
	var errs chan error
	if r.watcher != nil {
		defer r.watcher.Close()
		events, errs = r.watcher.Events, r.watcher.Errors
	}
	next := time.NewTimer(r.opts.Poll)
	defer next.Stop()
	settling := false // a busy directory must not put the reading off for ever
	settle := func() {
		if !settling {
			settling = true
			next.Reset(settleTime)
		}
	}
	for {
		select {
		case <-r.quit:
			return
		case <-events:
			settle()
		case <-errs: // events were lost, perhaps those of our files
			settle()
		case <-next.C:
			settling = false
			r.look()
			next.Reset(r.opts.Poll)
		}
	}
}

// look reads the files, and complains once about each state of them that is of no use.
func (r *Reloader) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.opts.read()
	sum := f.sum
	if err != nil {
		sum = sha256.Sum256([]byte(err.Error()))
	} else {
		err = r.use(f)
	}
	switch {
	case err == nil:
		r.failed = [sha256.Size]byte{}
	case sum != r.failed:
		r.failed = sum
		r.opts.Logger.Error("new TLS files are of no use, the old ones stay in force", "err", err)
	}
}
