// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/mqtt"
)

func TestStampComesBack(t *testing.T) {
	want := stamp{run: 1, publisher: 2, seq: 1 << 40, sent: 5}
	b := make([]byte, StampSize+3)
	want.put(b)
	if got, ok := readStamp(b); !ok || got != want {
		t.Errorf("%+v, %t", got, ok)
	}
	short := make([]byte, StampSize-1)
	want.put(short)
	for _, b := range [][]byte{nil, short, make([]byte, 100), b[:StampSize-1]} {
		if _, ok := readStamp(b); ok {
			t.Errorf("% x has a stamp", b)
		}
	}
	if age := want.age(time.Unix(0, 3)); age != 0 {
		t.Errorf("a stamp of the future is %v old", age)
	}
}

func TestLedgerJudges(t *testing.T) {
	here := source{run: 1}
	for _, c := range []struct {
		name         string
		seen         []uint64
		shared, late bool
		expected     map[source]expectation
		want         Checks
	}{
		{"all", []uint64{0, 1, 2}, false, false, map[source]expectation{here: {sent: 3}}, Checks{}},
		{"a gap", []uint64{0, 2}, false, false, map[source]expectation{here: {sent: 3}}, Checks{Lost: 1}},
		{"the end is missing", []uint64{0, 1}, false, false, map[source]expectation{here: {sent: 4}}, Checks{Lost: 2}},
		{"the end is missing, and was refused", []uint64{0, 1}, false, false, map[source]expectation{here: {sent: 4, excuse: 2}}, Checks{}},
		{"nothing came", nil, false, false, map[source]expectation{here: {sent: 4}}, Checks{Lost: 4}},
		{"twice", []uint64{0, 1, 1, 2, 0}, false, false, map[source]expectation{here: {sent: 3}}, Checks{Duplicated: 2}},
		{"out of order", []uint64{0, 2, 1, 3}, false, false, map[source]expectation{here: {sent: 4}}, Checks{Reordered: 1}},
		{"shared, so in no order", []uint64{0, 2, 1, 3, 3}, true, true, nil, Checks{Duplicated: 1}},
		{"of a topic that it has not subscribed to", []uint64{0, 1}, false, false, map[source]expectation{}, Checks{Misrouted: 2}},
		{"late", []uint64{70, 71, 73}, false, true, nil, Checks{Lost: 1}},
		{"late, and older ones follow", []uint64{70, 69}, false, true, nil, Checks{Reordered: 1}},
	} {
		l := newLedger(c.shared, c.late)
		for _, seq := range c.seen {
			if _, ok := l.see(stamp{run: 1, seq: seq}, 1); !ok {
				t.Errorf("%s: no room", c.name)
			}
		}
		if got := l.judge(c.expected, 1); got != [3]Checks{1: c.want} {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestLedgerKeepsPublishersApart(t *testing.T) {
	l := newLedger(false, false)
	for seq := range uint64(5) {
		for p := range uint32(3) {
			l.see(stamp{publisher: p, seq: seq}, 1)
			l.see(stamp{publisher: p, run: 9, seq: seq}, 2)
		}
	}
	if got := l.judge(nil, 1); got != [3]Checks{} || len(l.tracks) != 6 {
		t.Errorf("%d publishers, %+v", len(l.tracks), got)
	}
}

func TestLatenciesAreExactToAThousandth(t *testing.T) {
	l := newLatencies()
	if l.sum() != nil {
		t.Error("figures of nothing")
	}
	for i := range 1000 {
		l.add(time.Duration(i+1) * time.Millisecond)
	}
	l.add(-time.Second)
	l.add(48 * time.Hour)
	s := l.sum()
	for _, c := range []struct{ got, want float64 }{{s.P50, 500}, {s.P90, 901}, {s.P99, 991}, {s.Max, 3600e3}, {s.Min, 0}} {
		if c.got < c.want*0.998-0.001 || c.got > c.want*1.002+0.001 {
			t.Errorf("%.3f ms, want %.3f", c.got, c.want)
		}
	}
	if s.Count != 1002 {
		t.Errorf("%d times", s.Count)
	}
}

func TestReportForPeopleAndPrograms(t *testing.T) {
	l := newLatencies()
	l.add(1500 * time.Microsecond)
	r := &Report{
		Mode: Pub, Server: "mqtt://h:1883", Engine: Epoll, Clients: 4, Connected: 3, Failed: 1, Elapsed: 2, Sent: 10, Acked: 9, Unacknowledged: 1,
		Received: 8, Checks: Checks{Lost: 2}, CPU: 1, Deliveries: l.sum(),
	}
	r.note(errors.New("refused"))
	r.judge([3]Checks{1: {Lost: 2}})
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 of 4 in", "2 lost", "p99.9", "1.500", "1 times: refused", "BROKEN: 2 messages above QoS 0 were lost", "BROKEN: 1 messages were not"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	var back map[string]any
	out, err := json.Marshal(r)
	if err != nil || json.Unmarshal(out, &back) != nil || back["lost"] != 2.0 || back["kept"] != false {
		t.Errorf("%s, %v", out, err)
	}
}

func TestReportBoundsItsErrors(t *testing.T) {
	var r Report
	for i := range 1000 {
		r.note(fmt.Errorf("error %d", i))
	}
	if len(r.Errors) != reasonsMost+1 || r.Errors["other"] != 1000-reasonsMost {
		t.Errorf("%d errors, %d other ones", len(r.Errors), r.Errors["other"])
	}
}

func TestPlaceholders(t *testing.T) {
	o := Defaults(Pub)
	o.Server, o.Topic, o.Username, o.Prefix, o.First, o.Count = &url.URL{}, "a/%i/%c/%u", "user%i", "p-", 10, 2
	r := newRun(o)
	if got, want := r.pubs[1].topic, "a/12/p-12/user12"; got != want {
		t.Errorf("topic %q, want %q", got, want)
	}
	o.Prefix = ""
	if a, b := newRun(o), newRun(o); a.clients[0].id == b.clients[0].id {
		t.Errorf("two runs have the client identifier %s", a.clients[0].id)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"no client":      func(o *Options) { o.Count = 0 },
		"no end":         func(o *Options) { o.Time = 0 },
		"no topic":       func(o *Options) { o.Topic = "" },
		"a wildcard":     func(o *Options) { o.Topic = "a/+" },
		"QoS 3":          func(o *Options) { o.QoS = 3 },
		"no window":      func(o *Options) { o.Window = 0 },
		"a huge window":  func(o *Options) { o.Window = 65536 },
		"a huge payload": func(o *Options) { o.Size = mqtt.MaxRemaining },
		"backwards":      func(o *Options) { o.Interval = -1 },
		"no user":        func(o *Options) { o.Version, o.Password = mqtt.V311, []byte("x") },
	} {
		o := Defaults(Pub)
		o.Topic = "a"
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
		if spoil(&o); o.Check() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
