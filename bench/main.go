// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures MQTT brokers end to end: Noctule, mosquitto, mochi-mqtt and NATS, each as its own process on a free
// loopback port, under the loads of package load.
//
// What it reports is processor time of the broker (user and system, by the kernel's nanosecond clock of the
// process) for each delivered message, because that hardly depends on what else the machine does; and ratios to the reference peer within the same round, because
// brokers are measured in turn. Throughput is that of broker and generator on the same cores.
//
// The main goroutine runs everything; brokers are child processes, ended by their id and never left behind.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
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
	latency   time.Duration // measured time of loads whose latencies count
	settle    time.Duration // how long a broker is left alone before its memory is read, once it has much
	peers     []peer
	named     bool // the command line names the peers: all scenarios are for them
	scenarios []scenario
	json, md  string
	profile   string
	stalls    string // directory for what is known of stalls
	dir       string // parent of the brokers' files
	syncs     bool

	certificate *certificate // of brokers that speak TLS

	// Sizes of the scenarios that keep messages.
	messages, sessions uint64
	retained           uint64        // of retained-memory
	within             time.Duration // of each step
}

// Sizes of the scenarios that keep messages.
const (
	quickMessages, fullMessages = 100_000, 1_000_000
	quickSessions, fullSessions = 10_000, 100_000
)

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
	names := flags.String("peers", "", "comma-separated `brokers` for all scenarios, instead of those that each is for; embed is Noctule without its program")
	json := flags.String("json", "", "`file` for all figures")
	md := flags.String("md", "", "`file` for the tables")
	profile := flags.String("profile", "", "`directory` for profiles of the broker embed")
	stalls := flags.String("stalls", "", "`directory` for the sockets and stacks of a Noctule from which nothing comes for half a second; it ends then")
	procs := flags.String("procs", "", "comma-separated `numbers`: measure Noctule with each of them as GOMAXPROCS, instead of as it is")
	dir := flags.String("dir", "", "`directory` for the brokers' files; where temporary files go, or /var/tmp if that is no disk, if empty")
	full := flags.Bool("full", false, fmt.Sprintf("let scenarios that keep messages keep %d, and %d sessions, instead of a tenth", fullMessages, fullSessions))
	messages := flags.Uint64("messages", 0, "`number` of messages that they keep; 0 is as -full says")
	sessions := flags.Uint64("sessions", 0, "`number` of sessions; 0 is as -full says")
	within := flags.Duration("within", 2*time.Minute, "`time` after which each of their steps is cut short")
	syncs := flags.Bool("syncs", false, "count synchronisations of files in durable-q1, under strace: the other figures are worse for it")
	flags.Parse(args) // exits on a mistake
	if flags.NArg() > 0 || *rounds < 1 || *seconds <= 0 || *within <= 0 {
		return options{}, fmt.Errorf("rounds and times must be positive, and nothing may follow the options")
	}
	o := options{
		rounds: *rounds, measured: time.Duration(*seconds * float64(time.Second)), json: *json, md: *md, dir: *dir, syncs: *syncs,
		messages: pick(*messages, *full, quickMessages, fullMessages), sessions: pick(*sessions, *full, quickSessions, fullSessions), within: *within,
	}
	o.latency, o.settle, o.retained = max(o.measured, latencyMeasured), settleFull, max(o.messages, fullMessages)
	var err error
	if *profile != "" {
		if o.profile, err = filepath.Abs(*profile); err != nil {
			return options{}, err
		}
	}
	if *stalls != "" {
		if o.stalls, err = filepath.Abs(*stalls); err != nil {
			return options{}, err
		}
	}
	o.scenarios = scenarios
	if *only != "" {
		if o.scenarios, err = choose(scenarios, *only, func(s scenario) string { return s.name }); err != nil {
			return options{}, err
		}
	}
	o.named = *names != ""
	if !o.named {
		*names = strings.Join(needed(o.scenarios), ",")
	}
	if o.peers, err = choose(peers, *names, func(p peer) string { return p.name }); err != nil {
		return options{}, err
	}
	if *procs != "" {
		o.peers, err = vary(o.peers, *procs)
	}
	return o, err
}

// vary puts variants with these GOMAXPROCS, separated by commas, in the place of each Noctule.
func vary(all []peer, procs string) (varied []peer, err error) {
	for _, p := range all {
		if !p.ours() {
			varied = append(varied, p)
			continue
		}
		for n := range strings.SplitSeq(procs, ",") {
			if i, err := strconv.Atoi(n); err != nil || i < 1 {
				return nil, fmt.Errorf("-procs %s: %q is no number of processors", procs, n)
			}
			varied = append(varied, p.withProcs(n))
		}
	}
	return varied, nil
}

// pick is n, or if that is nothing the default.
func pick(n uint64, full bool, small, large uint64) uint64 {
	switch {
	case n > 0:
		return n
	case full:
		return large
	}
	return small
}

// needed are the brokers that scenarios are for, each once.
func needed(scenarios []scenario) (names []string) {
	for i := range scenarios {
		for _, name := range scenarios[i].brokers() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// peersOf are the brokers that take their turns at a scenario.
func (o *options) peersOf(s *scenario) (chosen []*peer) {
	for i := range o.peers {
		if o.named || slices.Contains(s.brokers(), cmp.Or(o.peers[i].like, o.peers[i].name)) {
			chosen = append(chosen, &o.peers[i])
		}
	}
	return chosen
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

// errNothing says that no peer could be built.
var errNothing = errors.New("there is nothing to be measured")

// prepare builds the brokers. The relay, which needs a C compiler, is left out where there is none.
func (o *options) prepare(ctx context.Context, dir string) error {
	var ready []peer
	for _, p := range o.peers {
		err := p.prepare(ctx, dir)
		if errors.Is(err, exec.ErrNotFound) && p.name == relay {
			fmt.Fprintf(os.Stderr, "bench: THE RELAY IS LEFT OUT, it needs a C compiler: %v\n", err)
			continue
		}
		if err != nil {
			return err
		}
		ready = append(ready, p)
	}
	if len(ready) == 0 {
		return errNothing
	}
	o.peers = ready
	return nil
}

// bench builds the brokers, runs everything and writes the report; an interrupted one too, as far as it came.
func bench(ctx context.Context, o options) error {
	dir, err := dataDir(o.dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.stalls != "" {
		if err := os.MkdirAll(o.stalls, 0o755); err != nil {
			return err
		}
	}
	if err := o.prepare(ctx, dir); err != nil {
		return err
	}
	if o.certificate, err = makeCertificate(dir); err != nil {
		return err
	}
	r := newReport(o)
	if r.Machine.Disk, err = describeDisk(dir); err != nil {
		return err
	}
	failed := r.fill(ctx, o, dir)
	r.print(os.Stdout)
	if err := r.save(o); err != nil {
		return err
	}
	return failed
}
