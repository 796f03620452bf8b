// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// blockHere is what the tests block a loop with; its name is looked for in stacks.
func blockHere(d time.Duration) { time.Sleep(d) }

// A loop that does not turn is told once, with its stack and in time; its end too; the loop beside it is not named.
func TestStallIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Stall
		var at []time.Duration
		began := time.Now()
		g, stop := start(t, 2, Options{OnLag: func(*Loop, time.Duration) {}, OnStall: func(s Stall) {
			told, at = append(told, s), append(at, time.Since(began))
		}})
		time.Sleep(time.Hour) // the watchdog sleeps as well
		began = time.Now()
		g.Loop(1).Post(Func(func(*Loop) { blockHere(10 * time.Second) }))
		time.Sleep(2 * time.Second)
		if s := g.Loop(1).Stats(); s.Stalls != 1 || !s.Stalled {
			t.Errorf("%d stalls counted, stalled %t", s.Stalls, s.Stalled)
		}
		time.Sleep(9 * time.Second)
		if s := g.Loop(1).Stats(); s.Stalls != 1 || s.Stalled || s.Turns[len(s.Turns)-1] != 1 || s.Busy < 10*time.Second {
			t.Errorf("after it: %+v", s)
		}
		if s := g.Loop(0).Stats(); s.Stalls != 0 || s.Stalled {
			t.Errorf("the other loop: %+v", s)
		}
		stop()
		if len(told) != 2 || told[0].Loop != g.Loop(1) || told[0].Over || !told[1].Over || told[1].Loop != g.Loop(1) {
			t.Fatalf("told %+v", told)
		}
		if at[0] < time.Second || at[0] > 1250*time.Millisecond || at[1] < 10*time.Second || at[1] > 10250*time.Millisecond {
			t.Errorf("told after %v", at)
		}
		if told[0].For < time.Second || told[1].For < 10*time.Second {
			t.Errorf("told of %v and %v", told[0].For, told[1].For)
		}
		if !strings.Contains(told[0].Stack, "loop.blockHere ") || !strings.Contains(told[0].Stack, "watchdog_test.go:") {
			t.Errorf("the stack is\n%s", told[0].Stack)
		}
	})
}

// A loop may be busy for as long as it likes, and may sleep for as long as it likes.
func TestBusyLoopsAreNoStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 2, Options{OnLag: func(*Loop, time.Duration) {}, OnStall: func(s Stall) { t.Errorf("told %+v", s) }})
		turns := 0
		var busy Func
		busy = func(l *Loop) {
			time.Sleep(700 * time.Millisecond)
			if turns++; turns < 100 {
				l.Defer(busy)
			}
		}
		g.Loop(0).Post(busy)
		time.Sleep(time.Hour)
		stop()
		if turns != 100 {
			t.Errorf("%d turns", turns)
		}
	})
}

// Without anybody to tell, the log says it; the limit is the option's, and a negative one turns it off.
func TestStallIsLogged(t *testing.T) {
	for _, limit := range []time.Duration{20 * time.Second, -1} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			g, stop := start(t, 1, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), StallAlarm: limit, LagAlarm: time.Hour})
			g.Loop(0).Post(Func(func(*Loop) { blockHere(19 * time.Second) }))
			time.Sleep(time.Minute)
			early := g.Loop(0).Stats().Stalls
			g.Loop(0).Post(Func(func(*Loop) { blockHere(40 * time.Second) }))
			time.Sleep(time.Minute)
			stop()
			blocked := strings.Count(log.String(), "a loop is blocked, and all connections that it serves")
			again := strings.Count(log.String(), "the loop turns again")
			want := 1
			if limit < 0 {
				want = 0
			}
			if early != 0 || blocked != want || again != want || want == 1 && !strings.Contains(log.String(), "blockHere") {
				t.Errorf("with an alarm at %v, %d too early, the log says:\n%s", limit, early, log.String())
			}
		})
	}
}

// What came by the mailbox and what had to wake the loop is counted.
func TestHandOversAndWakeUpsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 2, Options{})
		nothing := Func(func(*Loop) {})
		for range 5 {
			synctest.Wait() // it sleeps
			g.Loop(0).Post(Func(func(l *Loop) {
				for range 10 {
					l.Send(g.Loop(1), nothing)
				}
			}))
		}
		synctest.Wait()
		if s := g.Loop(0).Stats(); s.Posted != 5 || s.Wakeups != 5 {
			t.Errorf("loop 0: %d posted, %d wake-ups; want 5 and 5", s.Posted, s.Wakeups)
		}
		if s := g.Loop(1).Stats(); s.Posted != 50 || s.Wakeups != 5 {
			t.Errorf("loop 1: %d posted, %d wake-ups; want 50 and 5", s.Posted, s.Wakeups)
		}
		stop()
	})
}

// The watchdog sleeps while nothing happens, for ever if need be.
func TestTheWatchdogSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{})
		on(g.Loop(0), func(*Loop) {})
		for range 3 {
			time.Sleep(10 * time.Second)
			if !g.dog.asleep.Load() {
				t.Fatal("it is awake while nothing happens")
			}
			on(g.Loop(0), func(*Loop) {})
			if g.dog.asleep.Load() {
				t.Fatal("it sleeps while a loop has just worked")
			}
		}
		stop()
	})
}
