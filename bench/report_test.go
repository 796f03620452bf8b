// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/internal/load"
)

func TestReportComparesWithinRounds(t *testing.T) {
	r := report{
		Peers:     []described{{Name: "noctule"}, {Name: reference}},
		scenarios: []scenario{{name: "p2p-q0"}, {name: "idle", idle: true}, {name: "kept", steps: durablePairs}},
	}
	for round, f := range []float64{1, 2, 4} {
		r.Runs = append(r.Runs,
			run{Scenario: "p2p-q0", Peer: "noctule", Round: round, CPUPerMsg: f, Outcome: &load.Outcome{Lost: 1}},
			run{Scenario: "p2p-q0", Peer: reference, Round: round, CPUPerMsg: 4 * f, Outcome: &load.Outcome{}},
			run{Scenario: "idle", Peer: "noctule", Round: round, Err: "gone"},
			run{Scenario: "idle", Peer: reference, Round: round, Idle: []idleStep{{5000, 800, 20}, {10000, 700, 21}}},
			run{Scenario: "kept", Peer: "noctule", Round: round, Figures: []figure{{"msg/s", 1000 * f, true}, {"lost", 0, false}}},
			run{Scenario: "kept", Peer: reference, Round: round, Figures: []figure{{"msg/s", 500 * f, true}}})
	}
	r.Runs[1].Err = "gone" // the first round of the reference
	page := r.markdown()
	for _, want := range []string{
		"| p2p-q0 | noctule L3 | 2.00 (1.00...4.00) | 0.25 (0.25...0.25) |",
		"| p2p-q0 | mosquitto F1 | 12.00 (8.00...16.00) | 1.00 (1.00...1.00) |",
		"| idle | 10000 | noctule F3 | - | - | - | - |",
		"| | noctule | mosquitto |\n|---|---|---|\n| msg/s | 2000 (1000...4000) | 1000 (500...2000) |\n| *noctule to it* | 1.00 | 2.00 |\n| lost | 0 | - |\n",
		"| idle | 10000 | mosquitto | 700 (700...700) | 1.00 (1.00...1.00) | 21.0 (21.0...21.0) |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestChooseNamesWhatThereIs(t *testing.T) {
	all := []scenario{{name: "a"}, {name: "b"}}
	name := func(s scenario) string { return s.name }
	got, err := choose(all, "b,a", name)
	if err != nil || len(got) != 2 || got[0].name != "b" {
		t.Errorf("chosen %v, %v", got, err)
	}
	if _, err := choose(all, "a,c", name); err == nil || !strings.Contains(err.Error(), `"c" is none of a, b`) {
		t.Errorf("unknown name: %v", err)
	}
}

func TestFiguresOfAProcess(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := process{cmd: &exec.Cmd{Process: self}}
	before, err := p.cpu()
	if err != nil {
		t.Fatal(err)
	}
	for ownCPU() < before+10*time.Millisecond {
	}
	after, err := p.cpu()
	if err != nil || after-before < 5*time.Millisecond {
		t.Errorf("after 10 ms of work the clock went from %v to %v, %v", before, after, err)
	}
	now, peak, err := p.memory()
	if err != nil || now < 1<<20 || peak < now {
		t.Errorf("memory is %d, at its peak %d, %v", now, peak, err)
	}
}

func TestEachScenarioHasItsBrokers(t *testing.T) {
	o, err := parse([]string{"-only", "p2p-q1,drain"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"noctule,mosquitto,mochi,nats,relay", "noctule,noctule-interval,mosquitto-persist,mochi-pebble"} {
		var names []string
		for _, p := range o.peersOf(&o.scenarios[i]) {
			names = append(names, p.name)
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%s is for %s, want %s", o.scenarios[i].name, got, want)
		}
	}
	if o, err = parse([]string{"-only", "drain", "-peers", "embed", "-full", "-sessions", "7"}); err != nil {
		t.Fatal(err)
	}
	if got := o.peersOf(&o.scenarios[0]); len(got) != 1 || got[0].name != "embed" {
		t.Errorf("%d brokers for a command line that names one", len(got))
	}
	if o.messages != fullMessages || o.sessions != 7 {
		t.Errorf("%d messages and %d sessions", o.messages, o.sessions)
	}
}

// The relay is built, carries every scenario that it is for, and loses nothing.
func TestRelayCarriesItsScenarios(t *testing.T) {
	o, err := parse([]string{"-peers", relay})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := o.prepare(t.Context(), dir); errors.Is(err, errNothing) {
		t.Skip("there is no C compiler")
	} else if err != nil {
		t.Fatal(err)
	}
	o.measured = 50 * time.Millisecond
	for i := range scenarios {
		if !slices.Contains(scenarios[i].peers, relay) {
			continue
		}
		s := scenarios[i]
		r, err := s.measure(t.Context(), &o.peers[0], launch{name: s.name, dir: dir}, &o)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if out := r.Outcome; out.Delivered == 0 || out.Lost+out.Duplicated+out.Reordered != 0 || out.Stalls != 0 {
			t.Errorf("%s: %+v", s.name, out)
		}
	}
}

func TestWithoutACompilerTheRelayIsLeftOut(t *testing.T) {
	o, err := parse([]string{"-peers", relay})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := o.prepare(t.Context(), t.TempDir()); !errors.Is(err, errNothing) || len(o.peers) != 1 {
		t.Errorf("%v, %d peers", err, len(o.peers))
	}
}

func TestFanFiltersAreDistinct(t *testing.T) {
	seen := make(map[string]bool)
	for i := range fanSessions {
		f := fanFilter(i)
		if seen[f] || strings.Count(f, "/") != fanLevels {
			t.Fatalf("filter %d is %q", i, f)
		}
		seen[f] = true
	}
}

func TestReportNamesNoPlaces(t *testing.T) {
	args := strings.Fields("-rounds 3 -md /tmp/x.md -only p2p-q0 --json=/tmp/x.json -stalls /tmp/s -messages 5 -dir /d")
	if got := strings.Join(placeless(args), " "); got != "-rounds 3 -only p2p-q0 -messages 5" {
		t.Errorf("left is %q", got)
	}
	if got := placeless([]string{"-md"}); len(got) != 0 {
		t.Errorf("left is %q", got)
	}
}
