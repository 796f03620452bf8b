// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package table judges logins by rows of users, wherever these come from: a password's hash, groups and rights.
//
// A Judge is asked with the row that was found, or with none. Both take the time of one hash: for a name that is unknown one of the kind
// last seen is computed. Hashing is dear, so only as many are computed at once as Judge was made for. It may be used from any goroutine.
package table

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/password"
	"github.com/noctule/noctule/plugins/internal/remote"
)

// Columns with a meaning. Others are claims.
const (
	Hash      = "password_hash"
	Groups    = "groups"
	Superuser = "superuser"
	Rules     = "rules"
	Username  = "username"
)

// Options of a Judge, part of the options of a plug-in.
type Options struct {
	// PlainPasswords takes what is no hash for the password itself. Default false: it is refused.
	PlainPasswords bool `yaml:"plain_passwords"`
	// Unknown says what happens to names that are not found: "deny", the default, or "ignore", which lets the next authenticator decide;
	// the time taken then tells which names there are.
	Unknown string `yaml:"unknown_users"`
}

// Check finds what is wrong.
func (o *Options) Check() error {
	switch o.Unknown {
	case "", "deny", "ignore":
		return nil
	}
	return fmt.Errorf("unknown_users is %q; write deny or ignore", o.Unknown)
}

// Judge judges by rows.
type Judge struct {
	name    string
	opts    Options
	hashing chan struct{}
	like    atomic.Pointer[password.Hash] // the kind last seen
}

// NewJudge makes the judge of a plug-in.
func NewJudge(name string, o Options) *Judge {
	j := &Judge{name: name, opts: o, hashing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	j.like.Store(password.Like(nil))
	return j
}

// Row is what was found, by column; values that are not there are null.
type Row map[string]string

// Judge answers for a row; nil is that there is none. It waits for its turn to hash until ctx ends.
func (j *Judge) Judge(ctx context.Context, l *plugin.Login, r Row) (remote.Answer, error) {
	if r == nil && j.opts.Unknown == "ignore" {
		return remote.Answer{}, nil
	}
	hash, rule, err := j.hashOf(r)
	if err != nil {
		return remote.Answer{}, err
	}
	select {
	case j.hashing <- struct{}{}:
	case <-ctx.Done():
		return remote.Answer{}, fmt.Errorf("waiting to hash a password: %w", ctx.Err())
	}
	ok := hash.Verify(l.Password)
	<-j.hashing
	if !ok {
		return remote.Deny(j.name + ": " + rule), nil
	}
	id, err := r.identity()
	if err != nil {
		return remote.Answer{}, err
	}
	return remote.Answer{Decision: plugin.Decision{Verdict: plugin.Allow, Rule: j.name}, Identity: id}, nil
}

// hashOf is the hash to verify, and why a login would be refused by it.
func (j *Judge) hashOf(r Row) (*password.Hash, string, error) {
	text := strings.TrimSpace(r[Hash])
	switch {
	case r == nil:
		return password.Like(j.like.Load()), "unknown user", nil
	case text == "":
		return password.Like(j.like.Load()), "the user has no password", nil
	}
	h, err := password.ParseHash(text)
	if err != nil && j.opts.PlainPasswords && !strings.HasPrefix(text, "$") {
		h, err = password.NewPlain(r[Hash]), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("a password in the table cannot be used: %w", err)
	}
	j.like.Store(h)
	return h, "wrong password", nil
}

// identity is what a row says of its user.
func (r Row) identity() (id plugin.Identity, err error) {
	id.Username, id.Groups = r[Username], remote.SplitGroups(r[Groups])
	g := &plugin.Grant{Rules: remote.SplitRules(r[Rules])}
	for _, name := range slices.Sorted(maps.Keys(r)) {
		switch name {
		case Hash, Groups, Superuser, Rules, Username:
			continue
		}
		if g.Claims == nil {
			g.Claims = map[string]string{}
		}
		g.Claims[name] = r[name]
	}
	if g.Claims != nil || g.Rules != nil {
		id.Grant = g
	}
	super, err := truth(r[Superuser])
	if err != nil {
		return id, err
	}
	if super {
		remote.Superuser(&id)
	}
	return id, remote.CheckIdentity(&id)
}

// truth reads a value that is true or false.
func truth(s string) (bool, error) {
	if s == "" {
		return false, nil
	}
	if s == "\x01" || s == "\x00" { // a bit of MySQL
		return s == "\x01", nil
	}
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return false, fmt.Errorf("superuser is %.16q in the table; it is true or false", s)
	}
	return b, nil
}
