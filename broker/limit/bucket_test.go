// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const epoch = int64(1_800_000_000_000_000_000) // a time of these years: shifted, it wraps around

// given is what a bucket gave out, in order of time.
type given struct{ at, n int64 }

// checkWindows finds a window in which more was given than burst + rate * length, by 1 % of that: the classic reference, a bucket that is
// never refilled above its burst, with exact arithmetic.
func checkWindows(t *testing.T, r Rate, got []given) {
	t.Helper()
	level, last := float64(r.burst()), got[0].at
	passed := 0.0
	for i, g := range got {
		level = min(float64(r.burst()), level+float64(g.at-last)*float64(r.PerSecond)/1e9)
		last = g.at
		passed += float64(g.n)
		if slack := 0.01*(float64(r.burst())+passed) + 1; level-float64(g.n) < -slack && float64(g.n) <= float64(r.burst()) {
			t.Fatalf("%+v: gift %d of %d tokens at +%v: the reference has %.1f", r, i, g.n, time.Duration(g.at-got[0].at), level)
		}
		level -= float64(g.n)
	}
}

// Whatever the pattern of arrivals, no window gets more than burst + rate * time, and who asks often enough gets it all.
func TestRateIsExactOverAnyWindow(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := Rate{PerSecond: 1 + rnd.Int64N([]int64{10, 3000, 1_000_000, 1_000_000_000}[seed%4]), Burst: 1 + rnd.Int64N(100_000)}
		var b Bucket
		now := epoch
		b.Init(r, now)
		var got []given
		taken := int64(0)
		tokens := func(d float64) int64 { return int64(d * 1e9 / float64(r.PerSecond)) } // the time of so many
		for range 20_000 {
			switch rnd.IntN(4) {
			case 0: // all at once
			case 1:
				now += rnd.Int64N(tokens(1) + 2)
			case 2:
				now += rnd.Int64N(tokens(3) + 2)
			case 3:
				if rnd.IntN(100) == 0 {
					now += rnd.Int64N(tokens(float64(2*r.Burst)) + 2)
				}
			}
			n := 1 + rnd.Int64N(min(r.Burst, 1+rnd.Int64N(50)))
			if b.Take(now, n) {
				got = append(got, given{now, n})
				taken += n
			}
		}
		if len(got) == 0 {
			t.Fatal("nothing was given")
		}
		checkWindows(t, r, got)
		// Asked without end, a second gives its rate to 1 %.
		b.Init(r, now)
		b.Reserve(now, r.burst())
		n, step := int64(0), max(1, tokens(1)/7)
		const asks = 100_000
		for range asks {
			now += step
			for b.Take(now, 1) {
				n++
			}
		}
		want := float64(asks) * float64(step) * float64(r.PerSecond) / 1e9
		if f := float64(n); f > 1.01*want+1 || f < 0.99*want-1 {
			t.Errorf("%+v: %d tokens in the time of %.1f", r, n, want)
		}
	}
}

// Those who reserve and wait pass at the rate, in order, from the burst on.
func TestReservationsPassAtTheRate(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		r := Rate{PerSecond: 1 + rnd.Int64N(5000), Burst: 1 + rnd.Int64N(500)}
		var b Bucket
		now := epoch
		b.Init(r, now)
		var got []given
		last := int64(0)
		for range 5000 {
			n := 1 + rnd.Int64N(min(20, r.Burst))
			at := now + int64(b.Reserve(now, n))
			if at < last {
				t.Fatalf("%+v: who asked later passes earlier", r)
			}
			last = at
			got = append(got, given{at, n})
			if rnd.IntN(3) == 0 {
				now += rnd.Int64N(int64(time.Second) / r.PerSecond * 10)
			}
		}
		checkWindows(t, r, got)
		total := int64(0)
		for _, g := range got {
			total += g.n
		}
		if most := (float64(last-epoch)/1e9)*float64(r.PerSecond)*1.01 + float64(r.Burst) + 1; float64(total) > most {
			t.Errorf("%+v: %d tokens passed, %.0f are due", r, total, most)
		}
	}
}

// A message above the burst passes when the bucket is full, and what it was too much is paid before the next.
func TestMessageAboveTheBurst(t *testing.T) {
	var b Bucket
	b.Init(Rate{PerSecond: 100, Burst: 10}, epoch)
	if !b.Take(epoch, 50) {
		t.Fatal("a full bucket refuses it")
	}
	if b.Level(epoch) != -40 {
		t.Errorf("level %d, want -40", b.Level(epoch))
	}
	if b.Take(epoch+int64(400*time.Millisecond), 1) {
		t.Error("the debt was not paid")
	}
	if !b.Take(epoch+int64(410*time.Millisecond), 1) {
		t.Error("the debt was paid, and the next is refused")
	}
	b.Init(Rate{PerSecond: 100, Burst: 10}, epoch)
	if w := b.Reserve(epoch, 50); w != 0 {
		t.Errorf("wait %v for a full bucket", w)
	}
	if w := b.Reserve(epoch, 50); w != 500*time.Millisecond {
		t.Errorf("wait %v, want 500 ms: until it is full", w)
	}
}

func TestReturnedTokensAreThere(t *testing.T) {
	var b Bucket
	b.Init(Rate{PerSecond: 10, Burst: 10}, epoch)
	b.Take(epoch, 10)
	b.Return(4)
	if !b.Take(epoch, 4) || b.Take(epoch, 1) {
		t.Error("4 tokens were given back")
	}
	b.Return(-5)
	if got := b.Level(epoch); got != -5 {
		t.Errorf("level %d, want -5", got)
	}
}

// A clock that is set forward fills the bucket once; one that is set back neither gives tokens nor starves anybody for long.
func TestClockSteps(t *testing.T) {
	r := Rate{PerSecond: 1000, Burst: 100}
	for _, step := range []time.Duration{time.Hour, 1000 * time.Hour, -2 * time.Second, -time.Hour, -10_000 * time.Hour, -time.Millisecond, -900 * time.Millisecond} {
		var b Bucket
		now := epoch
		b.Init(r, now)
		for range 10_000 { // ten seconds of load
			now += int64(time.Millisecond)
			b.Take(now, 1)
		}
		for b.Take(now, 1) {
		}
		now += int64(step)
		n := 0
		for b.Take(now, 1) {
			n++
		}
		switch {
		case step > 0 && n != 100:
			t.Errorf("%v: %d tokens at once, want the burst", step, n)
		case step < 0 && n != 0:
			t.Errorf("%v: %d tokens out of nothing", step, n)
		}
		n = 0
		for range 10_000 {
			now += int64(time.Millisecond)
			for b.Take(now, 1) {
				n++
			}
		}
		lost := 0 // of ten seconds
		if step < 0 {
			lost = 1300
		}
		if n > 10_001 || n < 9_999-lost {
			t.Errorf("%v: %d tokens in the ten seconds after, want 10 000", step, n)
		}
	}
}

// Loops whose clocks differ share one bucket, and together get what its rate gives.
func TestSharedByGoroutinesIsExact(t *testing.T) {
	r := Rate{PerSecond: 1_000_000, Burst: 1000}
	var b Bucket
	b.Init(r, epoch)
	var clock, taken atomic.Int64
	clock.Store(epoch)
	const span = int64(time.Second)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			skew := int64(i) * 20_000 // behind by up to 140 us
			for {
				now := clock.Add(977)
				if now > epoch+span {
					return
				}
				if b.Take(now-skew, 1) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	want := r.PerSecond + r.Burst
	if got := taken.Load(); got > want+1 || got < want*99/100 {
		t.Errorf("%d tokens in a second, want %d", got, want)
	}
}

func TestNoRateIsNoLimit(t *testing.T) {
	var b Bucket
	b.Init(Rate{}, epoch)
	if !b.Take(epoch, 1<<40) || b.Reserve(epoch, 1<<40) != 0 || !b.Full(epoch) || b.Limited() {
		t.Error("a limit where there is none")
	}
	var zero Bucket
	if !zero.Take(epoch, 1) {
		t.Error("the zero bucket has a limit")
	}
}

// The greatest numbers neither overflow nor last for ever.
func TestExtremes(t *testing.T) {
	for _, r := range []Rate{{1, 1}, {1, MaxBurst}, {MaxRate, MaxBurst}, {MaxRate, 1}} {
		t.Run(fmt.Sprint(r), func(t *testing.T) {
			var b Bucket
			b.Init(r, epoch)
			for range 100 {
				if w := b.Reserve(epoch, MaxBurst); w < 0 {
					t.Fatalf("a wait of %v", w)
				}
			}
			if b.Take(epoch, 1) {
				t.Error("in debt it gives")
			}
			if l := b.Level(epoch); l > 0 {
				t.Errorf("level %d", l)
			}
		})
	}
}

func TestBucketsDoNotAllocate(t *testing.T) {
	var b Bucket
	b.Init(Rate{PerSecond: 1000}, epoch)
	now := epoch
	if n := testing.AllocsPerRun(1000, func() {
		now += 1000
		b.Take(now, 1)
		b.Reserve(now, 1)
		b.Return(1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTake(b *testing.B) {
	var k Bucket
	k.Init(Rate{PerSecond: 1_000_000_000}, epoch)
	now := epoch
	for b.Loop() {
		now += 100
		k.Take(now, 1)
	}
}

func BenchmarkTakeShared(b *testing.B) {
	var k Bucket
	k.Init(Rate{PerSecond: 1_000_000_000}, epoch)
	b.RunParallel(func(pb *testing.PB) {
		now := epoch
		for pb.Next() {
			now += 100
			k.Take(now, 1)
		}
	})
}
