// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package file is the plug-in "acl.file": who may publish and subscribe to what, from a file of rules.
//
//	allow any subscribe news/#
//	deny  user alice both home/safe/#
//	allow user alice both home/#
//	allow group operators publish qos=0,1 cmd/+/set
//	allow any publish devices/${clientid}/#
//
// The language is that of plugins/internal/rules; docs/acl.md tells it. Files of Mosquitto (user, topic, pattern) are read as they are.
//
// What no rule allows is denied, so an empty file denies everything, and a file that cannot be read whole is not used
// at all: at Start that is an error, later the rules of before stay.
//
// A subscription is allowed if a rule allows some of what its filter matches; a shared one, and with Broad: refuse every one, if one rule
// allows it all: what a member may not receive would be lost for the others. Each message is then asked about before it is delivered, by the rules of that moment, so rights that were taken away end at once, for
// subscriptions, queued and retained messages too.
//
// The rules read are immutable and swapped as a whole, so Authorize may be called from any goroutine; it neither blocks nor locks. A
// started ACL owns one goroutine, which watches the file.
package file

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/rules"
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
	// Unmatched is what becomes of an access that no rule is about: deny, or ignore, which asks the next plug-in. Default deny.
	Unmatched string `yaml:"unmatched"`
	// Broad is what becomes of a subscription of which rules allow a part: narrow lets it be and delivers that part, refuse refuses it.
	// Default narrow.
	Broad string `yaml:"broad_subscriptions"`
}

// ACL is the plug-in. Before Start it denies everything.
type ACL struct {
	opts    Options
	log     *slog.Logger
	rules   atomic.Pointer[inForce]
	version atomic.Uint64
	watcher *textfile.Watcher
}

// inForce is the rules of one reading of the file.
type inForce struct {
	*rules.Set
	otherwise, tooBroad plugin.Decision
}

var (
	_ plugin.ReceiveAuthorizer = (*ACL)(nil)
	_ plugin.SteadyAuthorizer  = (*ACL)(nil)
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
		if err := o.check(); err != nil {
			return nil, err
		}
		return New(o), nil
	})
}

func (o *Options) check() error {
	if o.Unmatched != "" && o.Unmatched != "deny" && o.Unmatched != "ignore" {
		return fmt.Errorf("unmatched is %q; write deny (what no rule allows is denied) or ignore (the next plug-in is asked)", o.Unmatched)
	}
	if o.Broad != "" && o.Broad != "narrow" && o.Broad != "refuse" {
		return fmt.Errorf("broad_subscriptions is %q; write narrow (deliver what is allowed) or refuse", o.Broad)
	}
	return nil
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
	set, err := rules.Read(f)
	if err != nil {
		return nil, err
	}
	if f.WritableByOthers() {
		a.log.Warn("every user of this computer can change the file of rules; run chmod o-w on it", "file", f.Path)
	}
	if set.Len() == 0 {
		a.log.Warn("the file has no rules, so everything is denied", "file", f.Path)
	}
	r := &inForce{Set: set, otherwise: plugin.Decision{Verdict: plugin.Deny, Rule: f.Base() + ": no rule allows it"},
		tooBroad: plugin.Decision{Verdict: plugin.Deny, Rule: f.Base() + ": no rule allows all of it"}}
	if a.opts.Unmatched == "ignore" && set.Len() > 0 {
		r.otherwise = plugin.Decision{}
	}
	a.rules.Store(r)
	a.version.Add(1)
	return f, nil
}

// AuthorizesReceive is true: each delivery is asked about.
func (a *ACL) AuthorizesReceive() bool { return true }

// RulesVersion changes after rules that were read have come into force.
func (a *ACL) RulesVersion() uint64 { return a.version.Load() }

// Authorize answers from memory. It says Ignore only with Unmatched: ignore.
func (a *ACL) Authorize(x *plugin.Access) plugin.Decision {
	r := a.rules.Load()
	if r == nil {
		return plugin.Decision{Verdict: plugin.Deny, Rule: Name + ": not started"}
	}
	switch d, whole := r.Ask(x); {
	case d.Verdict == plugin.Ignore:
		return r.otherwise
	case d.Verdict == plugin.Allow && !whole && (a.opts.Broad == "refuse" || x.Share != ""):
		return r.tooBroad
	default:
		return d
	}
}
