// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"time"
)

// A Promise is one thing that a durable broker promises. Its text is stable, for programs that read the report.
type Promise string

// The promises, in the order of the report.
const (
	StartsAgain          Promise = "starts-again"
	SessionKept          Promise = "session-kept"
	SessionEnded         Promise = "session-ended"
	SubscriptionKept     Promise = "subscription-kept"
	SubscriptionEnded    Promise = "subscription-ended"
	DeliveredOnline      Promise = "delivered-online"
	DeliveredOffline     Promise = "delivered-offline"
	DeliveredFlapping    Promise = "delivered-flapping"
	DeliveredSlow        Promise = "delivered-slow"
	DeliveredOverlapping Promise = "delivered-overlapping"
	DeliveredShared      Promise = "delivered-shared"
	ExactlyOnce          Promise = "exactly-once"
	ExactlyOnceShared    Promise = "exactly-once-shared"
	AtMostOnce           Promise = "at-most-once"
	InOrder              Promise = "in-order"
	Intact               Promise = "intact"
	NoPhantom            Promise = "no-phantom"
	RetainedKept         Promise = "retained-kept"
	RetainedCleared      Promise = "retained-cleared"
	WillKept             Promise = "will-kept"
	WillWithdrawn        Promise = "will-withdrawn"
	ExpiryObeyed         Promise = "expiry-obeyed"
)

// promises says each promise in words, in the order of the report.
var promises = []struct {
	promise Promise
	words   string
}{
	{StartsAgain, "starts again after each kill and lets every client in"},
	{SessionKept, "sessions are there after the kill"},
	{SessionEnded, "ended and expired sessions stay gone"},
	{SubscriptionKept, "subscriptions are there after SUBACK"},
	{SubscriptionEnded, "subscriptions are gone after UNSUBACK"},
	{DeliveredOnline, "acknowledged messages reach online subscribers"},
	{DeliveredOffline, "... subscribers that were away"},
	{DeliveredFlapping, "... subscribers that come and go"},
	{DeliveredSlow, "... subscribers that answer late"},
	{DeliveredOverlapping, "... subscribers with overlapping filters"},
	{DeliveredShared, "... shared subscriptions"},
	{ExactlyOnce, "QoS 2 comes once"},
	{ExactlyOnceShared, "QoS 2 comes once to a shared subscription"},
	{AtMostOnce, "QoS 0 comes once at most"},
	{InOrder, "messages of one publisher and topic come in order"},
	{Intact, "topic, payload and QoS are as published"},
	{NoPhantom, "nothing comes that was not published"},
	{RetainedKept, "retained messages are the last acknowledged or newer"},
	{RetainedCleared, "cleared retained messages stay cleared"},
	{WillKept, "delayed wills come once and not early"},
	{WillWithdrawn, "wills of clients that came back in time do not come"},
	{ExpiryObeyed, "message expiry goes on while the broker is down"},
}

// maxExamples is how many violations of each promise the report shows; the others are counted.
const maxExamples = 5

// A Violation is one case in which a promise was broken.
type Violation struct {
	Client   string  `json:"client,omitempty"`
	Topic    string  `json:"topic,omitempty"`
	Sequence uint64  `json:"sequence,omitempty"` // number of the message on its topic, from 1
	Round    int     `json:"round"`              // in which it was seen
	At       float64 `json:"at"`                 // seconds since the start of the run
	What     string  `json:"what"`
}

// String returns the violation in one line.
func (v Violation) String() string {
	s := fmt.Sprintf("%.3f s, round %d", v.At, v.Round)
	if v.Client != "" {
		s += ", " + v.Client
	}
	if v.Topic != "" {
		s += ", " + v.Topic
	}
	if v.Sequence != 0 {
		s += fmt.Sprintf(" number %d", v.Sequence)
	}
	return s + ": " + v.What
}

// A Result is how one promise fared.
type Result struct {
	Promise    Promise     `json:"promise"`
	Words      string      `json:"words"`
	Checked    int64       `json:"checked"` // how often it was put to the test; 0 is not at all
	Violations int64       `json:"violations"`
	Examples   []Violation `json:"examples,omitempty"` // the first few
}

// A book counts what was checked and what was found.
type book struct {
	results map[Promise]*Result
	round   int
	trace   *trace
}

func newBook(t *trace) book {
	b := book{results: map[Promise]*Result{}, trace: t}
	for _, p := range promises {
		b.results[p.promise] = &Result{Promise: p.promise, Words: p.words}
	}
	return b
}

// check counts n tests of a promise.
func (b *book) check(p Promise, n int) { b.results[p].Checked += int64(n) }

// violate counts a violation, seen at a time since the start.
func (b *book) violate(p Promise, at time.Duration, v Violation) {
	v.Round, v.At = b.round, at.Seconds()
	r := b.results[p]
	if r.Violations++; len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, v)
	}
	b.trace.write(at, v.Client, "VIOLATION %s: %s", p, v)
}

// all returns the results in the order of the report.
func (b *book) all() []Result {
	rs := make([]Result, 0, len(promises))
	for _, p := range promises {
		rs = append(rs, *b.results[p.promise])
	}
	return rs
}
