// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every scenario with steps of its own comes to its end with Noctule, tells what it is for, and nothing gets lost.
func TestScenariosComeToTheirEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Noctule and runs it many times")
	}
	o, err := parse([]string{"-peers", ourselves, "-messages", "500", "-sessions", "20", "-within", "20s"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := o.prepare(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if o.certificate, err = makeCertificate(dir); err != nil {
		t.Fatal(err)
	}
	o.measured, o.latency, o.settle, o.retained = 50*time.Millisecond, 200*time.Millisecond, 10*time.Millisecond, 700
	for name, figures := range map[string][]string{
		"tls-p2p-q0":       nil,
		"share-q1":         nil,
		"open-q1":          {"CPU us/msg", "deliver p99.9 us"},
		"lat30-q0":         {"most msg/s", "30 % p99 us", "same rate p99.9 us"},
		"slow-consumer-q1": {"alone p50 us", "beside one that reads p99 us", "beside a deaf one RSS peak grows MiB", "beside a deaf one stream msg/s"},
		"route-1m":         {"RSS B/filter", "filters/s", "CPU us/msg"},
		"retained-hash":    {"messages", "QoS 0 CPU us/msg", "QoS 1 msg/s"},
		"retained-memory":  {"messages", "RSS B/msg", "files B/msg"},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenarios[slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })]
			if s.plan.Filters > 0 {
				s.plan.Filters = 4000
			}
			l := launch{name: s.name, dir: dir}
			if s.secure {
				l.secure = o.certificate
			}
			r, err := s.measure(t.Context(), &o.peers[0], l, &o)
			if err != nil {
				t.Fatal(err)
			}
			if out := r.Outcome; out != nil && (out.Lost+out.Duplicated+out.Reordered+out.Unsent != 0 || s.steps == nil && out.Delivered == 0) {
				t.Errorf("outcome %+v", out)
			}
			for _, want := range figures {
				v, ok := figureNamed(want)(&r)
				if !ok || math.IsNaN(v) || v < 0 && !strings.HasPrefix(want, "RSS") {
					t.Errorf("%s is %v", want, v)
				}
			}
			for _, f := range r.Figures {
				if strings.HasSuffix(f.Name, "lost") && f.Value != 0 {
					t.Errorf("%s is %v", f.Name, f.Value)
				}
			}
		})
	}
}

func TestProcsMakeVariantsOfOurs(t *testing.T) {
	o, err := parse([]string{"-only", "p2p-q0,open-q1", "-peers", "noctule,mosquitto,embed", "-procs", "1,2"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range o.peers {
		names = append(names, p.name)
	}
	if got := strings.Join(names, " "); got != "noctule@1 noctule@2 mosquitto embed@1 embed@2" {
		t.Errorf("peers are %s", got)
	}
	if got := o.peers[1]; !slices.Contains(got.env, "GOMAXPROCS=2") || !strings.HasSuffix(got.settings, "GOMAXPROCS=2") {
		t.Errorf("noctule@2 is %+v", got)
	}
	if slices.Contains(o.peers[0].env, "GOMAXPROCS=2") {
		t.Error("variants share their environment")
	}
	if o, err = parse([]string{"-only", "p2p-q0", "-procs", "1"}); err != nil {
		t.Fatal(err)
	}
	if got := o.peersOf(&o.scenarios[0])[0].name; got != "noctule@1" {
		t.Errorf("the first broker of p2p-q0 is %s", got)
	}
	for _, wrong := range []string{"0", "1,", "two"} {
		if _, err := parse([]string{"-procs", wrong}); err == nil {
			t.Errorf("-procs %s is taken", wrong)
		}
	}
}

// What is stopped for a stall leaves its sockets and stacks behind.
func TestStalledBrokerIsExamined(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Noctule")
	}
	o, err := parse([]string{"-peers", "embed"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := o.prepare(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	said := dir + "/said.txt"
	pr, err := start(t.Context(), &o.peers[0], launch{dir: dir, name: "x", said: said})
	if err != nil {
		t.Fatal(err)
	}
	pr.examine()
	select {
	case <-pr.ended:
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
	pr.stop()
	text := read(t, said)
	for _, want := range []string{"stalled at 2", "\ngoroutine 1 "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%.2000s", want, text)
		}
	}
}

// Each peer is told of TLS in its own way.
func TestPeersAreToldOfTLS(t *testing.T) {
	for name, want := range map[string]string{
		"mosquitto":         "certfile C\nkeyfile K\n",
		"mosquitto-persist": "certfile C\nkeyfile K\n",
		"noctule":           `tls: {cert: "C", key: "K"}`,
		"mochi":             "-cert C -key K",
	} {
		p := peers[slices.IndexFunc(peers, func(p peer) bool { return p.name == name })]
		args, err := p.args(launch{dir: t.TempDir(), port: 1234, secure: &certificate{cert: "C", key: "K"}})
		if err != nil {
			t.Fatal(err)
		}
		told := strings.Join(args, " ")
		if last := args[len(args)-1]; strings.HasPrefix(last, "/") {
			told = read(t, last)
		}
		if !strings.Contains(told, want) || !strings.Contains(told, "127.0.0.1") || strings.Count(told, "user root") > 1 {
			t.Errorf("%s is told %s", name, told)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
