// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/verify"
)

func init() { verbs = append(verbs, verifyCommand) }

// Exit codes of verify; the command line is wrong with exitUsage.
const (
	exitBroken    = 1 // a promise was broken
	exitUnjudged  = 3 // it could not run
	verifySignals = 2 // the first ends the rounds, the second everything
)

// verifyFlags are what verify takes beside the options that it fills in itself.
type verifyFlags struct {
	verify.Options
	signal, protocol string
	keep, brokerLog  string
	json, quiet      bool
}

func (f *verifyFlags) add(cmd *cobra.Command) {
	f.Options = verify.Defaults()
	fs := cmd.Flags()
	fs.SetInterspersed(false) // the broker's flags are its own
	fs.StringVar(&f.URL, "url", f.URL, "where the broker listens: mqtt://[`USER:PASSWORD@]HOST:PORT`")
	fs.IntVar(&f.Rounds, "rounds", f.Rounds, "kill the broker `N` times")
	fs.DurationVar(&f.Time, "time", f.Time, "begin no round after `TIME`; 0 is no limit")
	fs.Uint64Var(&f.Seed, "seed", 0, "`number` that decides what is left to chance; without it a new one, which is printed")
	fs.StringVar(&f.signal, "kill", string(verify.Kill), "`signal`: KILL, or TERM to try an orderly stop")
	fs.DurationVar(&f.RestartTimeout, "restart-timeout", f.RestartTimeout, "how long the broker may take to let every client in")
	fs.DurationVar(&f.Quiet, "quiet-time", f.Quiet, "at the end, how long nothing may come before what is missing counts as lost")
	fs.DurationVar(&f.Tolerance, "tolerance", f.Tolerance, "how exact expiry and will delay have to be")
	fs.StringVar(&f.protocol, "protocol", "both", "`version`: 3.1.1, 5 or both")
	fs.IntVar(&f.Publishers, "publishers", f.Publishers, "`N` publishers of each version")
	fs.IntVar(&f.Rate, "rate", f.Rate, "`N` messages a second, all publishers together")
	fs.IntVar(&f.MaxPayload, "max-payload", f.MaxPayload, "largest payload in `bytes`; one message in a hundred is up to that")
	fs.StringVar(&f.keep, "keep", "", "write what happened to `file`, a line for each packet of weight")
	fs.StringVar(&f.brokerLog, "broker-log", "", "write what the broker prints to `file`")
	fs.BoolVar(&f.json, "json", false, "print the report as JSON")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "do not tell the progress")
}

func verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [flags] -- COMMAND [ARGUMENT...]",
		Short: "Prove a broker's durability by killing it",
		Long: `Start a broker with COMMAND, let clients of every kind work with it, kill it (its whole process group) at a
random instant, start it again, and go on; at the end compare what came back with what was acknowledged.
Any broker for MQTT 3.1.1 or 5.0 will do that stays in the foreground and keeps its data. Give it a data
directory of its own and no limits on queues: docs/verify.md has the configuration.

The first SIGINT ends the rounds and judges; the second ends everything.

Exit codes: 0 all promises were kept, 1 one was broken, 2 the command line is wrong, 3 it could not run.`,
		Example: `  noctule verify -- noctule run --data /tmp/verify --listen 127.0.0.1:1884 --admin off
  noctule verify --rounds 100 --time 10m --protocol 5 -- mosquitto -c mosquitto.conf`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(cmd, args); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			return f.run(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.add(cmd)
	return cmd
}

// complete turns flags into options.
func (f *verifyFlags) complete(cmd *cobra.Command, args []string) error {
	f.Command = args
	f.Signal = verify.Signal(strings.TrimPrefix(strings.ToUpper(f.signal), "SIG"))
	switch f.protocol {
	case "3.1.1":
		f.Protocols = []mqtt.Version{mqtt.V311}
	case "5", "5.0":
		f.Protocols = []mqtt.Version{mqtt.V5}
	case "both":
	default:
		return fmt.Errorf("--protocol has to be 3.1.1, 5 or both, not %q", f.protocol)
	}
	if !cmd.Flags().Changed("seed") {
		f.Seed = rand.Uint64N(1e9)
	}
	return f.Check()
}

// run verifies and prints.
func (f *verifyFlags) run(out, words io.Writer) (err error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	finish := make(chan struct{})
	f.Finish = finish
	defer catch(stop, finish)()
	for _, file := range []struct {
		name string
		w    *io.Writer
	}{{f.keep, &f.Ledger}, {f.brokerLog, &f.Output}} {
		if file.name == "" {
			continue
		}
		w, err := os.Create(file.name)
		if err != nil {
			return &exit{code: exitUnjudged, err: err}
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		*file.w = w
	}
	if !f.quiet {
		fmt.Fprintln(words, "seed", f.Seed)
		f.Progress = progressLine(words, isTerminal(os.Stderr))
	}
	rep, err := verify.Run(ctx, f.Options)
	if err != nil {
		return &exit{code: exitUnjudged, err: err}
	}
	if f.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(rep)
	} else {
		err = rep.Write(out)
	}
	switch {
	case err != nil:
		return &exit{code: exitUnjudged, err: err}
	case !rep.Kept:
		return &exit{code: exitBroken}
	}
	return nil
}

// catch lets the first signal close finish and the second one call stop. The function that it returns ends that.
func catch(stop func(), finish chan struct{}) func() {
	signals, done := make(chan os.Signal, verifySignals), make(chan struct{})
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		for n := 1; ; n++ {
			select {
			case <-signals:
			case <-done:
				return
			}
			if n == 1 {
				close(finish)
			} else {
				stop()
			}
		}
	}()
	return func() { signal.Stop(signals); close(done) }
}

// progressLine writes one line again and again on a terminal, elsewhere a line for each round and phase.
func progressLine(w io.Writer, terminal bool) func(verify.Progress) {
	last := ""
	return func(p verify.Progress) {
		step := fmt.Sprintf("round %d of %d, %s", p.Round, p.Rounds, p.Phase)
		line := fmt.Sprintf("%s: %d acknowledged, %d received, %d violations", step, p.Totals.Acknowledged, p.Totals.Received, p.Violations)
		switch {
		case terminal:
			fmt.Fprintf(w, "\r%s\x1b[K", line)
		case step != last:
			fmt.Fprintln(w, line)
		}
		last = step
	}
}
