// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// spread is what a handful of figures has to say. All are NaN if there are none.
type spread struct {
	Median, Min, Max float64
}

// spreadOf sums figures up.
func spreadOf(x []float64) spread {
	if len(x) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	x = slices.Sorted(slices.Values(x))
	mid := len(x) / 2
	median := x[mid]
	if len(x)%2 == 0 {
		median = (x[mid-1] + x[mid]) / 2
	}
	return spread{Median: median, Min: x[0], Max: x[len(x)-1]}
}

// ratios divides the figures of the same rounds. Rounds that one of the two lacks, or where the base is nothing, are left out.
func ratios(x, base map[int]float64) []float64 {
	var out []float64
	for round, v := range x {
		if b, ok := base[round]; ok && b > 0 {
			out = append(out, v/b)
		}
	}
	return out
}
