// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package file is the plug-in "auth.file": user names and passwords from a file, also one of Mosquitto's.
//
// The file has a line "name:hash" for each user; see Scheme for the hashes. It is read at Start, and again by Reload
// and when it changes. What cannot be read whole is not used at all: at Start that is an error, later the users of before stay.
//
// Hashing is dear, so at most Options.Parallel hashes are computed at once, and a login that succeeded is remembered for a
// minute by a keyed digest. A name that is unknown costs the time of one that is known.
//
// Passwords in Mosquitto's older hashes are hashed anew when they are shown, and the file is written.
//
// The users read are immutable and swapped as a whole, so Authenticate may be called from any goroutine. A started Auth
// owns one goroutine, which watches the file, and for a moment one that writes it.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/textfile"
)

// Name is the path of the plug-in.
const Name = "auth.file"

// DefaultFile is the users file where no other is named.
const DefaultFile = "users.txt"

// Options of the plug-in. They are obeyed at restart; the file is read again at reload.
type Options struct {
	// Path is the file with the users. Default users.txt.
	Path string `yaml:"path"`
	// Require refuses clients that give no user name. Default false: the broker's policy for anonymous clients decides.
	Require bool `yaml:"require"`
	// UnknownUsers says what happens to names that the file does not have: "deny", the default, or "ignore", which
	// lets the next authenticator decide; the time taken then tells which names the file has.
	UnknownUsers string `yaml:"unknown_users"`
	// Parallel is how many passwords are hashed at once, 1 to 1024; others wait. A hash takes a core for about 25 ms and 19 MiB.
	// Default: half of the cores, so that a storm of logins leaves the others to the messages.
	Parallel int `yaml:"parallel"`
	// KeepOldHashes leaves passwords in the hashes $6$ and $7$ as they are, for a Mosquitto before 2.1 that reads the file too. Default
	// false: at the first good login they are hashed anew by argon2id, and the file is written.
	KeepOldHashes bool `yaml:"keep_old_hashes"`
}

// check fills in what is not given.
func (o *Options) check() error {
	if o.Path == "" {
		o.Path = DefaultFile
	}
	if o.Parallel == 0 {
		o.Parallel = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if o.Parallel < 1 || o.Parallel > 1024 {
		return fmt.Errorf("%s: parallel is %d; write 1 to 1024", Name, o.Parallel)
	}
	switch o.UnknownUsers {
	case "":
		o.UnknownUsers = "deny"
	case "deny", "ignore":
	default:
		return fmt.Errorf("%s: unknown_users is %q; write deny or ignore", Name, o.UnknownUsers)
	}
	return nil
}

// Auth is the plug-in. Before Start it refuses everybody.
type Auth struct {
	opts    Options
	now     func() time.Time
	log     *slog.Logger
	users   atomic.Pointer[users]
	hashing chan struct{} // as many as may hash at once
	watcher *textfile.Watcher
	rehash  rehasher
}

var (
	_ plugin.Authenticator = (*Auth)(nil)
	_ plugin.Starter       = (*Auth)(nil)
	_ plugin.Stopper       = (*Auth)(nil)
	_ plugin.Reloader      = (*Auth)(nil)
)

func init() {
	plugin.Register(Name, func(decode func(any) error) (plugin.Plugin, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o)
	})
}

// New makes the plug-in. The file is read by Start.
func New(o Options) (*Auth, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	a := &Auth{opts: o, hashing: make(chan struct{}, o.Parallel)}
	a.rehash.a = a
	return a, nil
}

// Name is "auth.file".
func (a *Auth) Name() string { return Name }

// Start reads the file and begins to watch it.
func (a *Auth) Start(_ context.Context, h plugin.Host) error {
	a.now, a.log = h.Now, h.Logger()
	f, err := a.load()
	if err != nil {
		return fmt.Errorf("%s: %w", Name, err)
	}
	a.watcher = textfile.Watch(f, func() {
		if a.known() { // it is our own change
			return
		}
		if err := a.Reload(context.Background()); err != nil {
			a.log.Error("the users file cannot be used; the users of before stay", "err", err)
		}
	})
	return nil
}

// Stop ends the watch.
func (a *Auth) Stop(context.Context) error {
	if a.watcher != nil {
		a.watcher.Stop()
		a.watcher = nil
	}
	a.rehash.stop()
	return nil
}

// Reload reads the file again. After an error the users of before stay. Logins remembered from before are forgotten.
func (a *Auth) Reload(context.Context) error {
	if _, err := a.load(); err != nil {
		return fmt.Errorf("%s: %w", Name, err)
	}
	return nil
}

// known says that the file has what is in use.
func (a *Auth) known() bool {
	f, err := textfile.Read(a.opts.Path)
	return err == nil && slices.Equal(f.Lines, a.users.Load().lines)
}

// load reads the file and puts its users in use.
func (a *Auth) load() (*textfile.File, error) {
	f, err := textfile.Read(a.opts.Path)
	if err != nil {
		return nil, err
	}
	u, err := parseUsers(f)
	if err != nil {
		return nil, err
	}
	if f.ReadableByOthers() || f.WritableByOthers() {
		a.log.Warn("every user of this computer can read the users file; run chmod 600 on it", "file", f.Path)
	}
	if u.weak > 0 {
		a.log.Warn("some passwords are hashed by a scheme or at a cost that is quick to guess; set them again with `noctule user passwd`",
			"file", f.Path, "users", u.weak)
	}
	if len(u.list) == 0 {
		a.log.Warn("the users file has no users, so nobody can log in by it", "file", f.Path)
	}
	a.users.Store(u)
	return f, nil
}

// Authenticate looks the client's user name up. A client without one is none of its business unless Options.Require. It waits for
// its turn to hash until ctx ends.
func (a *Auth) Authenticate(ctx context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	u := a.users.Load()
	switch {
	case u == nil:
		return plugin.Decision{}, plugin.Identity{}, errors.New(Name + ": not started")
	case !l.HasUser && !a.opts.Require:
		return plugin.Decision{}, plugin.Identity{}, nil
	case !l.HasUser, !l.HasPass:
		return plugin.Decision{Verdict: plugin.Deny, Rule: u.name + ": no user name or no password given"}, plugin.Identity{}, nil
	}
	user, known := u.byName[l.Client.Username]
	if !known && a.opts.UnknownUsers == "ignore" {
		return plugin.Decision{}, plugin.Identity{}, nil
	}
	if !known {
		user = u.standIn(l.Client.Username)
	}
	ok, err := a.verify(ctx, u, user, l.Client.Username, l.Password)
	switch {
	case err != nil:
		return plugin.Decision{}, plugin.Identity{}, err
	case !known:
		return plugin.Decision{Verdict: plugin.Deny, Rule: u.name + ": unknown user"}, plugin.Identity{}, nil
	case !ok:
		return plugin.Decision{Verdict: plugin.Deny, Rule: user.rule}, plugin.Identity{}, nil
	}
	return plugin.Decision{Verdict: plugin.Allow, Rule: user.rule}, plugin.Identity{}, nil
}

// verify checks a password, from memory if it was right within the last minute. name is what the client gave: a stand-in
// is never remembered under it, for nobody succeeds as one but by its own password, and that is refused above.
func (a *Auth) verify(ctx context.Context, u *users, user *user, name string, password []byte) (bool, error) {
	digest := u.recent.digest(name, password)
	if u.recent.has(digest, a.now()) {
		return true, nil
	}
	select {
	case a.hashing <- struct{}{}:
	case <-ctx.Done():
		return false, fmt.Errorf("%s: waiting to hash a password: %w", Name, ctx.Err())
	}
	defer func() { <-a.hashing }()
	if u.recent.has(digest, a.now()) { // by another connection, while this one waited
		return true, nil
	}
	if !user.hash.Verify(password) {
		return false, nil
	}
	if user.name == name {
		u.recent.add(digest, a.now())
		if !a.opts.KeepOldHashes {
			a.rehash.add(u, user, password)
		}
	}
	return true, nil
}
