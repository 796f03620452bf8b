// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// reasonsMost bounds the different errors that a report tells.
const reasonsMost = 20

// Report is what a run has found. Times are in seconds unless their names say otherwise.
type Report struct {
	Mode        Mode   `json:"mode"`
	Server      string `json:"server"`
	Engine      Engine `json:"engine"` // that played the clients
	Interrupted bool   `json:"interrupted"`
	Kept        bool   `json:"kept"` // no promise was broken

	Broken []string `json:"broken,omitempty"` // promises

	Clients   int            `json:"clients"` // that tried to connect
	Connected int            `json:"connected"`
	Failed    int            `json:"failed"` // never connected
	Cut       int            `json:"cut"`    // whose connection ended before the run
	Errors    map[string]int `json:"errors,omitempty"`
	Setup     float64        `json:"setup"`   // until all were connected
	Elapsed   float64        `json:"elapsed"` // of the work

	Sent           uint64 `json:"sent"`
	Acked          uint64 `json:"acknowledged"`
	Refused        uint64 `json:"refused"`        // with a reason code
	Unacknowledged uint64 `json:"unacknowledged"` // above QoS 0
	Stray          uint64 `json:"stray"`          // acknowledgements of nothing
	Received       uint64 `json:"received"`
	Unchecked      uint64 `json:"unchecked"` // received without a stamp of ours
	Checks

	SentRate     float64 `json:"sent_per_second"`
	ReceivedRate float64 `json:"received_per_second"`

	Connects   *Latency `json:"connect_latency,omitempty"`
	Acks       *Latency `json:"acknowledge_latency,omitempty"`
	Deliveries *Latency `json:"delivery_latency,omitempty"`

	CPU           float64 `json:"generator_cpu"`                // of this process
	CPUPerMessage float64 `json:"generator_cpu_per_message_us"` // while working: of a message received, or else sent
	WorkCPU       float64 `json:"-"`

	received uint64 // within Elapsed
}

func seconds(d time.Duration) float64 { return d.Seconds() }

// note counts why something went wrong.
func (r *Report) note(err error) {
	if r.Errors == nil {
		r.Errors = make(map[string]int)
	}
	text := err.Error()
	if _, known := r.Errors[text]; !known && len(r.Errors) >= reasonsMost {
		text = "other"
	}
	r.Errors[text]++
}

// close sums the books up, and judges.
func (r *run) close() {
	rep := &r.report
	if r.o.QoS > 0 && r.o.Mode == Pub {
		rep.Unacknowledged = rep.Sent - rep.Acked - rep.Refused
	}
	byQoS := r.check()
	for _, c := range byQoS {
		rep.add(c)
	}
	if rep.Elapsed > 0 {
		rep.SentRate, rep.ReceivedRate = float64(rep.Sent)/rep.Elapsed, float64(rep.received)/rep.Elapsed
	}
	if n := max(rep.Received, rep.Sent); n > 0 && rep.WorkCPU > 0 {
		rep.CPUPerMessage = rep.WorkCPU * 1e6 / float64(n)
	}
	rep.Connects, rep.Acks, rep.Deliveries = r.connects.sum(), r.acks.sum(), r.deliveries.sum()
	rep.judge(byQoS)
}

// check has every ledger looked through, once.
func (r *run) check() (byQoS [3]Checks) {
	seen := make(map[*ledger]bool)
	for _, c := range r.clients {
		if c.ledger == nil || seen[c.ledger] || !c.up {
			continue
		}
		seen[c.ledger] = true
		for q, found := range c.ledger.judge(r.expectations(c), r.o.QoS) {
			byQoS[q].add(found)
		}
	}
	return byQoS
}

// expectations are what a receiver has to have; nil if that is not known here.
func (r *run) expectations(c *client) map[source]expectation {
	if r.o.Mode != Pub || !r.stamped() {
		return nil
	}
	all := make(map[source]expectation)
	for _, p := range r.pubs {
		if p.sent == 0 || !contains(c.filters, p.topic) {
			continue
		}
		e := expectation{sent: p.sent, excuse: p.refused}
		if r.o.QoS > 0 {
			e.excuse = p.sent - p.acked
		}
		all[source{r.id, p.number}] = e
	}
	return all
}

// judge names the promises that were broken: what MQTT promises, and that connections stay.
func (r *Report) judge(byQoS [3]Checks) {
	say := func(n uint64, format string) {
		if n > 0 {
			r.Broken = append(r.Broken, fmt.Sprintf(format, n))
		}
	}
	say(byQoS[1].Lost+byQoS[2].Lost, "%d messages above QoS 0 were lost")
	say(byQoS[0].Duplicated, "%d messages came twice at QoS 0")
	say(byQoS[2].Duplicated, "%d messages came twice at QoS 2")
	say(r.Reordered, "%d messages came out of order")
	say(r.Misrouted, "%d messages came to clients that had not subscribed to their topic")
	say(r.Unacknowledged, "%d messages were not acknowledged")
	say(r.Refused, "%d messages were refused")
	say(r.Stray, "%d acknowledgements were for messages that were not sent")
	say(uint64(r.Cut), "%d connections were cut")
	r.Kept = len(r.Broken) == 0
}

// Write prints the report for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("bench", "%s %s, by %s", r.Mode, r.Server, r.Engine)
	row("connected", "%d of %d in %.2f s (%d failed, %d cut)", r.Connected, r.Clients, r.Setup, r.Failed, r.Cut)
	row("worked", "%.2f s%s", r.Elapsed, map[bool]string{true: ", interrupted"}[r.Interrupted])
	if r.Mode == Pub {
		row("sent", "%d (%.0f/s)", r.Sent, r.SentRate)
		if r.Acked+r.Refused+r.Unacknowledged > 0 {
			row("acknowledged", "%d (%d refused, %d not at all)", r.Acked, r.Refused, r.Unacknowledged)
		}
	}
	if r.Mode != Conn {
		r.writeReceived(row)
	}
	if r.CPU > 0 {
		per := ""
		if r.CPUPerMessage > 0 {
			per = fmt.Sprintf(", %.2f us a message", r.CPUPerMessage)
		}
		row("generator", "%.2f s of processor time%s", r.CPU, per)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := r.writeLatencies(w); err != nil {
		return err
	}
	for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
		if _, err := fmt.Fprintf(w, "%d times: %s\n", r.Errors[text], text); err != nil {
			return err
		}
	}
	for _, b := range r.Broken {
		if _, err := fmt.Fprintln(w, "BROKEN:", b); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) writeReceived(row func(name, format string, args ...any)) {
	if r.Mode == Pub && r.Received == 0 && r.Lost == 0 {
		return
	}
	row("received", "%d (%.0f/s)", r.Received, r.ReceivedRate)
	if r.Unchecked == r.Received && r.Lost == 0 {
		row("checked", "none: no message carries a stamp (28 bytes of -s)")
		return
	}
	row("checked", "%d: %d lost, %d twice, %d out of order", r.Received-r.Unchecked, r.Lost, r.Duplicated, r.Reordered)
}

// writeLatencies prints a table.
func (r *Report) writeLatencies(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nlatency in ms\tcount\tmin\tmean\tp50\tp90\tp99\tp99.9\tp99.99\tmax\t")
	any := false
	for _, l := range []struct {
		name string
		*Latency
	}{{"connect", r.Connects}, {"acknowledge", r.Acks}, {"deliver", r.Deliveries}} {
		if l.Latency == nil {
			continue
		}
		any = true
		fmt.Fprintf(t, "%s\t%d", l.name, l.Count)
		for _, ms := range []float64{l.Min, l.Mean, l.P50, l.P90, l.P99, l.P999, l.P9999, l.Max} {
			fmt.Fprintf(t, "\t%.3f", ms)
		}
		fmt.Fprintln(t, "\t")
	}
	if !any {
		return nil
	}
	return t.Flush()
}
