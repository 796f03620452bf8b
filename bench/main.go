// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures MQTT brokers end to end: Noctule, mosquitto and mochi-mqtt, each as its own process on a free
// loopback port, under the loads of package load.
//
// What it reports is processor time of the broker (user and system, by the kernel's nanosecond clock of the
// process) for each delivered message, because that hardly depends on what else the machine does; and ratios to the reference peer within the same round, because
// brokers are measured in turn. Throughput is that of broker and generator on the same cores.
//
// The main goroutine runs everything; brokers are child processes, ended by their id and never left behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// reference is the peer to which the others are compared.
const reference = "mosquitto"

// options are what the command line says.
type options struct {
	rounds    int
	measured  time.Duration
	peers     []peer
	scenarios []scenario
	json, md  string
	profile   string
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = bench(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string) (options, error) {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	rounds := flags.Int("rounds", 5, "how often each broker runs each scenario")
	seconds := flags.Float64("seconds", 2, "measured `time` of a run")
	only := flags.String("only", "", "comma-separated `scenarios`; all if empty")
	names := flags.String("peers", "noctule,mosquitto,mochi", "comma-separated `brokers`; embed is Noctule without its program")
	json := flags.String("json", "", "`file` for all figures")
	md := flags.String("md", "", "`file` for the tables")
	profile := flags.String("profile", "", "`directory` for profiles of the broker embed")
	flags.Parse(args) // exits on a mistake
	if flags.NArg() > 0 || *rounds < 1 || *seconds <= 0 {
		return options{}, fmt.Errorf("rounds and seconds must be positive, and nothing may follow the options")
	}
	o := options{rounds: *rounds, measured: time.Duration(*seconds * float64(time.Second)), json: *json, md: *md}
	var err error
	if *profile != "" {
		if o.profile, err = filepath.Abs(*profile); err != nil {
			return options{}, err
		}
	}
	if o.peers, err = choose(peers, *names, func(p peer) string { return p.name }); err != nil {
		return options{}, err
	}
	if *only == "" {
		o.scenarios = scenarios
		return o, nil
	}
	o.scenarios, err = choose(scenarios, *only, func(s scenario) string { return s.name })
	return o, err
}

// choose picks from all by comma-separated names.
func choose[T any](all []T, names string, name func(T) string) (chosen []T, err error) {
next:
	for want := range strings.SplitSeq(names, ",") {
		var known []string
		for _, t := range all {
			if name(t) == want {
				chosen = append(chosen, t)
				continue next
			}
			known = append(known, name(t))
		}
		return nil, fmt.Errorf("%q is none of %s", want, strings.Join(known, ", "))
	}
	return chosen, nil
}

// bench builds the brokers, runs everything and writes the report; an interrupted one too, as far as it came.
func bench(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i := range o.peers {
		if err := o.peers[i].prepare(ctx, dir); err != nil {
			return err
		}
	}
	r := newReport(o)
	failed := r.fill(ctx, o, dir)
	r.print(os.Stdout)
	if err := r.save(o); err != nil {
		return err
	}
	return failed
}
