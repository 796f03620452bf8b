// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package file is the plug-in "acl.file": who may publish and subscribe to what, from a file in Mosquitto's format.
//
//	topic read $SYS/broker/uptime     before the first user line: for clients without user name
//	user alice
//	topic readwrite home/#            read, write, readwrite (also if left out) or deny
//	topic deny home/safe/#            wins over every other rule
//	pattern write devices/%c/state    for everybody; %c is the client identifier, %u the user name
//
// What no rule allows is denied, so an empty file denies everything, and a file that cannot be read whole is not used
// at all: at Start that is an error, later the rules of before stay.
//
// A subscription is allowed if a read rule overlaps its filter. Each message is then asked about before it is delivered, by
// the rules of that moment, so rights that were taken away end at once, for subscriptions, queued and retained
// messages too.
//
// The rules read are immutable and swapped as a whole with the decisions remembered for them, so Authorize may be called
// from any goroutine; it neither blocks nor locks. A started ACL owns one goroutine, which watches the file.
package file

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/textfile"
)

// Name is the path of the plug-in.
const Name = "acl.file"

// DefaultFile is the file of rules where no other is named.
const DefaultFile = "acl.txt"

// Options of the plug-in. They are obeyed at restart; the file is read again at reload.
type Options struct {
	// Path is the file with the rules. Default acl.txt.
	Path string `yaml:"path"`
}

// ACL is the plug-in. Before Start it denies everything.
type ACL struct {
	opts    Options
	log     *slog.Logger
	rules   atomic.Pointer[rules]
	watcher *textfile.Watcher
}

var (
	_ plugin.ReceiveAuthorizer = (*ACL)(nil)
	_ plugin.Starter           = (*ACL)(nil)
	_ plugin.Stopper           = (*ACL)(nil)
	_ plugin.Reloader          = (*ACL)(nil)
)

func init() {
	plugin.Register(Name, func(decode func(any) error) (plugin.Plugin, error) {
		var o Options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o), nil
	})
}

// New makes the plug-in. The file is read by Start.
func New(o Options) *ACL {
	if o.Path == "" {
		o.Path = DefaultFile
	}
	return &ACL{opts: o}
}

// Read is an ACL that has read its file, once, for programs that ask it themselves. It needs no Start.
func Read(path string) (*ACL, error) {
	a := New(Options{Path: path})
	a.log = slog.New(slog.DiscardHandler)
	_, err := a.load()
	return a, err
}

// Name is "acl.file".
func (a *ACL) Name() string { return Name }

// Start reads the file and begins to watch it.
func (a *ACL) Start(_ context.Context, h plugin.Host) error {
	a.log = h.Logger()
	f, err := a.load()
	if err != nil {
		return fmt.Errorf("%s: %w", Name, err)
	}
	a.watcher = textfile.Watch(f, func() {
		if err := a.Reload(context.Background()); err != nil {
			a.log.Error("the file of rules cannot be used; the rules of before stay", "err", err)
		}
	})
	return nil
}

// Stop ends the watch.
func (a *ACL) Stop(context.Context) error {
	if a.watcher != nil {
		a.watcher.Stop()
		a.watcher = nil
	}
	return nil
}

// Reload reads the file again. After an error the rules of before stay.
func (a *ACL) Reload(context.Context) error {
	if _, err := a.load(); err != nil {
		return fmt.Errorf("%s: %w", Name, err)
	}
	return nil
}

// load reads the file and puts its rules in force.
func (a *ACL) load() (*textfile.File, error) {
	f, err := textfile.Read(a.opts.Path)
	if err != nil {
		return nil, err
	}
	r, err := parse(f)
	if err != nil {
		return nil, err
	}
	if f.WritableByOthers() {
		a.log.Warn("every user of this computer can change the file of rules; run chmod o-w on it", "file", f.Path)
	}
	if r.count == 0 {
		a.log.Warn("the file has no rules, so everything is denied", "file", f.Path)
	}
	r.decided = newDecisions()
	a.rules.Store(r)
	return f, nil
}

// AuthorizesReceive is true: each delivery is asked about.
func (a *ACL) AuthorizesReceive() bool { return true }

// Authorize answers from memory. It never says Ignore.
func (a *ACL) Authorize(x *plugin.Access) plugin.Decision {
	r := a.rules.Load()
	if r == nil {
		return plugin.Decision{Verdict: plugin.Deny, Rule: Name + ": not started"}
	}
	w, k := whoIs(x.Client), kindOf(x.Action)
	if d, ok := r.decided.find(w, k, x.Topic); ok {
		return d
	}
	d := r.decide(w, x.Action, x.Topic)
	r.decided.keep(w, k, x.Topic, d)
	return d
}
