// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// report is everything that a call of the program has found out.
type report struct {
	Started time.Time
	Command string
	Machine machine
	Peers   []described
	Runs    []run

	scenarios []scenario
}

// described is a peer as the report names it.
type described struct {
	Name, Version, Settings string
}

func newReport(o options) *report {
	r := &report{Started: time.Now().UTC(), Command: "go run . " + strings.Join(placeless(os.Args[1:]), " "), Machine: thisMachine(), scenarios: o.scenarios}
	for _, p := range o.peers {
		r.Peers = append(r.Peers, described{p.name, p.described, p.settings})
	}
	return r
}

// placeless are arguments without those that only say where files go, which nobody else has.
func placeless(args []string) (left []string) {
	for i := 0; i < len(args); i++ {
		name, _, whole := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch name {
		case "md", "json", "dir", "profile", "stalls":
			if !whole {
				i++
			}
		default:
			left = append(left, args[i])
		}
	}
	return left
}

// fill runs each scenario, round by round and broker by broker; each round begins with another broker. A broker that
// fails a run is noted and measured on; only an interrupt ends everything.
func (r *report) fill(ctx context.Context, o options, dir string) error {
	for i := range o.scenarios {
		s := &o.scenarios[i]
		brokers := o.peersOf(s)
		for round := range o.rounds {
			for k := range brokers {
				p := brokers[(round+k)%len(brokers)]
				l := launch{dir: dir, ws: s.plan.WebSocket, profile: o.profile, name: fmt.Sprintf("%s-%s-%d", s.name, p.name, round), syncs: o.syncs && s.steps != nil}
				if s.secure {
					l.secure = o.certificate
				}
				if o.stalls != "" && p.ours() {
					l.said = filepath.Join(o.stalls, l.name+".txt")
				}
				one, err := s.measure(ctx, p, l, &o)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if l.said != "" && err == nil && (one.Outcome == nil || one.Outcome.Stalls == 0) {
					os.Remove(l.said) // it says nothing of a stall
				}
				one.Scenario, one.Peer, one.Round = s.name, p.name, round
				if err != nil {
					one.Err = err.Error()
				}
				r.Runs = append(r.Runs, one)
				fmt.Fprintln(os.Stderr, one.line())
			}
		}
	}
	return nil
}

// line tells of one run while the program goes on.
func (r *run) line() string {
	head := fmt.Sprintf("%-12s round %d  %-10s", r.Scenario, r.Round, r.Peer)
	switch {
	case r.Err != "":
		return head + "failed: " + r.Err
	case r.Figures != nil:
		for _, f := range r.Figures {
			head += fmt.Sprintf(" %s %s;", f.Name, plain(f.Value))
		}
		return head + marks([]run{*r})
	case r.Outcome != nil:
		return head + fmt.Sprintf("%8.2f us/msg %9.0f msg/s  generator %.2f us/msg%s", r.CPUPerMsg, r.MessageRate, r.GenPerMsg, marks([]run{*r}))
	}
	for _, s := range r.Idle {
		head += fmt.Sprintf("  %d connections: %.0f B, %.1f us each", s.Connections, s.BytesPerConn, s.CPUPerConnect)
	}
	return head
}

// print writes what this program found to a terminal.
func (r *report) print(f *os.File) { fmt.Fprint(f, r.markdown()) }

// save writes the files that were asked for.
func (r *report) save(o options) error {
	if o.md != "" {
		if err := os.WriteFile(o.md, []byte(r.markdown()), 0o644); err != nil {
			return err
		}
	}
	if o.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(b, '\n'), 0o644)
}

// markdown is the report as a page.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmark of %s\n\n`%s`\n\n", r.Started.Format("2006-01-02 15:04 UTC"), r.Command)
	fmt.Fprintf(&b, "- Machine: %s.\n", r.Machine)
	for _, p := range r.Peers {
		fmt.Fprintf(&b, "- %s %s: %s.\n", p.Name, p.Version, p.Settings)
	}
	r.loads(&b)
	r.idles(&b)
	r.kept(&b)
	b.WriteString("\n## Scenarios\n\n")
	for _, s := range r.scenarios {
		fmt.Fprintf(&b, "- %s: %s.\n", s.name, s.about)
	}
	return b.String()
}

// loads writes the table of the scenarios that send messages.
func (r *report) loads(b *strings.Builder) {
	rows := ""
	for _, s := range r.scenarios {
		if s.idle || s.steps != nil {
			continue
		}
		base := figures(r.of(s.name, reference), cpuPerMsg)
		for _, p := range r.Peers {
			runs := r.of(s.name, p.Name)
			if len(runs) == 0 {
				continue
			}
			cpu := figures(runs, cpuPerMsg)
			rows += fmt.Sprintf("| %s | %s%s | %s | %s | %s | %s | %s |\n", s.name, p.Name, marks(runs), span(spreadOf(values(cpu)), "%.2f"),
				span(spreadOf(ratios(cpu, base)), "%.2f"), number(spreadOf(values(figures(runs, messageRate))).Median, "%.0f"),
				number(spreadOf(values(figures(runs, peakMiB))).Median, "%.1f"), number(spreadOf(values(figures(runs, genPerMsg))).Median, "%.2f"))
		}
	}
	if rows == "" {
		return
	}
	fmt.Fprintf(b, "\n## Messages\n\nProcessor time of the broker in microseconds for each delivered message, median and range of the rounds; its ratio to "+
		"%s in the same round; marks: L lost, D duplicated, R reordered deliveries, U messages that were due and never sent, S stalls, F failed runs, summed over the rounds.\n\n", reference)
	b.WriteString("| scenario | broker | CPU us/msg | ratio | msg/s | RSS peak MiB | generator us/msg |\n|---|---|---|---|---|---|---|\n" + rows)
}

// idles writes the table of the scenarios that only connect.
func (r *report) idles(b *strings.Builder) {
	rows := ""
	for _, s := range r.scenarios {
		if !s.idle {
			continue
		}
		for step, n := range s.connections() {
			bytes := func(o *run) (float64, bool) {
				return idleFigure(o, step, func(s idleStep) float64 { return s.BytesPerConn })
			}
			cpu := func(o *run) (float64, bool) {
				return idleFigure(o, step, func(s idleStep) float64 { return s.CPUPerConnect })
			}
			ref := r.of(s.name, reference)
			for _, p := range r.Peers {
				runs := r.of(s.name, p.Name)
				if len(runs) == 0 {
					continue
				}
				bs, cs := figures(runs, bytes), figures(runs, cpu)
				rows += fmt.Sprintf("| %s | %d | %s%s | %s | %s | %s | %s |\n", s.name, n, p.Name, marks(runs), span(spreadOf(values(bs)), "%.0f"),
					span(spreadOf(ratios(bs, figures(ref, bytes))), "%.2f"), span(spreadOf(values(cs)), "%.1f"), span(spreadOf(ratios(cs, figures(ref, cpu))), "%.2f"))
			}
		}
	}
	if rows == "" {
		return
	}
	b.WriteString("\n## Idle connections\n\nGrowth of resident memory in bytes for each connection, a second after the last one, no collection forced; processor time in microseconds for each connection made.\n\n")
	b.WriteString("| scenario | connections | broker | B/connection | ratio | CPU us/connect | ratio |\n|---|---|---|---|---|---|---|\n" + rows)
}

// of are the runs of one broker in one scenario.
func (r *report) of(scenario, peer string) (runs []run) {
	for _, o := range r.Runs {
		if o.Scenario == scenario && o.Peer == peer {
			runs = append(runs, o)
		}
	}
	return runs
}

// kept writes a table for each scenario that has figures of its own.
func (r *report) kept(b *strings.Builder) {
	for _, s := range r.scenarios {
		if s.steps == nil {
			continue
		}
		fmt.Fprintf(b, "\n## %s\n\n", s.name)
		names, brokers := r.columns(s.name)
		head, line := "| |", "|---|"
		for _, p := range brokers {
			head += fmt.Sprintf(" %s%s |", p, marks(r.of(s.name, p)))
			line += "---|"
		}
		b.WriteString(head + "\n" + line + "\n")
		for _, f := range names {
			of := figureNamed(f.Name)
			ours := figures(r.of(s.name, ourselves), of)
			row, ratio := "| "+f.Name+" |", "| *noctule to it* |"
			for _, p := range brokers {
				x := figures(r.of(s.name, p), of)
				row += " " + plainSpan(spreadOf(values(x))) + " |"
				ratio += " " + plain(spreadOf(ratios(ours, x)).Median) + " |"
			}
			b.WriteString(row + "\n")
			if f.Compared {
				b.WriteString(ratio + "\n")
			}
		}
	}
}

// columns are the figures that runs of a scenario have, in their order, and the brokers that had a turn.
func (r *report) columns(scenario string) (names []figure, brokers []string) {
	for _, p := range r.Peers {
		runs := r.of(scenario, p.Name)
		if len(runs) > 0 {
			brokers = append(brokers, p.Name)
		}
		for _, o := range runs {
			if len(o.Figures) > len(names) {
				names = o.Figures // of a run that came to its end
			}
		}
	}
	return names, brokers
}
