// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
)

// StoreWatch hears what a store has to tell: its Notice and Dropped are for store.Options. Given to a broker in Options.Watch it
// turns notices into log lines, alarms, counts and events, and dropped messages into entries of the journal. What comes before
// there is a broker, as damage found when the store is opened, waits for it. The zero value is ready.
type StoreWatch struct {
	mu     sync.Mutex // guards the following; held while early calls are made up for
	broker *Broker
	early  []func(*Broker)
}

// mostEarly bounds what waits for a broker.
const mostEarly = 10_000

// Notice is for store.Options.Notice.
func (w *StoreWatch) Notice(n store.Notice) { w.pass(func(b *Broker) { b.noticed(n) }) }

// Dropped is for store.Options.OnDrop.
func (w *StoreWatch) Dropped(d store.Dropped) { w.pass(func(b *Broker) { b.storeDropped(&d) }) }

func (w *StoreWatch) pass(f func(*Broker)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.broker != nil:
		f(w.broker)
	case len(w.early) < mostEarly:
		w.early = append(w.early, f)
	}
}

func (w *StoreWatch) attach(b *Broker) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broker = b
	for _, f := range w.early {
		f(b)
	}
	w.early = nil
}

// An Alarm is something that an operator has to look at, while it lasts; damage lasts until the next start.
type Alarm struct {
	Name  string    `json:"name"` // disk_full, disk_failed, disk_slow, damaged, loop_blocked
	Since time.Time `json:"since"`
	Text  string    `json:"text"` // what and where
	Do    string    `json:"do"`   // what to do
}

// alarms are those that are raised.
type alarms struct {
	mu  sync.Mutex // guards all
	all []Alarm
}

// mostAlarms bounds those about damage.
const mostAlarms = 100

// noticeKind is what a notice of the store makes of itself.
type noticeKind struct {
	alarm string // raised by it, or ended; "" for none
	ends  bool
	many  bool // each notice is an alarm of its own
	log   func(b *Broker, text string, args ...any)
	text  string // of the log: static
	do    string
}

var noticeKinds = map[store.NoticeKind]noticeKind{
	store.TornTail: {log: warn, text: "the end of the log was not whole, as a power cut leaves it: it was cut"},
	store.Damaged: {alarm: "damaged", many: true, log: fault, text: "something in the data directory is damaged and was set aside",
		do: "look for a cause in the disk and its log; restore what is missing from a backup, or remove the folder damaged"},
	store.DiskFull: {alarm: "disk_full", log: fault, text: "the disk is full: messages that must be kept are refused until there is room",
		do: "make room on the disk of the data directory, or expire sessions and retained messages; it goes on by itself"},
	store.Room: {alarm: "disk_full", ends: true, log: info, text: "there is room on the disk again"},
	store.DiskFailed: {alarm: "disk_failed", log: fault, text: "the disk failed to keep what was written: nothing is acknowledged any more",
		do: "look at the disk and its log before the next start"},
	store.SlowDisk: {alarm: "disk_slow", log: warn, text: "the disk is slow: acknowledgements wait for it",
		do: "look for what else uses the disk"},
	store.SlowDiskEnd: {alarm: "disk_slow", ends: true, log: info, text: "the disk is no longer slow"},
}

func info(b *Broker, text string, args ...any)  { b.log.Info(text, args...) }
func warn(b *Broker, text string, args ...any)  { b.log.Warn(text, args...) }
func fault(b *Broker, text string, args ...any) { b.log.Error(text, args...) }

// noticed takes a notice of the store. On whichever goroutine.
func (b *Broker) noticed(n store.Notice) {
	k, ok := noticeKinds[n.Kind]
	if !ok {
		return
	}
	b.notices[n.Kind].Add(1)
	switch n.Kind {
	case store.DiskFull, store.Room:
		b.full.Store(!k.ends)
	case store.SlowDisk, store.SlowDiskEnd:
		b.slow.Store(!k.ends)
	}
	args := []any{"detail", n.Text}
	for _, a := range []struct{ key, value string }{{"file", n.File}, {"kept", n.Kept}, {"do", k.do}} {
		if a.value != "" {
			args = append(args, a.key, a.value)
		}
	}
	if n.Err != nil {
		args = append(args, "err", n.Err)
	}
	k.log(b, k.text, args...)
	if k.alarm != "" {
		b.alarm(k, n)
	}
	if n.Kind == store.DiskFailed {
		b.fail(n.Err)
	}
}

// loopBlocked is the alarm of loops that do not turn.
var loopBlocked = noticeKind{alarm: "loop_blocked", do: "look for what blocks in the logged stack, most likely a plug-in or a starved machine; report it if it is the broker's own"}

// loopStalled is told of loops that do not turn. On the goroutine of their watchdog.
func (b *Broker) loopStalled(s loop.Stall) {
	k := loopBlocked
	if s.Over {
		b.blocked--
		b.log.Warn("a loop turns again", "loop", s.Loop.Index(), "took", s.For)
	} else {
		b.blocked++
		b.log.Error("a loop is blocked, and all connections that it serves", "loop", s.Loop.Index(), "took", s.For, "stack", s.Stack, "do", k.do)
	}
	if k.ends = s.Over; b.blocked > 0 && s.Over {
		return
	}
	b.alarm(k, store.Notice{Text: fmt.Sprintf("loop %d does not turn: nothing of what it serves is read or written", s.Loop.Index())})
}

// alarm raises an alarm, or ends it, and tells observers if that is news.
func (b *Broker) alarm(k noticeKind, n store.Notice) {
	a := Alarm{Name: k.alarm, Since: b.opts.Now(), Text: cmp.Or(n.Text, k.text), Do: k.do}
	if b.alarms.change(a, k.ends, k.many) {
		b.events.alarm(plugin.AlarmEvent{At: a.Since, Name: a.Name, Text: a.Text, Raised: !k.ends})
	}
}

// change puts an alarm in or takes it out, and says whether it was not so already.
func (as *alarms) change(a Alarm, ends, many bool) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	at := slices.IndexFunc(as.all, func(x Alarm) bool { return x.Name == a.Name })
	switch {
	case ends && at >= 0:
		as.all = slices.Delete(as.all, at, at+1)
	case !ends && (at < 0 || many && len(as.all) < mostAlarms):
		as.all = append(as.all, a)
	default:
		return false
	}
	return true
}

// Alarms lists what an operator has to look at now, in the order in which it came up.
func (b *Broker) Alarms() []Alarm {
	b.alarms.mu.Lock()
	defer b.alarms.mu.Unlock()
	return slices.Clone(b.alarms.all)
}

// ErrDiskFailed is what Failed tells. Nothing that must be kept is acknowledged from then on; what was acknowledged before is on disk.
var ErrDiskFailed = errors.New("the disk failed")

// Failed is closed once the broker cannot go on: whoever runs it should call Shutdown and end the process. Failure says why.
func (b *Broker) Failed() <-chan struct{} { return b.failed }

// Failure is the cause after Failed; it is an ErrDiskFailed.
func (b *Broker) Failure() error {
	select {
	case <-b.failed:
		return b.failure
	default:
		return nil
	}
}

// fail has the broker end for want of a disk. The first cause counts.
func (b *Broker) fail(err error) {
	b.failOnce.Do(func() {
		b.failure = ErrDiskFailed
		if err != nil {
			b.failure = fmt.Errorf("%w: %w", ErrDiskFailed, err)
		}
		close(b.failed)
	})
}

// storeError looks whether an error of the store is the end of it; the rest is for the caller to log, who is told so by true.
func (b *Broker) storeError(err error) (worthLogging bool) {
	switch {
	case errors.Is(err, store.ErrFailed):
		b.fail(err) // it is logged once, not for each session
		return false
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFull):
		return false
	}
	return true
}

// diskFull says whether there is no room now, as the store's notices have it.
func (b *Broker) diskFull() bool { return b.full.Load() }
