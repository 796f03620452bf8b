// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{5, 1, 3}, spread{3, 1, 5}},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9}},
	} {
		before := slices.Clone(c.x)
		if got := spreadOf(c.x); got != c.want {
			t.Errorf("spread of %v is %v, want %v", c.x, got, c.want)
		}
		if !slices.Equal(c.x, before) {
			t.Errorf("figures were reordered: %v", c.x)
		}
	}
	if got := spreadOf(nil); !math.IsNaN(got.Median) || !math.IsNaN(got.Min) || !math.IsNaN(got.Max) {
		t.Errorf("spread of nothing is %v, want NaN", got)
	}
}

func TestRatiosPairRounds(t *testing.T) {
	got := ratios(map[int]float64{0: 1, 1: 6, 3: 5}, map[int]float64{0: 2, 1: 3, 2: 7, 3: 0})
	slices.Sort(got)
	if want := []float64{0.5, 2}; !slices.Equal(got, want) {
		t.Errorf("ratios are %v, want %v", got, want)
	}
}
