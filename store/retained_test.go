// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/noctule/noctule/mqtt"
)

func sensorTopic(i int) string {
	return fmt.Sprintf("plant/%d/line/%d/sensor/%d/temperature", i%100, i/100%8, i)
}

// retainedRows are rows of n retained messages, as a machine of 16 groups writes them.
func retainedRows(n int, expiry func(i int) int64) *sortedRows {
	rows := &sortedRows{}
	m := newMachine(rows, memoryBodies{}, Limits{}, 16)
	for i := range n {
		name := sensorTopic(i)
		v := appendUint([]byte{rowVersion}, uint64(i+1))
		v = appendInt(appendInt(v, 140), expiry(i))
		rows.Set(m.keys.name(m.topicGroup(name), kindRetained, name), v)
	}
	m.flush()
	return rows
}

func noBound(int) int64 { return 0 }

// sometime is an expiry within a day, with nanoseconds.
func sometime(int) int64 { return time.Unix(1.8e9, 0).UnixNano() + rand.Int64N(24*3600*1e9) }

func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A machine that is loaded has little in memory for each retained message; what is in rows and bodies is not counted.
func TestRetainedMessagesAreSmall(t *testing.T) {
	const n = 100_000
	for name, want := range map[string]struct {
		expiry func(int) int64
		bytes  int64
	}{"without expiry": {noBound, 55}, "with expiry": {sometime, 120}} {
		rows := retainedRows(n, want.expiry)
		before := heapBytes()
		m := newMachine(rows, memoryBodies{}, Limits{}, 16)
		if err := m.load(); err != nil || m.retained.Len() != n {
			t.Fatal(m.retained.Len(), err)
		}
		each := (heapBytes() - before) / n
		t.Logf("%s: %d bytes each", name, each)
		if each > want.bytes {
			t.Errorf("%s: %d bytes for a retained message, want at most %d", name, each, want.bytes)
		}
		runtime.KeepAlive(m)
		runtime.KeepAlive(rows)
	}
}

// Expiries against a slice that is sorted.
func TestExpiriesAgainstSlice(t *testing.T) {
	type item struct {
		due  int64
		name string
	}
	r := rand.New(rand.NewPCG(1, 2))
	times := []int64{1, 2, 127, 128, 0x2F, 0x2F << 7, 1 << 40, math.MaxInt64}
	m := testMachine(Limits{})
	var want []item
	for range 20_000 {
		x := item{times[r.IntN(len(times))] - int64(r.IntN(2)), someTopics[r.IntN(len(someTopics))]}
		at := slices.Index(want, x)
		switch {
		case at >= 0:
			m.expiries.remove(x.due, x.name)
			want = slices.Delete(want, at, at+1)
		case r.IntN(2) == 0:
			if m.expiries.add(x.due, x.name); x.due != 0 {
				want = append(want, x)
			}
		}
		var first item
		if len(want) > 0 {
			first = slices.MinFunc(want, func(a, b item) int {
				return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.name, b.name))
			})
		}
		if due, name := m.expiries.next(); due != first.due || name != first.name || m.expiries.first != due {
			t.Fatalf("next is %d %q, first %d, want %+v", due, name, m.expiries.first, first)
		}
	}
}

// An expiry is that of the message that is retained now, whatever came before it; it ends one nanosecond after its time.
func TestRetainedExpiry(t *testing.T) {
	m := testMachine(Limits{})
	publish := func(name, payload string, expiry int64) {
		m.apply(m.applied+2, &Publish{Message: &mqtt.Message{Topic: name, Payload: []byte(payload), Retain: true, Expiry: expiry}})
	}
	left := func(now, due int64, want ...string) {
		t.Helper()
		m.apply(m.applied+2, &Tick{Now: now})
		var got []string
		m.retained.Match("#", func(name string, _ retained) bool { got = append(got, name); return true })
		if !slices.Equal(got, want) || m.nextDue() != due {
			t.Errorf("at %d: %q, next at %d, want %q, %d", now, got, m.nextDue(), want, due)
		}
	}
	publish("a", "1", 100)
	publish("a", "2", 300)
	publish("b", "1", 200)
	publish("b", "2", 0)
	publish("c", "1", 150)
	publish("c", "", 150)
	publish("d", "1", math.MaxInt64)
	publish("e", "1", -5)
	left(0, 1, "a", "b", "d", "e")
	left(1, 301, "a", "b", "d")
	left(300, 301, "a", "b", "d")
	left(301, 0, "b", "d")
	if err := m.inconsistency(); err != nil || m.stats.Expired != 2 {
		t.Error(m.stats.Expired, err)
	}
}

// A Tick takes sessions and retained messages in order of their times, and no more than MaxDue.
func TestTickTakesEarliestFirst(t *testing.T) {
	m := testMachine(Limits{})
	for i := range 3 {
		c := &Claim{ClientID: fmt.Sprint("c", i), Expiry: 60}
		m.apply(m.applied+2, c)
		m.apply(m.applied+2, &Detach{Owner: c.Owner, Expiry: 60, Now: int64(i) * 1e9})
	}
	for i := range MaxDue {
		msg := &mqtt.Message{Topic: fmt.Sprintf("%04d", i), Payload: []byte("x"), Retain: true, Expiry: 61e9 - 1}
		m.apply(m.applied+2, &Publish{Message: msg})
	}
	tick := &Tick{Now: 61e9}
	m.apply(m.applied+2, tick)
	if !tick.More || len(tick.Ended) != 2 || m.retained.Len() != 2 { // the session that ends with the messages goes first
		t.Errorf("more: %v, %d sessions ended, %d messages left", tick.More, len(tick.Ended), m.retained.Len())
	}
	if name, _, _ := m.retained.First(); name != fmt.Sprintf("%04d", MaxDue-2) {
		t.Errorf("%q is left first", name)
	}
	m.apply(m.applied+2, tick)
	if tick.More || m.retained.Len() != 0 || m.nextDue() != 62e9 {
		t.Errorf("more: %v, %d messages left, next at %d", tick.More, m.retained.Len(), m.nextDue())
	}
}

// A page is as large as it was asked for, in however many steps it is read.
func TestRetainedPageSizes(t *testing.T) {
	m := testMachine(Limits{})
	for i := range 100 {
		msg := &mqtt.Message{Topic: fmt.Sprintf("%03d", i), Payload: make([]byte, 10), Retain: true}
		if i%10 == 9 {
			msg.Expiry = 5 // these have expired, and no Tick came yet
		}
		m.apply(m.applied+2, &Publish{Message: msg})
	}
	e := &engine{machine: m}
	for _, page := range []struct {
		after           string
		most, mostBytes int
		n               int
		last            string
		more            bool
	}{
		{"", 40, 1 << 20, 40, "043", true},
		{"043", 40, 1 << 20, 40, "087", true},
		{"087", 40, 1 << 20, 10, "098", false},
		{"", 1000, 1 << 20, 90, "098", false},
		{"", 1000, 250, 25, "026", true},
		{"", 1000, 1, 1, "000", true}, // one at least
		{"098", 1000, 1 << 20, 0, "", false},
	} {
		got, more, err := e.RetainedPage("#", page.after, page.most, page.mostBytes, 6, nil)
		last := ""
		if len(got) > 0 {
			last = got[len(got)-1].Topic
		}
		if err != nil || len(got) != page.n || last != page.last || more != page.more {
			t.Errorf("%+v: %d messages up to %q, more: %v, %v", page, len(got), last, more, err)
		}
	}
}

// A row that is not one of ours is refused.
func TestDecodeRetained(t *testing.T) {
	row := func(size int64) []byte { return appendInt(appendInt(appendUint([]byte{rowVersion}, 7), size), 9) }
	want := retained{position: 7, expiry: 9, size: math.MaxUint32, group: 3}
	if r, err := decodeRetained(3, row(math.MaxUint32)); r != want || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	good := row(1)
	for _, bad := range [][]byte{row(-1), row(math.MaxUint32 + 1), good[:len(good)-1], append(good[:len(good):len(good)], 0), nil} {
		if r, err := decodeRetained(3, bad); err == nil {
			t.Errorf("%x is decoded as %+v", bad, r)
		}
	}
}

// One op is the load of a million rows; a row is 60 bytes.
func BenchmarkLoadRetained(b *testing.B) {
	const n = 1_000_000
	for _, kind := range []struct {
		name   string
		expiry func(int) int64
	}{{"plain", noBound}, {"expiring", sometime}} {
		b.Run(kind.name, func(b *testing.B) {
			rows := retainedRows(n, kind.expiry)
			before := heapBytes()
			var m *machine
			for b.Loop() {
				m = newMachine(rows, memoryBodies{}, Limits{}, 16)
				if err := m.load(); err != nil || m.retained.Len() != n {
					b.Fatal(m.retained.Len(), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/message")
			b.ReportMetric(float64(heapBytes()-before)/n, "B/message")
			runtime.KeepAlive(rows)
			runtime.KeepAlive(m)
		})
	}
}
