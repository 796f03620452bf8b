// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"context"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A Stall is a loop that does not turn: something blocks on it, or keeps it busy, and all that it serves waits.
type Stall struct {
	Loop *Loop
	For  time.Duration // since the iteration began
	Over bool          // it turns again
	// Stack says where the loop's goroutine stands, one call a line; empty if that could not be had, or when it is over.
	Stack string
}

// looks is how often the watchdog looks within Options.StallAlarm. A stall has to be seen by all but one of them, so that a process which was
// itself stopped for a while does not take its own sleep for that of a loop.
const looks = 4

// A watchdog looks after the loops on a goroutine of its own. It sleeps while all of them do: then it costs an idle process nothing, and
// loops that are busy one load an iteration.
type watchdog struct {
	group  *Group
	asleep atomic.Bool   // it waits for rouse
	rouse  chan struct{} // holds at most one
	quit   chan struct{}
	ended  chan struct{}
	sights []sight
}

// A sight is what the watchdog saw of a loop.
type sight struct {
	began int64 // of the iteration
	times int   // that it was seen
	told  bool
}

func (w *watchdog) init(g *Group) {
	w.group = g
	w.rouse, w.quit, w.ended = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	w.sights = make([]sight, len(g.loops))
}

// wake is called by a loop that has begun an iteration and sees that the watchdog sleeps.
func (w *watchdog) wake() {
	if w.asleep.CompareAndSwap(true, false) {
		select {
		case w.rouse <- struct{}{}:
		default: // it has been told and not looked yet
		}
	}
}

// run is the watchdog's goroutine.
func (w *watchdog) run() {
	defer close(w.ended)
	every := max(w.group.opts.StallAlarm/looks, time.Millisecond)
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		if !w.look() {
			w.asleep.Store(true)
			if w.resting() { // or else one began before it could see that we sleep
				select {
				case <-w.rouse:
				case <-w.quit:
					return
				}
			}
			w.asleep.Store(false)
		}
		timer.Reset(every)
		select {
		case <-timer.C:
		case <-w.quit:
			return
		}
	}
}

// resting says that all loops wait for something to do.
func (w *watchdog) resting() bool {
	for _, l := range w.group.loops {
		if l.stats.began.Load() != 0 {
			return false
		}
	}
	return true
}

// look looks at each loop once, and reports whether there is a reason to look again.
func (w *watchdog) look() (again bool) {
	now := w.group.Now()
	for i, l := range w.group.loops {
		s, began := &w.sights[i], l.stats.began.Load()
		again = again || began != 0
		if began == s.began && began != 0 {
			s.times++
			if took := time.Duration(now - began); took >= w.group.opts.StallAlarm && s.times >= looks-1 && !s.told {
				s.told = true
				l.stats.stalls.Add(1)
				l.stats.stalled.Store(true)
				w.group.tellStall(Stall{Loop: l, For: took, Stack: l.stack()})
			}
			continue
		}
		if s.told {
			l.stats.stalled.Store(false)
			w.group.tellStall(Stall{Loop: l, For: time.Duration(now - s.began), Over: true})
		}
		*s = sight{began: began, times: 1}
	}
	return again
}

// tellStall hands a stall, or its end, to whoever wants to know.
func (g *Group) tellStall(s Stall) {
	o := &g.opts
	switch {
	case o.OnStall != nil:
		o.OnStall(s)
	case o.Logger != nil && s.Over:
		o.Logger.Warn("the loop turns again", "loop", s.Loop.index, "took", s.For)
	case o.Logger != nil:
		o.Logger.Error("a loop is blocked, and all connections that it serves", "loop", s.Loop.index, "took", s.For, "stack", s.Stack)
	}
}

// stackLabel marks the goroutines of loops in profiles; its value is the loop's number.
const stackLabel = "noctule_loop"

// maxStack bounds the text of one stack, in bytes.
const maxStack = 16 << 10

// label marks the present goroutine as the loop's.
func (l *Loop) label() {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(stackLabel, strconv.Itoa(l.index))))
}

// unlabel takes the mark off a goroutine that inherited it.
func unlabel() { pprof.SetGoroutineLabels(context.Background()) }

// stack finds the loop's goroutine by its label in a profile of all. That does not stop the world for longer than a moment, which a dump
// of every stack would do. Other groups of the process have loops of the same number: the deepest stack that is not just waiting is taken.
func (l *Loop) stack() string {
	var all bytes.Buffer
	if pprof.Lookup("goroutine").WriteTo(&all, 1) != nil {
		return ""
	}
	best := ""
	for entry := range strings.SplitSeq(all.String(), "\n\n") {
		if !strings.Contains(entry, strconv.Quote(stackLabel)+":"+strconv.Quote(strconv.Itoa(l.index))) ||
			!strings.Contains(entry, "loop.(*Loop).iterate") {
			continue
		}
		if s := calls(entry); strings.Count(s, "\n") > strings.Count(best, "\n") {
			best = s
		}
	}
	return best[:min(len(best), maxStack)]
}

// calls makes a readable stack of an entry of the profile: lines of "#\taddress\tfunction+offset\tfile:line".
func calls(entry string) string {
	var b strings.Builder
	for line := range strings.Lines(entry) {
		if parts := strings.Fields(line); len(parts) == 4 && parts[0] == "#" {
			function, _, _ := strings.Cut(parts[2], "+0x")
			b.WriteString(function + " " + parts[3] + "\n")
		}
	}
	return b.String()
}
