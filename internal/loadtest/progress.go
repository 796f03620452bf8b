// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"fmt"
	"strings"
	"time"
)

// Progress is how far a run has come.
type Progress struct {
	Elapsed         time.Duration // since the begin
	Clients         int           // that are to connect
	Connected, Cut  int
	Sent, Acked     uint64
	Received        uint64
	SentRate        float64 // a second, since the last one
	ReceivedRate    float64
	Duplicated      uint64 // is known at the end only; what the trackers have so far
	Reordered       uint64
	Half, MostBelow time.Duration // quantiles 50 and 99 so far: of deliveries, or else of acknowledgements, or else of connects
}

// progressEvery is the time between two of them.
const progressEvery = time.Second

// progress remembers the last one.
type progress struct {
	begun, next, last time.Time
	sent, received    uint64
}

func (p *progress) begin() {
	p.begun = time.Now()
	p.last, p.next = p.begun, p.begun.Add(progressEvery)
}

// isDue tells whether there is to be another one.
func (p *progress) isDue(now time.Time) bool {
	if now.Before(p.next) {
		return false
	}
	p.next = now.Add(progressEvery)
	return true
}

// look makes a Progress.
func (r *run) look(now time.Time) Progress {
	p, rep := &r.progress, &r.report
	took := now.Sub(p.last).Seconds()
	out := Progress{
		Elapsed: now.Sub(p.begun), Clients: len(r.clients), Connected: rep.Connected, Cut: rep.Cut,
		Sent: rep.Sent, Acked: rep.Acked, Received: rep.Received,
		SentRate: float64(rep.Sent-p.sent) / took, ReceivedRate: float64(rep.Received-p.received) / took,
	}
	p.last, p.sent, p.received = now, rep.Sent, rep.Received
	for _, c := range r.clients {
		if c.ledger == nil {
			continue
		}
		for _, t := range c.ledger.tracks {
			out.Duplicated += t.Duplicated
			out.Reordered += t.Reordered
		}
	}
	l := r.connects
	if r.deliveries.TotalCount() > 0 {
		l = r.deliveries
	} else if r.acks.TotalCount() > 0 {
		l = r.acks
	}
	out.Half, out.MostBelow = time.Duration(l.ValueAtQuantile(50)), time.Duration(l.ValueAtQuantile(99))
	return out
}

// String is a line for people.
func (p Progress) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%3.0fs  %d of %d connected", p.Elapsed.Seconds(), p.Connected-p.Cut, p.Clients)
	if p.Sent > 0 {
		fmt.Fprintf(&b, ", sent %d (%.0f/s)", p.Sent, p.SentRate)
	}
	if p.Acked > 0 {
		fmt.Fprintf(&b, ", acknowledged %d", p.Acked)
	}
	if p.Received > 0 {
		fmt.Fprintf(&b, ", received %d (%.0f/s)", p.Received, p.ReceivedRate)
	}
	if p.Duplicated+p.Reordered > 0 {
		fmt.Fprintf(&b, ", %d twice, %d out of order", p.Duplicated, p.Reordered)
	}
	if p.MostBelow > 0 {
		fmt.Fprintf(&b, ", p50 %s p99 %s", short(p.Half), short(p.MostBelow))
	}
	return b.String()
}

// short is a time with three digits.
func short(d time.Duration) string {
	for unit := time.Duration(1); ; unit *= 10 {
		if d/unit < 1000 {
			return (d / unit * unit).String()
		}
	}
}
