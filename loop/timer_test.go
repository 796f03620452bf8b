// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// In virtual time a timer on its own fires at its time to the nanosecond.
func TestTimerIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{})
		for _, d := range []time.Duration{
			0, 1, time.Microsecond, 999 * time.Microsecond, 1500 * time.Millisecond, time.Minute,
			90*time.Second + 7, 27 * time.Hour, 30 * 24 * time.Hour, 100 * 365 * 24 * time.Hour,
		} {
			var tm Timer
			begin, fired := time.Now(), make(chan time.Time, 1)
			on(g.Loop(0), func(l *Loop) {
				l.At(&tm, begin.Add(d).UnixNano(), Func(func(*Loop) { fired <- time.Now() }))
				if tm.When() != begin.Add(d).UnixNano() {
					t.Errorf("When() = %d", tm.When())
				}
			})
			if late := (<-fired).Sub(begin) - d; late != 0 {
				t.Errorf("timer for %v fired %v late", d, late)
			}
			if tm.When() != 0 {
				t.Errorf("When() = %d after it fired", tm.When())
			}
		}
		stop()
	})
}

func TestTimerCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{})
		var tm Timer
		on(g.Loop(0), func(l *Loop) {
			if l.Cancel(&tm) {
				t.Error("Cancel of a timer that is not set")
			}
			l.At(&tm, l.Now()+int64(time.Second), Func(func(*Loop) { t.Error("fired") }))
			if !l.Cancel(&tm) || l.Cancel(&tm) || tm.When() != 0 {
				t.Error("Cancel does not say what it did")
			}
		})
		time.Sleep(time.Minute)
		if n := g.Loop(0).Stats().Timers; n != 0 {
			t.Errorf("%d timers are set", n)
		}
		stop()
	})
}

// A timer that cancels another which is due with it.
func TestTimerCancelsNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{})
		var timers [10]Timer
		fired := 0
		on(g.Loop(0), func(l *Loop) {
			for i := range timers {
				l.At(&timers[i], l.Now()+int64(time.Second), Func(func(l *Loop) {
					fired++
					for j := range timers {
						l.Cancel(&timers[j])
					}
				}))
			}
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if fired != 1 {
			t.Errorf("%d timers fired, want 1", fired)
		}
		stop()
	})
}

// Keep alive: a deadline that packets put off, 1.5 times a second.
func TestTimerExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{})
		const grace = 1500 * time.Millisecond
		var tm Timer
		fired := make(chan time.Time, 1)
		on(g.Loop(0), func(l *Loop) {
			l.At(&tm, l.Now()+int64(grace), Func(func(*Loop) { fired <- time.Now() }))
		})
		for range 20 {
			time.Sleep(time.Second)
			on(g.Loop(0), func(l *Loop) {
				tm.Extend(l.Now() + int64(grace))
				tm.Extend(l.Now()) // not later: nothing happens
			})
		}
		last := time.Now()
		if late := (<-fired).Sub(last) - grace; late != 0 {
			t.Errorf("fired %v late", late)
		}
		on(g.Loop(0), func(l *Loop) {
			tm.Extend(l.Now() + 1)
			if tm.When() != 0 {
				t.Error("Extend set a timer that was not set")
			}
		})
		// A neighbour that was put off does not hold up the next.
		var a, b Timer
		begin := time.Now()
		on(g.Loop(0), func(l *Loop) {
			l.At(&a, l.Now()+int64(10*time.Millisecond), Func(func(*Loop) {}))
			l.At(&b, l.Now()+int64(20*time.Millisecond), Func(func(*Loop) { fired <- time.Now() }))
			a.Extend(l.Now() + int64(time.Hour))
		})
		if took := (<-fired).Sub(begin); took != 20*time.Millisecond {
			t.Errorf("fired after %v, want 20ms", took)
		}
		stop()
	})
}

// A keep alive of an hour, put off each second, costs next to nothing.
func TestTimerExtendIsLazy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{})
		l := g.Loop(0)
		var tm Timer
		on(l, func(l *Loop) { l.At(&tm, l.Now()+int64(time.Hour), Func(func(*Loop) { t.Error("fired") })) })
		synctest.Wait()
		before := l.Stats().Iterations
		const packets = 24 * 3600
		for range packets {
			time.Sleep(time.Second)
			on(l, func(l *Loop) { tm.Extend(l.Now() + int64(time.Hour)) })
		}
		if extra := l.Stats().Iterations - before - packets; extra > 100 {
			t.Errorf("%d iterations in a day beside those for the packets", extra)
		}
		on(l, func(l *Loop) { l.Cancel(&tm) })
		stop()
	})
}

// Many timers at one instant: all fire, spread over several iterations.
func TestTimersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := start(t, 1, Options{})
		const n = 3*maxTimers + 7
		timers := make([]Timer, n)
		fired := 0
		task := Func(func(*Loop) { fired++ })
		var begin int64
		on(g.Loop(0), func(l *Loop) {
			begin = l.Stats().Iterations
			for i := range timers {
				l.At(&timers[i], l.Now()+int64(time.Minute), task)
			}
		})
		time.Sleep(time.Minute + 2<<tickBits)
		synctest.Wait()
		if fired != n {
			t.Errorf("%d of %d timers fired", fired, n)
		}
		if extra := g.Loop(0).Stats().Iterations - begin; extra < 4 || extra > 20 {
			t.Errorf("%d iterations", extra)
		}
		stop()
	})
}

func TestTimersDoNotAllocate(t *testing.T) {
	g := NewGroup(1, Options{})
	l := g.Loop(0)
	timers := make([]Timer, 100)
	task := Func(func(*Loop) {})
	allocs := testing.AllocsPerRun(100, func() {
		for i := range timers {
			l.At(&timers[i], l.now+int64(i)*int64(time.Millisecond), task)
			timers[i].Extend(l.now + int64(time.Second))
		}
		l.now += int64(10 * time.Second)
		l.wheel.run(l)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// The wheel against a list of deadlines, over steps from a nanosecond to a
// year: never early, at most a tick late, and next never too late.
func TestWheelAgainstList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := NewGroup(1, Options{Now: func() time.Time { return time.Unix(1_700_000_000, 123_456_789) }})
		l := g.Loop(0)
		const n = 8
		var timers [n]Timer
		var want [n]int64 // deadline; 0 if not set
		span := rapid.Custom(func(t *rapid.T) int64 {
			return rapid.Int64Range(0, 1).Draw(t, "low") + 1<<rapid.IntRange(0, 55).Draw(t, "bits") - 1
		})
		check := func(t *rapid.T) {
			for i, when := range want {
				if when != 0 && when <= l.now-1<<tickBits {
					t.Fatalf("timer %d is late by %d ns", i, l.now-when)
				}
				if when != 0 && when < l.wheel.next && l.wheel.next > l.now && when>>tickBits != l.wheel.next>>tickBits {
					t.Fatalf("timer %d is due at %d, the loop would sleep until %d", i, when, l.wheel.next)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"at": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "i")
				want[i] = l.now + span.Draw(t, "span")
				l.At(&timers[i], want[i], Func(func(l *Loop) {
					if want[i] == 0 || want[i] > l.now {
						t.Fatalf("timer %d fired at %d, set for %d", i, l.now, want[i])
					}
					want[i] = 0
				}))
			},
			"extend": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "i")
				if when := l.now + span.Draw(t, "span"); want[i] != 0 {
					timers[i].Extend(when)
					want[i] = max(want[i], when)
				}
			},
			"cancel": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "i")
				if l.Cancel(&timers[i]) != (want[i] != 0) {
					t.Fatalf("Cancel of timer %d set for %d", i, want[i])
				}
				want[i] = 0
			},
			"pass": func(t *rapid.T) {
				l.now += span.Draw(t, "span")
				l.wheel.run(l)
			},
			"sleep": func(t *rapid.T) { // as the loop does
				if l.wheel.next != never {
					l.now = max(l.now, l.wheel.next)
					l.wheel.run(l)
				}
			},
			"": check,
		})
		for rounds := 0; l.wheel.next != never; rounds++ {
			if rounds > 100 {
				t.Fatalf("the wheel does not come to rest: next %d, now %d", l.wheel.next, l.now)
			}
			l.now = max(l.now, l.wheel.next)
			l.wheel.run(l)
		}
		if want != [n]int64{} || l.wheel.set != 0 {
			t.Fatalf("timers are left: %v, %d set", want, l.wheel.set)
		}
	})
}
