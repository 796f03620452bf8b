// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/noctule/noctule/plugins/internal/textfile"
)

// rehashDelay is how long new hashes are collected before the file is written, so that a storm of logins writes it a few times only.
const rehashDelay = 2 * time.Second

// rehasher replaces old hashes in the file by new ones, once the password was shown. It holds hashes only, one for a user of the file at
// most. A timer's goroutine writes the file.
type rehasher struct {
	a *Auth

	mu      sync.Mutex // guards the following
	pending map[string]replacement
	timer   *time.Timer // nil: nothing is due
	failed  *users      // the users in use when the file could not be written: not tried again for these
	stopped bool
	writing sync.WaitGroup
}

// replacement is a user's hash as it stands in the file, and as it shall.
type replacement struct{ before, after string }

// old says that a hash is of a kind that is replaced.
func old(h *Hash) bool { return h.Scheme() == SaltedSHA512 || h.Scheme() == PBKDF2SHA512 }

// add has a user's hash replaced. The caller has verified the password, and holds a place to hash.
func (r *rehasher) add(u *users, x *user, pw []byte) {
	r.mu.Lock()
	_, due := r.pending[x.name]
	skip := due || r.stopped || r.failed == u
	r.mu.Unlock()
	if skip || !old(x.hash) {
		return
	}
	h, err := NewHash(Argon2id, pw)
	if err != nil { // argon2id has none
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	if r.pending == nil {
		r.pending = map[string]replacement{}
	}
	r.pending[x.name] = replacement{x.hash.String(), h.String()}
	if r.timer == nil {
		r.writing.Add(1)
		r.timer = time.AfterFunc(rehashDelay, func() {
			defer r.writing.Done()
			r.flush()
		})
	}
}

// flush writes what is due.
func (r *rehasher) flush() {
	r.mu.Lock()
	due := r.pending
	r.pending, r.timer = nil, nil
	r.mu.Unlock()
	if len(due) == 0 {
		return
	}
	u := r.a.users.Load()
	n, err := r.write(u, due)
	if err != nil {
		r.mu.Lock()
		r.failed = u
		r.mu.Unlock()
		r.a.log.Warn("passwords in old hashes could not be hashed anew; they go on working as they are", "file", r.a.opts.Path, "err", err)
		return
	}
	r.a.log.Info("passwords in old hashes were hashed anew by argon2id", "file", r.a.opts.Path, "users", n)
}

// write puts new hashes in the file, in the place of those that are still there as they were, and in use.
func (r *rehasher) write(u *users, due map[string]replacement) (int, error) {
	f, err := textfile.Read(r.a.opts.Path)
	if err != nil {
		return 0, err
	}
	lines, n := slices.Clone(f.Lines), 0
	for i, line := range lines {
		if textfile.Comment(line) {
			continue
		}
		name, hash, _ := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		if x, ok := due[name]; ok && strings.TrimSpace(hash) == x.before {
			lines[i] = name + ":" + x.after
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	next, err := parseUsers(&textfile.File{Path: f.Path, Lines: lines})
	if err != nil {
		return 0, fmt.Errorf("the file has changed meanwhile: %w", err)
	}
	if err := f.Write(lines); err != nil {
		return 0, err
	}
	if slices.Equal(f.Lines, u.lines) { // nobody else has changed it: who logged in is remembered
		next.recent = u.recent
	}
	r.a.users.CompareAndSwap(u, next) // or else what was read meanwhile is as good, and the watcher reads again
	return n, nil
}

// stop writes what is due now.
func (r *rehasher) stop() {
	r.mu.Lock()
	r.stopped = true
	now := r.timer != nil && r.timer.Stop()
	r.mu.Unlock()
	if now {
		r.flush()
		r.writing.Done()
	}
	r.writing.Wait()
}
