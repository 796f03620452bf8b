// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"io"
	"strings"
)

// A Report is the outcome of a run.
type Report struct {
	Kept      bool     `json:"kept"`            // every promise that was checked was kept
	Ended     string   `json:"ended,omitempty"` // why the run was cut short; then loss is not judged
	Seed      uint64   `json:"seed"`
	Command   []string `json:"command"`
	Signal    Signal   `json:"signal"`
	Protocols []string `json:"protocols"`
	Rounds    int      `json:"rounds"`
	Kills     int      `json:"kills"`
	Seconds   float64  `json:"seconds"`
	Totals    Totals   `json:"totals"`
	Results   []Result `json:"results"`
}

// verdict judges what is judged at the end, and sums up. A broker that did not come back is not asked for what it still holds.
func (r *run) verdict(ended string) *Report {
	at := r.now()
	if ended == "" {
		r.ledger.judgeLoss(at)
		r.ledger.judgeWills(at)
	}
	rep := &Report{
		Kept: true, Ended: ended, Seed: r.o.Seed, Command: r.o.Command, Signal: r.o.Signal, Rounds: r.rounds, Kills: len(r.ledger.deaths),
		Seconds: at.Seconds(), Totals: r.ledger.totals, Results: r.ledger.all(),
	}
	for _, v := range r.o.Protocols {
		rep.Protocols = append(rep.Protocols, v.String())
	}
	for _, res := range rep.Results {
		rep.Kept = rep.Kept && res.Violations == 0
	}
	return rep
}

// Write writes the report for people: a line for each promise, then examples of what broke.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-60s %9s %9s\n", "promise", "checked", "violated")
	for _, res := range r.Results {
		checked, mark := fmt.Sprint(res.Checked), ""
		if res.Checked == 0 && res.Violations == 0 {
			checked = "-"
		}
		if res.Violations > 0 {
			mark = "  BROKEN"
		}
		fmt.Fprintf(&b, "%-60s %9s %9d%s\n", res.Words, checked, res.Violations, mark)
	}
	for _, res := range r.Results {
		if res.Violations == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s: %s\n", res.Promise, res.Words)
		for _, v := range res.Examples {
			fmt.Fprintf(&b, "  %v\n", v)
		}
		if more := res.Violations - int64(len(res.Examples)); more > 0 {
			fmt.Fprintf(&b, "  and %d more\n", more)
		}
	}
	t := r.Totals
	fmt.Fprintf(&b, "\n%d rounds, %d kills (%s), %.0f s, MQTT %s, seed %d\n", r.Rounds, r.Kills, r.Signal, r.Seconds, strings.Join(r.Protocols, " and "), r.Seed)
	fmt.Fprintf(&b, "%d messages published, %d acknowledged, %d refused, %d given up; %d received, %d of them repeated as allowed; %d connections lost while the broker ran\n",
		t.Published, t.Acknowledged, t.Refused, t.Abandoned, t.Received, t.Repeated, t.Disconnected)
	switch {
	case r.Ended != "":
		fmt.Fprintf(&b, "verdict: BROKEN; %s, so that loss could not be judged\n", r.Ended)
	case r.Kept:
		b.WriteString("verdict: kept\n")
	default:
		b.WriteString("verdict: BROKEN\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
