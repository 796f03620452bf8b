// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// figures takes one figure out of each run, by round; runs that lack it are left out.
func figures(runs []run, of func(*run) (float64, bool)) map[int]float64 {
	out := make(map[int]float64)
	for i := range runs {
		if v, ok := of(&runs[i]); ok && runs[i].Err == "" {
			out[runs[i].Round] = v
		}
	}
	return out
}

// figure is one finding of a scenario that has its own.
type figure struct {
	Name     string // with its unit
	Value    float64
	Compared bool // the ratio to other brokers says something
}

// ourselves is the broker that the others' figures of the durable scenarios are compared with.
const ourselves = "noctule"

// figureNamed takes the figure of that name.
func figureNamed(name string) func(*run) (float64, bool) {
	return func(r *run) (float64, bool) {
		for _, f := range r.Figures {
			if f.Name == name {
				return f.Value, true
			}
		}
		return 0, false
	}
}

func values(m map[int]float64) []float64 { return slices.Collect(maps.Values(m)) }

func cpuPerMsg(r *run) (float64, bool)   { return r.CPUPerMsg, r.CPUPerMsg > 0 }
func genPerMsg(r *run) (float64, bool)   { return r.GenPerMsg, r.GenPerMsg > 0 }
func messageRate(r *run) (float64, bool) { return r.MessageRate, r.Outcome != nil }
func peakMiB(r *run) (float64, bool)     { return float64(r.RSSPeak) / (1 << 20), r.RSSPeak > 0 }

func idleFigure(r *run, step int, of func(idleStep) float64) (float64, bool) {
	if step >= len(r.Idle) {
		return 0, false
	}
	return of(r.Idle[step]), true
}

// number formats a figure that may be missing.
func number(v float64, format string) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

// plain formats a figure of any size with about three digits.
func plain(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a == 0:
		return "0"
	case a < 0.1:
		return fmt.Sprintf("%.2g", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// plainSpan formats a spread, and its range if it has one.
func plainSpan(s spread) string {
	if s.Min == s.Max || math.IsNaN(s.Median) {
		return plain(s.Median)
	}
	return fmt.Sprintf("%s (%s...%s)", plain(s.Median), plain(s.Min), plain(s.Max))
}

// span formats a spread.
func span(s spread, format string) string {
	if math.IsNaN(s.Median) {
		return "-"
	}
	return fmt.Sprintf(format+" ("+format+"..."+format+")", s.Median, s.Min, s.Max)
}

// marks tells what went wrong in runs; empty if nothing did.
func marks(runs []run) string {
	var lost, duplicated, reordered, unsent, stalls, failed uint64
	for _, r := range runs {
		if r.Err != "" {
			failed++
		}
		if r.Outcome != nil {
			lost += r.Outcome.Lost
			duplicated += r.Outcome.Duplicated
			reordered += r.Outcome.Reordered
			unsent += r.Outcome.Unsent
			stalls += uint64(r.Outcome.Stalls)
		}
	}
	out := ""
	for _, m := range []struct {
		letter string
		n      uint64
	}{{"L", lost}, {"D", duplicated}, {"R", reordered}, {"U", unsent}, {"S", stalls}, {"F", failed}} {
		if m.n > 0 {
			out += fmt.Sprintf(" %s%d", m.letter, m.n)
		}
	}
	return out
}
