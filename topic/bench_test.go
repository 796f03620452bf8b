// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// benchName is the i-th name of a plant: 100 sites, devices, ten values each.
func benchName(i int) string {
	value := []string{"temp", "hum", "co2", "rssi", "bat", "up", "err", "fw", "cfg", "loc"}[i%10]
	return fmt.Sprintf("site%d/dev%d/%s", i/10%100, i/10, value)
}

// benchFilters returns n filters that all differ but for those of mixed:
// exact names, with 1 in 20 a wildcard, and 50 filters with n/1000 subscribers
// each; or wildcards only.
func benchFilters(kind string, n int) []string {
	filters := make([]string, n)
	for i := range filters {
		switch {
		case kind == "wild":
			filters[i] = fmt.Sprintf("x/%d/#", i)
		case kind == "mixed" && i%20 == 0:
			filters[i] = fmt.Sprintf("site%d/+/alarm", i/20%50)
		default:
			filters[i] = benchName(i)
		}
	}
	return filters
}

// benchTopics returns names that the filters of kind match, in random order.
func benchTopics(kind string, n int) [][]byte {
	names := make([][]byte, 1<<16)
	r := rand.New(rand.NewPCG(7, 7))
	for i := range names {
		if kind == "wild" {
			names[i] = fmt.Appendf(nil, "x/%d/y", r.IntN(n))
		} else {
			names[i] = []byte(benchName(r.IntN(n)))
		}
	}
	return names
}

func benchIndex(kind string, n int) *Index[*int] {
	ix := NewIndex[*int](2)
	subs := make([]int, n/20+1) // so that the 50 filters of mixed have 1000 each
	for i, f := range benchFilters(kind, n) {
		ix.Add(f, i%2, &subs[i/20])
	}
	return ix
}

// A match among a million subscriptions: alone, on a hot set of 1024 names, and
// beside a writer that makes 100 000 changes a second.
func BenchmarkMatch(b *testing.B) {
	const n = 1_000_000
	for _, kind := range []string{"exact", "mixed", "wild"} {
		ix := benchIndex(kind, n)
		names := benchTopics(kind, n)
		run := func(mask int) func(b *testing.B) {
			return func(b *testing.B) {
				b.ReportAllocs()
				var m Matches[*int]
				i, found := 0, 0
				for b.Loop() {
					m.Reset()
					ix.Match(names[i&mask], &m)
					found += m.Lists()
					i++
				}
				if found == 0 {
					b.Fatal("nothing matches")
				}
			}
		}
		b.Run(kind+"/random", run(len(names)-1))
		b.Run(kind+"/hot", run(1023))
		b.Run(kind+"/writer", func(b *testing.B) {
			stop := writeAt(ix, kind, n, 100_000)
			run(len(names) - 1)(b)
			b.ReportMetric(float64(stop())/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// writeAt makes about rate changes a second until stop is called, which returns
// how many they were.
func writeAt(ix *Index[*int], kind string, n, rate int) (stop func() int64) {
	filters := benchFilters(kind, n)
	var made atomic.Int64
	var quit atomic.Bool
	ended := make(chan struct{})
	sub := new(int)
	go func() {
		defer close(ended)
		start := time.Now()
		for !quit.Load() {
			if made.Load() > int64(time.Since(start).Seconds()*float64(rate)) {
				runtime.Gosched()
				continue
			}
			f := filters[rand.IntN(n)]
			if ix.Add(f, 0, sub) {
				ix.Remove(f, 0, sub)
			}
			made.Add(2)
		}
	}()
	return func() int64 {
		quit.Store(true)
		<-ended
		return made.Load()
	}
}

// One change in an index of a million subscriptions.
func BenchmarkChange(b *testing.B) {
	const n = 1_000_000
	for _, kind := range []string{"exact", "mixed", "wild"} {
		ix := benchIndex(kind, n)
		filters := benchFilters(kind, n)
		sub := new(int)
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f := filters[rand.IntN(n)]
				ix.Add(f, 1, sub)
				ix.Remove(f, 1, sub)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/change")
		})
	}
}

// One change to a list, by its length.
func BenchmarkChangeList(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ix := NewIndex[*int](1)
			subs := make([]int, n)
			for i := range subs {
				ix.Add("a/+", 0, &subs[i])
			}
			b.ReportAllocs()
			sub := new(int)
			for b.Loop() {
				ix.Add("a/+", 0, sub)
				ix.Remove("a/+", 0, sub)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/change")
		})
	}
}

// Handing out a list of 100 000 subscribers.
func BenchmarkAppendOwner(b *testing.B) {
	ix := NewIndex[*int](2)
	subs := make([]int, 100_000)
	for i := range subs {
		ix.Add("a/+", i%2, &subs[i])
	}
	var m Matches[*int]
	var parts [][]*int
	b.ReportAllocs()
	for b.Loop() {
		m.Reset()
		ix.MatchString("a/b", &m)
		parts = m.AppendOwner(parts[:0], 0)
	}
	b.ReportMetric(float64(len(parts)), "slices")
}

// sensorName is the i-th name of a plant with one value for each sensor.
func sensorName(i int) string {
	return fmt.Sprintf("plant/%d/line/%d/sensor/%d/temperature", i%100, i/100%8, i)
}

// A tree of a million names, with values as large as those of a store.
func BenchmarkTree(b *testing.B) {
	type value [3]int64
	const n = 1_000_000
	for _, kind := range []struct {
		name    string
		of      func(int) string
		filters []string
	}{
		{"devices", benchName, []string{"site3/dev403/temp", "site3/dev403/+", "+/dev403/temp", "site3/+/temp", "#"}},
		{"sensors", sensorName, []string{"plant/3/line/0/sensor/3/#", "plant/3/line/4/#", "plant/+/line/+/sensor/403/#", "#"}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			names := make([]string, n)
			for i := range names {
				names[i] = kind.of(i)
			}
			before := heap()
			tree := NewTree[value]()
			start := time.Now()
			for _, i := range rand.Perm(n) {
				tree.Set(names[i], value{})
			}
			set := time.Since(start)
			b.Run("fill", func(b *testing.B) {
				for b.Loop() {
				}
				b.ReportMetric(float64(heap()-before)/n, "B/name")
				b.ReportMetric(float64(set.Nanoseconds())/n, "ns/set")
				b.ReportMetric(float64(len(tree.pages)), "pages")
			})
			b.Run("get", func(b *testing.B) {
				for b.Loop() {
					tree.Get(names[rand.IntN(n)])
				}
			})
			b.Run("churn", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					name := names[rand.IntN(n)]
					tree.Delete(name)
					tree.Set(name, value{})
				}
				b.ReportMetric(float64(heap()-before)/n, "B/name")
			})
			for _, filter := range kind.filters {
				b.Run(filter, func(b *testing.B) {
					found := 0
					for b.Loop() {
						found = 0
						tree.Match(filter, func(string, value) bool { found++; return true })
					}
					b.ReportMetric(float64(found), "found")
				})
			}
			runtime.KeepAlive(tree)
			runtime.KeepAlive(names)
		})
	}
}
