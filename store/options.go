// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Durability says what has happened to a message when its Done is called.
type Durability byte

// Classes of durability, strongest first.
const (
	Sync     Durability = iota // it is on disk (fdatasync)
	Interval                   // the operating system has it; it is on disk within SyncInterval
	InMemory                   // it is kept in memory only, and gone with the process
)

// SyncInterval is the longest time that what was written with Interval stays without fdatasync.
const SyncInterval = 100 * time.Millisecond

var durabilities = [...]string{Sync: "sync", Interval: "interval", InMemory: "memory"}

// String is the word of the class: sync, interval or memory.
func (d Durability) String() string {
	if int(d) < len(durabilities) {
		return durabilities[d]
	}
	return fmt.Sprintf("durability %d", byte(d))
}

// Set takes the word of a class.
func (d *Durability) Set(word string) error {
	for i, w := range durabilities {
		if w == word {
			*d = Durability(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no durability: sync, interval or memory", word)
}

// OnDamage is what Open does with a folder in which something is damaged.
type OnDamage byte

// What to do about damage.
const (
	SetAside OnDamage = iota // move it aside, name what is lost, go on with the rest
	Refuse                   // fail with ErrDamaged, and change nothing
)

// Errors of Open, and of an engine that has failed.
var (
	// ErrDamaged refuses to open a damaged folder, with Refuse. The error's text names the damage.
	ErrDamaged = errors.New("store: damaged")
	// ErrInUse refuses to open a folder that another process has open. The error's text names its process id.
	ErrInUse = errors.New("store: folder is in use")
	// ErrFailed is what all commands get once the disk has failed to keep what was written (fdatasync gave an error): nobody
	// knows what is on it, and nothing may be acknowledged any more.
	ErrFailed = errors.New("store: the disk failed")
)

// Options are the choices of a store. Zero values choose the defaults. All of them are fixed when it is opened.
type Options struct {
	Limits Limits
	// Groups is the number of topic groups; default 16, at most 1024. It is part of what is stored.
	Groups int
	// MaxPending and MaxPendingBytes bound the commands proposed and not done. Beyond them a Publish gets ErrFull; callers
	// that look at Pending stop reading from their publishers long before. Defaults: 1 000 000 and 256 MiB.
	MaxPending      int
	MaxPendingBytes int64
	// OnDrop is told of dropped and expired messages, at most MaxDropReports of a batch of commands. It is called on a goroutine
	// of the store after the commit, in no particular order, and not while a log is applied again at opening; it must not
	// block nor call the store. nil = nobody is told; Stats counts in any case.
	OnDrop func(Dropped)

	// The rest is for Open only.

	// Durability is the class of all commands but Publish, which brings its own.
	Durability Durability
	OnDamage   OnDamage
	// WriteBuffer is about how many bytes of changes are kept in memory (and in the log) before they are written out to the
	// state; default 32 MiB. Up to three times as much is used for a short time.
	WriteBuffer int64
	// Now is the clock that recovery reads, once, at opening; nil = time.Now().UnixNano().
	Now func() int64
	// FS is the file system; nil = that of the operating system.
	FS vfs.FS
	// Notice is called for what an operator has to know: damage, a full disk, its end, failure. On a goroutine of the store or
	// that of Open; it must not block nor call the store.
	Notice func(Notice)
}

// NoticeKind says what a Notice is about.
type NoticeKind byte

// Kinds of notices.
const (
	TornTail    NoticeKind = iota // the end of the log was not whole, as a power cut leaves it: cut
	Damaged                       // something was damaged and is set aside
	DiskFull                      // no room: durable messages are refused until Room
	Room                          // there is room again
	DiskFailed                    // commands fail with ErrFailed from now on; the process should end
	SlowDisk                      // a commit has not ended for a second
	SlowDiskEnd                   // it has
)

// Notice tells an operator what happened to the store.
type Notice struct {
	Kind NoticeKind
	Text string // what and where, one line
	File string // that damage was found in, or "" ; relative to the folder
	Kept string // where what was cut or damaged is kept, relative to the folder, or ""
	Err  error  // of DiskFull, DiskFailed
}

const (
	defaultGroups          = 16
	mostGroups             = 1024
	defaultMaxPending      = 1_000_000
	defaultMaxPendingBytes = 256 << 20
	defaultWriteBuffer     = 32 << 20
	leastWriteBuffer       = 4 << 10
	smallWriteBuffer       = 1 << 20 // on the smallest disks
)

func (o Options) withDefaults() Options {
	if o.Groups <= 0 {
		o.Groups = defaultGroups
	}
	o.Groups = min(o.Groups, mostGroups)
	if o.MaxPending <= 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.MaxPendingBytes <= 0 {
		o.MaxPendingBytes = defaultMaxPendingBytes
	}
	if o.WriteBuffer <= 0 {
		o.WriteBuffer = defaultWriteBuffer
	}
	o.WriteBuffer = max(o.WriteBuffer, leastWriteBuffer)
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixNano() }
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Notice == nil {
		o.Notice = func(Notice) {}
	}
	return o
}
