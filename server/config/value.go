// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// units are a suffix and what it multiplies by, the longest suffix first where one ends with another.
type units []struct {
	name  string
	value int64
}

var (
	sizeUnits = units{
		{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1},
	}
	longUnits = units{{"w", int64(7 * 24 * time.Hour)}, {"d", int64(24 * time.Hour)}}
)

// ParseSize reads a number of bytes with its unit: 1MiB, 64KB, 512B. 0 needs none.
func ParseSize(s string) (int64, error) {
	if s == "0" {
		return 0, nil
	}
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		bytes := n * float64(u.value)
		switch {
		case err != nil || n < 0 || bytes != math.Trunc(bytes):
			return 0, fmt.Errorf("%q is not a size", s)
		case bytes >= math.MaxInt64:
			return 0, fmt.Errorf("%s is too large", s)
		}
		return int64(bytes), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
		return 0, fmt.Errorf("%s has no unit", s)
	}
	return 0, fmt.Errorf("%q is not a size", s)
}

// FormatSize is the shortest exact way to write a size.
func FormatSize(n int64) string {
	for _, u := range sizeUnits[:3] {
		if n != 0 && n%u.value == 0 {
			return strconv.FormatInt(n/u.value, 10) + u.name
		}
	}
	if n == 0 {
		return "0"
	}
	return strconv.FormatInt(n, 10) + "B"
}

// ParseDuration reads a time with its unit: 250ms, 10s, 5m, 1h30m, 30d, 2w. 0 needs none.
func ParseDuration(s string) (time.Duration, error) {
	for _, u := range longUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		if n > math.MaxInt64/u.value || n < math.MinInt64/u.value {
			return 0, fmt.Errorf("%s is too long", s)
		}
		return time.Duration(n * u.value), nil
	}
	d, err := time.ParseDuration(s)
	if err == nil {
		return d, nil
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%s has no unit", s)
	}
	return 0, fmt.Errorf("%q is not a duration", s)
}

// FormatDuration is the shortest exact way to write a duration.
func FormatDuration(d time.Duration) string {
	if day := 24 * time.Hour; d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if s == "0s" {
		return "0"
	}
	if t, ok := strings.CutSuffix(s, "m0s"); ok {
		s = t + "m"
	}
	if t, ok := strings.CutSuffix(s, "h0m"); ok {
		s = t + "h"
	}
	return s
}

// parsePrefix reads a range of addresses, or a single one.
func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, errors.New("not an address range")
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}
