// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package jwt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/noctule/noctule/plugins/internal/remote"
)

// fetchGap is the least time between two fetches because of unknown keys, and fetchTimeout what one may take.
const (
	fetchGap     = 10 * time.Second
	fetchTimeout = 5 * time.Second
	maxSet       = 1 << 20 // bytes
	maxTried     = 16      // keys for one token
)

var errNoKey = errors.New("no key for this token")

// keyring is the keys in use: those of files, and the last good set that was fetched.
type keyring struct {
	a       *Auth
	files   atomic.Pointer[[]*key]
	fetched atomic.Pointer[[]*key]

	mu       sync.Mutex    // guards the fields below
	seen     []os.FileInfo // the files as they were when they were read, or complained about
	last     time.Time     // the last fetch began
	fetching *fetching     // under way; nil if none
	failed   bool          // the last fetch failed, and it was said
}

// fetching is a fetch that several may wait for.
type fetching struct {
	done chan struct{}
	err  error
}

// paths are all files with keys.
func (r *keyring) paths() []string {
	var all []string
	for i := range r.a.opts.Keys {
		if p := r.a.opts.Keys[i].path(); p != "" {
			all = append(all, p)
		}
	}
	if r.a.opts.JWKS != "" && !r.a.fetches() {
		all = append(all, r.a.opts.JWKS)
	}
	return all
}

func (r *keyring) stat() []os.FileInfo {
	var all []os.FileInfo
	for _, p := range r.paths() {
		info, err := os.Stat(p)
		if err != nil {
			info = nil // gone: perhaps about to be replaced
		}
		all = append(all, info)
	}
	return all
}

// readFiles reads all files and puts their keys in use; after an error nothing has changed.
func (r *keyring) readFiles() error {
	seen := r.stat()
	var all []*key
	for i := range r.a.opts.Keys {
		keys, err := r.a.opts.Keys[i].load()
		if err != nil {
			return err
		}
		all = append(all, keys...)
	}
	if r.a.opts.JWKS != "" && !r.a.fetches() {
		text, err := readFile(r.a.opts.JWKS)
		if err != nil {
			return err
		}
		keys, left, err := parseSet(text, true)
		if err != nil {
			return fmt.Errorf("%s: %w", r.a.opts.JWKS, err)
		}
		r.mention(left)
		all = append(all, keys...)
	}
	r.files.Store(&all)
	r.mu.Lock()
	r.seen = seen
	r.mu.Unlock()
	return nil
}

// lookAtFiles reads them again if one has changed.
func (r *keyring) lookAtFiles() {
	now := r.stat()
	r.mu.Lock()
	changed := !slices.EqualFunc(r.seen, now, same)
	r.mu.Unlock()
	if !changed || slices.Contains(now, nil) {
		return
	}
	if err := r.readFiles(); err != nil {
		r.a.log.Error("the keys of tokens cannot be used; those of before stay", "err", err)
		r.mu.Lock()
		r.seen = now // said once
		r.mu.Unlock()
		return
	}
	r.a.log.Info("the keys of tokens were read again")
}

func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (r *keyring) mention(left error) {
	if left != nil {
		r.a.log.Warn("some keys of the set are not used", "first", left)
	}
}

// find gives the keys that may have signed a token, and has the set fetched again if it does not know the identifier.
func (r *keyring) find(ctx context.Context, kid, alg string) (any, error) {
	if r.a.fetches() && kid != "" && !known(r.fetched.Load(), kid) && !known(r.files.Load(), kid) {
		r.refetch(ctx)
	}
	var set jwt.VerificationKeySet
	for _, keys := range []*[]*key{r.files.Load(), r.fetched.Load()} {
		if keys == nil {
			continue
		}
		for _, k := range *keys {
			if (kid == "" || k.id == "" || k.id == kid) && slices.Contains(k.algorithms, alg) && len(set.Keys) < maxTried {
				set.Keys = append(set.Keys, k.public)
			}
		}
	}
	if len(set.Keys) == 0 {
		return nil, errNoKey
	}
	return set, nil
}

func known(keys *[]*key, kid string) bool {
	return keys != nil && slices.ContainsFunc(*keys, func(k *key) bool { return k.id == kid })
}

// refetch waits for a fetch that began within fetchGap, or begins one if there was none.
func (r *keyring) refetch(ctx context.Context) {
	r.mu.Lock()
	f := r.fetching
	if f == nil && !r.last.IsZero() && r.a.now().Sub(r.last) < fetchGap {
		r.mu.Unlock()
		return
	}
	if f != nil {
		r.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
		}
		return
	}
	r.mu.Unlock()
	r.fetchOrComplain(ctx)
}

func (r *keyring) fetchOrComplain(ctx context.Context) {
	err := r.fetch(ctx)
	r.mu.Lock()
	before := r.failed
	r.failed = err != nil
	r.mu.Unlock()
	switch {
	case err != nil && !before && ctx.Err() == nil:
		r.a.log.Warn("the key set cannot be fetched; the last good one stays in use", "url", r.a.opts.JWKS, "err", err)
	case err == nil && before:
		r.a.log.Info("the key set can be fetched again", "url", r.a.opts.JWKS)
	}
}

// fetch fetches the set and puts it in use. Who comes while a fetch is under way has its result.
func (r *keyring) fetch(ctx context.Context) error {
	r.mu.Lock()
	if f := r.fetching; f != nil {
		r.mu.Unlock()
		select {
		case <-f.done:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f := &fetching{done: make(chan struct{})}
	r.fetching, r.last = f, r.a.now()
	r.mu.Unlock()
	f.err = errors.New("panic")
	defer func() {
		r.mu.Lock()
		r.fetching = nil
		r.mu.Unlock()
		close(f.done)
	}()
	f.err = r.get()
	return f.err
}

// get is one request. The client whose token caused it may go: the others want the answer all the same.
func (r *keyring) get() error {
	ctx, cancel := context.WithTimeout(r.a.running, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.a.opts.JWKS, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.a.client.Do(req)
	if err != nil {
		return remote.WithoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer is %s", resp.Status)
	}
	text, err := remote.ReadBody(resp, maxSet)
	if err != nil {
		return err
	}
	keys, left, err := parseSet(text, false)
	if err != nil {
		return err
	}
	r.mention(left)
	r.fetched.Store(&keys)
	return nil
}
