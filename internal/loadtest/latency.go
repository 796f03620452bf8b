// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	latencyMost   = time.Hour // what takes longer counts as that
	latencyDigits = 3         // a quantile is exact to one in a thousand
)

// latencies is a histogram of times.
type latencies struct{ *hdrhistogram.Histogram }

func newLatencies() latencies {
	return latencies{hdrhistogram.New(1, int64(latencyMost), latencyDigits)}
}

// add counts one time.
func (l latencies) add(d time.Duration) {
	l.RecordValue(int64(min(max(d, 1), latencyMost))) // within its bounds, so it cannot fail
}

// Latency is what a report has of a histogram. Times are in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Min   float64 `json:"min_ms"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99_9_ms"`
	P9999 float64 `json:"p99_99_ms"`
	Max   float64 `json:"max_ms"`
}

// sum gives the figures; nil if nothing was counted.
func (l latencies) sum() *Latency {
	if l.TotalCount() == 0 {
		return nil
	}
	at := func(q float64) float64 { return millis(l.ValueAtQuantile(q)) }
	return &Latency{
		Count: l.TotalCount(), Min: millis(l.Min()), Mean: l.Mean() / 1e6, Max: millis(l.Max()),
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), P9999: at(99.99),
	}
}

func millis(ns int64) float64 { return float64(ns) / 1e6 }
